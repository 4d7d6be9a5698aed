//! Followed names are fetched before a client asks: so a pull begins at once, and a name outlives its publisher.
//!
//! ```text
//! run ── one task a name ─► walk (what differs from the last complete root) ─► followed (what is served)
//! ```

mod announce;
#[cfg(test)]
mod model;
mod walk;

use std::{collections::HashMap, time::Duration};

use ocipfs_node::IpnsName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Prefetch,
    followed::{FetchProgress, WalkCounts},
};
use crate::names::Resolver;
use walk::Walk;

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
                tokio::spawn(stop.clone().run_until_cancelled_owned(follow_records(
                    resolver.clone(),
                    name,
                    policy,
                )));
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
async fn follow_records(resolver: Resolver, name: IpnsName, policy: Prefetch) {
    if let Err(error) = announce::announce(&resolver, &name).await {
        tracing::warn!(%name, %error, "cannot announce all content of a followed name");
    }
    if policy == Prefetch::None {
        return;
    }
    let mut record_changes = resolver.content().node().followed_changes();
    let mut pause = MIN_PAUSE;
    loop {
        record_changes.mark_unchanged();
        let value = newest_value(&resolver, &name);
        let joined = resolver.content().node().joined();
        let is_whole = tokio::select! {
            whole = fetch_newest_root(&resolver, &name, policy) => Some(whole),
            () = newer(&resolver, &name, &value) => None,
        };
        let Some(is_whole) = is_whole else {
            pause = MIN_PAUSE;
            continue;
        };
        // Its record may have changed while it was fetched.
        let wait = async {
            while newest_value(&resolver, &name) == value {
                if record_changes.changed().await.is_err() {
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
fn newest_value(resolver: &Resolver, name: &IpnsName) -> Option<(u64, String)> {
    resolver.content().node().followed_record(name).map(|record| (record.sequence, record.value))
}

/// Waits until a record says something else, and the walk has had its turn.
async fn newer(resolver: &Resolver, name: &IpnsName, before: &Option<(u64, String)>) {
    let (mut record_changes, turn) =
        (resolver.content().node().followed_changes(), Instant::now() + MIN_WALK_TIME);
    while newest_value(resolver, name) == *before {
        if record_changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    tokio::time::sleep_until(turn).await;
}

/// Reads which repositories a name has now, and nothing of them but their indexes.
pub async fn read_indexes(resolver: &Resolver, name: &IpnsName) {
    fetch_newest_root(resolver, name, Prefetch::None).await;
}

/// Fetches what a name means now; whether all of it is here.
async fn fetch_newest_root(resolver: &Resolver, name: &IpnsName, policy: Prefetch) -> bool {
    let followed = resolver.followed();
    let Some(record) = resolver.content().node().followed_record(name) else { return true };
    followed.set_behind(name, true);
    let root = match followed.target(resolver.content(), name).await {
        Some(root) => root,
        // What leads to no content now may lead to some later.
        None => return false,
    };
    let before = followed.fetching(name).filter(|before| before.sequence == record.sequence);
    let (missing, why) = before.map(|before| (before.missing, before.why)).unwrap_or_default();
    let (cid, sequence, counts) = (*root.root(), record.sequence, WalkCounts::default());
    let progress = FetchProgress { root: cid, sequence, missing, why, counts: counts.clone() };
    followed.set_fetch_progress(name, progress);
    let walk = Walk::new(resolver, name, policy, &root, sequence).counted(counts.clone());
    let (missing, why) = match walk.fetch_changes().await {
        Ok(missing) => missing,
        Err(error) => (Default::default(), Some(error.to_string())),
    };
    if let Some(why) = &why {
        tracing::debug!(%name, %root, why, "prefetch of a followed name is incomplete, will try again");
    }
    let is_whole = why.is_none();
    followed.set_behind(name, !is_whole);
    followed.set_fetch_progress(name, FetchProgress { root: cid, sequence, missing, why, counts });
    is_whole
}
