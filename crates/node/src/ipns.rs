//! Mutable names: IPNS (<https://specs.ipfs.tech/ipns/ipns-record/>), where the owner of a key signs the value of its
//! name, and DNSLink, where the owner of a domain sets it.
//!
//! ```text
//!   Node ── publish ─► own ─► record_store (names.redb) ─► republisher ─► routing system, pubsub
//!        ── follow ──► subscriptions ◄─ record_queue ◄─ behaviour/received_records (pubsub, fetch); polling (routing system)
//!        ── resolve ─► own, cache ─► key: connected peers (fetch), routing system; the newest valid record wins
//!                                  └► domain: dnslink (TXT records)
//!                                     no answer ─► record_store, the last known value
//! ```

mod cache;
mod carried;
mod dnslink;
pub(crate) mod fetch;
#[cfg(test)]
mod fixtures;
mod keys;
mod own;
mod polling;
mod publish;
pub(crate) mod pubsub;
mod record_store;
mod refresh;
mod republisher;
mod resolve;
mod subscriptions;
mod withhold;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};
use tokio::sync::Notify;

use crate::{Blocks, KeyError, Options, RecordError, Stopped, locked, routing::ipns};
use cache::ResolutionCache;
use own::OwnRecords;
use record_store::RecordStore;
use refresh::Refreshes;
use subscriptions::Subscriptions;

pub use carried::{CarriedRecord, SignedRecord};
pub use publish::Published;
pub use resolve::Resolved;
pub use subscriptions::FollowedRecord;
pub(crate) use withhold::leave_network;

/// How long a published record is valid, as in Kubo.
const RECORD_LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);

/// The IPNS names of one node.
#[derive(Clone)]
pub(crate) struct IpnsNames(Arc<IpnsNamesInner>);

struct IpnsNamesInner {
    data_dir: PathBuf,
    /// The node's own key, which also has a name.
    identity: Keypair,
    /// All keys, once they were loaded.
    keys: Mutex<Option<Arc<[Keypair]>>>,
    record_store: RecordStore,
    subscriptions: Subscriptions,
    /// Wakes the republisher after a record was signed.
    signed: Notify,
    own: OwnRecords,
    cache: ResolutionCache,
    refreshes: Refreshes,
    dns: dnslink::DnsResolver,
    /// Whether an expired record is used if no newer one is known: in a private swarm, whose clocks may be wrong.
    uses_expired: bool,
}

impl IpnsNames {
    pub fn open(options: &Options, identity: &Keypair, blocks: &dyn Blocks) -> Result<Self, RecordError> {
        let names = Self::with(
            &options.data_dir,
            identity,
            dnslink::DnsResolver::new(options),
            options.uses_expired(),
        )?;
        // A missing key never published anything.
        if let Some(key) = options.unshared_key.as_ref().and_then(|key_name| names.key(key_name).ok()) {
            names.withhold(&key, blocks)?;
        }
        Ok(names)
    }

    /// Opens the names of a node without a swarm.
    pub fn offline(data_dir: &Path, identity: &Keypair) -> Result<Self, RecordError> {
        Self::with(data_dir, identity, dnslink::DnsResolver::offline(), false)
    }

    fn with(
        data_dir: &Path,
        identity: &Keypair,
        dns: dnslink::DnsResolver,
        uses_expired: bool,
    ) -> Result<Self, RecordError> {
        let record_store = RecordStore::open(data_dir)?;
        let own = record_store.all_own()?.into_iter();
        // An expired record still holds the last sequence.
        let own = own.filter_map(|(name, bytes)| Some((name, verify_ignoring_expiry(name, Some(bytes))?)));
        let names = Self(Arc::new(IpnsNamesInner {
            data_dir: data_dir.into(),
            identity: identity.clone(),
            keys: Mutex::default(),
            record_store,
            subscriptions: Subscriptions::default(),
            signed: Notify::default(),
            own: OwnRecords::new(own),
            cache: ResolutionCache::default(),
            refreshes: Refreshes::default(),
            dns,
            uses_expired,
        }));
        for name in names.0.record_store.followed()? {
            names.0.subscriptions.add(name, names.last_followed_record(&name)?);
        }
        Ok(names)
    }

    /// Returns the time by which records of others must not have expired; where expired ones are used, every record is valid then.
    fn valid_at(&self, now: SystemTime) -> SystemTime {
        if self.0.uses_expired { SystemTime::UNIX_EPOCH } else { now }
    }

    /// Returns a key by its key name; `self` is the node's identity.
    fn key(&self, key_name: &str) -> Result<Keypair, KeyError> {
        if key_name == "self" { Ok(self.0.identity.clone()) } else { keys::load(&self.0.data_dir, key_name) }
    }

    /// Returns all keys of this node, its identity first.
    fn own_keys(&self) -> Result<Arc<[Keypair]>, KeyError> {
        let mut known = locked(&self.0.keys);
        if let Some(keys) = &*known {
            return Ok(keys.clone());
        }
        let key_names = keys::list(&self.0.data_dir)?;
        let named = key_names.iter().map(|key_name| keys::load(&self.0.data_dir, key_name));
        let keys: Arc<[Keypair]> =
            [Ok(self.0.identity.clone())].into_iter().chain(named).collect::<Result<_, KeyError>>()?;
        Ok(known.insert(keys).clone())
    }

    /// Runs an operation that may create a key.
    fn change_keys<T>(&self, change: impl FnOnce(&Path) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let changed = change(&self.0.data_dir);
        *locked(&self.0.keys) = None;
        changed
    }

    /// Returns the newest record under an own name that was signed elsewhere.
    fn foreign(&self, name: &PeerId) -> Result<Option<ipns::Record>, RecordError> {
        Ok(verify_ignoring_expiry(*name, self.0.record_store.foreign(name)?))
    }

    /// Returns the last record of a followed name, expired or not.
    fn last_followed_record(&self, name: &PeerId) -> Result<Option<ipns::Record>, RecordError> {
        Ok(verify_ignoring_expiry(*name, self.0.record_store.followed_record(name)?))
    }

    /// Runs blocking work on the key files.
    async fn with_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let names = self.clone();
        tokio::task::spawn_blocking(move || work(&names)).await.map_err(|_| Stopped)?
    }

    /// Runs blocking work on the records.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let names = self.clone();
        tokio::task::spawn_blocking(move || work(&names)).await.map_err(|_| Stopped)?
    }
}

/// Decodes a stored record, expired or not.
fn verify_ignoring_expiry(name: PeerId, bytes: Option<Vec<u8>>) -> Option<ipns::Record> {
    ipns::Record::verify(name, bytes?, SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod model;
