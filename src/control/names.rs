//! What commands ask of a house about IPNS names.

use std::time::Duration;

use ocipfs_node::Name;
use serde::{Deserialize, Serialize};

use super::{Failure, House, Reply};
use crate::names::ipns;

/// What a command asks about names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum NameRequest {
    /// Say what a key's name means from now on.
    Publish {
        /// The key's word; it is made where there is none.
        key: String,
        /// `/ipfs/<cid>...`, `/ipns/<name>...`, or a CID with a path.
        target: String,
        /// How long others may use it without asking again, in seconds.
        ttl: u64,
    },
    /// Tell what a name means.
    Resolve {
        /// `k51...`, a domain, a key's word, or a path that begins with a name.
        name: String,
    },
    /// The names of this node.
    Ls,
}

/// A name that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The name, `k51...`.
    pub name: String,
    /// What it means now.
    pub value: String,
    /// Counts up with each change.
    pub sequence: u64,
}

/// Where a name leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameTarget {
    /// `/ipfs/<cid>[/path]`.
    pub path: String,
    /// Nobody answered for it, so it is what was seen last.
    pub stale: bool,
}

/// A name of this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnName {
    /// The word of its key; `self` is the node's own.
    pub key: String,
    /// The name, `k51...`.
    pub name: String,
    /// What it means, if that was ever published.
    pub value: Option<String>,
}

impl House {
    pub(super) async fn name(&self, request: NameRequest) -> Result<Reply, Failure> {
        match request {
            NameRequest::Publish { key, target, ttl } => {
                self.name_publish(&key, &target, Duration::from_secs(ttl)).await
            }
            NameRequest::Resolve { name } => self.name_resolve(&name).await,
            NameRequest::Ls => self.name_ls().await,
        }
    }

    async fn name_publish(&self, word: &str, target: &str, ttl: Duration) -> Result<Reply, Failure> {
        let node = self.content().node();
        let path: ipns::Path = target.parse().map_err(|error: ipns::Error| {
            Failure::new(error)
                .hint("give what the name shall mean: /ipfs/<cid>[/path], a CID, or /ipns/<name>[/path]")
        })?;
        let (key, name) = node.name_key(word).await.map_err(Failure::new)?;
        let published = node.publish(&key, &path.to_string(), ttl).await.map_err(Failure::new)?;
        let ocipfs_node::Published { value, sequence } = published;
        Ok(Reply::Published(Published { name: name.to_string(), value, sequence }))
    }

    async fn name_resolve(&self, text: &str) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own = node.name_keys().await.map_err(Failure::new)?.into_iter().find(|(word, _)| word == text);
        let path = match own {
            Some((_, name)) => Ok(ipns::Path::Name(name.into(), String::new())),
            None if text.starts_with('/') || text.contains("://") => text.parse(),
            None => format!("/ipns/{text}").parse(),
        };
        let path = path.map_err(resolve_failure)?;
        let found = ipns::follow(node, path, self.content().find_timeout()).await.map_err(resolve_failure)?;
        Ok(Reply::Resolved(NameTarget { path: format!("/ipfs/{}", found.at), stale: found.stale }))
    }

    async fn name_ls(&self) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own = ("self".to_string(), Name::from(node.peer_id()));
        let mut names = Vec::new();
        for (key, name) in [own].into_iter().chain(node.name_keys().await.map_err(Failure::new)?) {
            names.push(OwnName { key, name: name.to_string(), value: node.published(&name) });
        }
        Ok(Reply::Names { names })
    }
}

fn resolve_failure(error: ipns::Error) -> Failure {
    use ocipfs_node::Error::*;
    let hint = match &error {
        ipns::Error::Node(NoRecord { asked: 0, .. }) => {
            "no peer is connected: see `ocipfs swarm peers`, and dial one with `ocipfs swarm connect`"
        }
        ipns::Error::Node(Dns { .. }) => {
            "start `ocipfs serve` if it does not run; another server is asked with --dns-resolver"
        }
        ipns::Error::NoName(_) => "`ocipfs name ls` lists this node's own names and their keys",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
