//! The nodes of a tree of directories that lead to some of what is in it.

use std::{cell::RefCell, collections::HashSet};

use bytes::Bytes;
use ocipfs_node::{Block, Cid, FetchError, inline_bytes};
use ocipfs_unixfs::{entry_names, links, lookup};

use super::{Content, Error, GcRoot, Store};

/// Nodes of one tree.
const MAX_NODES: usize = 100_000;

/// What is read of a tree.
#[derive(Clone, Debug, Default)]
pub struct TreePaths {
    /// Directories whose entries are listed.
    pub directories: Vec<String>,
    /// Files that are read.
    pub files: Vec<String>,
}

impl Content {
    /// Returns the stored nodes of a tree that are read to list directories and to read files, a parent before its children.
    /// Paths that lead nowhere, and nodes that are not here, are left out.
    pub async fn tree_nodes(&self, root: Cid, paths: TreePaths) -> Result<Vec<Cid>, Error> {
        let walk = move |store: &Store| Ok(Walk::new(store).read(root, &paths));
        self.store().run(walk).await?
    }

    /// Keeps nodes of a tree, which the caller has verified, as cached content under its root.
    pub async fn keep_tree(&self, root: Cid, nodes: &[Cid]) -> Result<(), Error> {
        if !self.is_here(&root).await? {
            return Ok(());
        }
        self.retain_also(root, GcRoot::new(false, &[root], Vec::new()).of_images(nodes, Vec::new())).await
    }

    /// Returns a block of a tree that is stored.
    pub async fn stored_node(&self, cid: Cid) -> Result<Block, Error> {
        let data = self.store().run(move |store| store.get_verified(&cid)).await?;
        Ok(Block { cid, data: data.ok_or(FetchError::Offline(cid))? })
    }
}

struct Walk<'a> {
    store: &'a Store,
    order: RefCell<Vec<Cid>>,
    seen: RefCell<HashSet<Cid>>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, order: RefCell::default(), seen: RefCell::default() }
    }

    fn read(self, root: Cid, paths: &TreePaths) -> Result<Vec<Cid>, Error> {
        for path in &paths.directories {
            absent(entry_names(root, path, &|cid: &Cid| self.node(cid)).map(drop))?;
        }
        // A node may be linked very often.
        let mut walked = HashSet::new();
        for path in &paths.files {
            let found = lookup(root, path, &|cid: &Cid| self.node(cid));
            let mut waiting: Vec<Cid> = match found {
                Ok(found) => found.into_iter().collect(),
                Err(error) => {
                    absent(Err(error))?;
                    continue;
                }
            };
            while let Some(cid) = waiting.pop() {
                if !walked.insert(cid) {
                    continue;
                }
                let block = self.node(&cid);
                match block {
                    Ok(block) => waiting.extend(links(&cid, block)?.into_iter().rev()),
                    Err(error) => absent(Err(error))?,
                }
            }
        }
        Ok(self.order.into_inner())
    }

    fn node(&self, cid: &Cid) -> Result<Bytes, Error> {
        let data = self.store.get_verified(cid).map_err(Error::from)?;
        let data = data.ok_or_else(|| Error::from(FetchError::Offline(*cid)))?;
        if inline_bytes(cid).is_none() && self.seen.borrow_mut().insert(*cid) {
            if self.order.borrow().len() >= MAX_NODES {
                let size = MAX_NODES as u64;
                return Err(Error::TooLarge { at: (*cid).into(), size, limit: size });
            }
            self.order.borrow_mut().push(*cid);
        }
        Ok(data)
    }
}

/// What is not here is left out.
fn absent(read: Result<(), Error>) -> Result<(), Error> {
    match read {
        Err(Error::Node(FetchError::Offline(_))) => Ok(()),
        read => read,
    }
}
