//! The network that a node directory belongs to: recorded at its first start, and left only where that is asked for.
//!
//! A directory without a record takes up the network of its next start. One that starts in another network would show
//! its content, names and addresses there, so that is refused, whichever way it goes.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
};

use ocipfs_node::{Bootstrap, Options, write_secret};

use crate::{
    content::Store,
    control::{Failure, failure::store_failure},
};

/// A network that a node can be part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The private swarm whose key has this sha256.
    Private(String),
    /// Peers of its own, without a key.
    Own,
    /// The public IPFS network.
    Public,
}

impl Network {
    /// The network that a swarm with these options is part of.
    pub fn of(options: &Options) -> Self {
        match (&options.swarm_key, &options.bootstrap) {
            (Some(key), _) => Self::Private(key.fingerprint()),
            (None, Bootstrap::Public) => Self::Public,
            (None, _) => Self::Own,
        }
    }

    /// The word for it in `status`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Private(_) => "private",
            Self::Own => "own",
            Self::Public => "public",
        }
    }

    /// Refuses to start a directory of another network, unless it is to `change`.
    pub fn check(&self, data_dir: &Path, change: bool) -> Result<(), Failure> {
        self.before(data_dir, change).map(drop)
    }

    /// Returns the network that a directory belongs to, if it may start in this one.
    fn before(&self, data_dir: &Path, change: bool) -> Result<Option<Self>, Failure> {
        match recorded(data_dir)? {
            Some(before) if before != *self && !change && !self.succeeds(&before, data_dir) => Err(Failure::new(format!(
                "the node directory {} belongs to {before}, and would join {self}: its peer id, followed names and shared content would become visible there",
                data_dir.display()
            ))
            .hint(before.way_back())),
            before => Ok(before),
        }
    }

    /// Returns whether this is the private swarm `before` after its key was replaced.
    fn succeeds(&self, before: &Self, data_dir: &Path) -> bool {
        match (before, self) {
            (Self::Private(before), Self::Private(after)) => {
                ocipfs_node::swarm_key_succeeds(data_dir, before, after)
            }
            _ => false,
        }
    }

    /// Records the network of a locked directory. One that changes it shows nothing that is here until it is shared again.
    pub fn enter(&self, data_dir: &Path, change: bool, store: &Store) -> Result<(), Failure> {
        let before = self.before(data_dir, change)?;
        if before.as_ref().is_some_and(|before| before == self || self.succeeds(before, data_dir)) {
            return Ok(());
        }
        if let Some(before) = before {
            tracing::warn!(
                "this node leaves {before} and joins {self}: its peer id and followed names become visible there; stored content stays hidden until it is pushed or added again, or removed and pulled again"
            );
            store.leave_network().map_err(store_failure)?;
            ocipfs_node::leave_network(data_dir).map_err(Failure::new)?;
        }
        // Last: what fails before it is done again at the next start.
        let path = file(data_dir);
        write_secret(&path, format!("{}\n", self.to_record()).as_bytes())
            .map_err(|e| Failure::new(format!("cannot record the network in {}: {e}", path.display())))
    }

    /// Returns the line that records it.
    pub fn to_record(&self) -> String {
        match self {
            Self::Private(key) => format!("private {key}"),
            Self::Own | Self::Public => self.word().into(),
        }
    }

    fn way_back(&self) -> String {
        let way = match self {
            Self::Private(_) => "start it with --swarm-key and the key of that swarm",
            Self::Own => "start it with --bootstrap none, or with the addresses of its peers",
            Self::Public => "start it without --swarm-key and without --bootstrap",
        };
        format!(
            "{way}, choose another directory with --data-dir, or move this one with --change-network, which hides stored content until it is shared again"
        )
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(key) => write!(f, "the private swarm of the key with sha256 {}...", &key[..16]),
            Self::Own => f.write_str("a swarm of its own, without a key"),
            Self::Public => f.write_str("the public IPFS network"),
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hash = |key: &&str| key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.trim_end() {
            "own" => Ok(Self::Own),
            "public" => Ok(Self::Public),
            text => {
                text.strip_prefix("private ").filter(is_hash).map(|key| Self::Private(key.into())).ok_or(())
            }
        }
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("network")
}

/// The network that a directory belongs to; none before its first start.
pub fn recorded(data_dir: &Path) -> Result<Option<Network>, Failure> {
    let path = file(data_dir);
    let damaged = |why: String| {
        Failure::new(format!("cannot read the network of this node in {}: {why}", path.display()))
            .hint("expected one line: own, public, or private and the sha256 of the swarm key")
    };
    match fs::read_to_string(&path) {
        Ok(text) => text.parse().map(Some).map_err(|()| damaged(format!("{text:?} is not a network"))),
        // Where the directory cannot be one, opening it says so.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(damaged(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use ocipfs_node::SwarmKey;

    use super::*;

    fn all() -> [Network; 4] {
        let key = || Network::Private(SwarmKey::generate().fingerprint());
        [key(), key(), Network::Own, Network::Public]
    }

    #[test]
    fn a_node_directory_is_bound_to_its_network_until_change_network() {
        for (n, before) in all().into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            before.enter(dir.path(), false, &store).unwrap();
            for (m, after) in all().into_iter().enumerate() {
                let is_same = before == after;
                assert_eq!(is_same, n == m && n > 1);
                assert_eq!(after.check(dir.path(), false).is_ok(), is_same, "{before} {after}");
                assert!(after.check(dir.path(), true).is_ok());
            }
            assert!(before.check(dir.path(), false).is_ok() && !store.has_left_network());
            let [other, ..] = all();
            other.enter(dir.path(), true, &store).unwrap();
            assert!(other.check(dir.path(), false).is_ok() && store.has_left_network());
            assert!(before.check(dir.path(), false).is_err());
        }
    }

    #[test]
    fn an_unreadable_network_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "private", "private 00", "other"] {
            fs::write(file(dir.path()), text).unwrap();
            assert!(Network::Public.check(dir.path(), true).is_err(), "{text:?}");
        }
    }
}
