//! `/ipns/<name>[/<path>]`: followed, through further names where they lead there, to a CID and a path below it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ocipfs_node::{Name, Node};

use crate::content::{CidPath, Content, PathError};

/// More names that lead to names are a circle, or meant to cost time.
const DEEPEST: usize = 8;

/// What a name meant before is remembered so far back.
const VERSIONS: usize = 3;
/// Names whose meanings are remembered.
const REMEMBERED: usize = 1024;

/// Why a name leads to no content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `/ipfs/<cid>...` nor `/ipns/<name>...`.
    #[error("{0:?} is no path: it should be /ipfs/<cid>[/path] or /ipns/<name>[/path]")]
    NoPath(String),
    /// What should be a name is none.
    #[error(transparent)]
    NoName(#[from] ocipfs_node::NotAName),
    /// Names lead to names without an end.
    #[error("{0} leads through more than {DEEPEST} names")]
    TooDeep(Name),
    /// What the name leads to is no path below a CID.
    #[error("{name} leads to {value:?}: {why}")]
    Target {
        /// The name.
        name: Name,
        /// What its record says.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody knows.
    #[error(transparent)]
    Node(#[from] ocipfs_node::Error),
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The content.
    pub at: CidPath,
    /// Nobody answered for one of the names on the way, so it is what was seen last.
    pub stale: bool,
}

/// Follows `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, `ipfs://...`, `ipns://...` or `<cid>[/path]`.
pub async fn follow(node: &Node, text: &str, patience: Duration) -> Result<Target, Error> {
    match split(text)? {
        Path::Content(at) => Ok(Target { at, stale: false }),
        Path::Name(name, below) => follow_name(node, name, &below, patience).await,
    }
}

/// Follows a name, and the names that it leads to; `below` is the path that was asked for under it.
pub async fn follow_name(node: &Node, name: Name, below: &str, patience: Duration) -> Result<Target, Error> {
    let (mut at, mut below) = (name, below.to_string());
    let mut stale = false;
    for _ in 0..DEEPEST {
        let found = node.resolve(&at, patience).await?;
        stale |= found.stale;
        let target = |why: String| Error::Target { name: at, value: found.value.clone(), why };
        match split(&found.value).map_err(|e| target(e.to_string()))? {
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

/// What names meant lately, with the path that was asked for below them.
#[derive(Default)]
pub struct Targets(Mutex<HashMap<(Name, String), Meant>>);

#[derive(Default)]
struct Meant {
    /// The newest first.
    versions: VecDeque<CidPath>,
    stale: bool,
}

impl Targets {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Name, String), Meant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a name; what it means now comes first, then what it meant before.
    pub async fn follow(&self, content: &Content, key: &Name, below: &str) -> Result<Vec<CidPath>, Error> {
        let found = follow_name(content.node(), *key, below, content.find_timeout()).await?;
        let mut targets = self.lock();
        let name = (*key, below.to_string());
        // Rarely: whoever is in the middle of a pull then has to begin it again at worst.
        if targets.len() >= REMEMBERED && !targets.contains_key(&name) {
            targets.clear();
        }
        let meant = targets.entry(name).or_default();
        meant.stale = found.stale;
        meant.versions.retain(|version| *version != found.at);
        meant.versions.push_front(found.at);
        meant.versions.truncate(VERSIONS);
        Ok(meant.versions.iter().cloned().collect())
    }

    /// Whether nobody answered when the name was followed last.
    pub fn is_stale(&self, key: &Name, below: &str) -> bool {
        self.lock().get(&(*key, below.to_string())).is_some_and(|meant| meant.stale)
    }
}

/// Whether a text is a path that can be followed.
pub fn check(text: &str) -> Result<(), Error> {
    split(text).map(drop)
}

enum Path {
    Content(CidPath),
    Name(Name, String),
}

fn split(text: &str) -> Result<Path, Error> {
    let rest = |prefixes: [&str; 2]| prefixes.into_iter().find_map(|prefix| text.strip_prefix(prefix));
    if let Some(name) = rest(["/ipns/", "ipns://"]) {
        let (name, below) = name.split_once('/').unwrap_or((name, ""));
        return Ok(Path::Name(name.parse()?, below.trim_end_matches('/').into()));
    }
    let path = rest(["/ipfs/", "ipfs://"]).unwrap_or(text);
    path.trim_end_matches('/').parse().map(Path::Content).map_err(|_| Error::NoPath(text.into()))
}

#[cfg(test)]
mod tests {
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
    async fn names_are_followed_to_content_and_paths_add_up() {
        let (_dir, node) = node();
        let [(inner, to_content), (outer, to_name)] =
            ["inner", "outer"].map(|word| node.name_key(word).unwrap());
        node.publish(&inner, &format!("/ipfs/{CID}/a"), TTL).await.unwrap();
        node.publish(&outer, &format!("/ipns/{to_content}/b"), TTL).await.unwrap();
        for (text, target) in [
            (format!("/ipns/{to_name}/c"), "/a/b/c"),
            (format!("ipns://{to_content}"), "/a"),
            (format!("/ipfs/{CID}/x/"), "/x"),
            (format!("ipfs://{CID}"), ""),
            (CID.into(), ""),
        ] {
            let found = follow(&node, &text, PATIENCE).await.unwrap();
            assert_eq!((found.at.to_string(), found.stale), (format!("{CID}{target}"), false), "{text}");
        }
    }

    #[tokio::test]
    async fn what_leads_nowhere_says_why() {
        let (_dir, node) = node();
        let (key, circle) = node.name_key("circle").unwrap();
        node.publish(&key, &format!("/ipns/{circle}"), TTL).await.unwrap();
        let error = follow_name(&node, circle, "", PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::TooDeep(_)), "{error}");
        node.publish(&key, "https://example.org", TTL).await.unwrap();
        let error = follow_name(&node, circle, "", PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("https://example.org"), "{error}");
        let (_, unknown) = node.name_key("unknown").unwrap();
        assert!(matches!(follow_name(&node, unknown, "", PATIENCE).await, Err(Error::Node(_))));
        for text in ["", "nonsense", "/ipns/nonsense", "/ipfs/", "/ipfs/../x"] {
            assert!(follow(&node, text, PATIENCE).await.is_err(), "{text}");
        }
    }
}
