//! Verified blocks and presences of peers: delivered to the sessions that want them. Peers that sent wrong blocks are banned.

use std::{collections::HashSet, sync::Arc};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{BAN_DURATION, Client};
use crate::{Block, Cid, as_v1, budget::MemoryLease, link::FetchedBlock, verify::Verified};

const MAX_BANNED: usize = 4096;

impl Client {
    pub(crate) fn on_verified(&mut self, verified: Verified) {
        let Verified { peer, presences, blocks, unusable, memory } = verified;
        for (cid, have) in presences {
            self.on_presence(&peer, &cid, have);
        }
        let sent = blocks.len();
        let unrequested: Vec<Block> =
            blocks.into_iter().filter_map(|block| self.on_block(&peer, block, &memory)).collect();
        let is_unsolicited = unrequested.len() < sent && self.unsolicited.keep(unrequested.clone());
        let is_wrong = unusable > 0 || !(unrequested.is_empty() || is_unsolicited);
        if is_wrong && self.remotes.contains_key(&peer) {
            self.ban(peer);
        }
    }

    fn on_presence(&mut self, peer: &PeerId, cid: &Cid, have: bool) {
        if self.is_banned(peer) {
            return;
        }
        for active in self.sessions.values_mut() {
            active.changed |= match have {
                true => active.session.on_have(peer, cid),
                false => active.session.on_dont_have(peer, cid),
            };
        }
    }

    /// Delivers a block to its sessions, or returns it if this peer was never asked for it.
    pub(super) fn on_block(
        &mut self,
        peer: &PeerId,
        block: Block,
        memory: &Arc<MemoryLease>,
    ) -> Option<Block> {
        let cid_v1 = as_v1(&block.cid);
        let remote = self.remotes.get_mut(peer)?;
        if !remote.was_asked(&cid_v1) {
            return Some(block);
        }
        self.useful += 1;
        remote.useful = self.useful;
        let (now, size) = (Instant::now(), block.data.len() as u64);
        self.last = Some((*peer, now));
        // Counted before delivery, since a receiver may read the counters at once.
        if self.sessions.values().any(|active| active.session.wants_block(&cid_v1)) {
            self.counters.received(Some(peer), block.data.len());
            remote.share.delivered();
        }
        let mut notified = HashSet::new();
        for active in self.sessions.values_mut() {
            if !active.session.wants_block(&cid_v1) {
                continue;
            }
            notified.extend(active.session.notified_peers(&cid_v1));
            if active.session.on_block(peer, &cid_v1, size, now) {
                active.changed = true;
                let _ = active.out.send(FetchedBlock { block: block.clone(), _memory: Some(memory.clone()) });
            }
        }
        // Also cancelled at the sender: some peers remember what they sent, and do not send it again when asked.
        notified.insert(*peer);
        self.cancel(&cid_v1, notified);
        None
    }

    /// Stops asking a peer that sent wrong blocks, for a while.
    fn ban(&mut self, peer: PeerId) {
        tracing::warn!(%peer, "peer sent blocks that were not requested and is not asked for {} s", BAN_DURATION.as_secs());
        if self.banned_peers.len() >= MAX_BANNED {
            self.banned_peers.retain(|_, at| at.elapsed() < BAN_DURATION);
        }
        self.banned_peers.insert(peer, Instant::now());
        let open_wants: Vec<Cid> =
            self.remotes.get(&peer).into_iter().flat_map(|r| &r.open_wants).copied().collect();
        for cid_v1 in open_wants {
            self.cancel(&cid_v1, [peer]);
        }
        if let Some(remote) = self.remotes.get(&peer) {
            remote.share.banned();
        }
        for active in self.sessions.values_mut() {
            active.session.ban_peer(&peer);
            active.changed = true;
        }
    }
}
