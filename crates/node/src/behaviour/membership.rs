//! Admission to a private swarm: connections of members only, and what members tell each other of lists and keys.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    io,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    request_response::{InboundFailure, Message as Transfer, OutboundFailure},
    swarm::{CloseConnection, ConnectionDenied, ToSwarm},
};

use super::{Behaviour, dht::Dht};
use crate::{
    Route,
    members::{Event, Members, Message, Refused},
};

/// Peers whose refused messages are logged as warnings.
const MAX_LOGGED: usize = 64;
/// Peers that are asked for the same news at once: all members tell of it at about the same time.
const MAX_ASKED: usize = 3;
/// After this time more of them are asked.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// The peer is not in the admission list.
#[derive(Debug, thiserror::Error)]
#[error("the peer is not in the admission list of the swarm")]
struct NotAdmitted;

/// The version of a list, and the number of a key.
type Sequences = ((u64, u64), u64);

/// What connected peers are known to have.
pub(super) struct Membership {
    members: Option<Members>,
    /// What each connected peer has told.
    told: HashMap<PeerId, Message>,
    /// How many peers were asked for the newest that was told of, and when.
    asked: Option<(Sequences, usize, Instant)>,
    logged: HashSet<PeerId>,
}

impl Membership {
    pub(super) fn new(members: Option<Members>) -> Self {
        Self { members, told: HashMap::new(), asked: None, logged: HashSet::new() }
    }

    /// Refuses the connections of peers that are not members: in both directions, before any protocol runs over them.
    pub(super) fn check(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match &self.members {
            Some(members) if !members.admits(peer) => {
                tracing::debug!(%peer, "a peer that is not in the admission list is not connected");
                Err(ConnectionDenied::new(NotAdmitted))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.told.remove(peer);
    }

    /// Returns whether one more peer is asked for what is told of.
    fn asks(&mut self, sequences: Sequences) -> bool {
        let now = Instant::now();
        match &mut self.asked {
            Some((asked, count, since)) if *asked == sequences && now.duration_since(*since) < ASK_PAUSE => {
                *count += 1;
                *count <= MAX_ASKED
            }
            asked => {
                *asked = Some((sequences, 1, now));
                true
            }
        }
    }

    /// Logs why a message of a peer is not accepted.
    fn refused(&mut self, peer: PeerId, why: &dyn Display) {
        if self.logged.len() < MAX_LOGGED && self.logged.insert(peer) {
            tracing::warn!(%peer, "refused the admission list or the swarm key of a peer: {why}");
        }
    }
}

impl Behaviour {
    /// Asks a peer for a newer list or key.
    pub(super) fn ask_for_members(&mut self, peer: PeerId) {
        let (Some(members), Some(protocol)) =
            (&self.membership.members, self.behaviours.data.members.as_mut())
        else {
            return;
        };
        if self.peers.is_connected(&peer) && !self.peers.is_limited(&peer) && members.admits(&peer) {
            protocol.send_request(&peer, members.sequences());
        }
    }

    /// Disconnects the peers that are not members any more, and tells the others: what is new, or only that there is something,
    /// where they hear it from several.
    pub(super) fn on_members_changed(&mut self, is_own: bool) {
        let Some(members) = self.membership.members.clone() else { return };
        for dht in [Dht::Main, Dht::Lan] {
            let mut known = Vec::new();
            let Some(kad) = self.used_kad(dht) else { continue };
            for bucket in kad.kbuckets() {
                known.extend(bucket.iter().map(|entry| *entry.node.key.preimage()));
            }
            for peer in known.iter().filter(|peer| !members.admits(peer)) {
                kad.remove_peer(peer);
            }
        }
        for peer in self.peers.list() {
            if !members.admits(&peer.id) {
                tracing::info!(peer = %peer.id, "disconnected a peer that is not in the admission list");
                let connection = CloseConnection::All;
                self.queue.push_back(ToSwarm::CloseConnection { peer_id: peer.id, connection });
            } else if peer.route != Route::LimitedRelay {
                self.tell_news(&members, peer.id, is_own);
            }
        }
    }

    /// Sends a peer what it does not have, as far as it has told.
    fn tell_news(&mut self, members: &Members, peer: PeerId, whole: bool) {
        // A peer that has told nothing may be one of another program.
        let Some(told) = self.membership.told.get(&peer) else { return };
        let news = members.news_for(told);
        if let Some(protocol) = self.behaviours.data.members.as_mut()
            && !(news.list.is_empty() && news.key.is_empty())
        {
            protocol.send_request(&peer, if whole { news } else { members.sequences() });
        }
    }

    pub(super) fn on_members(&mut self, event: Event) {
        let Some(members) = self.membership.members.clone() else { return };
        let (peer, message) = match event {
            Event::Message { peer, message, .. } => (peer, message),
            Event::InboundFailure { peer, error: InboundFailure::Io(why), .. }
            | Event::OutboundFailure { peer, error: OutboundFailure::Io(why), .. }
                if why.kind() == io::ErrorKind::InvalidData =>
            {
                return self.membership.refused(peer, &why);
            }
            _ => return,
        };
        if !members.admits(&peer) {
            return;
        }
        match message {
            Transfer::Request { request, channel, .. } => {
                let told = request.sequences();
                let is_newer = self.hear(&members, peer, request);
                if let Some(protocol) = self.behaviours.data.members.as_mut() {
                    // A list that the peer has just sent may have removed it.
                    let news =
                        if members.admits(&peer) { members.news_for(&told) } else { Message::default() };
                    // The peer may have disconnected.
                    let _ = protocol.send_response(channel, news);
                }
                if is_newer && self.membership.asks((told.list_version(), told.key_sequence)) {
                    self.ask_for_members(peer);
                }
            }
            Transfer::Response { response, .. } => {
                self.hear(&members, peer, response);
            }
        }
    }

    /// Takes a message. Returns whether the peer has something newer than this node now.
    fn hear(&mut self, members: &Members, peer: PeerId, message: Message) -> bool {
        self.membership.told.insert(peer, message.sequences());
        members.hear_of_list(peer, &message);
        let (list, key) = (message.list_version(), message.key_sequence);
        let (changed, refused) = members.receive(message);
        match &refused {
            // It was on its way while a newer one came from another peer, or the peer missed that.
            Some(why @ Refused::Older { .. }) => {
                tracing::info!(%peer, "refused an old admission list or swarm key of a peer: {why}");
            }
            Some(why) => self.membership.refused(peer, why),
            None => {}
        }
        if changed {
            self.on_members_changed(false);
        }
        let own = members.sequences();
        refused.is_none() && (list > own.list_version() || key > own.key_sequence)
    }
}
