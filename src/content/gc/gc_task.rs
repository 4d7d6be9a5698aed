//! The garbage collection task: runs at intervals, and when something was released.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use ocipfs_node::Cid;
use tokio_util::sync::CancellationToken;

use super::GarbageCollector;
use crate::content::{
    Content, ContentInner, locked,
    store::index::{is_retained, releases},
    store::{Error, Store, now},
};

/// Uses are written down and limits looked at so often.
const INTERVAL: Duration = Duration::from_secs(15);
/// Interval of collections of released content, and of mark phases if there is a limit.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Released roots are collected after this time, together with those released meanwhile.
const RELEASE_DELAY: Duration = Duration::from_millis(500);
/// The pause before the next collection, as a multiple of the time that the last one took.
const PAUSE_FACTOR: u32 = 10;
/// Files without a GC root stay for this long after their last use: their reader may be about to retain them.
const GRACE_PERIOD: Duration = Duration::from_secs(600);

/// Runs garbage collection until `stop`, or until the content is dropped.
pub async fn run(content: Weak<ContentInner>, gc: Arc<GarbageCollector>, stop: CancellationToken) {
    let mut counted = Instant::now();
    let mut rest = Duration::ZERO;
    if let Some(inner) = content.upgrade()
        && let Err(error) = Content(inner).announce_digests().await
    {
        tracing::warn!("cannot announce the digests of stored content: {error}");
    }
    // The process before may have released roots and not collected them.
    gc.wake.notify_one();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = gc.wake.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if gc.has_released.load(Ordering::Relaxed) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELEASE_DELAY.max(rest)) => {}
            }
        }
        let Some(inner) = content.upgrade() else { return };
        let withdrawn = std::mem::take(&mut *locked(&gc.withdrawn));
        match inner.store.run(move |store| unreferenced_roots(store, withdrawn)).await {
            Ok(roots) => {
                for root in roots {
                    inner.node.withdraw(root).await;
                }
            }
            Err(error) => tracing::warn!("removed content stays announced until the next start: {error}"),
        }
        match inner.store.run(Store::take_removed).await {
            Ok(digests) => {
                for digest in digests {
                    inner.node.withdraw(digest).await;
                }
            }
            Err(error) => tracing::warn!("removed blobs stay announced until the next start: {error}"),
        }
        let recount = counted.elapsed() >= RECOUNT_INTERVAL;
        if recount {
            counted = Instant::now();
        }
        let begun = Instant::now();
        let work = gc.clone();
        if let Err(error) = inner.store.run(move |store| work.run_once(store, recount)).await {
            tracing::warn!("garbage collection failed: {error}");
        }
        rest = begun.elapsed() * PAUSE_FACTOR;
    }
}

/// Those that did not come again meanwhile.
fn unreferenced_roots(store: &Store, roots: Vec<Cid>) -> Result<Vec<Cid>, Error> {
    store.database().read(|read| {
        let free = roots.iter().map(|root| Ok::<_, Error>((!is_retained(read, root)?).then_some(*root)));
        free.filter_map(Result::transpose).collect()
    })
}

impl GarbageCollector {
    fn run_once(&self, store: &Store, recount: bool) -> Result<(), Error> {
        store.save_uses()?;
        // What a crash, or another writer, left of files that were removed.
        store.sweep()?;
        if self.has_released.swap(false, Ordering::Relaxed) {
            let collected = self.collect_released(store)?;
            tracing::debug!(?collected, "collected released roots");
        }
        let is_due = recount && self.young.take_due(Instant::now());
        if recount && self.wants_full_collection.swap(false, Ordering::Relaxed) || is_due {
            let before = now().saturating_sub(GRACE_PERIOD.as_millis() as u64);
            let collected = self.collect_older(store, false, Some(before), &mut |_| {})?;
            tracing::debug!(?collected, "collected unreferenced content");
        } else if recount && self.cache_size.is_some() && self.is_released(store)? {
            self.mark_all(store)?;
        }
        self.evict_for(store, 0)?;
        if recount { self.compact_if_emptied(store) } else { Ok(()) }
    }

    /// Whether something was released since everything was last counted: less is kept then than is known.
    fn is_released(&self, store: &Store) -> Result<bool, Error> {
        let known = locked(&self.counted).map(|(counted, ..)| counted.releases);
        Ok(known != Some(store.database().read(releases)?))
    }

    /// Wakes the task if content that was added exceeds a limit.
    pub fn content_added(&self, store: &Store) {
        if self.over(store).is_ok_and(|over| over > 0) {
            self.wake.notify_one();
        }
    }
}
