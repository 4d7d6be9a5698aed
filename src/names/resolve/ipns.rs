//! `/ipns/<name>[/<path>]`: followed, through further names where they lead there, to a CID and a path below it.
//! A name is a key's, or a domain.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ocipfs_node::{Cid, MutableName, Node};

use crate::content::{CidPath, Content, PathError};

/// The codec of a CID of a public key.
const LIBP2P_KEY_CODEC: u64 = 0x72;
/// More names that lead to names are a circle, or meant to cost time.
const MAX_DEPTH: usize = 8;

/// Number of earlier values that are remembered for a name.
const MAX_VERSIONS: usize = 3;
/// Names whose meanings are remembered.
const CACHE_ENTRIES: usize = 1024;

/// Why a name leads to no content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `/ipfs/<cid>...` nor `/ipns/<name>...`.
    #[error("invalid path {0:?}: expected /ipfs/<cid>[/path] or /ipns/<name>[/path]")]
    NoPath(String),
    /// The text is not a valid IPNS name or domain.
    #[error(transparent)]
    NoName(#[from] ocipfs_node::InvalidName),
    /// Names lead to names without an end.
    #[error("{0} resolves through more than {MAX_DEPTH} names")]
    TooDeep(MutableName),
    /// The name does not resolve to a path below a CID.
    #[error("{name} leads to {value:?}: {why}")]
    Target {
        /// The name.
        name: MutableName,
        /// Value of its record.
        value: String,
        /// Reason why the value is refused.
        why: String,
    },
    /// No lookup has ended yet.
    #[error(transparent)]
    Node(#[from] ocipfs_node::ResolveError),
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The content.
    pub at: CidPath,
    /// A name on the way could not be resolved, so the last known value was used.
    pub stale: bool,
}

/// A path that begins with a CID, or with a name and goes on below what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/ipfs/<cid>[/path]`.
    Content(CidPath),
    /// `/ipns/<name>[/path]`.
    Name(MutableName, String),
}

impl Path {
    /// Parses a path of a client that says `/ipfs/` for everything, or `/ipns/`: the CID of a key is a name, and any other
    /// CID is content. So nerdctl writes `ipns://<key>`, and the blobs below it.
    ///
    /// # Errors
    /// Fails like [`FromStr`].
    pub fn parse_lenient(text: &str) -> Result<Self, Error> {
        let rest = ["/ipfs/", "/ipns/"].into_iter().find_map(|prefix| text.strip_prefix(prefix));
        let Some(rest) = rest else { return text.parse() };
        let first = rest.split('/').next().unwrap_or_default();
        match first.parse::<Cid>() {
            Ok(cid) if cid.codec() == LIBP2P_KEY_CODEC => format!("/ipns/{rest}").parse(),
            // A CIDv0 may be a key as well, since peer IDs once were hashes of keys.
            Ok(_) if first.starts_with("Qm") => text.parse(),
            Ok(_) => format!("/ipfs/{rest}").parse(),
            Err(_) => text.parse(),
        }
    }
}

impl FromStr for Path {
    type Err = Error;

    /// Takes `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, `ipfs://...`, `ipns://...` or `<cid>[/path]`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let rest = |prefixes: [&str; 2]| prefixes.into_iter().find_map(|prefix| text.strip_prefix(prefix));
        if let Some(name) = rest(["/ipns/", "ipns://"]) {
            let (name, below) = name.split_once('/').unwrap_or((name, ""));
            return Ok(Self::Name(name.parse()?, below.trim_end_matches('/').into()));
        }
        let path = rest(["/ipfs/", "ipfs://"]).unwrap_or(text);
        let path = path.trim_end_matches('/').parse();
        path.map(Self::Content).map_err(|_| Error::NoPath(text.chars().take(200).collect()))
    }
}

impl fmt::Display for Path {
    /// Writes the path as in a record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(at) => write!(f, "/ipfs/{at}"),
            Self::Name(name, below) if below.is_empty() => write!(f, "/ipns/{name}"),
            Self::Name(name, below) => write!(f, "/ipns/{name}/{below}"),
        }
    }
}

/// Follows a path to content.
pub async fn follow(node: &Node, path: Path, timeout: Duration) -> Result<Target, Error> {
    match path {
        Path::Content(at) => Ok(Target { at, stale: false }),
        Path::Name(name, below) => follow_name(node, name, &below, timeout, false).await,
    }
}

/// Follows a name, and the names that it leads to; `below` is the path that was asked for under it. With `uncached`, earlier
/// results do not count.
async fn follow_name(
    node: &Node,
    name: MutableName,
    below: &str,
    timeout: Duration,
    uncached: bool,
) -> Result<Target, Error> {
    let (mut at, mut below) = (name.clone(), below.to_string());
    let mut stale = false;
    for _ in 0..MAX_DEPTH {
        let found = match uncached {
            true => node.resolve_uncached(&at, timeout).await?,
            false => node.resolve(&at, timeout).await?,
        };
        stale |= found.stale;
        let target = |why: String| Error::Target { name: at.clone(), value: found.value.clone(), why };
        match found.value.parse().map_err(|e: Error| target(e.to_string()))? {
            Path::Content(path) => {
                let whole = if below.is_empty() { path.to_string() } else { format!("{path}/{below}") };
                let at = whole.parse().map_err(|e: PathError| target(e.to_string()))?;
                return Ok(Target { at, stale });
            }
            Path::Name(next, inner) => {
                below =
                    [inner, below].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
                at = next;
            }
        }
    }
    Err(Error::TooDeep(name))
}

/// Recent values of names, by the path that was asked for below them.
#[derive(Default)]
pub struct Targets(Mutex<HashMap<(MutableName, String), KnownVersions>>);

#[derive(Default)]
struct KnownVersions {
    /// The newest first.
    versions: VecDeque<CidPath>,
    stale: bool,
}

impl Targets {
    fn lock(&self) -> MutexGuard<'_, HashMap<(MutableName, String), KnownVersions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a name; what it means now comes first, then what it meant before.
    pub async fn follow(
        &self,
        content: &Content,
        key: &MutableName,
        below: &str,
        uncached: bool,
    ) -> Result<Vec<CidPath>, Error> {
        let found = follow_name(content.node(), key.clone(), below, content.find_timeout(), uncached).await?;
        let mut targets = self.lock();
        let name = (key.clone(), below.to_string());
        // Rarely: at worst a client has to restart its pull.
        if targets.len() >= CACHE_ENTRIES && !targets.contains_key(&name) {
            targets.clear();
        }
        let known = targets.entry(name).or_default();
        known.stale = found.stale;
        known.versions.retain(|version| *version != found.at);
        known.versions.push_front(found.at);
        known.versions.truncate(MAX_VERSIONS);
        Ok(known.versions.iter().cloned().collect())
    }

    /// Whether the last resolution of the name failed.
    pub fn is_stale(&self, key: &MutableName, below: &str) -> bool {
        self.lock().get(&(key.clone(), below.to_string())).is_some_and(|known| known.stale)
    }
}

#[cfg(test)]
mod tests {
    use ocipfs_node::{IpnsName, Keypair};

    use super::*;

    const CID: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    const TTL: Duration = Duration::from_secs(60);
    const PATIENCE: Duration = Duration::from_secs(1);

    fn node() -> (tempfile::TempDir, Node) {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::offline(dir.path()).unwrap();
        (dir, node)
    }

    #[tokio::test]
    async fn ipns_names_resolve_recursively_and_paths_are_joined() {
        let (_dir, node) = node();
        let (inner, to_content) = node.name_key("inner").await.unwrap();
        let (outer, to_name) = node.name_key("outer").await.unwrap();
        node.publish(&inner, &format!("/ipfs/{CID}/a"), TTL).await.unwrap();
        node.publish(&outer, &format!("/ipns/{to_content}/b"), TTL).await.unwrap();
        for (text, target) in [
            (format!("/ipns/{to_name}/c"), "/a/b/c"),
            (format!("ipns://{to_content}"), "/a"),
            (format!("/ipfs/{CID}/x/"), "/x"),
            (format!("ipfs://{CID}"), ""),
            (CID.into(), ""),
        ] {
            let found = follow(&node, text.parse().unwrap(), PATIENCE).await.unwrap();
            assert_eq!((found.at.to_string(), found.stale), (format!("{CID}{target}"), false), "{text}");
        }
    }

    #[tokio::test]
    async fn unresolvable_ipns_name_is_rejected_with_the_reason() {
        let (_dir, node) = node();
        let (key, circle) = node.name_key("circle").await.unwrap();
        node.publish(&key, &format!("/ipns/{circle}"), TTL).await.unwrap();
        let error = follow_name(&node, circle.into(), "", PATIENCE, false).await.unwrap_err();
        assert!(matches!(error, Error::TooDeep(_)), "{error}");
        node.publish(&key, "https://example.org", TTL).await.unwrap();
        let error = follow_name(&node, circle.into(), "", PATIENCE, false).await.unwrap_err().to_string();
        assert!(error.contains("https://example.org"), "{error}");
        let (_, unknown) = node.name_key("unknown").await.unwrap();
        assert!(matches!(follow_name(&node, unknown.into(), "", PATIENCE, false).await, Err(Error::Node(_))));
    }

    #[test]
    fn a_lenient_path_reads_a_key_below_ipfs_as_a_name_and_a_cid_below_ipns_as_content() {
        let name = IpnsName::of(&Keypair::generate_ed25519());
        let v0 = "QmbSCQoNkbvuYXpjUsERkG13em9WXeSiw5m5omLUnrcTT4";
        for (text, read) in [
            (format!("/ipfs/{name}/a"), format!("/ipns/{name}/a")),
            (format!("/ipns/{CID}/a"), format!("/ipfs/{CID}/a")),
            (format!("/ipns/{name}"), format!("/ipns/{name}")),
            (format!("/ipfs/{CID}"), format!("/ipfs/{CID}")),
            (CID.to_string(), format!("/ipfs/{CID}")),
            (format!("/ipfs/{v0}"), format!("/ipfs/{v0}")),
            ("/ipns/example.org/a".into(), "/ipns/example.org/a".into()),
        ] {
            assert_eq!(Path::parse_lenient(&text).unwrap().to_string(), read, "{text}");
        }
        assert!(Path::parse_lenient("/ipfs/nonsense").is_err());
        // A peer ID of the old form is the hash of a key.
        assert!(matches!(Path::parse_lenient(&format!("/ipns/{v0}")), Ok(Path::Name(..))));
    }

    #[test]
    fn a_path_is_normalized_to_the_form_of_ipns_records() {
        let peer = IpnsName::of(&Keypair::generate_ed25519());
        for (text, written) in [
            (CID.to_string(), format!("/ipfs/{CID}")),
            (format!("ipfs://{CID}/a/"), format!("/ipfs/{CID}/a")),
            (format!("/ipns/{}/a/b/", peer.peer()), format!("/ipns/{peer}/a/b")),
            ("ipns://Example.org".into(), "/ipns/example.org".into()),
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), written, "{text}");
        }
        for text in ["", "nonsense", "example.org", "/ipns/nonsense", "/ipns/a..b", "/ipfs/", "/ipfs/../x"] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }
}
