//! How many requests a relay answers at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use libp2p::PeerId;

use crate::locked;

/// Requests that are being answered; circuits that are open do not count.
const MAX_REQUESTS: usize = 64;
/// Those of one peer: each may wait for a destination.
const MAX_REQUESTS_PER_PEER: usize = 8;

/// The requests that are being answered, by peer. Clones share them.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<HashMap<PeerId, usize>>>);

/// A request counts until this is dropped.
pub struct RequestPlace {
    requests: Requests,
    peer: PeerId,
}

impl Requests {
    /// Counts a request of a peer. Returns none if it has too many, or all peers together.
    pub fn begin(&self, peer: PeerId) -> Option<RequestPlace> {
        let mut open = locked(&self.0);
        let own = open.get(&peer).copied().unwrap_or_default();
        if own >= MAX_REQUESTS_PER_PEER || open.values().sum::<usize>() >= MAX_REQUESTS {
            return None;
        }
        open.insert(peer, own + 1);
        Some(RequestPlace { requests: self.clone(), peer })
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        let mut open = locked(&self.requests.0);
        if let Some(own) = open.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_the_requests_of_all() {
        let (requests, one) = (Requests::default(), PeerId::random());
        let mut held: Vec<_> = std::iter::from_fn(|| requests.begin(one)).take(MAX_REQUESTS).collect();
        assert_eq!(held.len(), MAX_REQUESTS_PER_PEER);
        assert!(requests.begin(PeerId::random()).is_some());
        held.pop();
        assert!(requests.begin(one).is_some());
    }

    #[test]
    fn all_requests_together_are_bounded() {
        let requests = Requests::default();
        let held: Vec<_> =
            std::iter::from_fn(|| requests.begin(PeerId::random())).take(2 * MAX_REQUESTS).collect();
        assert_eq!(held.len(), MAX_REQUESTS);
        drop(held);
        assert!(locked(&requests.0).is_empty());
    }
}
