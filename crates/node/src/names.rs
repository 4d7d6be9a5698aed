//! Names whose meaning changes: IPNS, what a key's owner says that its name means
//! (<https://specs.ipfs.tech/ipns/ipns-record/>), and DNSLink, what a domain's owner says.
//!
//! ```text
//! Node ── publish ─► own ─► kept (names.redb) ─► telling ─► routing system, pubsub
//!      ── follow ──► hearing ◄─ pubsub, fetch, routing system
//!      ── resolve ─► own, cache ─► key: connected peers (fetch), routing system; the best that is signed counts
//!                                └► domain: dnslink (TXT records)
//!                                   nobody answers ─► kept, what was seen last
//! ```

mod afresh;
mod cache;
mod dnslink;
pub(crate) mod fetch;
#[cfg(test)]
mod fixtures;
mod hearing;
mod kept;
mod keys;
mod name;
mod own;
pub(crate) mod pubsub;
mod resolve;
mod telling;
mod watching;
mod withheld;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};
use tokio::sync::{Notify, oneshot};

use crate::{Blocks, Error, Node, Options, behaviour::Command, locked, routing::ipns};
use afresh::Afresh;
use cache::Cache;
use hearing::Hearing;
use kept::Kept;
use own::Own;

pub use hearing::Head;
pub use name::{Domain, Name, NotAName, Pointer};
pub use resolve::Resolved;
pub(crate) use withheld::leave_network;

/// How long what is published is valid, as in Kubo.
const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// A command does not wait longer for peers to take a record.
const TELLING: Duration = Duration::from_secs(5);

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Counts up with each change.
    pub sequence: u64,
}

/// The names of one node.
#[derive(Clone)]
pub(crate) struct Names(Arc<Inner>);

struct Inner {
    data_dir: PathBuf,
    /// The node's own key, which is a name too.
    identity: Keypair,
    /// All keys, once they were read.
    keys: Mutex<Option<Arc<[Keypair]>>>,
    kept: Kept,
    hearing: Hearing,
    /// Says that the routing system is to be told of something new.
    signed: Notify,
    own: Own,
    cache: Cache,
    afresh: Afresh,
    dns: dnslink::Resolver,
}

impl Names {
    pub fn open(options: &Options, identity: &Keypair, blocks: &dyn Blocks) -> Result<Self, Error> {
        let names = Self::with(&options.data_dir, identity, dnslink::Resolver::new(options))?;
        // One that does not exist published nothing.
        if let Some(key) = options.unshared_key.as_ref().and_then(|word| names.key(word).ok()) {
            names.withhold(&key, blocks)?;
        }
        Ok(names)
    }

    /// Those of a node that asks nobody.
    pub fn offline(data_dir: &Path, identity: &Keypair) -> Result<Self, Error> {
        Self::with(data_dir, identity, dnslink::Resolver::offline())
    }

    fn with(data_dir: &Path, identity: &Keypair, dns: dnslink::Resolver) -> Result<Self, Error> {
        let kept = Kept::open(data_dir).map_err(Error::names)?;
        let own = kept.all_own().map_err(Error::names)?.into_iter();
        // One that has expired still tells the sequence to count on from.
        let own = own.filter_map(|(name, bytes)| Some((name, once_valid(name, Some(bytes))?)));
        let names = Self(Arc::new(Inner {
            data_dir: data_dir.into(),
            identity: identity.clone(),
            keys: Mutex::default(),
            kept,
            hearing: Hearing::default(),
            signed: Notify::default(),
            own: Own::new(own),
            cache: Cache::default(),
            afresh: Afresh::default(),
            dns,
        }));
        for name in names.0.kept.followed()? {
            names.0.hearing.add(name, names.last_head(&name)?);
        }
        Ok(names)
    }

    /// The key of a word; `self` is this node's own.
    fn key(&self, word: &str) -> Result<Keypair, Error> {
        if word == "self" { Ok(self.0.identity.clone()) } else { keys::load(&self.0.data_dir, word) }
    }

    /// All keys of this node, its own the first.
    fn own_keys(&self) -> Result<Arc<[Keypair]>, Error> {
        let mut known = locked(&self.0.keys);
        if let Some(keys) = &*known {
            return Ok(keys.clone());
        }
        let words = keys::list(&self.0.data_dir)?;
        let named = words.iter().map(|word| keys::load(&self.0.data_dir, word));
        let keys: Arc<[Keypair]> =
            [Ok(self.0.identity.clone())].into_iter().chain(named).collect::<Result<_, Error>>()?;
        Ok(known.insert(keys).clone())
    }

    /// Does what may make a key.
    fn change_keys<T>(&self, change: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
        let changed = change(&self.0.data_dir);
        *locked(&self.0.keys) = None;
        changed
    }

    /// The newest that was signed elsewhere under an own name.
    fn foreign(&self, name: &PeerId) -> Result<Option<ipns::Record>, Error> {
        Ok(once_valid(*name, self.0.kept.foreign(name)?))
    }

    /// What a followed name meant last, expired or not.
    fn last_head(&self, name: &PeerId) -> Result<Option<ipns::Record>, Error> {
        Ok(once_valid(*name, self.0.kept.head(name)?))
    }

    /// Does what waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let names = self.clone();
        tokio::task::spawn_blocking(move || work(&names)).await.map_err(|_| Error::Stopped)?
    }
}

/// A kept record, expired or not.
fn once_valid(name: PeerId, bytes: Option<Vec<u8>>) -> Option<ipns::Record> {
    ipns::Record::verify(name, bytes?, SystemTime::UNIX_EPOCH).ok()
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        Self::names(error)
    }
}

impl Node {
    /// The key of a word, made where there is none, and its name.
    pub async fn name_key(&self, word: &str) -> Result<(Keypair, Name), Error> {
        let word = word.to_string();
        let make = move |names: &Names| names.change_keys(|dir| keys::load_or_create(dir, &word));
        let key = self.names().blocking(make).await?;
        let name = Name::of(&key);
        Ok((key, name))
    }

    /// The words of all keys and their names.
    pub async fn name_keys(&self) -> Result<Vec<(String, Name)>, Error> {
        let list = |names: &Names| {
            let dir = &names.0.data_dir;
            let named = |word: String| Ok((word.clone(), Name::of(&keys::load_or_create(dir, &word)?)));
            keys::list(dir)?.into_iter().map(named).collect()
        };
        self.names().blocking(list).await
    }

    /// What this node last published under a name.
    pub fn published(&self, name: &Name) -> Option<Published> {
        let own = self.names().own(name)?;
        Some(Published { value: own.text(), sequence: own.sequence() })
    }

    /// The key that is this node's identity.
    pub fn own_key(&self) -> &Keypair {
        &self.names().0.identity
    }

    /// Makes a key, which must not exist.
    pub async fn new_key(&self, word: &str) -> Result<Name, Error> {
        let word = word.to_string();
        let create = move |names: &Names| names.change_keys(|dir| keys::create(dir, &word));
        self.names().blocking(create).await.map(|key| Name::of(&key))
    }

    /// The key of a word, which must exist; `self` is this node's own.
    pub async fn find_key(&self, word: &str) -> Result<Keypair, Error> {
        let word = word.to_string();
        self.names().blocking(move |names| names.key(&word)).await
    }

    /// A key as `ipfs key export --format=libp2p-protobuf-cleartext` writes it. `self` is this node's own.
    pub async fn export_key(&self, word: &str) -> Result<Vec<u8>, Error> {
        self.find_key(word).await?.to_protobuf_encoding().map_err(Error::names)
    }

    /// Takes a key that was exported.
    pub async fn import_key(&self, word: &str, bytes: &[u8]) -> Result<Name, Error> {
        let (word, bytes) = (word.to_string(), bytes.to_vec());
        let import = move |names: &Names| names.change_keys(|dir| keys::import(dir, &word, &bytes));
        self.names().blocking(import).await.map(|key| Name::of(&key))
    }

    /// Publishes what a name means, which others may use for `ttl` without asking again. Peers that are connected are told
    /// before it returns, if they take it in time; others when they join.
    pub async fn publish(&self, key: &Keypair, value: &str, ttl: Duration) -> Result<Published, Error> {
        let record = self.sign_and_tell(key, value, ttl).await?;
        if let Some(online) = self.online() {
            let (reply, told) = oneshot::channel();
            let put = Command::PutValue(Name::of(key).record(record.bytes().to_vec()), reply);
            online.routing.send(put).await.map_err(|_| Error::Stopped)?;
            let _ = tokio::time::timeout(TELLING, told).await;
        }
        Ok(Published { value: record.text(), sequence: record.sequence() })
    }

    /// The same without waiting for anybody: who follows the name hears of it at once, the routing system soon.
    pub async fn publish_at_once(
        &self,
        key: &Keypair,
        value: &str,
        ttl: Duration,
    ) -> Result<Published, Error> {
        let record = self.sign_and_tell(key, value, ttl).await?;
        self.names().0.signed.notify_one();
        Ok(Published { value: record.text(), sequence: record.sequence() })
    }

    async fn sign_and_tell(&self, key: &Keypair, value: &str, ttl: Duration) -> Result<ipns::Record, Error> {
        let (name, key, bytes) = (Name::of(key), key.clone(), value.as_bytes().to_vec());
        self.ask_before_signing(&key).await;
        let sign = move |names: &Names| names.sign(&key, bytes, ttl, SystemTime::now());
        self.names().0.own.mark_published(*name.peer());
        let record = self.names().blocking(sign).await?;
        if let Some(online) = self.online() {
            let tell = Command::Tell(name.record(record.bytes().to_vec()));
            for command in [Command::Listen(name.key()), tell] {
                online.routing.send(command).await.map_err(|_| Error::Stopped)?;
            }
        }
        Ok(record)
    }
}

#[cfg(test)]
mod model;
