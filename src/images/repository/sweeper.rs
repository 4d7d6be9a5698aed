//! Sweeps in the background: by the clock, and when the node directory is full.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Repositories, RetentionPolicy, Sweep};
use crate::content::{Content, StoreError, now};

/// Between two sweeps, where nothing is kept for a shorter time.
const MAX_PAUSE: Duration = Duration::from_secs(60);
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Retention rules read all tags of the repositories that they are about, so they are applied less often.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Sweeps until `stop`, and has released content collected.
pub async fn run(
    repositories: Repositories,
    content: Content,
    policy: Arc<RetentionPolicy>,
    stop: CancellationToken,
) {
    let work = async {
        let mut freed = repositories.freed();
        let (mut next, mut retention) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                woken = freed.changed() => match woken {
                    Ok(()) => content.collect_released_soon(),
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(next) => {
                    let sweep = Sweep::due(&policy, now());
                    let applies_rules = Instant::now() >= retention;
                    let sweep = if applies_rules { sweep } else { sweep.without_retention() };
                    if applies_rules {
                        retention = Instant::now() + RETENTION_INTERVAL;
                    }
                    if let Err(error) = sweep_once(&repositories, &content, sweep).await {
                        tracing::warn!("repository sweep failed: {error}");
                    }
                    next = Instant::now() + pause(&policy);
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn pause(policy: &RetentionPolicy) -> Duration {
    (policy.upload_grace.min(policy.keep_untagged) / 4).clamp(MIN_PAUSE, MAX_PAUSE)
}

async fn sweep_once(
    repositories: &Repositories,
    content: &Content,
    sweep: Sweep,
) -> Result<(), crate::content::Error> {
    let repositories = repositories.clone();
    let work = move |_: &_| {
        if repositories.is_due(&sweep)? {
            repositories.sweep(&sweep, false, |removed| tracing::debug!(?removed, "swept"))?;
        }
        Ok(())
    };
    Ok(content.store().run(work).await?)
}

/// Lets a full node directory release untagged manifests, the oldest first.
pub fn release_when_full(repositories: &Repositories, content: &Content, policy: Arc<RetentionPolicy>) {
    let repositories = repositories.clone();
    content.when_full(Box::new(move |bytes| room(&repositories, &policy, now(), bytes)));
}

/// Releases at least `bytes`, if untagged manifests hold so many; returns the bytes that are unreferenced any more.
fn room(
    repositories: &Repositories,
    policy: &RetentionPolicy,
    now: u64,
    bytes: u64,
) -> Result<u64, StoreError> {
    let mut freed = 0;
    let sweep = Sweep::room(policy, now, bytes);
    if repositories.is_due(&sweep)? {
        repositories.sweep(&sweep, false, |removed| {
            tracing::info!(repository = %removed.repository, digest = %removed.digest, "removed manifests to make room");
            freed += removed.freed_bytes();
        })?;
    }
    Ok(freed)
}
