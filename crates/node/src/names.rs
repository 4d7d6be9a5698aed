//! Names whose meaning changes: IPNS, what a key's owner says that its name means
//! (<https://specs.ipfs.tech/ipns/ipns-record/>), and DNSLink, what a domain's owner says.
//!
//! ```text
//! Node ── publish ─► kept (names.redb) ─► routing system
//!      ── resolve ─► own, lately ─► key: connected peers (fetch), routing system; the best that is signed counts
//!                                └► domain: dnslink (TXT records)
//!                                   nobody answers ─► kept, what was seen last
//! ```

mod dnslink;
pub(crate) mod fetch;
mod kept;
mod keys;
mod lately;
mod name;
mod resolve;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, Node, Options, behaviour::Command, routing::ipns};
use kept::Kept;
use lately::Lately;

pub use name::{Domain, Name, NotAName, Pointer};
pub use resolve::Resolved;

/// How long what is published is valid, as in Kubo.
const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// Own records are told again so often, and signed anew when half of their life is over.
const REPEAT: Duration = Duration::from_secs(60 * 60);
/// A command does not wait longer for peers to take a record.
const TELLING: Duration = Duration::from_secs(5);
const JOIN_PAUSE: Duration = Duration::from_millis(300);

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
    kept: Kept,
    /// What this node published last, as it is in `kept`.
    own: Mutex<HashMap<PeerId, ipns::Record>>,
    lately: Lately,
    dns: dnslink::Resolver,
}

impl Names {
    pub fn open(options: &Options) -> Result<Self, Error> {
        Self::with(&options.data_dir, dnslink::Resolver::new(options))
    }

    /// Those of a node that asks nobody.
    pub fn offline(data_dir: &Path) -> Result<Self, Error> {
        Self::with(data_dir, dnslink::Resolver::offline())
    }

    fn with(data_dir: &Path, dns: dnslink::Resolver) -> Result<Self, Error> {
        let kept = Kept::open(data_dir).map_err(Error::names)?;
        let own = kept.all_own().map_err(Error::names)?.into_iter();
        // One that has expired still tells the sequence to count on from.
        let own = own.filter_map(|(name, bytes)| {
            Some((name, ipns::Record::verify(name, bytes, SystemTime::UNIX_EPOCH).ok()?))
        });
        let own = Mutex::new(own.collect());
        Ok(Self(Arc::new(Inner { data_dir: data_dir.into(), kept, own, lately: Lately::default(), dns })))
    }

    fn lock_own(&self) -> MutexGuard<'_, HashMap<PeerId, ipns::Record>> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self, name: &Name) -> Option<ipns::Record> {
        self.lock_own().get(name.peer()).cloned()
    }

    /// Does what waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let names = self.clone();
        tokio::task::spawn_blocking(move || work(&names)).await.map_err(|_| Error::Stopped)?
    }

    /// Tells the routing system of own names when somebody joins, and again and again.
    pub async fn run(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let mut renewing = tokio::time::interval(REPEAT);
        loop {
            tokio::select! {
                joined = joins.changed() => match joined {
                    Ok(()) => tokio::time::sleep(JOIN_PAUSE).await,
                    Err(_) => return,
                },
                _ = renewing.tick() => {
                    if let Err(error) = self.blocking(Self::renew).await {
                        tracing::warn!(%error, "own names are not signed anew");
                    }
                }
            }
            let now = SystemTime::now();
            let own: Vec<_> = self.lock_own().iter().map(|(name, record)| (*name, record.clone())).collect();
            for (name, record) in own.into_iter().filter(|(_, record)| record.until() > now) {
                let (reply, _told) = oneshot::channel();
                let put = Command::PutValue(Name::from(name).record(record.bytes().to_vec()), reply);
                if routing.send(put).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Signs anew what has lived half of its life.
    fn renew(&self) -> Result<(), Error> {
        let (now, half) = (SystemTime::now(), SystemTime::now() + LIFETIME / 2);
        for word in keys::list(&self.0.data_dir)? {
            let key = keys::load_or_create(&self.0.data_dir, &word)?;
            let own = self.own(&Name::of(&key));
            if let Some(record) = own.filter(|record| record.until() > now && record.until() < half) {
                self.sign(&key, record.value().to_vec(), record.ttl())?;
            }
        }
        Ok(())
    }

    /// Signs what a name means now. The sequence counts up where it means something else than before.
    fn sign(&self, key: &Keypair, value: Vec<u8>, ttl: Duration) -> Result<ipns::Record, Error> {
        let name = key.public().to_peer_id();
        let now = SystemTime::now();
        let bytes = self.0.kept.publish(&name, |before| {
            let before =
                before.and_then(|bytes| ipns::Record::verify(name, bytes, SystemTime::UNIX_EPOCH).ok());
            let sequence = match &before {
                Some(before) if before.value() == value => before.sequence(),
                Some(before) => before.sequence() + 1,
                None => 0,
            };
            let until = chrono::DateTime::<chrono::Utc>::from(now + LIFETIME);
            let record = rust_ipns::Record::new(key, &value, until, sequence, ttl).map_err(Error::names)?;
            record.encode().map_err(Error::names)
        })?;
        let record = ipns::Record::verify(name, bytes, now).map_err(Error::names)?;
        self.lock_own().insert(name, record.clone());
        Ok(record)
    }
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
        let key = self.names().blocking(move |names| keys::load_or_create(&names.0.data_dir, &word)).await?;
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
    pub fn published(&self, name: &Name) -> Option<String> {
        self.names().own(name).map(|record| record.text())
    }

    /// Publishes what a name means, which others may use for `ttl` without asking again. Peers that are connected are told
    /// before it returns, if they take it in time; others when they join.
    pub async fn publish(&self, key: &Keypair, value: &str, ttl: Duration) -> Result<Published, Error> {
        let (name, key, bytes) = (Name::of(key), key.clone(), value.as_bytes().to_vec());
        let record = self.names().blocking(move |names| names.sign(&key, bytes, ttl)).await?;
        if let Some(online) = self.online() {
            let (reply, told) = oneshot::channel();
            let put = Command::PutValue(name.record(record.bytes().to_vec()), reply);
            online.routing.send(put).await.map_err(|_| Error::Stopped)?;
            let _ = tokio::time::timeout(TELLING, told).await;
        }
        Ok(Published { value: record.text(), sequence: record.sequence() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_counts_changes_and_survives_a_restart() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let sequence = |value: &str| {
            let names = Names::offline(dir.path()).unwrap();
            let sequence = names.sign(&key, value.into(), Duration::from_secs(60)).unwrap().sequence();
            assert_eq!(names.own(&Name::of(&key)).unwrap().value(), value.as_bytes());
            sequence
        };
        assert_eq!(["/ipfs/a", "/ipfs/a", "/ipfs/b", "/ipfs/a"].map(sequence), [0, 0, 1, 2]);
    }
}
