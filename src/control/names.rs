//! Requests about IPNS names: messages and handler.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_node::IpnsName;
use serde::{Deserialize, Serialize};

use super::{Failure, Instance, Reply};
use crate::names::ipns;

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
        /// `k51...`, a domain, a key's word, or a path that begins with a name.
        name: String,
    },
    /// The names of this node, and those it follows.
    Ls,
    /// Know the repositories of a name by their own names.
    Follow {
        /// `k51...`.
        name: String,
    },
    /// Unfollow a name.
    Unfollow {
        /// `k51...`.
        name: String,
    },
    /// Make a key.
    KeyNew {
        /// Its word.
        key: String,
    },
    /// Give a key away.
    KeyExport {
        /// Its word; `self` is the node's own.
        key: String,
    },
    /// Take a key of another machine.
    KeyImport {
        /// Its word here.
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
    pub path: String,
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
    pub rivals: Vec<Rival>,
}

/// A name that two nodes write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rival {
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
    /// The word of its key; `self` is the node's own.
    pub key: String,
    /// The name, `k51...`.
    pub name: String,
    /// Path that it resolves to, if it was ever published.
    pub value: Option<String>,
}

impl Instance {
    pub(super) async fn name(&self, request: NameRequest) -> Result<Reply, Failure> {
        match request {
            NameRequest::Publish { key, target, ttl } => {
                self.name_publish(&key, &target, Duration::from_secs(ttl)).await
            }
            NameRequest::Resolve { name } => self.name_resolve(&name).await,
            NameRequest::Ls => self.name_ls().await,
            NameRequest::Follow { name } => self.name_follow(&name).await,
            NameRequest::Unfollow { name } => self.name_unfollow(&name).await,
            NameRequest::KeyNew { key } => {
                let name = self.content().node().new_key(&key).await.map_err(key_failure)?;
                Ok(Reply::Key { key, name: name.to_string() })
            }
            NameRequest::KeyExport { key } => {
                let bytes = self.content().node().export_key(&key).await.map_err(key_failure)?;
                Ok(Reply::SecretKey { base64: BASE64_STANDARD.encode(bytes) })
            }
            NameRequest::KeyImport { key, base64 } => {
                let bytes = BASE64_STANDARD.decode(base64).map_err(Failure::new)?;
                let name = self.content().node().import_key(&key, &bytes).await.map_err(key_failure)?;
                Ok(Reply::Key { key, name: name.to_string() })
            }
        }
    }

    async fn name_follow(&self, text: &str) -> Result<Reply, Failure> {
        let (node, name) = (self.content().node(), parse_name(text)?);
        let changed = node.follow_persistently(name).await.map_err(Failure::new)?;
        self.resolver().followed().refresh(node).await.map_err(Failure::new)?;
        Ok(Reply::Followed { name: name.to_string(), changed })
    }

    async fn name_unfollow(&self, text: &str) -> Result<Reply, Failure> {
        let (node, name) = (self.content().node(), parse_name(text)?);
        let followed = self.resolver().followed();
        if followed.is_settled(&name) {
            let failure = Failure::new(format!("{name} is followed by configuration"));
            return Err(failure.hint("remove it from --follow, OCIPFS_FOLLOW or the settings file"));
        }
        let changed = node.unfollow(name).await.map_err(Failure::new)?;
        followed.refresh(node).await.map_err(Failure::new)?;
        match changed {
            true => Ok(Reply::Followed { name: name.to_string(), changed }),
            false => Err(Failure::new(format!("{name} is not followed"))
                .hint("`ocipfs status` lists the names that are followed")),
        }
    }

    /// Returns the state of publication.
    pub(super) async fn publication(&self) -> Result<Publication, Failure> {
        let publisher = self.publisher();
        let behind = publisher.behind().await.map_err(Failure::new)?;
        let state = publisher.state();
        let node = self.content().node();
        let rivals = node.conflicting_writers().into_iter();
        // The node may have signed it again since: the state tells the first record of a root.
        let signed = state.sequence.and_then(|_| node.published(&publisher.name()));
        Ok(Publication {
            share: publisher.share().to_string(),
            name: publisher.name().to_string(),
            root: state.root.map(|root| root.to_string()),
            sequence: signed.map(|own| own.sequence).or(state.sequence),
            behind,
            failing: state.failing,
            rivals: rivals.map(|(name, sequence)| Rival { name: name.to_string(), sequence }).collect(),
        })
    }

    /// Returns the followed names and their state.
    pub(super) async fn followed_names(&self) -> Result<Vec<FollowedName>, Failure> {
        let mut all = Vec::new();
        for name in self.resolver().followed().names() {
            all.push(self.followed_name(name).await?);
        }
        Ok(all)
    }

    async fn followed_name(&self, name: IpnsName) -> Result<FollowedName, Failure> {
        let summary =
            self.resolver().followed().summary(self.resolver(), &name).await.map_err(Failure::new)?;
        let head = self.content().node().followed_record(&name);
        let heard = head.as_ref().map(|head| head.sequence);
        // Of a root that was only just heard of, what is missing is not known yet.
        let fetching = summary.fetching.filter(|fetching| Some(fetching.sequence) == heard);
        let missing = fetching.as_ref().map(|fetching| fetching.missing).unwrap_or_default();
        let served = summary.served.map(|root| ServedRoot {
            root: root.directory.to_string(),
            sequence: root.sequence,
            since: root.since,
        });
        let text = |tags: Vec<ocipfs_oci::Tag>| tags.iter().map(ToString::to_string).collect();
        let repositories = summary.repositories.into_iter().map(|repository| FollowedRepository {
            name: repository.name.to_string(),
            directory: repository.directory.to_string(),
            tags: text(repository.tags),
            shadowed: text(repository.shadowed),
        });
        Ok(FollowedName {
            name: name.to_string(),
            sequence: heard,
            stale: head.as_ref().is_some_and(|head| head.stale),
            value: head.map(|head| head.value),
            served,
            newest: fetching.as_ref().map(|fetching| fetching.root.to_string()),
            missing_repositories: missing.repositories,
            missing_bytes: missing.bytes,
            failing: fetching.and_then(|fetching| fetching.why),
            complete_repositories: summary.complete,
            repositories: repositories.collect(),
        })
    }

    async fn name_publish(&self, word: &str, target: &str, ttl: Duration) -> Result<Reply, Failure> {
        let node = self.content().node();
        let path: ipns::Path = target.parse().map_err(|error: ipns::Error| {
            Failure::new(error)
                .hint("give the target of the name: /ipfs/<cid>[/path], a CID, or /ipns/<name>[/path]")
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
        let own = ("self".to_string(), IpnsName::from(node.peer_id()));
        let mut names = Vec::new();
        for (key, name) in [own].into_iter().chain(node.name_keys().await.map_err(Failure::new)?) {
            names.push(OwnName {
                key,
                name: name.to_string(),
                value: node.published(&name).map(|own| own.value),
            });
        }
        Ok(Reply::Names { names })
    }
}

fn parse_name(text: &str) -> Result<IpnsName, Failure> {
    let name = text.strip_prefix("/ipns/").unwrap_or(text);
    name.parse().map_err(|error| {
        Failure::new(error).hint("`ocipfs name ls` on the node that publishes it prints its name first")
    })
}

fn key_failure(error: ocipfs_node::Error) -> Failure {
    let hint = match error {
        ocipfs_node::Error::NotAKey(_) => {
            "export it with `ocipfs name key export`, or `ipfs key export --format=libp2p-protobuf-cleartext`"
        }
        ocipfs_node::Error::NoKey(_) => "`ocipfs name ls` lists the keys",
        ocipfs_node::Error::KeyExists(_) => "choose another key name: keys are never overwritten",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

fn resolve_failure(error: ipns::Error) -> Failure {
    use ocipfs_node::Error::*;
    let hint = match &error {
        ipns::Error::Node(NoRecord { asked: 0, .. }) => {
            "no peer is connected: see `ocipfs swarm peers`, and dial one with `ocipfs swarm connect`"
        }
        ipns::Error::Node(Dns { .. }) => {
            "start `ocipfs serve` if it is not running; choose another DNS server with --dns-resolver"
        }
        ipns::Error::NoName(_) => "`ocipfs name ls` lists this node's own names and their keys",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
