//! The provider records of this node: one for each announced root.

use std::collections::HashMap;

use libp2p::{
    PeerId,
    kad::{ProviderRecord, RecordKey},
};

use crate::routing::compact::CompactBytes;

/// Keys that this node provides. Kademlia adds its addresses to an answer, so nearly all of them have none here.
pub struct OwnRecords {
    me: PeerId,
    records: HashMap<CompactBytes, Option<Box<ProviderRecord>>>,
}

impl OwnRecords {
    pub fn new(me: PeerId) -> Self {
        Self { me, records: HashMap::new() }
    }

    pub fn add(&mut self, record: ProviderRecord) {
        let is_plain = record.addresses.is_empty() && record.expires.is_none();
        let key = CompactBytes::from(&record.key);
        self.records.insert(key, (!is_plain).then(|| Box::new(record)));
    }

    pub fn remove(&mut self, key: &RecordKey) {
        self.records.remove(&CompactBytes::from(key));
    }

    pub fn get(&self, key: &RecordKey) -> Option<ProviderRecord> {
        let record = self.records.get(&CompactBytes::from(key))?;
        Some(self.record(key.clone(), record.as_deref()))
    }

    pub fn iter(&self) -> impl Iterator<Item = ProviderRecord> {
        self.records.iter().map(|(key, record)| self.record(key.to_key(), record.as_deref()))
    }

    fn record(&self, key: RecordKey, record: Option<&ProviderRecord>) -> ProviderRecord {
        let plain = || ProviderRecord { key, provider: self.me, expires: None, addresses: Vec::new() };
        record.cloned().unwrap_or_else(plain)
    }
}
