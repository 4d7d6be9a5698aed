//! The way from a root and a path to a file, through plain and sharded directories: blocks from the store, else from peers.

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, BlockFetcher, Cid, inline_bytes, is_trusted_cid};
use ocipfs_unixfs::{DagNode, RAW, inlined};

use super::{PathWalk, StoredWalk, WalkEnd};
use crate::content::{CidPath, Content, Error, View};

/// A file's first block.
#[derive(Debug)]
pub struct ResolvedFile {
    pub cid: Cid,
    pub node: DagNode,
}

/// Gets the blocks on the way from a root to a file: from the store, else from peers.
pub struct DagFetcher {
    content: Content,
    root: Cid,
    /// The CID whose providers have the DAG.
    search_root: Cid,
    /// Begun with the first block that is not here.
    block_fetcher: Option<BlockFetcher>,
    /// Blocks fetched from peers, or carried by a CID.
    fetched: Vec<Block>,
    /// The last local block: it may be collected as soon as it is read.
    last: Option<Block>,
}

impl DagFetcher {
    /// Starts at the root of `at`.
    pub fn new(content: Content, at: &CidPath) -> Self {
        let (root, search_root) = (*at.root(), at.search_root());
        let mut fetcher =
            Self { content, root, search_root, block_fetcher: None, fetched: Vec::new(), last: None };
        at.inline_root().into_iter().for_each(|block| fetcher.add(block));
        fetcher
    }

    /// Finds the file that `at` names.
    pub async fn resolve_file(&mut self, at: &CidPath) -> Result<ResolvedFile, Error> {
        let (cid, node) = self.resolve(at).await?;
        match node {
            DagNode::File { .. } => Ok(ResolvedFile { cid, node }),
            other => Err(Error::NotAFile { at: at.clone(), kind: other.kind() }),
        }
    }

    /// Finds the file, directory or link that `at` names.
    pub async fn resolve(&mut self, at: &CidPath) -> Result<(Cid, DagNode), Error> {
        let mut walk = PathWalk::new(at.clone());
        loop {
            let end;
            (walk, end) = self.enter_local(walk).await?;
            let cid = walk.needed();
            if let Some(node) = end {
                return Ok((cid, node));
            }
            let node = if cid == self.root { self.want_root().await? } else { self.want(at, &cid).await? };
            if let Some(node) = walk.enter(node)? {
                return Ok((cid, node));
            }
        }
    }

    /// Continues a walk as far as its nodes are here. Gives the node that the path leads to, if that is reached.
    async fn enter_local(&mut self, mut walk: PathWalk) -> Result<(PathWalk, Option<DagNode>), Error> {
        let mut absent = None;
        loop {
            let cid = walk.needed();
            if let Some(data) = self.carried(&cid) {
                if let Some(node) = walk.enter(DagNode::decode(&cid, data)?)? {
                    return Ok((walk, Some(node)));
                }
                continue;
            }
            if absent == Some(cid) {
                return Ok((walk, None));
            }
            let (last, end);
            StoredWalk { walk, last, end } = self.content.continue_walk(walk).await?;
            self.last = last.or(self.last.take());
            match end {
                WalkEnd::Arrived(node) => return Ok((walk, Some(node))),
                WalkEnd::Absent => absent = Some(walk.needed()),
                WalkEnd::Paused => {}
            }
        }
    }

    /// Gets the root: from peers within the find time-out.
    pub async fn fetch_root(&mut self) -> Result<DagNode, Error> {
        let root = self.root;
        match self.local(&root).await? {
            Some(data) => Ok(DagNode::decode(&root, data)?),
            None => self.want_root().await,
        }
    }

    async fn want_root(&mut self) -> Result<DagNode, Error> {
        let root = self.root;
        if is_nothing(&root) {
            return self.keep(Block { cid: root, data: Bytes::new() });
        }
        if !is_trusted_cid(&root) {
            let why = format!("untrusted hash function 0x{:x}", root.hash().code());
            return Err(Error::Corrupt { cid: root, why });
        }
        View::current().ask_peers_for(&root)?;
        let patience = self.content.settings().find_timeout;
        let block = self.block_fetcher().fetch_root(patience).await?.block;
        self.keep(block)
    }

    /// Gets a block below the root: from peers within the stall time-out.
    pub async fn fetch_below(&mut self, at: &CidPath, cid: &Cid) -> Result<DagNode, Error> {
        match self.local(cid).await? {
            Some(data) => Ok(DagNode::decode(cid, data)?),
            None => self.want(at, cid).await,
        }
    }

    async fn want(&mut self, at: &CidPath, cid: &Cid) -> Result<DagNode, Error> {
        if is_nothing(cid) {
            return self.keep(Block { cid: *cid, data: Bytes::new() });
        }
        View::current().ask_peers_for(cid)?;
        if self.block_fetcher.is_none() {
            return self.fetch_first(cid).await;
        }
        let after = self.content.settings().stall_timeout;
        let fetched = async {
            let fetcher = self.block_fetcher();
            fetcher.want(vec![(*cid, 0)]);
            loop {
                let block = fetcher.next_block().await?.block;
                if block.cid.hash() == cid.hash() {
                    return Ok::<_, Error>(block);
                }
            }
        };
        let stalled = |_| Error::Stalled { at: at.clone(), after };
        let block = tokio::time::timeout(after, fetched).await.map_err(stalled)??;
        self.keep(Block { cid: *cid, ..block })
    }

    /// The first block that is not here: it is looked for as a root is, so that one that is nowhere is told from one that is
    /// late.
    async fn fetch_first(&mut self, cid: &Cid) -> Result<DagNode, Error> {
        let fetcher = block_fetcher(&self.content, self.search_root, *cid);
        let patience = self.content.settings().find_timeout;
        let block = self.block_fetcher.insert(fetcher).fetch_root(patience).await?.block;
        self.keep(Block { cid: *cid, ..block })
    }

    /// The bytes of a block that was found on the way.
    pub async fn block(&mut self, cid: &Cid) -> Result<Bytes, Error> {
        self.local(cid).await?.ok_or_else(|| ocipfs_node::FetchError::Offline(*cid).into())
    }

    /// Returns the blocks fetched from peers so far, for the caller to store, and the block fetcher, which
    /// continues with the blocks below.
    pub fn into_parts(self) -> (Vec<Block>, BlockFetcher) {
        let Self { content, root, search_root, block_fetcher, fetched, .. } = self;
        let new = || self::block_fetcher(&content, search_root, root);
        (fetched, block_fetcher.unwrap_or_else(new))
    }

    /// Takes the blocks fetched from peers so far, for the caller to store.
    pub fn take_fetched(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.fetched)
    }

    async fn local(&mut self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        if let Some(data) = self.carried(cid) {
            return Ok(Some(data));
        }
        let local = self.content.local(cid).await?;
        if let Some(data) = &local {
            self.last = Some(Block { cid: *cid, data: data.clone() });
        }
        Ok(local)
    }

    /// A block that its CID carries, or that was found on the way.
    fn carried(&self, cid: &Cid) -> Option<Bytes> {
        if let Some(bytes) = inline_bytes(cid) {
            return Some(Bytes::copy_from_slice(bytes));
        }
        let mut found = self.fetched.iter().chain(&self.last);
        found.find(|block| block.cid == *cid).map(|block| block.data.clone())
    }

    fn block_fetcher(&mut self) -> &mut BlockFetcher {
        let Self { content, root, search_root, block_fetcher, .. } = self;
        block_fetcher.get_or_insert_with(|| self::block_fetcher(content, *search_root, *root))
    }

    fn keep(&mut self, block: Block) -> Result<DagNode, Error> {
        let node = DagNode::decode(&block.cid, block.data.clone())?;
        self.add(block);
        Ok(node)
    }

    /// Adds a block to those that were fetched, with the blocks that its links carry.
    fn add(&mut self, block: Block) {
        self.fetched.extend(inlined(&block.cid, &block.data));
        self.fetched.push(block);
    }
}

/// Fetches a DAG that the providers of `search_root` have.
pub(super) fn block_fetcher(content: &Content, search_root: Cid, root: Cid) -> BlockFetcher {
    content.node().block_fetcher_below(search_root, root).with_stall_timeout(content.settings().stall_timeout)
}

/// Whether this is the leaf of an empty file. boxo says that it has one, and never sends it.
fn is_nothing(cid: &Cid) -> bool {
    cid.codec() == RAW && *cid.hash() == Code::Sha2_256.digest(b"")
}
