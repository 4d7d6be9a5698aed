//! Repositories that are pushed to: what each has, as rows in the store's index.
//!
//! ```text
//! Repositories ──► Edit   changes, within one transaction (edit, remove)
//!              ├─► commits of pushes, each with the bytes that it stores (commit, adopted)
//!              ├─► commits of images of bundles, whose bytes are stored (bundled)
//!              ├─► pages of names, tags, manifests, blobs, referrers (read)
//!              └─► Sweep  what a RetentionPolicy (retention) does not keep, by its age (ages)
//! listing               the entries of index.json, all or those that changed
//! changes               what changed since the root was published
//! sweeper               sweeps in the background
//! ```
//!
//! The bytes are blobs of `content`; a repository holds the root of each of them (`content::retain_root`). A repository is
//! there as long as it has a manifest. Every call blocks but the commits of pushes.

mod adopted;
mod ages;
mod backfill;
mod bundled;
mod changes;
mod commit;
mod digests;
mod edit;
mod inspect;
mod listing;
mod policy;
mod protected;
mod read;
mod remove;
mod removed;
mod sweep;
pub mod sweeper;
mod tables;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Name};
use redb::ReadTransaction;
use tokio::sync::watch;

use crate::content::{Database, Store, StoreError, now};

pub use adopted::Adopted;
pub use bundled::{CompleteImage, CompleteManifest, TagConflict};
pub use changes::{Change, ChangedItem, changes, changes_of, matters, pending, settle};
pub use commit::NewManifest;
pub use edit::Edit;
pub use inspect::{InspectedManifest, inspect};
#[cfg(test)]
pub use listing::ROWS;
pub use listing::{Listing, is_digest};
pub use policy::{RetentionPolicy, RetentionRule, matches_pattern};
pub use read::Summary;
pub use removed::{Removed, RemovedKind};
pub use sweep::{Sweep, subject_of};

/// A blob that a repository has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryBlob {
    /// Its digest, as it was pushed.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The root of its DAG.
    pub root: Cid,
}

/// A manifest or an index that a repository has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Where its bytes are.
    pub blob: RepositoryBlob,
    /// Its kind.
    pub media_type: MediaType,
    /// Digest of its subject.
    pub subject: Option<Digest>,
    /// The kind of artifact that it says it is.
    pub artifact_type: Option<String>,
    /// When it came, in seconds since 1970.
    pub at: u64,
}

/// All repositories of a node. Clones are handles on the same.
#[derive(Clone)]
pub struct Repositories {
    inner: Arc<RepositoriesInner>,
    /// What reads see; each sees what is committed by then without it.
    snapshot: Option<Arc<ReadTransaction>>,
}

struct RepositoriesInner {
    database: Arc<Database>,
    changed: watch::Sender<()>,
    freed: watch::Sender<()>,
}

impl Repositories {
    /// Those whose rows are in this index, as this version writes them.
    pub fn new(database: Arc<Database>) -> Self {
        let (changed, freed) = Default::default();
        Self { inner: Arc::new(RepositoriesInner { database, changed, freed }), snapshot: None }
    }

    /// Those of a store, which an earlier version may have written.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        backfill::run(store, now())?;
        Ok(Self::new(store.database()))
    }

    /// The repositories as they are now for all reads, whatever is changed later.
    pub fn snapshot(&self) -> Result<Self, StoreError> {
        let snapshot = Some(Arc::new(self.inner.database.snapshot()?));
        Ok(Self { inner: self.inner.clone(), snapshot })
    }

    fn read<T>(&self, with: impl Fn(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.snapshot {
            Some(snapshot) => with(snapshot),
            None => self.inner.database.read(with),
        }
    }

    /// Changes some, all or nothing, in one commit with what others change at this time.
    /// `with` may run twice, so it is to look before it changes anything.
    pub fn edit<T: Send + 'static>(
        &self,
        with: impl FnMut(&Edit) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.edit_at(now, with)
    }

    /// Does the same as [`Self::edit`] with a clock that returns seconds since 1970.
    pub fn edit_at<T: Send + 'static>(
        &self,
        clock: impl Fn() -> u64 + Send + 'static,
        mut with: impl FnMut(&Edit) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (value, removed) = self.inner.database.write_together(move |write| {
            let edit = Edit::at(write, clock());
            Ok((with(&edit)?, edit.take_removed()))
        })?;
        self.removed(&removed);
        Ok(value)
    }

    /// Tells the watchers what a commit removed.
    fn removed(&self, removed: &[Removed]) {
        if removed.iter().any(|one| one.freed) {
            self.inner.freed.send_replace(());
        }
        self.wake();
    }

    /// Has all of a repository published again, or taken out of what is published.
    pub fn publish_again(&self, name: &Name) -> Result<(), StoreError> {
        let of = name.clone();
        self.inner
            .database
            .write(move |write| changes::record_change(write, &of, &ChangedItem::Everything))?;
        self.wake();
        Ok(())
    }

    /// Wakes when content was released.
    pub fn freed(&self) -> watch::Receiver<()> {
        self.inner.freed.subscribe()
    }

    /// Wakes the watchers of [`Repositories::changed`] after a commit.
    fn wake(&self) {
        self.inner.changed.send_replace(());
    }

    /// Wakes when there may be new [`changes`].
    pub fn changed(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// The index that they are in, for transactions that change more than repositories.
    pub fn database(&self) -> &Arc<Database> {
        &self.inner.database
    }
}

/// Returns the key of the GC root for a blob or a manifest. Each has its own, since two digests may be of the
/// same bytes.
fn gc_root_key(name: &Name, kind: &str, digest: &Digest) -> String {
    format!("repository/{name}/{kind}/{digest}")
}
