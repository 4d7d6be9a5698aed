//! Retaining and releasing content, and announcing what is retained.

use ocipfs_node::Cid;

use super::{
    Content, Error, GcRoot, HeldCounts, Named, StoreError,
    store::index::{self, Index},
};

impl Content {
    /// Whether anybody keeps a root.
    pub async fn is_held(&self, root: &Cid) -> Result<bool, Error> {
        let root = *root;
        Ok(self.0.store.run(move |store| store.database().read(|read| index::is_held(read, &root))).await?)
    }

    /// Announces those of these roots that peers may know of.
    pub async fn announce(&self, roots: Vec<Cid>) -> Result<(), Error> {
        let share = self.settings().share;
        let shown = self.0.store.run(move |store| share.shown(store, roots)).await?;
        self.0.node.announce(shown);
        Ok(())
    }

    /// Retains and announces the roots of `reference` until `key` is released.
    pub async fn retain(&self, key: Cid, reference: GcRoot) -> Result<(), Error> {
        let roots = reference.roots();
        self.index(move |index| index.retain(&key, &reference)).await?;
        self.announce(roots).await
    }

    /// Adds the roots of `reference` to those that `key` retains, and announces them.
    pub async fn retain_also(&self, key: Cid, reference: GcRoot) -> Result<(), Error> {
        let roots = reference.roots();
        self.index(move |index| index.retain_also(&key, reference)).await?;
        self.announce(roots).await
    }

    /// Returns the GC root of `key`.
    pub async fn held(&self, key: &Cid) -> Result<Option<GcRoot>, Error> {
        let key = *key;
        self.index(move |index| index.reference(&key)).await
    }

    /// How many layers and images are held.
    pub async fn held_counts(&self) -> Result<HeldCounts, Error> {
        self.index(Index::counts).await
    }

    /// The images that were imported, by the root that they are held under.
    pub async fn held_images(&self) -> Result<Vec<(Cid, Vec<Named>)>, Error> {
        self.index(Index::images).await
    }

    /// Forgets what is held under `key`: every block that nothing else held needs.
    pub async fn release(&self, key: &Cid) -> Result<bool, Error> {
        let key = *key;
        let Some(free) = self.index(move |index| index.release(&key)).await? else { return Ok(false) };
        self.remove_free(free).await?;
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
