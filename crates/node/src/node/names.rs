//! What a node offers for IPNS names and DNSLink.

use std::time::Duration;

use libp2p::identity::Keypair;
use tokio::sync::watch;

use super::Node;
use crate::{
    CarriedRecord, FollowedRecord, IpnsName, KeyError, MutableName, Published, RecordError, ResolveError,
    Resolved, SignedRecord,
};

impl Node {
    /// Returns the key with this key name and its IPNS name, creating it if it is missing.
    pub async fn name_key(&self, key_name: &str) -> Result<(Keypair, IpnsName), KeyError> {
        self.0.names.name_key(key_name).await
    }

    /// Returns the key names and IPNS names of all keys.
    pub async fn name_keys(&self) -> Result<Vec<(String, IpnsName)>, KeyError> {
        self.0.names.name_keys().await
    }

    /// Returns the key of this node's identity.
    pub fn own_key(&self) -> &Keypair {
        &self.0.key
    }

    /// Creates a key, which must not exist.
    pub async fn new_key(&self, key_name: &str) -> Result<IpnsName, KeyError> {
        self.0.names.new_key(key_name).await
    }

    /// Returns the key with this key name, which must exist; `self` is the node's identity.
    pub async fn find_key(&self, key_name: &str) -> Result<Keypair, KeyError> {
        self.0.names.find_key(key_name).await
    }

    /// Renames a key; the new key name must be free, unless it `overwrites` the key that has it.
    pub async fn rename_key(&self, from: &str, to: &str, overwrites: bool) -> Result<(), KeyError> {
        self.0.names.rename_key(from, to, overwrites).await
    }

    /// Removes a key. The records under its name expire.
    pub async fn remove_key(&self, key_name: &str) -> Result<(), KeyError> {
        self.0.names.remove_key(key_name).await
    }

    /// Exports a key as `ipfs key export --format=libp2p-protobuf-cleartext` does; `self` is the node's identity.
    pub async fn export_key(&self, key_name: &str) -> Result<Vec<u8>, KeyError> {
        self.0.names.export_key(key_name).await
    }

    /// Imports an exported key.
    pub async fn import_key(&self, key_name: &str, bytes: &[u8]) -> Result<IpnsName, KeyError> {
        self.0.names.import_key(key_name, bytes).await
    }

    /// Returns what this node last published under a name.
    pub fn published(&self, name: &IpnsName) -> Option<Published> {
        self.0.names.published(name)
    }

    /// Publishes a value under a name; others may cache it for `ttl`.
    ///
    /// Waits a few seconds for connected peers to accept the record. Other peers get it when they join.
    pub async fn publish(&self, key: &Keypair, value: &str, ttl: Duration) -> Result<Published, RecordError> {
        self.0.names.publish(self.online(), key, value, ttl).await
    }

    /// Publishes without waiting for peers: followers get the record at once over pubsub, the routing system soon
    /// after.
    pub async fn publish_at_once(
        &self,
        key: &Keypair,
        value: &str,
        ttl: Duration,
    ) -> Result<Published, RecordError> {
        self.0.names.publish_at_once(self.online(), key, value, ttl).await
    }

    /// Resolves a name from the cache while that is valid, else from peers or DNS; without an answer within `timeout`,
    /// returns the last known value. A name without an answer is not queried again for a while.
    pub async fn resolve(&self, name: &MutableName, timeout: Duration) -> Result<Resolved, ResolveError> {
        self.0.names.resolve(self.online(), name, timeout).await
    }

    /// Resolves a name by querying peers or DNS even if the cached value is still valid, for a caller that misses
    /// something in it.
    ///
    /// A name is queried at most once a second, or once in half a minute without an answer. In between callers get the
    /// last answer; callers that arrive during a query wait for it. Names that this node publishes need no query.
    pub async fn resolve_uncached(
        &self,
        name: &MutableName,
        timeout: Duration,
    ) -> Result<Resolved, ResolveError> {
        self.0.names.resolve_uncached(self.online(), name, timeout).await
    }

    /// Follows a name until it is unfollowed or the process ends.
    pub async fn follow(&self, name: IpnsName) -> Result<(), RecordError> {
        self.0.names.follow(self.online(), name).await
    }

    /// Follows a name, also after a restart, after those followed before. Returns false if it was followed already.
    pub async fn follow_persistently(&self, name: IpnsName) -> Result<bool, RecordError> {
        self.0.names.follow_persistently(self.online(), name).await
    }

    /// Stops following a name. Returns false if it was not followed persistently.
    pub async fn unfollow(&self, name: IpnsName) -> Result<bool, RecordError> {
        self.0.names.unfollow(self.online(), name).await
    }

    /// Returns the persistently followed names in order.
    pub async fn persistently_followed(&self) -> Result<Vec<IpnsName>, RecordError> {
        self.0.names.persistently_followed().await
    }

    /// Returns the newest record of a followed name.
    pub fn followed_record(&self, name: &IpnsName) -> Option<FollowedRecord> {
        self.0.names.followed_record(name)
    }

    /// Returns the newest record of a name that is known here, as its owner signed it, expired or not.
    pub async fn newest_record(&self, name: IpnsName) -> Result<Option<SignedRecord>, RecordError> {
        self.0.names.newest_record(name).await
    }

    /// Takes a record that was carried here from another network, if it is the newest of its name. An expired one counts as
    /// the last known value of a followed name.
    pub async fn carry_record(&self, name: IpnsName, record: Vec<u8>) -> Result<CarriedRecord, RecordError> {
        self.0.names.carry_record(self.online(), name, record).await
    }

    /// Returns a channel that changes when a followed name has a new record, and when a name is followed or unfollowed.
    pub fn followed_changes(&self) -> watch::Receiver<u64> {
        self.0.names.followed_changes()
    }

    /// Returns the own names under which another node publishes too, with its last sequence.
    pub fn conflicting_writers(&self) -> Vec<(IpnsName, u64)> {
        self.0.names.conflicting_writers()
    }
}
