//! IPNS: what a key's owner says that its name means. <https://specs.ipfs.tech/ipns/ipns-record/>
//!
//! ```text
//! Node ── publish ─► kept (names.redb) ─► routing system
//!      ── resolve ─► kept, connected peers (fetch), routing system; the best that is signed counts
//! ```

pub(crate) mod fetch;
mod kept;
mod keys;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{Record, RecordKey},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{Cid, Error, Node, behaviour::Command, node::Online, routing::ipns};
use kept::Kept;

/// The codec of a CID that is a key.
const LIBP2P_KEY: u64 = 0x72;
/// How long what is published is valid, as in Kubo.
const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// Own records are told again so often, and signed anew when half of their life is over.
const REPEAT: Duration = Duration::from_secs(60 * 60);
/// After one answer the others have so long to bring a newer one.
const GRACE: Duration = Duration::from_millis(500);
/// A command does not wait longer for peers to take a record.
const TELLING: Duration = Duration::from_secs(5);
const JOIN_PAUSE: Duration = Duration::from_millis(300);
/// A record without a time to live is used this long.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const REMEMBERED: usize = 4096;

/// An IPNS name: the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(PeerId);

impl Name {
    /// The name of a key.
    pub fn of(key: &Keypair) -> Self {
        Self(key.public().to_peer_id())
    }

    fn record(&self, value: Vec<u8>) -> Record {
        Record { key: self.key(), value, publisher: None, expires: None }
    }

    fn key(&self) -> RecordKey {
        RecordKey::from([b"/ipns/", &self.0.to_bytes()[..]].concat())
    }
}

impl From<PeerId> for Name {
    fn from(peer: PeerId) -> Self {
        Self(peer)
    }
}

impl fmt::Display for Name {
    /// CIDv1 in base36, `k51...` or `k2k4...`, which fits into a host name and into a repository name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            Cid::new_v1(LIBP2P_KEY, *self.0.as_ref()).to_string_of_base(cid::multibase::Base::Base36Lower);
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

/// Why a text is no IPNS name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPNS name: it should be the CID of a key, k51...")]
pub struct NotAName(String);

impl FromStr for Name {
    type Err = NotAName;

    /// Takes a CID of a key in any base, or a peer id.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let error = || NotAName(text.into());
        if let Ok(peer) = text.parse::<PeerId>() {
            return Ok(Self(peer));
        }
        let cid = Cid::try_from(text).map_err(|_| error())?;
        if cid.codec() != LIBP2P_KEY {
            return Err(error());
        }
        PeerId::from_bytes(&cid.hash().to_bytes()).map(Self).map_err(|_| error())
    }
}

/// What a name means, as its owner signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Counts up with each change.
    pub sequence: u64,
    /// When it ends.
    pub until: SystemTime,
    /// How long it may be used from now on without asking again.
    pub ttl: Duration,
    /// Nobody could be asked, or nobody answered: it is what was seen last.
    pub stale: bool,
}

struct Fresh {
    record: ipns::Record,
    until: Instant,
}

/// The names of one node.
#[derive(Clone)]
pub(crate) struct Names(Arc<Inner>);

struct Inner {
    data_dir: PathBuf,
    kept: Kept,
    /// What was resolved lately.
    fresh: Mutex<HashMap<PeerId, Fresh>>,
}

impl Names {
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let kept = Kept::open(data_dir).map_err(Error::names)?;
        Ok(Self(Arc::new(Inner { data_dir: data_dir.into(), kept, fresh: Mutex::default() })))
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<PeerId, Fresh>> {
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, name: PeerId, record: &ipns::Record) {
        let mut fresh = self.fresh();
        let now = Instant::now();
        if fresh.len() >= REMEMBERED {
            fresh.retain(|_, fresh| fresh.until > now);
        }
        if fresh.len() < REMEMBERED {
            let until = now + record.ttl().clamp(SHORTEST_TTL, LIFETIME);
            fresh.insert(name, Fresh { record: record.clone(), until });
        }
    }

    fn verified(name: PeerId, bytes: Option<Vec<u8>>) -> Option<ipns::Record> {
        ipns::Record::verify(name, bytes?, SystemTime::now()).ok()
    }

    /// Tells the routing system of own names when somebody joins, and again and again.
    pub async fn run(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        loop {
            for (name, record) in self.renewed().await {
                let (reply, _told) = oneshot::channel();
                let put = Command::PutValue(Name(name).record(record), reply);
                if routing.send(put).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                joined = joins.changed() => match joined {
                    Ok(()) => tokio::time::sleep(JOIN_PAUSE).await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(REPEAT) => {}
            }
        }
    }

    /// The own records, those that have lived half of their life signed anew.
    async fn renewed(&self) -> Vec<(PeerId, Vec<u8>)> {
        let names = self.clone();
        let renew = move || {
            let keys = keys::list(&names.0.data_dir)?;
            for word in keys {
                let key = keys::load_or_create(&names.0.data_dir, &word)?;
                let name = key.public().to_peer_id();
                let record = Self::verified(name, names.0.kept.own(&name).map_err(Error::names)?);
                let half = SystemTime::now() + LIFETIME / 2;
                if let Some(record) = record.filter(|record| record.until() < half) {
                    names.sign(&key, record.value().to_vec(), record.ttl())?;
                }
            }
            names.0.kept.all_own().map_err(Error::names)
        };
        let renewed = tokio::task::spawn_blocking(renew).await.map_err(|_| Error::Stopped);
        renewed.and_then(|renewed| renewed).unwrap_or_else(|error| {
            tracing::warn!(%error, "own names are not told again");
            Vec::new()
        })
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
        ipns::Record::verify(name, bytes, now).map_err(Error::names)
    }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        Self::names(error)
    }
}

impl Node {
    /// The key of a word, made where there is none, and its name.
    pub fn name_key(&self, word: &str) -> Result<(Keypair, Name), Error> {
        let key = keys::load_or_create(&self.names().0.data_dir, word)?;
        let name = Name::of(&key);
        Ok((key, name))
    }

    /// The words of all keys and their names.
    pub fn name_keys(&self) -> Result<Vec<(String, Name)>, Error> {
        let words = keys::list(&self.names().0.data_dir)?;
        words.into_iter().map(|word| Ok((word.clone(), self.name_key(&word)?.1))).collect()
    }

    /// What this node last published under a name.
    pub fn published(&self, name: &Name) -> Result<Option<String>, Error> {
        let record = self.names().0.kept.own(&name.0)?;
        let record =
            record.and_then(|bytes| ipns::Record::verify(name.0, bytes, SystemTime::UNIX_EPOCH).ok());
        Ok(record.map(|record| resolved(&record, false).value))
    }

    /// Publishes what a name means, which others may use for `ttl` without asking again. Peers that are connected are told
    /// before it returns, if they take it in time; others when they join.
    pub async fn publish(&self, key: &Keypair, value: &str, ttl: Duration) -> Result<Resolved, Error> {
        let name = Name::of(key);
        let (names, key, value) = (self.names().clone(), key.clone(), value.as_bytes().to_vec());
        let sign = move || names.sign(&key, value, ttl);
        let record = tokio::task::spawn_blocking(sign).await.map_err(|_| Error::Stopped)??;
        if let Some(online) = self.online() {
            let (reply, told) = oneshot::channel();
            let put = Command::PutValue(name.record(record.bytes().to_vec()), reply);
            online.routing.send(put).await.map_err(|_| Error::Stopped)?;
            let _ = tokio::time::timeout(TELLING, told).await;
        }
        Ok(resolved(&record, false))
    }

    /// What a name means: from here while that is fresh enough, else from peers, whoever knows the newest; where none
    /// answers within `patience`, what was seen last.
    pub async fn resolve(&self, name: &Name, patience: Duration) -> Result<Resolved, Error> {
        let (names, peer, start) = (self.names(), name.0, Instant::now());
        if let Some(own) = Names::verified(peer, names.0.kept.own(&peer)?) {
            return Ok(resolved(&own, false));
        }
        if let Some(fresh) = names.fresh().get(&peer).filter(|fresh| fresh.until > start) {
            let ttl = fresh.until - start;
            return Ok(Resolved { ttl, ..resolved(&fresh.record, false) });
        }
        let seen = Names::verified(peer, names.0.kept.seen(&peer)?);
        let asked = self.peers().len();
        let found = match self.online() {
            Some(online) => online.newest(name, start + patience).await,
            None => None,
        };
        match (found, seen) {
            (Some(found), seen) => {
                let is_new = seen.as_ref().is_none_or(|seen| ipns::select([seen, &found]) == Some(&found));
                let best = if is_new { found } else { seen.unwrap_or(found) };
                names.remember(peer, &best);
                if is_new {
                    let (kept, bytes) = (names.clone(), best.bytes().to_vec());
                    let see = move || kept.0.kept.see(&peer, &bytes);
                    tokio::task::spawn_blocking(see).await.map_err(|_| Error::Stopped)??;
                }
                Ok(resolved(&best, false))
            }
            (None, Some(seen)) => {
                tracing::warn!(%name, "nobody answered for it, so it is taken for what it was");
                Ok(resolved(&seen, true))
            }
            (None, None) => Err(Error::NoRecord { name: *name, asked, waited: start.elapsed() }),
        }
    }
}

fn resolved(record: &ipns::Record, stale: bool) -> Resolved {
    Resolved {
        value: String::from_utf8_lossy(record.value()).into_owned(),
        sequence: record.sequence(),
        until: record.until(),
        ttl: record.ttl(),
        stale,
    }
}

impl Online {
    /// The newest valid record that peers have.
    async fn newest(&self, name: &Name, mut deadline: Instant) -> Option<ipns::Record> {
        let (out, mut values) = mpsc::unbounded_channel();
        self.routing.send(Command::Values(name.key(), out)).await.ok()?;
        let mut best: Option<ipns::Record> = None;
        while let Ok(Some(value)) = timeout_at(deadline, values.recv()).await {
            let Ok(record) = ipns::Record::verify(name.0, value, SystemTime::now()) else { continue };
            deadline = deadline.min(Instant::now() + GRACE);
            best = best.max(Some(record));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_base36_and_read_in_any_base() {
        let name = Name::of(&Keypair::generate_ed25519());
        let text = name.to_string();
        assert!(text.starts_with("k51") && text.len() == 62, "{text}");
        assert_eq!(text.parse(), Ok(name));
        assert_eq!(name.0.to_string().parse(), Ok(name), "a peer id");
        for bad in ["", "k51", "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_counts_changes_and_survives_a_restart() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let sequence = |value: &str| {
            let names = Names::open(dir.path()).unwrap();
            names.sign(&key, value.into(), Duration::from_secs(60)).unwrap().sequence()
        };
        assert_eq!(["/ipfs/a", "/ipfs/a", "/ipfs/b", "/ipfs/a"].map(sequence), [0, 0, 1, 2]);
    }
}
