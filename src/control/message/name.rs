//! Requests about IPNS names, and the replies to them.

use serde::{Deserialize, Serialize};

/// Request about names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum NameRequest {
    /// Say what a key's name means from now on.
    Publish {
        /// The key's name; the key is created if it does not exist.
        key: String,
        /// `/ipfs/<cid>...`, `/ipns/<name>...`, or a CID with a path.
        target: String,
        /// How long others may use it without asking again, in seconds.
        ttl: u64,
    },
    /// Tell what a name means.
    Resolve {
        /// `k51...`, a domain, a key name, or a path that begins with a name.
        name: String,
    },
    /// The names of this node, and those it follows.
    Ls,
    /// Know the repositories of a name by their own names.
    Follow {
        /// `k51...`.
        name: String,
        /// Reply once its newest known root is complete.
        #[serde(default)]
        wait: bool,
    },
    /// Unfollow a name.
    Unfollow {
        /// `k51...`.
        name: String,
    },
    /// Make a key.
    KeyNew {
        /// Its key name.
        key: String,
    },
    /// Give a key away.
    KeyExport {
        /// Its key name; `self` is the node's own.
        key: String,
    },
    /// Take a key of another machine.
    KeyImport {
        /// Its key name here.
        key: String,
        /// The exported key, in base64.
        base64: String,
    },
}

/// A name that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The name, `k51...`.
    pub name: String,
    /// Path that it resolves to now.
    pub value: String,
    /// Counts up with each change.
    pub sequence: u64,
}

/// Where a name leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameTarget {
    /// `/ipfs/<cid>[/path]`.
    #[serde(alias = "path")]
    pub value: String,
    /// The name could not be resolved; this is the last known value.
    pub stale: bool,
}

/// The published repositories.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publication {
    /// `added` or `all`: whether peers are served pushed content.
    pub share: String,
    /// The name that it is published under.
    pub name: String,
    /// The root of it, if anything was ever pushed.
    pub root: Option<String>,
    /// Counts up with each record, where pushes are shared.
    pub sequence: Option<u64>,
    /// Changes that are not published yet.
    pub behind: usize,
    /// Why not.
    pub failing: Option<String>,
    /// Names of this node that another node writes too.
    #[serde(alias = "rivals")]
    pub conflicting_writers: Vec<ConflictingWriter>,
}

/// A name that two nodes write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictingWriter {
    /// The name.
    pub name: String,
    /// The sequence that the other node has reached.
    pub sequence: u64,
}

/// A name that is followed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FollowedName {
    /// The name, `k51...`.
    pub name: String,
    /// Path that it resolves to, once a record was received.
    pub value: Option<String>,
    /// Which of its publications that is.
    pub sequence: Option<u64>,
    /// It has not been told again for long: its publisher is gone.
    pub stale: bool,
    /// The newest root of which everything is here that `--prefetch` fetches.
    pub served: Option<ServedRoot>,
    /// The newest root that was heard of.
    pub newest: Option<String>,
    /// How long that has been known and not been complete.
    pub lag_seconds: u64,
    /// Number of repositories of the newest root that are not complete.
    pub missing_repositories: u64,
    /// Bytes of the newest root that are missing, as far as manifests declare sizes.
    pub missing_bytes: u64,
    /// Why it is not here, once something was found to be unreachable.
    pub failing: Option<String>,
    /// How many repositories are complete.
    pub complete_repositories: u64,
    /// The first thousand of them.
    pub repositories: Vec<FollowedRepository>,
}

/// A root that is served whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServedRoot {
    /// Its CID.
    pub root: String,
    /// The sequence of its record.
    pub sequence: u64,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// A repository of a followed name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FollowedRepository {
    /// Its name.
    pub name: String,
    /// The directory of the version that is served.
    pub directory: String,
    /// Its complete tags: everything of them is here that `--prefetch` fetches.
    pub tags: Vec<String>,
    /// Tags that were pushed here and hide the followed ones.
    pub shadowed: Vec<String>,
}

/// A name of this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnName {
    /// The name of its key; `self` is the node's own.
    pub key: String,
    /// The name, `k51...`.
    pub name: String,
    /// Path that it resolves to, if it was ever published.
    pub value: Option<String>,
}
