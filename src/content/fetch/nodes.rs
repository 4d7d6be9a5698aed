//! Nodes of a tree, a level at a time: a level costs one round trip, however many nodes it has.

use std::collections::HashMap;

use bytes::Bytes;
use ocipfs_node::{Block, BlockFetcher, Cid, FetchedBlock};
use ocipfs_unixfs::DagNode;
use tokio::sync::OwnedSemaphorePermit;

use super::dag_fetcher::block_fetcher;
use crate::content::{Content, Error, Store, View, unstored::Unstored};

/// Blocks that are asked for at once; so many are in memory before they are decoded.
const BATCH_SIZE: usize = 64;

/// Reads nodes from the store, else from peers. What comes from peers is kept at once, so a walk that is cut short goes on
/// where it was.
pub struct Nodes {
    content: Content,
    /// The CID whose providers have the tree.
    search_root: Cid,
    /// Begun with the first block that is not here.
    fetcher: Option<BlockFetcher>,
    /// Why peers are not asked any more.
    failed: Option<Error>,
}

impl Nodes {
    /// Reads nodes of the tree that the providers of `search_root` have.
    pub fn new(content: Content, search_root: Cid) -> Self {
        Self { content, search_root, fetcher: None, failed: None }
    }

    /// Why a block could not be had, if one could not.
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Takes memory to read several parts of a document ahead, where there is some.
    pub fn memory_for_window(&self) -> Option<OwnedSemaphorePermit> {
        self.content.memory_for_window()
    }

    /// Gives `take` each node that is here or comes from peers. A node that cannot be had is left out; then
    /// [`Self::failure`] says why.
    pub async fn each(&mut self, cids: &[Cid], mut take: impl FnMut(Cid, DagNode)) -> Result<(), Error> {
        for some in cids.chunks(BATCH_SIZE) {
            let mut missing = Vec::new();
            for (cid, data) in self.local(some).await? {
                match data {
                    Some(data) => take(cid, DagNode::decode(&cid, data)?),
                    None => missing.push(cid),
                }
            }
            for Block { cid, data } in self.fetch(missing).await? {
                take(cid, DagNode::decode(&cid, data)?);
            }
        }
        Ok(())
    }

    /// Reads the nodes that are stored; peers are not asked for the others.
    pub async fn each_local(&self, cids: &[Cid], mut take: impl FnMut(Cid, DagNode)) -> Result<(), Error> {
        for some in cids.chunks(BATCH_SIZE) {
            for (cid, data) in self.local(some).await? {
                if let Some(node) = data.and_then(|data| DagNode::decode(&cid, data).ok()) {
                    take(cid, node);
                }
            }
        }
        Ok(())
    }

    /// Returns how many of the first nodes are here; none of them is read.
    pub async fn count_here(&self, cids: &[Cid]) -> Result<usize, Error> {
        let cids = cids.to_vec();
        let count = move |store: &Store| {
            for (count, cid) in cids.iter().enumerate() {
                if !store.is_visible(cid)? || store.size(cid)?.is_none() {
                    return Ok(count);
                }
            }
            Ok(cids.len())
        };
        Ok(self.content.store().run(count).await?)
    }

    async fn local(&self, cids: &[Cid]) -> Result<Vec<(Cid, Option<Bytes>)>, Error> {
        let cids = cids.to_vec();
        let get = move |store: &Store| {
            let get = |cid: Cid| {
                store.guard_cid(&cid);
                let data = if store.is_visible(&cid)? { store.get_verified(&cid)? } else { None };
                Ok((cid, data))
            };
            cids.into_iter().map(get).collect()
        };
        Ok(self.content.store().run(get).await?)
    }

    /// Asks peers for blocks, all at once, and keeps what comes.
    async fn fetch(&mut self, cids: Vec<Cid>) -> Result<Vec<Block>, Error> {
        let mut waiting: HashMap<Vec<u8>, Cid> =
            cids.iter().map(|cid| (cid.hash().to_bytes(), *cid)).collect();
        let Some(first) = cids.first().filter(|_| self.failed.is_none()) else { return Ok(Vec::new()) };
        if let Err(absent) = View::current().ask_peers_for(first) {
            self.failed = Some(absent.into());
            return Ok(Vec::new());
        }
        let (content, search_root) = (&self.content, self.search_root);
        let is_new = self.fetcher.is_none();
        let fetcher = self.fetcher.get_or_insert_with(|| block_fetcher(content, search_root, *first));
        fetcher.want(cids.iter().map(|cid| (*cid, 0)).collect());
        let mut received = Vec::new();
        while !waiting.is_empty() {
            let next = next(content, fetcher, search_root, is_new && received.is_empty());
            match next.await {
                Ok(FetchedBlock { block, .. }) => {
                    if let Some(cid) = waiting.remove(&block.cid.hash().to_bytes()) {
                        received.push(Block { cid, ..block });
                    }
                }
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        keep(content, received.clone()).await?;
        Ok(received)
    }
}

/// Keeps blocks that came, if there is room: without it they can be read all the same.
async fn keep(content: &Content, blocks: Vec<Block>) -> Result<(), Error> {
    match content.put_fetched(blocks).await {
        Err(error @ (Error::Quota { .. } | Error::Full)) => {
            tracing::debug!("cannot store fetched nodes: {error}");
            Unstored::current().note(&error);
            Ok(())
        }
        kept => kept,
    }
}

/// The next block. The first one of a fetcher must come within the find time-out, as a root does.
async fn next(
    content: &Content,
    fetcher: &mut BlockFetcher,
    at: Cid,
    is_first: bool,
) -> Result<FetchedBlock, Error> {
    if is_first {
        return Ok(fetcher.fetch_root(content.find_timeout()).await?);
    }
    let after = content.stall_timeout();
    let stalled = |_| Error::Stalled { at: at.into(), after };
    Ok(tokio::time::timeout(after, fetcher.next_block()).await.map_err(stalled)??)
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_node::Node;

    use super::*;
    use crate::content::Settings;

    #[tokio::test]
    async fn fetched_nodes_are_read_even_if_the_quota_is_exceeded() {
        let dir = tempfile::tempdir().unwrap();
        let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
        let settings = Settings { max_size: Some(1), ..Settings::default() };
        let content = Content::new(store, node, settings).unwrap();
        let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(b"node"));
        let block = Block { cid, data: Bytes::from_static(b"node") };
        assert!(matches!(content.put_fetched(vec![block.clone()]).await, Err(Error::Quota { limit: 1 })));
        let (kept, unstored) = content.fetch_to_keep(keep(&content, vec![block.clone()])).await;
        kept.unwrap();
        assert!(matches!(unstored, Some(Error::Quota { limit: 1 })), "{unstored:?}");
        let (_, unstored) = content.fetch_to_keep(content.keep_blocks(vec![block])).await;
        assert!(matches!(unstored, Some(Error::Quota { limit: 1 })), "{unstored:?}");
        assert!(content.fetch_to_keep(async {}).await.1.is_none());
    }
}
