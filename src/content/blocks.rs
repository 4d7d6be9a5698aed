//! Blocks that belong to no file yet: read from the store, and kept as they arrive.

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_unixfs::DagNode;

use super::{
    Content, Document, Error, Nodes, Root, Store, StoreError, View, fetch::PathWalk, locked,
    unstored::Unstored,
};

impl Content {
    /// A block that is here, or about to be.
    pub(super) async fn local(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        if let Some(data) = locked(&self.0.fresh).get(cid) {
            return Ok(Some(data.clone()));
        }
        let (content, cid) = (self.clone(), *cid);
        Ok(self.0.store.run(move |store| content.get(store, &cid)).await?)
    }

    /// The same on a thread that may wait for the disk.
    fn get(&self, store: &Store, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        if let Some(data) = locked(&self.0.fresh).get(cid) {
            return Ok(Some(data.clone()));
        }
        store.guard_cid(cid);
        if store.is_visible(cid)? { store.get_verified(cid) } else { Ok(None) }
    }

    /// Goes on along a path as far as its blocks are here, in one visit of the store. Gives the last block, too, and the node
    /// that the path leads to, if that is reached.
    pub(super) async fn enter_stored(
        &self,
        mut walk: PathWalk,
    ) -> Result<(PathWalk, Option<Block>, Option<DagNode>), Error> {
        let content = self.clone();
        let enter = move |store: &Store| {
            let mut last = None;
            loop {
                let cid = walk.needed();
                let Some(data) = content.get(store, &cid)? else { return Ok(Ok((walk, last, None))) };
                last = Some(Block { cid, data: data.clone() });
                let entered =
                    DagNode::decode(&cid, data).map_err(Error::from).and_then(|node| walk.enter(node));
                match entered {
                    Ok(None) => {}
                    Ok(end) => return Ok(Ok((walk, last, end))),
                    Err(error) => return Ok(Err(error)),
                }
            }
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
