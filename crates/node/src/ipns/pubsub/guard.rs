//! A guard in front of gossipsub: drops a peer's messages beyond its allowance.

use std::{
    fmt,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    gossipsub::{
        self, IdentTopic, IdentityTransform, MessageAcceptance, MessageId, PublishError, SubscriptionError,
        TopicHash,
    },
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use super::topics::Topics;
use crate::routing::RateLimiter;

/// Bytes that one peer may send at once: a few thousand subscriptions when it connects, or some hundred records.
const BURST: u32 = 1 << 20;
/// The allowance grows by one byte in this time: a second is worth some hundred records.
const EVERY: Duration = Duration::from_nanos(1_000_000_000 / (256 << 10));

/// The text before the topic of a PRUNE in a message's debug form.
const PRUNE: &str = "Prune(Prune { topic_hash: TopicHash { hash: \"";

type InnerPubsub = gossipsub::Behaviour<IdentityTransform, Topics>;

/// Gossipsub with limits for each peer.
///
/// gossipsub 0.49 remembers the topic of every PRUNE for an hour, also of topics that it has not joined, and IDONTWANT
/// entries for seconds, whatever their length. It exports no message types, so the cost of a message is the length of
/// its debug form.
pub struct Behaviour {
    inner: InnerPubsub,
    topics: Topics,
    limiter: RateLimiter,
}

impl Behaviour {
    pub fn new(
        author: gossipsub::MessageAuthenticity,
        config: gossipsub::Config,
    ) -> Result<Self, &'static str> {
        let topics = Topics::default();
        let inner = InnerPubsub::new_with_subscription_filter(author, config, topics.clone())?;
        Ok(Self { inner, topics, limiter: RateLimiter::new(EVERY, BURST) })
    }

    /// Joins a topic. Returns false if this node has joined it already.
    pub fn subscribe(&mut self, topic: &IdentTopic) -> Result<bool, SubscriptionError> {
        self.topics.join(topic.hash());
        self.inner.subscribe(topic)
    }

    pub fn unsubscribe(&mut self, topic: &IdentTopic) {
        self.inner.unsubscribe(topic);
        self.topics.leave(&topic.hash());
    }

    pub fn is_subscribed(&self, topic: &TopicHash) -> bool {
        self.topics.is_own(topic)
    }

    /// Returns the connected peers that joined a topic.
    pub fn subscribers(&self, topic: &TopicHash) -> impl Iterator<Item = PeerId> {
        let peers = self.inner.all_peers().filter(move |(_, topics)| topics.contains(&topic));
        peers.map(|(peer, _)| *peer)
    }

    pub fn publish(&mut self, topic: IdentTopic, data: Vec<u8>) -> Result<MessageId, PublishError> {
        self.inner.publish(topic, data)
    }

    /// Reports the validation of a message, which forwards or drops it.
    pub fn judge(&mut self, message: &MessageId, from: &PeerId, verdict: MessageAcceptance) {
        self.inner.report_message_validation_result(message, from, verdict);
    }

    fn admits(&mut self, peer: PeerId, event: &impl fmt::Debug) -> bool {
        let text = format!("{event:?}");
        let units = u32::try_from(text.len()).unwrap_or(u32::MAX).min(BURST);
        self.limiter.allow_many(peer, units, Instant::now())
            && pruned(&text).all(|topic| self.topics.is_own(&TopicHash::from_raw(topic)))
    }
}

/// Returns the topics of the PRUNEs in a message.
fn pruned(message: &str) -> impl Iterator<Item = &str> {
    message.split(PRUNE).skip(1).filter_map(|rest| rest.split('"').next())
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <InnerPubsub as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = gossipsub::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.topics.forget(&closed.peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        if self.admits(peer, &event) {
            self.topics.set_sender(Some(peer));
            self.inner.on_connection_handler_event(peer, id, event);
            self.topics.set_sender(None);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn pruned_pubsub_topics_are_read_from_the_debug_form_of_a_message() {
        let topic = |text: &str| format!("{:?}", TopicHash::from_raw(text));
        let [one, other] = ["/record/a", "b\"Prune(Prune { topic_hash: TopicHash { hash: \"c"].map(topic);
        let message = format!(
            "[Graft(Graft {{ topic_hash: {one} }}), Prune(Prune {{ topic_hash: {other}, peers: [] }})]"
        );
        assert_eq!(pruned(&message).collect::<Vec<_>>(), ["b\\"]);
        assert_eq!(pruned("PeerKind(Gossipsub)").count(), 0);
    }

    #[test]
    fn pubsub_messages_beyond_the_rate_limit_of_a_peer_are_rejected() {
        let author = gossipsub::MessageAuthenticity::Signed(Keypair::generate_ed25519());
        let mut guard = Behaviour::new(author, gossipsub::Config::default()).unwrap();
        let [peer, other] = [(); 2].map(|()| PeerId::random());
        let message = "x".repeat(64 << 10);
        assert!((1..64).contains(&(0..64).filter(|_| guard.admits(peer, &message)).count()));
        assert!(guard.admits(other, &message));
        let stranger = format!("{PRUNE}/record/a\", peers: [] }})");
        assert!(!guard.admits(other, &format_args!("{stranger}")));
    }
}
