//! What time it is at peers, by the fetch protocol: the key is `/ocipfs/time`, the value the seconds since 1970 as text. Peers of
//! the public network are not asked, and told nothing.

use libp2p::PeerId;

use super::{Behaviour, fetch_purpose::FetchPurpose};
use crate::peers::seconds;

pub(super) const KEY: &[u8] = b"/ocipfs/time";

impl Behaviour {
    /// Asks a peer what time it is there.
    pub(super) fn ask_time(&mut self, peer: PeerId) {
        if !self.public {
            let id = self.behaviours.data.fetch.send_request(&peer, KEY.to_vec());
            self.fetches.insert(id, FetchPurpose::Time);
        }
    }

    /// Takes the answer.
    pub(super) fn told_time(&self, peer: PeerId, value: &[u8]) {
        if let Some(seconds) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
            self.peers.told_time(peer, seconds);
        }
    }
}

/// Returns the answer for a peer.
pub(super) fn now() -> Vec<u8> {
    seconds().to_string().into_bytes()
}
