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
        /// `k51...`, a key's word, or a path that begins with a name.
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
        let value = canonical(target)?;
        let (key, name) = node.name_key(word).map_err(Failure::new)?;
        let published = node.publish(&key, &value, ttl).await.map_err(Failure::new)?;
        let sequence = published.sequence;
        Ok(Reply::Published(Published { name: name.to_string(), value, sequence }))
    }

    async fn name_resolve(&self, text: &str) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own = node.name_keys().map_err(Failure::new)?.into_iter().find(|(word, _)| word == text);
        let path = match own {
            Some((_, name)) => format!("/ipns/{name}"),
            None if text.starts_with('/') || text.contains("://") => text.into(),
            None => format!("/ipns/{text}"),
        };
        let found = ipns::follow(node, &path, self.content().find_timeout()).await.map_err(|error| {
            let failure = Failure::new(&error);
            match error {
                ipns::Error::Node(ocipfs_node::Error::NoRecord { asked: 0, .. }) => {
                    failure.hint("no peer is connected: see `ocipfs swarm peers`, and dial one with `ocipfs swarm connect`")
                }
                ipns::Error::NoName(_) => failure.hint("`ocipfs name ls` lists this node's own names and their keys"),
                _ => failure,
            }
        })?;
        Ok(Reply::Resolved(NameTarget { path: format!("/ipfs/{}", found.at), stale: found.stale }))
    }

    async fn name_ls(&self) -> Result<Reply, Failure> {
        let node = self.content().node();
        let own = ("self".to_string(), Name::from(node.peer_id()));
        let mut names = Vec::new();
        for (key, name) in [own].into_iter().chain(node.name_keys().map_err(Failure::new)?) {
            let value = node.published(&name).map_err(Failure::new)?;
            names.push(OwnName { key, name: name.to_string(), value });
        }
        Ok(Reply::Names { names })
    }
}

/// A target as it is written into a record.
fn canonical(target: &str) -> Result<String, Failure> {
    let text = match (target.strip_prefix("ipfs://"), target.strip_prefix("ipns://")) {
        (Some(path), _) => format!("/ipfs/{path}"),
        (_, Some(path)) => format!("/ipns/{path}"),
        _ if target.starts_with('/') => target.into(),
        _ => format!("/ipfs/{target}"),
    };
    ipns::check(&text).map_err(|error| {
        Failure::new(error)
            .hint("give what the name shall mean: /ipfs/<cid>[/path], a CID, or /ipns/<name>[/path]")
    })?;
    Ok(text)
}
