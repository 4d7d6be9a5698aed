//! Records of IPNS names: put into the routing system, published over pubsub, fetched, and served by `fetch`.

use libp2p::{
    PeerId, gossipsub,
    kad::{self, RecordKey, store::RecordStore},
};
use tokio::sync::mpsc;

use super::{Behaviour, fetch_purpose::FetchPurpose, files, time};
use crate::{
    Route,
    command::{ReceivedRecord, Verdict},
    ipns::{fetch, pubsub},
};

/// Connected peers that a value is fetched from, in addition to the routing system.
const MAX_FETCH_PEERS: usize = 16;

impl Behaviour {
    pub(super) fn fetch_values(&mut self, key: &RecordKey, found: &mpsc::UnboundedSender<Vec<u8>>) {
        let peers = self.peers.list().into_iter().filter(|peer| peer.route != Route::LimitedRelay);
        for peer in peers.take(MAX_FETCH_PEERS) {
            let id = self.behaviours.data.fetch.send_request(&peer.id, key.to_vec());
            self.fetches.insert(id, FetchPurpose::Resolve(found.clone()));
        }
    }

    /// Subscribes to a name, and fetches its current record from the other subscribers.
    pub(super) fn subscribe(&mut self, key: &RecordKey) {
        self.records.reserve(key.clone());
        let topic = pubsub::topic(key);
        match self.behaviours.data.pubsub.subscribe(&topic) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::warn!(%error, "cannot subscribe to an IPNS name"),
        }
        let topic = topic.hash();
        let peers: Vec<_> = self.behaviours.data.pubsub.subscribers(&topic).take(MAX_FETCH_PEERS).collect();
        for peer in peers {
            self.fetch_record(peer, &topic);
        }
    }

    pub(super) fn unsubscribe(&mut self, key: &RecordKey) {
        self.records.release(key.clone());
        self.behaviours.data.pubsub.unsubscribe(&pubsub::topic(key));
        self.record_queue.forget();
    }

    /// Stores a record for peers that fetch it.
    pub(super) fn store(&mut self, record: kad::Record) {
        if let Err(error) = self.records.put(record) {
            tracing::debug!(%error, "cannot store an IPNS record for other peers");
        }
    }

    /// Stores a record and publishes it to subscribers.
    pub(super) fn publish(&mut self, record: kad::Record) {
        self.store(record.clone());
        match self.behaviours.data.pubsub.publish(pubsub::topic(&record.key), record.value) {
            Ok(_) | Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::warn!(%error, "cannot publish an IPNS record to its followers"),
        }
    }

    pub(super) fn report_validation(
        &mut self,
        from: &PeerId,
        message: Option<&gossipsub::MessageId>,
        verdict: Verdict,
    ) {
        self.record_queue.done(from);
        if let Some(message) = message {
            self.behaviours.data.pubsub.judge(message, from, verdict);
        }
    }

    pub(super) fn on_pubsub(&mut self, event: pubsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                // Next: `IpnsNames::ingest_received` (`ipns/subscriptions.rs`), in a task of its own.
                let name = pubsub::name_of(&message.topic);
                let received = name.map(|name| ReceivedRecord {
                    name,
                    record: message.data,
                    from: propagation_source,
                    message: Some(message_id.clone()),
                });
                if received.is_none_or(|received| !self.record_queue.put(received)) {
                    self.behaviours.data.pubsub.judge(&message_id, &propagation_source, Verdict::Ignore);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                if self.behaviours.data.pubsub.is_subscribed(&topic) {
                    self.fetch_record(peer_id, &topic);
                }
            }
            gossipsub::Event::Unsubscribed { .. }
            | gossipsub::Event::GossipsubNotSupported { .. }
            | gossipsub::Event::SlowPeer { .. } => {}
        }
    }

    fn fetch_record(&mut self, peer: PeerId, topic: &gossipsub::TopicHash) {
        let Some(name) = pubsub::name_of(topic) else { return };
        let key = crate::IpnsName::from(name).key();
        let id = self.behaviours.data.fetch.send_request(&peer, key.to_vec());
        self.fetches.insert(id, FetchPurpose::Follow(name));
    }

    /// Ingests a record that a peer put here, if its name is subscribed to.
    pub(super) fn on_stored_record(&mut self, from: PeerId, key: &RecordKey, record: Vec<u8>) {
        let topic = pubsub::topic(key).hash();
        if self.behaviours.data.pubsub.is_subscribed(&topic)
            && let Some(name) = pubsub::name_of(&topic)
        {
            // If the queue is full, it will be sent again.
            self.record_queue.put(ReceivedRecord { name, record, from, message: None });
        }
    }

    /// Answers fetch requests, and ingests fetch responses.
    pub(super) fn on_fetch(&mut self, event: fetch::Event) {
        use libp2p::request_response::{Event, Message};
        match event {
            Event::Message { message: Message::Request { request: key, channel, .. }, .. } => {
                if let Some(raw) = files::parse_key(&key) {
                    return self.files.look_up(raw, channel);
                }
                let value = match &key[..] {
                    time::KEY if !self.public => Some(time::now()),
                    _ => {
                        let record = self.records.get(&RecordKey::from(key));
                        record.map(|record| record.value.clone())
                    }
                };
                // The peer may have disconnected.
                let _ = self.behaviours.data.fetch.send_response(channel, value);
            }
            Event::Message { peer: from, message: Message::Response { request_id, response }, .. } => {
                match (self.fetches.remove(&request_id), response) {
                    (Some(FetchPurpose::Resolve(values)), Some(value)) => drop(values.send(value)),
                    (Some(FetchPurpose::File(roots)), Some(value)) => files::told(&value, &roots),
                    (Some(FetchPurpose::Time), Some(value)) => self.told_time(from, &value),
                    (Some(FetchPurpose::Follow(name)), Some(record)) => {
                        self.record_queue.put(ReceivedRecord { name, record, from, message: None });
                    }
                    _ => {}
                }
            }
            Event::OutboundFailure { request_id, .. } => drop(self.fetches.remove(&request_id)),
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }
}
