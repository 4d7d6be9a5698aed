//! Followed names are fetched before a client asks: so a pull begins at once, and a name outlives its publisher.
//!
//! ```text
//! run ── one task a name ─► walk (what differs from the last complete root) ─► followed::FollowedRows (what is served)
//! ```

mod announce;
mod walk;

use std::{collections::HashMap, fmt, str::FromStr, time::Duration};

use ocipfs_node::IpnsName;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Resolver,
    followed::{Depth, Fetching},
};
use walk::Walk;

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
            _ => Err(format!("invalid prefetch policy {text:?}: expected `none`, `manifests` or `all`")),
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

impl Prefetch {
    /// How much of a repository is here when it is complete.
    pub fn depth(self) -> Depth {
        match self {
            Self::None => Depth::Index,
            Self::Manifests => Depth::Manifests,
            Self::All => Depth::Blobs,
        }
    }
}

/// Delay before failed content is fetched again; it grows to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_secs(15);
const MAX_PAUSE: Duration = Duration::from_secs(30 * 60);
/// A walk that takes longer gives way to a newer root; what it fetched is kept.
const MIN_WALK_TIME: Duration = Duration::from_secs(5);

/// Fetches what followed names mean, and releases those that are not followed any more, until `stop`.
pub async fn run(resolver: Resolver, policy: Prefetch, stop: CancellationToken) {
    let mut tasks: HashMap<IpnsName, CancellationToken> = HashMap::new();
    loop {
        let names = resolver.followed().names();
        tasks.retain(|name, stop| {
            let is_followed = names.contains(name);
            if !is_followed {
                stop.cancel();
            }
            is_followed
        });
        let forgotten = resolver.followed().forget_others(resolver.content()).await;
        if let Err(error) = &forgotten {
            tracing::warn!(%error, "cannot release an unfollowed name");
        }
        for name in names {
            tasks.entry(name).or_insert_with(|| {
                let stop = stop.child_token();
                tokio::spawn(stop.clone().run_until_cancelled_owned(follow(resolver.clone(), name, policy)));
                stop
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = resolver.followed().changed() => {}
            () = tokio::time::sleep(MIN_PAUSE), if forgotten.is_err() => {}
        }
    }
}

/// Fetches what one name means, again and again.
async fn follow(resolver: Resolver, name: IpnsName, policy: Prefetch) {
    if let Err(error) = announce::announce(&resolver, &name).await {
        tracing::warn!(%name, %error, "cannot announce all content of a followed name");
    }
    if policy == Prefetch::None {
        return;
    }
    let mut heads = resolver.content().node().followed_changes();
    let mut pause = MIN_PAUSE;
    loop {
        heads.mark_unchanged();
        let meant = meant(&resolver, &name);
        let joined = resolver.content().node().joined();
        let is_whole = tokio::select! {
            whole = fetch(&resolver, &name, policy) => Some(whole),
            () = newer(&resolver, &name, &meant) => None,
        };
        let Some(is_whole) = is_whole else {
            pause = MIN_PAUSE;
            continue;
        };
        // Its record may have changed while it was fetched.
        let wait = async {
            while self::meant(&resolver, &name) == meant {
                if heads.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            () = wait => pause = MIN_PAUSE,
            () = tokio::time::sleep(pause), if !is_whole => pause = (pause * 2).min(MAX_PAUSE),
            // A publisher that was away may be back.
            () = joined, if !is_whole => pause = MIN_PAUSE,
        }
    }
}

/// Returns sequence and value of a name's newest record. Both are compared: two nodes with one key may sign two
/// values with one sequence.
fn meant(resolver: &Resolver, name: &IpnsName) -> Option<(u64, String)> {
    resolver.content().node().followed_record(name).map(|head| (head.sequence, head.value))
}

/// Waits until a record says something else, and the walk has had its turn.
async fn newer(resolver: &Resolver, name: &IpnsName, before: &Option<(u64, String)>) {
    let (mut heads, turn) = (resolver.content().node().followed_changes(), Instant::now() + MIN_WALK_TIME);
    while meant(resolver, name) == *before {
        if heads.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    tokio::time::sleep_until(turn).await;
}

/// Reads which repositories a name has now, and nothing of them but their indexes.
pub async fn list(resolver: &Resolver, name: &IpnsName) {
    fetch(resolver, name, Prefetch::None).await;
}

/// Fetches what a name means now; whether all of it is here.
async fn fetch(resolver: &Resolver, name: &IpnsName, policy: Prefetch) -> bool {
    let followed = resolver.followed();
    let Some(head) = resolver.content().node().followed_record(name) else { return true };
    let root = match followed.target(resolver.content(), name).await {
        Some(root) => root,
        // What leads to no content now may lead to some later.
        None => return false,
    };
    let before = followed.fetching(name).filter(|before| before.sequence == head.sequence);
    let (missing, why) = before.map(|before| (before.missing, before.why)).unwrap_or_default();
    followed.set_fetching(name, Fetching { root: *root.root(), sequence: head.sequence, missing, why });
    let walk = Walk::new(resolver, name, policy, &root, head.sequence);
    let (missing, why) = match walk.run().await {
        Ok(missing) => missing,
        Err(error) => (Default::default(), Some(error.to_string())),
    };
    if let Some(why) = &why {
        tracing::debug!(%name, %root, why, "prefetch of a followed name is incomplete, will try again");
    }
    let is_whole = why.is_none();
    followed.set_fetching(name, Fetching { root: *root.root(), sequence: head.sequence, missing, why });
    is_whole
}
