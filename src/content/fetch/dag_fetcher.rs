use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, BlockFetcher, Cid, inline_bytes, is_trusted_cid};
use ocipfs_unixfs::{DagNode, RAW, inlined};

use crate::content::{CidPath, Content, Error};

/// Gets the blocks on the way from a root to a file: from the store, else from peers.
pub struct DagFetcher {
    content: Content,
    root: Cid,
    /// The CID whose providers have the DAG.
    announced: Cid,
    /// Begun with the first block that is not here.
    session: Option<BlockFetcher>,
    /// Blocks fetched from peers, or carried by a CID.
    fetched: Vec<Block>,
    /// The last local block: it may be collected as soon as it is read.
    last: Option<Block>,
}

impl DagFetcher {
    /// Starts at the root of `at`.
    pub fn new(content: Content, at: &CidPath) -> Self {
        let (root, announced) = (*at.root(), at.announced());
        let mut fetcher = Self { content, root, announced, session: None, fetched: Vec::new(), last: None };
        at.inline_root().into_iter().for_each(|block| fetcher.add(block));
        fetcher
    }

    /// The root: looked for until the find time-out.
    pub async fn root(&mut self) -> Result<DagNode, Error> {
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
        let block = self.session().root(patience).await?.block;
        self.keep(block)
    }

    /// A block below the root, on the way to a file: it must come within the stall time-out.
    pub async fn inner(&mut self, at: &CidPath, cid: &Cid) -> Result<DagNode, Error> {
        if let Some(data) = self.local(cid).await? {
            return Ok(DagNode::decode(cid, data)?);
        }
        if is_nothing(cid) {
            return self.keep(Block { cid: *cid, data: Bytes::new() });
        }
        if self.session.is_none() {
            return self.first(cid).await;
        }
        let after = self.content.settings().stall_timeout;
        let fetched = async {
            let session = self.session();
            session.want(vec![(*cid, 0)]);
            loop {
                let block = session.next().await?.block;
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
    async fn first(&mut self, cid: &Cid) -> Result<DagNode, Error> {
        let session = begin(&self.content, self.announced, *cid);
        let patience = self.content.settings().find_timeout;
        let block = self.session.insert(session).root(patience).await?.block;
        self.keep(Block { cid: *cid, ..block })
    }

    /// The bytes of a block that was found on the way.
    pub async fn block(&mut self, cid: &Cid) -> Result<Bytes, Error> {
        self.local(cid).await?.ok_or_else(|| ocipfs_node::FetchError::Offline(*cid).into())
    }

    /// Returns the blocks fetched from peers so far, for the caller to store, and the session, which
    /// continues with the blocks below.
    pub fn into_parts(self) -> (Vec<Block>, BlockFetcher) {
        let Self { content, root, announced, session, fetched, .. } = self;
        (fetched, session.unwrap_or_else(|| begin(&content, announced, root)))
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

    fn session(&mut self) -> &mut BlockFetcher {
        let Self { content, root, announced, session, .. } = self;
        session.get_or_insert_with(|| begin(content, *announced, *root))
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

/// Begins to fetch a DAG that the providers of `announced` have.
pub(super) fn begin(content: &Content, announced: Cid, root: Cid) -> BlockFetcher {
    content.node().session_below(announced, root).with_stall_timeout(content.settings().stall_timeout)
}

/// Whether this is the leaf of an empty file. boxo says that it has one, and never sends it.
fn is_nothing(cid: &Cid) -> bool {
    cid.codec() == RAW && *cid.hash() == Code::Sha2_256.digest(b"")
}
