//! The topics that peers subscribe to: names only; those of this node always, and few others of each peer.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard},
};

use libp2p::{
    PeerId,
    gossipsub::{TopicHash, TopicSubscriptionFilter},
};

use super::name_of;
use crate::locked;

/// Topics of one peer that are remembered although this node has not joined them: it may join one later, and peers
/// announce a subscription only once.
const MAX_OTHERS: usize = 256;

/// The subscription filter of gossipsub; clones share their state.
#[derive(Clone, Default)]
pub struct Topics(Arc<Mutex<TopicState>>);

#[derive(Default)]
struct TopicState {
    /// The topics that this node has joined.
    own: HashSet<TopicHash>,
    /// The sender of the current message: gossipsub does not tell the filter whose subscription it is.
    sender: Option<PeerId>,
    /// Hashes of further topics that each peer joined.
    others: HashMap<PeerId, HashSet<u64>>,
    hasher: RandomState,
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, TopicState> {
        locked(&self.0)
    }

    pub fn join(&self, topic: TopicHash) {
        self.lock().own.insert(topic);
    }

    pub fn leave(&self, topic: &TopicHash) {
        self.lock().own.remove(topic);
    }

    /// Returns whether this node has joined a topic.
    pub fn is_own(&self, topic: &TopicHash) -> bool {
        self.lock().own.contains(topic)
    }

    /// Sets the peer whose subscriptions are filtered until the next call.
    pub fn set_sender(&self, sender: Option<PeerId>) {
        self.lock().sender = sender;
    }

    pub fn forget(&self, peer: &PeerId) {
        self.lock().others.remove(peer);
    }
}

impl TopicState {
    /// Remembers a topic of `peer`, unless that peer has joined too many.
    fn remember(&mut self, peer: PeerId, topic: &TopicHash) -> bool {
        let hash = self.hasher.hash_one(topic);
        let others = self.others.entry(peer).or_default();
        others.contains(&hash) || others.len() < MAX_OTHERS && others.insert(hash)
    }
}

impl TopicSubscriptionFilter for Topics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        let mut state = self.lock();
        match state.sender {
            None => true,
            Some(_) if state.own.contains(topic) => true,
            Some(peer) => name_of(topic).is_some() && state.remember(peer, topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IpnsName, names::pubsub::topic};

    fn topic_of_a_name() -> TopicHash {
        topic(&IpnsName::from(PeerId::random()).key()).hash()
    }

    #[test]
    fn pubsub_subscriptions_of_a_peer_are_ipns_names_only_and_bounded() {
        let mut topics = Topics::default();
        let [peer, other] = [(); 2].map(|()| PeerId::random());
        topics.set_sender(Some(peer));
        let long = format!("/record/{}", "A".repeat(65_000));
        assert!(["", "chat", &long].iter().all(|text| !topics.can_subscribe(&TopicHash::from_raw(*text))));
        let first = topic_of_a_name();
        assert!(topics.can_subscribe(&first));
        assert_eq!((0..1000).filter(|_| topics.can_subscribe(&topic_of_a_name())).count(), MAX_OTHERS - 1);
        assert!(topics.can_subscribe(&first), "it may leave what it is in");
        let own = topic_of_a_name();
        topics.join(own.clone());
        assert!(topics.can_subscribe(&own) && topics.is_own(&own));
        topics.set_sender(Some(other));
        assert!(topics.can_subscribe(&topic_of_a_name()), "others are counted apart");
        topics.forget(&peer);
        topics.leave(&own);
        assert!(!topics.is_own(&own));
        topics.set_sender(Some(peer));
        assert!(topics.can_subscribe(&topic_of_a_name()), "a peer that comes back begins again");
    }
}
