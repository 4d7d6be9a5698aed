//! The way from a root and a path to a file, through plain and sharded directories: blocks from the store, else from peers.

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, BlockFetcher, Cid, inline_bytes, is_trusted_cid};
use ocipfs_unixfs::{
    DagNode, RAW,
    hamt::{self, Bits, Slot},
    inlined,
};

use crate::content::{CidPath, Content, Error};

/// Deeper than 64 bits of hash can lead.
const MAX_SHARD_DEPTH: usize = 32;

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
        let mut cid = *at.root();
        let mut node = self.fetch_root().await?;
        for name in at.names() {
            cid = match &node {
                DagNode::Directory(links) => links
                    .iter()
                    .find(|(link, _)| link == name)
                    .map(|(_, cid)| *cid)
                    .ok_or_else(|| no_entry(at, name))?,
                DagNode::Shard { .. } => self.find_in_shard(at, &node, name).await?,
                _ => return Err(no_entry(at, name)),
            };
            node = self.fetch_below(at, &cid).await?;
        }
        Ok((cid, node))
    }

    async fn find_in_shard(&mut self, at: &CidPath, shard: &DagNode, name: &str) -> Result<Cid, Error> {
        let mut bits = Bits::of(name);
        let mut deeper;
        let mut shard = shard;
        for _ in 0..MAX_SHARD_DEPTH {
            let DagNode::Shard { fanout_bits, width, links } = shard else { break };
            match hamt::find(&mut bits, name, *width, *fanout_bits, links) {
                Slot::Entry(cid) => return Ok(*cid),
                Slot::Deeper(cid) => deeper = self.fetch_below(at, cid).await?,
                Slot::Empty => break,
            }
            shard = &deeper;
        }
        Err(no_entry(at, name))
    }

    /// Gets the root: from peers within the find time-out.
    pub async fn fetch_root(&mut self) -> Result<DagNode, Error> {
        let root = self.root;
        if let Some(data) = self.local(&root).await? {
            return Ok(DagNode::decode(&root, data)?);
        }
        if is_nothing(&root) {
            return self.keep(Block { cid: root, data: Bytes::new() });
        }
        if !is_trusted_cid(&root) {
            let why = format!("untrusted hash function 0x{:x}", root.hash().code());
            return Err(Error::Corrupt { cid: root, why });
        }
        let patience = self.content.settings().find_timeout;
        let block = self.block_fetcher().fetch_root(patience).await?.block;
        self.keep(block)
    }

    /// Gets a block below the root: from peers within the stall time-out.
    pub async fn fetch_below(&mut self, at: &CidPath, cid: &Cid) -> Result<DagNode, Error> {
        if let Some(data) = self.local(cid).await? {
            return Ok(DagNode::decode(cid, data)?);
        }
        if is_nothing(cid) {
            return self.keep(Block { cid: *cid, data: Bytes::new() });
        }
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
        if let Some(bytes) = inline_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        if let Some(block) = self.fetched.iter().chain(&self.last).find(|block| block.cid == *cid) {
            return Ok(Some(block.data.clone()));
        }
        let local = self.content.local(cid).await?;
        if let Some(data) = &local {
            self.last = Some(Block { cid: *cid, data: data.clone() });
        }
        Ok(local)
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

fn no_entry(at: &CidPath, name: &str) -> Error {
    Error::NoEntry { at: at.clone(), entry: name.into() }
}
