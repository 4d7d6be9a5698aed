//! Blocks that belong to no file yet: read from the store, and kept as they arrive.

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_unixfs::DagNode;

use super::{
    Content, Document, Error, Nodes, Root, Store, StoreError, View,
    fetch::{PathWalk, StoredWalk, WalkEnd},
    locked,
    unstored::Unstored,
};

/// Blocks that one visit of the store reads at most: a request that is cancelled goes on until then.
const MAX_VISIT_BLOCKS: usize = 32;

impl Content {
    /// A block that is here, or about to be.
    pub(super) async fn local(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        if let Some(data) = locked(&self.0.fresh).get(cid) {
            return Ok(Some(data.clone()));
        }
        let (content, cid) = (self.clone(), *cid);
        Ok(self.0.store.run(move |store| content.local_blocking(store, &cid)).await?)
    }

    /// Does the same as [`Self::local`] on a blocking thread.
    fn local_blocking(&self, store: &Store, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if let Some(data) = locked(&self.0.fresh).get(cid) {
            return Ok(Some(data.clone()));
        }
        store.guard_cid(cid);
        if store.is_visible(cid)? { store.get_verified(cid) } else { Ok(None) }
    }

    /// Continues a walk with the blocks that are here, in one visit of the store.
    pub(super) async fn continue_walk(&self, mut walk: PathWalk) -> Result<StoredWalk, Error> {
        let content = self.clone();
        let enter = move |store: &Store| {
            let mut last = None;
            for _ in 0..MAX_VISIT_BLOCKS {
                let cid = walk.needed();
                let Some(data) = content.local_blocking(store, &cid)? else {
                    return Ok(Ok(StoredWalk { walk, last, end: WalkEnd::Absent }));
                };
                last = Some(Block { cid, data: data.clone() });
                let entered = DagNode::decode(&cid, data).map_err(Error::from);
                match entered.and_then(|node| walk.enter(node)) {
                    Ok(None) => {}
                    Ok(Some(node)) => return Ok(Ok(StoredWalk { walk, last, end: WalkEnd::Arrived(node) })),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(StoredWalk { walk, last, end: WalkEnd::Paused }))
        };
        self.0.store.run(enter).await?
    }

    /// Stores blocks that came on the way to a file, in parallel with the rest of the work.
    pub(super) async fn keep_blocks(&self, blocks: Vec<Block>) {
        if blocks.is_empty() {
            return;
        }
        // Who counts on blocks holds this only until those before are in the store.
        let keeping = self.0.keeping.clone().read_owned().await;
        let content = self.clone();
        let unstored = Unstored::current();
        locked(&content.0.fresh).extend(blocks.iter().map(|block| (block.cid, block.data.clone())));
        tokio::task::spawn_blocking(move || {
            match content.0.store.put_blocks(&blocks) {
                Ok(()) => content.0.gc.content_added(&content.0.store),
                Err(error) => {
                    tracing::warn!("cannot store fetched blocks: {error}");
                    unstored.note(&error.into());
                }
            }
            let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
            let mut fresh = locked(&content.0.fresh);
            cids.iter().for_each(|cid| drop(fresh.remove(cid)));
            drop((fresh, keeping));
            content.0.node.arrived(&cids);
        });
    }

    /// Reads nodes of the tree that the providers of `search_root` have.
    pub fn nodes(&self, search_root: Cid) -> Nodes {
        Nodes::new(self.clone(), search_root)
    }

    /// Keeps blocks that came from peers, and serves them from now on.
    pub(super) async fn put_fetched(&self, blocks: Vec<Block>) -> Result<(), Error> {
        if blocks.is_empty() {
            return Ok(());
        }
        let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
        let gc = self.0.gc.clone();
        let put = move |store: &Store| {
            store.put_blocks(&blocks)?;
            gc.content_added(store);
            Ok(())
        };
        self.0.store.run(put).await?;
        self.0.node.arrived(&cids);
        Ok(())
    }

    /// Waits until the blocks that came so far are in the store.
    pub async fn wait_for_blocks(&self) {
        drop(self.0.keeping.write().await);
    }

    /// The top of a DAG that is here, as directories name it.
    pub async fn root_of(&self, cid: &Cid) -> Result<Root, Error> {
        let block = self.local(cid).await?.ok_or(ocipfs_node::FetchError::Offline(*cid))?;
        Ok(Root::of(*cid, block)?)
    }

    /// Whether a block is here.
    pub async fn is_here(&self, cid: &Cid) -> Result<bool, Error> {
        Ok(self.block_size(*cid).await?.is_some())
    }

    /// Whether the viewer of the task may read a block and the file below it, be they here or not.
    pub async fn may_be_read(&self, cid: Cid) -> Result<bool, Error> {
        if View::current().sees_all() {
            return Ok(true);
        }
        let may = move |store: &Store| Ok(store.is_visible(&cid)? && store.is_visible_file(&cid)?);
        Ok(self.0.store.run(may).await?)
    }

    /// Keeps the blocks of a document.
    pub async fn put_document(&self, document: Document) -> Result<(), Error> {
        let cids: Vec<Cid> = document.blocks.iter().map(|block| block.cid).collect();
        self.0.store.run(move |store| store.put_blocks(&document.blocks)).await?;
        self.0.node.arrived(&cids);
        Ok(())
    }
}
