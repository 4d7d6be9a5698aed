//! Whole DAGs block by block, single blocks, and the entries of directories.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use ocipfs_node::{Block, Cid, FetchError};
use ocipfs_unixfs::{Child, DagNode, Fields, Link, symlink_target};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{CidPath, Content, Error, Store, StoreError, View, fetch::DagFetcher};

/// Blocks that wait to be read on.
const QUEUE_LENGTH: usize = 2;
/// Blocks of one DAG.
const MAX_BLOCKS: usize = 1 << 21;
/// Entries of one directory.
const MAX_ENTRIES: usize = 1 << 20;
/// Shards below each other: more than 64 bits of hash can lead to.
const MAX_SHARD_DEPTH: usize = 32;

/// A block of a DAG, and its links.
#[derive(Clone, Debug)]
pub struct DagBlock {
    /// The block.
    pub block: Block,
    /// Its links, in their order.
    pub links: Vec<Link>,
    /// How many blocks are above it on the way that led to it.
    pub depth: usize,
}

/// What of a DAG is read.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How many levels below the root.
    pub max_depth: usize,
    /// Whether blocks that are not here are left out; otherwise they are an error.
    pub skips_missing: bool,
}

impl Default for Extent {
    fn default() -> Self {
        Self { max_depth: usize::MAX, skips_missing: false }
    }
}

impl Content {
    /// Reads the blocks of DAGs that are here: each once, a parent before its children, in the order of the links.
    pub fn stored_dag(&self, roots: Vec<Cid>, extent: Extent) -> Receiver<Result<DagBlock, Error>> {
        let (sender, blocks) = channel(QUEUE_LENGTH);
        let (store, view) = (self.store().clone(), View::current());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = view.enter(|| walk(&store, roots, extent, &sender)) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        blocks
    }

    /// Fails if a block of a DAG is not here, and the task reads only what is here.
    pub async fn check_stored(&self, root: Cid) -> Result<(), Error> {
        self.check_each_stored(root, |_, _| Ok(())).await
    }

    /// Does the same for a file that is not stored as one: its download asks peers for blocks that it may not take over.
    pub(super) async fn may_download(&self, root: Cid) -> Result<(), Error> {
        let share = self.settings().share;
        let check = move |store: &Store, cid: Cid| match share.missing(store, vec![cid])?.is_empty() {
            true => Ok(()),
            false => Err(FetchError::Offline(cid).into()),
        };
        self.check_each_stored(root, check).await
    }

    async fn check_each_stored(
        &self,
        root: Cid,
        check: impl Fn(&Store, Cid) -> Result<(), Error> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        if !View::current().is_local() {
            return Ok(());
        }
        let mut blocks = self.stored_dag(vec![root], Extent::default());
        while let Some(next) = blocks.recv().await {
            let (cid, check, store) = (next?.block.cid, check.clone(), self.store().clone());
            let checked = tokio::task::spawn_blocking(move || check(&store, cid));
            checked.await.map_err(Error::stopped)??;
        }
        Ok(())
    }

    /// Returns a block that is here, or that a peer sends within the find time-out; then it is kept.
    pub async fn block(&self, cid: Cid) -> Result<Bytes, Error> {
        if let Some(data) = self.local(&cid).await? {
            return Ok(data);
        }
        View::current().ask_peers_for(&cid)?;
        let fetched = self.node().block_fetcher(cid).fetch_root(self.find_timeout()).await?;
        let data = fetched.block.data;
        self.put_fetched(vec![Block { cid, data: data.clone() }]).await?;
        Ok(data)
    }

    /// Keeps blocks that belong to no file, whose bytes the caller has verified. The background collection spares them for an
    /// hour: their client may pin them later.
    pub async fn put_blocks(&self, blocks: Vec<Block>) -> Result<(), Error> {
        self.0.gc.spare_blocks(blocks.iter().map(|block| &block.cid));
        self.put_fetched(blocks).await
    }

    /// Removes a block, or the file with this root, unless something keeps it. Returns false if it is not here.
    pub async fn remove_block(&self, cid: Cid) -> Result<bool, Error> {
        let (gc, store) = (self.0.gc.clone(), self.store().clone());
        let removed = tokio::task::spawn_blocking(move || gc.remove_block(&store, cid));
        removed.await.map_err(Error::stopped)?
    }

    /// Returns the length of a block that is here.
    pub async fn block_size(&self, cid: Cid) -> Result<Option<u64>, Error> {
        let size = move |store: &Store| if store.is_visible(&cid)? { store.size(&cid) } else { Ok(None) };
        Ok(self.store().run(size).await?)
    }

    /// Returns the entries of a directory, sorted by name.
    pub async fn directory_entries(&self, at: &CidPath) -> Result<Vec<(String, Cid)>, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetcher.resolve(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        let (mut entries, mut level) = (BTreeMap::new(), Vec::new());
        match node {
            DagNode::Directory(links) => entries.extend(links),
            shard @ DagNode::Shard { .. } => level = take_shard(shard, &mut entries),
            other => return Err(Error::NotADirectory { at: at.clone(), kind: other.kind() }),
        }
        let mut nodes = self.nodes(at.search_root());
        for _ in 0..MAX_SHARD_DEPTH {
            if level.is_empty() {
                return Ok(entries.into_iter().collect());
            }
            let mut next = Vec::new();
            nodes.each(&level, |_, node| next.extend(take_shard(node, &mut entries))).await?;
            if let Some(error) = nodes.failure() {
                return Err(error.clone());
            }
            if entries.len() + next.len() > MAX_ENTRIES {
                return Err(Error::TooLarge {
                    at: at.clone(),
                    size: entries.len() as u64,
                    limit: MAX_ENTRIES as u64,
                });
            }
            level = next;
        }
        Err(Error::Corrupt { cid, why: "shards below each other without an end".into() })
    }

    /// Returns the parts of a file that its root block links to.
    pub async fn file_children(&self, at: &CidPath) -> Result<Vec<Child>, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetcher.resolve_file(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        match file.node {
            DagNode::File { children, .. } => Ok(children),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the target of a symbolic link.
    pub async fn link_target(&self, at: &CidPath) -> Result<String, Error> {
        let entry = self.entry(at).await?.root.cid;
        let target = symlink_target(&entry, self.block(entry).await?)?;
        Ok(String::from_utf8_lossy(&target.unwrap_or_default()).into_owned())
    }
}

/// Takes the entries of a shard, and returns the shards below it.
fn take_shard(node: DagNode, entries: &mut BTreeMap<String, Cid>) -> Vec<Cid> {
    let DagNode::Shard { width, links, .. } = node else { return Vec::new() };
    let mut deeper = Vec::new();
    for (name, cid) in links {
        match name.get(width..) {
            Some(name) if !name.is_empty() => drop(entries.insert(name.into(), cid)),
            _ => deeper.push(cid),
        }
    }
    deeper
}

fn walk(
    store: &Store,
    roots: Vec<Cid>,
    extent: Extent,
    to: &Sender<Result<DagBlock, Error>>,
) -> Result<(), Error> {
    let mut waiting: Vec<(Cid, usize)> = roots.into_iter().rev().map(|root| (root, 0)).collect();
    let mut seen = HashSet::new();
    while let Some((cid, depth)) = waiting.pop() {
        if !seen.insert(Cid::new_v1(cid.codec(), *cid.hash())) {
            continue;
        }
        if seen.len() > MAX_BLOCKS {
            return Err(Error::TooLarge {
                at: cid.into(),
                size: seen.len() as u64,
                limit: MAX_BLOCKS as u64,
            });
        }
        let visible =
            |store: &Store| if store.is_visible(&cid)? { store.get_verified(&cid) } else { Ok(None) };
        let data = match visible(store) {
            Ok(Some(data)) => data,
            Ok(None) if extent.skips_missing => continue,
            Ok(None) => return Err(FetchError::Offline(cid).into()),
            Err(error) => return Err(StoreError::into(error)),
        };
        let links = Fields::decode(&cid, data.clone())?.links;
        if depth < extent.max_depth {
            waiting.extend(links.iter().rev().map(|link| (link.cid, depth + 1)));
        }
        if to.blocking_send(Ok(DagBlock { block: Block { cid, data }, links, depth })).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
