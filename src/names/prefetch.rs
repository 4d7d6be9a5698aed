//! What followed names mean is fetched before anybody asks for it: so a pull begins at once, and a name outlives its publisher.

use std::{fmt, str::FromStr};

use futures::{StreamExt, stream};
use ocipfs_node::{Cid, Name};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Resolver;
use crate::{
    content::CidPath,
    images::{self, cache::Cache, layout},
};

/// Directories that are read at a time.
const AT_ONCE: usize = 8;
/// Entries of one directory.
const MOST: usize = 1_000_000;
const DEEPEST: usize = 64;
/// Repositories that are known to be here whole.
const REMEMBERED: usize = 100_000;

/// How much of followed names is fetched before it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Prefetch {
    /// Nothing.
    None,
    /// Which images there are, and their manifests.
    #[default]
    Manifests,
    /// All that is tagged, with its layers.
    All,
}

impl FromStr for Prefetch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "manifests" => Ok(Self::Manifests),
            "all" => Ok(Self::All),
            _ => Err(format!("no such policy {text:?}: `none`, `manifests` and `all` are known")),
        }
    }
}

impl TryFrom<String> for Prefetch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Prefetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Manifests => "manifests",
            Self::All => "all",
        })
    }
}

/// Fetches what followed names come to mean, until `stop`.
pub async fn run(resolver: Resolver, policy: Prefetch, stop: CancellationToken) {
    if policy == Prefetch::None {
        return;
    }
    let done = Cache::new(REMEMBERED);
    let work = async {
        let mut heads = resolver.content().node().heads();
        loop {
            heads.mark_unchanged();
            for name in resolver.followed().names() {
                // A newer tree is more wanted than the rest of this one.
                tokio::select! {
                    () = fetch(&resolver, &name, policy, &done) => {}
                    _ = heads.changed() => {
                        heads.mark_changed();
                        break;
                    }
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn fetch(resolver: &Resolver, name: &Name, policy: Prefetch, done: &Cache<Cid, ()>) {
    let Some(root) = resolver.followed().roots(resolver.content(), name).await.into_iter().next() else {
        return;
    };
    let mut level = vec![root];
    for _ in 0..DEEPEST {
        let directories = stream::iter(level).map(|at| async move {
            let below = directory(resolver, &at, policy, done).await;
            below.unwrap_or_else(|error| {
                tracing::debug!(%name, %at, %error, "not fetched before it is asked for");
                Vec::new()
            })
        });
        level = directories.buffer_unordered(AT_ONCE).concat().await;
        if level.is_empty() {
            return;
        }
    }
}

/// Fetches the layout in a directory, if there is one, and gives the directories below that are not here yet.
async fn directory(
    resolver: &Resolver,
    at: &CidPath,
    policy: Prefetch,
    done: &Cache<Cid, ()>,
) -> Result<Vec<CidPath>, images::Error> {
    let content = resolver.content();
    let cid = content.directory(at).await?;
    if done.get(&cid).is_some() {
        return Ok(Vec::new());
    }
    let entries = content.entries(at, MOST).await?;
    let mut below = Vec::new();
    let is_layout = entries.iter().any(|(name, _)| name == "oci-layout");
    for (name, cid) in &entries {
        let is_part = matches!(name.as_str(), "oci-layout" | "index.json") || (is_layout && name == "blobs");
        if !is_part && done.get(cid).is_none() {
            below.push(at.below([name.as_str()]));
        }
    }
    if is_layout {
        layout::prefetch(content, at, cid, policy == Prefetch::All).await?;
    }
    if below.is_empty() {
        done.insert(cid, (), 1);
    }
    Ok(below)
}
