//! What followed names mean is fetched before anybody asks for it: so a pull begins at once, and a name outlives its publisher.

use std::{fmt, str::FromStr, time::Duration};

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

/// What could not be had is tried again, each time later.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Fetches what followed names come to mean, until `stop`.
pub async fn run(resolver: Resolver, policy: Prefetch, stop: CancellationToken) {
    if policy == Prefetch::None {
        return;
    }
    let done = Cache::new(REMEMBERED);
    let work = async {
        let mut heads = resolver.content().node().heads();
        let mut pause = FIRST_PAUSE;
        loop {
            heads.mark_unchanged();
            let (mut is_newer, mut is_whole) = (false, true);
            for name in resolver.followed().names() {
                tokio::select! {
                    whole = fetch(&resolver, &name, policy, &done) => is_whole &= whole,
                    // A newer tree is more wanted than the rest of this one; the other names have their turn first.
                    changed = heads.changed() => match changed {
                        Ok(()) => (is_newer, pause) = (true, FIRST_PAUSE),
                        Err(_) => return,
                    },
                }
            }
            pause = if is_whole { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            if !is_newer {
                tokio::select! {
                    changed = heads.changed() => match changed {
                        Ok(()) => pause = FIRST_PAUSE,
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(pause), if !is_whole => {}
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Whether all could be had.
async fn fetch(resolver: &Resolver, name: &Name, policy: Prefetch, done: &Cache<Cid, ()>) -> bool {
    let Some(root) = resolver.followed().roots(resolver.content(), name).await.into_iter().next() else {
        // What was never heard of comes as a change; what leads nowhere now may lead somewhere again.
        return resolver.content().node().head(name).is_none();
    };
    let (mut level, mut is_whole) = (vec![root], true);
    for _ in 0..DEEPEST {
        let directories = stream::iter(level)
            .map(|at| async move { (directory(resolver, &at, policy, done).await, at) })
            .buffer_unordered(AT_ONCE);
        let directories: Vec<_> = directories.collect().await;
        level = Vec::new();
        for (below, at) in directories {
            match below {
                Ok((below, Ok(()))) => level.extend(below),
                Ok((below, Err(error))) => {
                    tracing::debug!(%name, %at, %error, "not all is fetched before it is asked for, will try again");
                    level.extend(below);
                    is_whole = false;
                }
                Err(error) => {
                    tracing::debug!(%name, %at, %error, "not fetched before it is asked for, will try again");
                    is_whole = false;
                }
            }
        }
        if level.is_empty() {
            break;
        }
    }
    is_whole
}

/// Fetches the layout in a directory, if there is one; gives the directories below that are not here yet, and what became of
/// the layout.
async fn directory(
    resolver: &Resolver,
    at: &CidPath,
    policy: Prefetch,
    done: &Cache<Cid, ()>,
) -> Result<(Vec<CidPath>, Result<(), images::Error>), images::Error> {
    let content = resolver.content();
    let cid = content.directory(at).await?;
    if done.get(&cid).is_some() {
        return Ok((Vec::new(), Ok(())));
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
    // What is below it is fetched even where something of this one cannot be had.
    let fetched = match is_layout {
        true => layout::prefetch(content, at, cid, policy == Prefetch::All).await,
        false => Ok(()),
    };
    if below.is_empty() && fetched.is_ok() {
        done.insert(cid, (), 1);
    }
    Ok((below, fetched))
}
