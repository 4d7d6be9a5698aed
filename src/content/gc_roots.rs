//! Retaining and releasing content, and announcing what is retained.

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::WriteTransaction;

use super::{
    CidPath, Content, Error, GcRoot, ImportedImage, RetainedCounts, Store, StoreError, share_added_again,
    store::index::{self, Index},
};

impl Content {
    /// Whether a GC root retains a root.
    pub async fn is_retained(&self, root: &Cid) -> Result<bool, Error> {
        let root = *root;
        Ok(self
            .0
            .store
            .run(move |store| store.database().read(|read| index::is_retained(read, &root)))
            .await?)
    }

    /// Announces those of these roots that peers may know of, and the digests of those that are stored files.
    pub async fn announce(&self, roots: Vec<Cid>) -> Result<(), Error> {
        self.announce_with(roots, Vec::new()).await
    }

    /// The same, with those of these stored blobs that peers may know of by their digests.
    async fn announce_with(&self, roots: Vec<Cid>, blobs: Vec<(Digest, CidPath)>) -> Result<(), Error> {
        let share = self.settings().share;
        let keys = move |store: &Store| {
            let mut keys = share.announced(store, roots)?;
            keys.extend(share.announced_blobs(store, blobs.iter().map(|(digest, _)| digest))?);
            Ok(keys)
        };
        self.0.node.announce(self.0.store.run(keys).await?);
        Ok(())
    }

    /// Announces the digests of all that is retained: roots alone are announced before the node is ready.
    pub(super) async fn announce_digests(&self) -> Result<(), Error> {
        if !self.node().is_online() {
            return Ok(());
        }
        let content = self.clone();
        let announce = move |store: &Store| {
            let (index, share, node) = (&content.0.index, content.settings().share, content.node());
            let announce = |roots| share.announced(store, roots).map(|keys| node.announce_known(keys));
            index.for_each_announced(|root| announce(vec![root]))?;
            announce(index.pins()?)?;
            let announce = |digest| {
                share.announced_blobs(store, [&digest].into_iter()).map(|keys| node.announce_known(keys))
            };
            index.for_each_blob(announce)
        };
        Ok(self.store().run(announce).await?)
    }

    /// Whether peers may be told of a block.
    pub async fn is_shown(&self, cid: &Cid) -> Result<bool, Error> {
        let (share, cid) = (self.settings().share, *cid);
        Ok(self.0.store.run(move |store| share.shows(store, &cid)).await?)
    }

    /// Retains and announces the roots of `gc_root` under `key`, until that is released.
    pub async fn retain(&self, key: Cid, gc_root: GcRoot) -> Result<(), Error> {
        let (roots, blobs) = (gc_root.roots(), gc_root.blobs.clone());
        // What a command adds is shared also where it is from a network that the node left.
        let added = if gc_root.is_kept { gc_root.all_roots() } else { Vec::new() };
        let share = move |write: &WriteTransaction| share_added_again(write, &added);
        self.index(move |index| index.retain_with(&key, &gc_root, share)).await?;
        self.announce_with(roots, blobs).await
    }

    /// Adds the roots of `gc_root` to those that `key` retains, and announces them.
    pub async fn retain_also(&self, key: Cid, gc_root: GcRoot) -> Result<(), Error> {
        let (roots, blobs) = (gc_root.roots(), gc_root.blobs.clone());
        self.index(move |index| index.retain_also(&key, gc_root)).await?;
        self.announce_with(roots, blobs).await
    }

    /// Returns the GC root of `key`.
    pub async fn gc_root(&self, key: &Cid) -> Result<Option<GcRoot>, Error> {
        let key = *key;
        self.index(move |index| index.gc_root(&key)).await
    }

    /// How many layers and images are retained.
    pub async fn retained_counts(&self) -> Result<RetainedCounts, Error> {
        self.index(Index::counts).await
    }

    /// The images that were imported, by the root that they are retained under.
    pub async fn imported_images(&self) -> Result<Vec<(Cid, Vec<ImportedImage>)>, Error> {
        self.index(Index::images).await
    }

    /// Forgets what is retained under `key`: every block that nothing else needs.
    pub async fn release(&self, key: &Cid) -> Result<bool, Error> {
        let key = *key;
        let Some(free) = self.index(move |index| index.release(&key)).await? else { return Ok(false) };
        self.withdraw_and_collect(free).await?;
        Ok(true)
    }

    /// The index is on the disk, so it is asked off the threads that serve.
    pub(super) async fn index<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let content = self.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&content.0.index));
        Ok(asked.await.map_err(Error::stopped)??)
    }
}
