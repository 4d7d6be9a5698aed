//! What is said about names: records told to the routing system and over pubsub, asked for and answered by `fetch`.

use libp2p::{
    PeerId, gossipsub,
    kad::{self, RecordKey, store::RecordStore},
};
use tokio::sync::{mpsc, oneshot};

use super::Behaviour;
use crate::names::{
    fetch,
    pubsub::{self, Heard, Verdict},
};

/// Connected peers asked for a value beside the routing system.
const PEERS_FETCHED_FROM: usize = 16;

/// Who waits for the answer of one peer.
pub(super) enum Asker {
    /// Somebody who resolves a name.
    Resolver(mpsc::UnboundedSender<Vec<u8>>),
    /// Whoever listens for this name.
    Listener(PeerId),
}

impl Behaviour {
    pub(super) fn put_value(&mut self, record: kad::Record, reply: oneshot::Sender<bool>) {
        match self.parts.kad.put_record(record, kad::Quorum::One) {
            Ok(query) => {
                self.puts.insert(query, reply);
            }
            Err(error) => {
                tracing::warn!(%error, "a name's record is not told to others");
                let _ = reply.send(false);
            }
        }
    }

    pub(super) fn fetch_values(&mut self, key: &RecordKey, found: &mpsc::UnboundedSender<Vec<u8>>) {
        for peer in self.peers.list().into_iter().take(PEERS_FETCHED_FROM) {
            let id = self.parts.fetch.send_request(&peer.id, key.to_vec());
            self.fetches.insert(id, Asker::Resolver(found.clone()));
        }
    }

    pub(super) fn find_values(&mut self, key: RecordKey, found: mpsc::UnboundedSender<Vec<u8>>) {
        let query = self.parts.kad.get_record(key);
        self.values.insert(query, found);
    }

    /// Listens for a name, and asks those who do so already what it means now.
    pub(super) fn listen(&mut self, key: &RecordKey) {
        self.parts.kad.store_mut().reserve(key.clone());
        let topic = pubsub::topic(key);
        match self.parts.pubsub.subscribe(&topic) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::warn!(%error, "a name is not listened for"),
        }
        let topic = topic.hash();
        let peers: Vec<_> = self.parts.pubsub.subscribers(&topic).take(PEERS_FETCHED_FROM).collect();
        for peer in peers {
            self.ask_for(peer, &topic);
        }
    }

    pub(super) fn listen_no_more(&mut self, key: &RecordKey) {
        self.parts.kad.store_mut().release(key.clone());
        self.parts.pubsub.unsubscribe(&pubsub::topic(key));
        self.inbox.forget();
    }

    /// Has a record here, for those who ask for it.
    pub(super) fn keep(&mut self, record: kad::Record) {
        if let Err(error) = self.parts.kad.store_mut().put(record) {
            tracing::debug!(%error, "a name's record is not kept for who asks");
        }
    }

    /// The same, and tells who listens.
    pub(super) fn tell(&mut self, record: kad::Record) {
        self.keep(record.clone());
        match self.parts.pubsub.publish(pubsub::topic(&record.key), record.value) {
            Ok(_) | Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::warn!(%error, "a name's record is not told to those who follow it"),
        }
    }

    pub(super) fn judge(&mut self, from: &PeerId, message: Option<&gossipsub::MessageId>, verdict: Verdict) {
        self.inbox.done(from);
        if let Some(message) = message {
            self.parts.pubsub.judge(message, from, verdict);
        }
    }

    pub(super) fn on_pubsub(&mut self, event: pubsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let name = pubsub::name_of(&message.topic);
                let heard = name.map(|name| Heard {
                    name,
                    record: message.data,
                    from: propagation_source,
                    message: Some(message_id.clone()),
                });
                if heard.is_none_or(|heard| !self.inbox.put(heard)) {
                    self.parts.pubsub.judge(&message_id, &propagation_source, Verdict::Ignore);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                if self.parts.pubsub.is_subscribed(&topic) {
                    self.ask_for(peer_id, &topic);
                }
            }
            gossipsub::Event::Unsubscribed { .. }
            | gossipsub::Event::GossipsubNotSupported { .. }
            | gossipsub::Event::SlowPeer { .. } => {}
        }
    }

    fn ask_for(&mut self, peer: PeerId, topic: &gossipsub::TopicHash) {
        let Some(name) = pubsub::name_of(topic) else { return };
        let key = crate::Name::from(name).key();
        let id = self.parts.fetch.send_request(&peer, key.to_vec());
        self.fetches.insert(id, Asker::Listener(name));
    }

    /// Takes a record that was put here as one that was heard, if its name is listened for.
    pub(super) fn hear(&mut self, from: PeerId, key: &RecordKey, record: Vec<u8>) {
        let topic = pubsub::topic(key).hash();
        if self.parts.pubsub.is_subscribed(&topic)
            && let Some(name) = pubsub::name_of(&topic)
        {
            // Where there are too many, it will be told again.
            self.inbox.put(Heard { name, record, from, message: None });
        }
    }

    /// Answers what a peer asks for, and takes what peers answer.
    pub(super) fn on_fetch(&mut self, event: fetch::Event) {
        use libp2p::request_response::{Event, Message};
        match event {
            Event::Message { message: Message::Request { request: key, channel, .. }, .. } => {
                let value = self.parts.kad.store_mut().get(&RecordKey::from(key));
                let value = value.map(|record| record.value.clone());
                // Who is gone by now needs no answer.
                let _ = self.parts.fetch.send_response(channel, value);
            }
            Event::Message { peer: from, message: Message::Response { request_id, response }, .. } => {
                match (self.fetches.remove(&request_id), response) {
                    (Some(Asker::Resolver(values)), Some(value)) => drop(values.send(value)),
                    (Some(Asker::Listener(name)), Some(record)) => {
                        self.inbox.put(Heard { name, record, from, message: None });
                    }
                    _ => {}
                }
            }
            Event::OutboundFailure { request_id, .. } => drop(self.fetches.remove(&request_id)),
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }
}
