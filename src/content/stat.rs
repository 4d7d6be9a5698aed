//! What a path leads to, without its bytes.

use ocipfs_node::Cid;
use ocipfs_unixfs::{DagNode, Metadata, metadata};

use super::{
    CidPath, Content, Error, Root,
    fetch::{self, DagFetcher},
};

/// A file's size and its own CID, whatever path led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file's root block.
    pub cid: Cid,
    /// Its length in bytes.
    pub size: u64,
}

/// Content that a CID, or a path below one, leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(Stat),
    /// A directory, and names in it: of a sharded one not all.
    Directory(Vec<String>),
    /// A symbolic link, which nothing here follows.
    Link,
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, or a part of one.
    File,
    /// A directory, plain or sharded.
    Directory,
    /// A symbolic link.
    Link,
}

/// What a path leads to, with its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DagEntry {
    /// Its root block, its bytes if it is a file, and the bytes of all its blocks.
    pub root: Root,
    /// What it is.
    pub kind: EntryKind,
    /// The links of its root block.
    pub links: usize,
    /// Its mode and its time, as far as they are stored.
    pub metadata: Metadata,
}

impl Content {
    /// Finds out what a path leads to, and its sizes.
    pub async fn entry(&self, at: &CidPath) -> Result<DagEntry, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetcher.resolve(at).await?;
        let block = fetcher.block(&cid).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        let metadata = metadata(&cid, block.clone())?;
        let root = Root::of(cid, block)?;
        let (kind, links) = match &node {
            DagNode::File { children, .. } => (EntryKind::File, children.len()),
            DagNode::Directory(links) | DagNode::Shard { links, .. } => (EntryKind::Directory, links.len()),
            DagNode::Symlink => (EntryKind::Link, 0),
        };
        Ok(DagEntry { root, kind, links, metadata })
    }

    /// Finds a file and its size; its bytes stay where they are.
    pub async fn stat(&self, at: &CidPath) -> Result<Stat, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetcher.resolve_file(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        Ok(Stat { cid: file.cid, size: file.node.size() })
    }

    /// Finds out what is there, be it a file or not.
    pub async fn look(&self, at: &CidPath) -> Result<Found, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetcher.resolve(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        Ok(match node {
            DagNode::File { .. } => Found::File(Stat { cid, size: node.size() }),
            DagNode::Directory(_) | DagNode::Shard { .. } => Found::Directory(node.entries()),
            DagNode::Symlink => Found::Link,
        })
    }

    /// Gives `take` the chunks of a file of at most `limit` bytes that its earlier version `before` does not have. False
    /// where one is too long to be one of many, or `take` refuses it.
    pub async fn new_chunks(
        &self,
        at: &CidPath,
        before: &Cid,
        limit: u64,
        take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Error> {
        let Stat { cid, size } = self.stat(at).await?;
        if size > limit {
            return Err(Error::TooLarge { at: at.clone(), size, limit });
        }
        fetch::new_chunks(&mut self.nodes(at.search_root()), cid, *before, limit, take).await
    }

    /// The CID of a directory.
    pub async fn directory(&self, at: &CidPath) -> Result<Cid, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetcher.resolve(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        match node {
            DagNode::Directory(_) | DagNode::Shard { .. } => Ok(cid),
            _ => Err(Error::NoEntry { at: at.clone(), entry: at.file_name().unwrap_or_default().into() }),
        }
    }
}
