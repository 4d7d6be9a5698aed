//! The blocks of files that were removed: they go in lots, so that no other writer waits long for a large file.
//!
//! The commit that removes a file takes its rows and records its root in `REMOVED`; from then on its blocks are not
//! served. A sweep walks the DAG and removes children before their parents, so that after a crash another sweep finds
//! the way to what is left.

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable};

use super::{
    Error, Store,
    layout::{BlockKey, BlockPlace},
    lock,
    tables::{self, REMOVED, Tables},
};
use ocipfs_unixfs::{DAG_PB, DagNode};

/// Steps of the walk in one commit.
pub const BATCH_SIZE: usize = if cfg!(test) { 32 } else { 8192 };

/// Whether an owner of blocks was removed.
pub fn is_removed(read: &ReadTransaction, owner: u64) -> Result<bool, Error> {
    Ok(tables::row(read, REMOVED, owner, |_| ())?.is_some())
}

/// Where a sweep is: the file whose blocks go, what of its DAG is to be visited, and whether its children were already.
pub struct BlockSweep<'s> {
    store: &'s Store,
    owner: Option<u64>,
    waiting: Vec<(Cid, bool)>,
}

impl Store {
    /// Removes the blocks of all files that were removed.
    pub fn sweep(&self) -> Result<(), Error> {
        let mut sweep = BlockSweep::new(self);
        while self.0.database.read(|read| Ok(sweep.first(&read.open_table(REMOVED)?)?.is_some()))? {
            self.0.database.write(|write| sweep.lot(&mut Tables::open(write)?))?;
        }
        Ok(())
    }
}

impl<'s> BlockSweep<'s> {
    /// A sweep of whatever was removed.
    pub fn new(store: &'s Store) -> Self {
        Self { store, owner: None, waiting: Vec::new() }
    }

    /// The first file that was removed, and its root. Those whose blocks are being recorded are not.
    fn first(&self, removed: &impl ReadableTable<u64, &'static [u8]>) -> Result<Option<(u64, Cid)>, Error> {
        for row in removed.iter()? {
            let (owner, root) = row?;
            if !lock(&self.store.0.begun).contains(&owner.value()) {
                let root = Cid::try_from(root.value()).map_err(|e| Error::Damaged(e.to_string()))?;
                return Ok(Some((owner.value(), root)));
            }
        }
        Ok(None)
    }

    /// Takes one lot of the files that were removed.
    pub fn lot(&mut self, tables: &mut Tables) -> Result<(), Error> {
        for _ in 0..BATCH_SIZE {
            match self.waiting.pop() {
                Some((cid, is_visited)) => self.step(tables, cid, is_visited)?,
                None if !self.next_file(tables)? => break,
                None => {}
            }
        }
        Ok(())
    }

    /// Ends a file and begins the next; returns false if there is none left.
    fn next_file(&mut self, tables: &mut Tables) -> Result<bool, Error> {
        if let Some(owner) = self.owner.take() {
            tables.removed.remove(owner)?;
        }
        let Some((owner, root)) = self.first(&tables.removed)? else { return Ok(false) };
        (self.owner, self.waiting) = (Some(owner), vec![(root, false)]);
        Ok(true)
    }

    fn step(&mut self, tables: &mut Tables, cid: Cid, is_visited: bool) -> Result<(), Error> {
        let (key, owner) = (BlockKey::of(&cid), self.owner.unwrap_or_default());
        // A DAG may name one block many times.
        if !tables.owns(&key, owner)? {
            return Ok(());
        }
        let children = if is_visited { Vec::new() } else { tables.children(&cid, &key)? };
        if children.is_empty() {
            return tables.disown(&key, owner);
        }
        self.waiting.push((cid, true));
        self.waiting.extend(children.into_iter().map(|child| (child, false)));
        Ok(())
    }
}

impl Tables<'_> {
    fn owns(&self, key: &BlockKey, owner: u64) -> Result<bool, Error> {
        let first = self.blocks.get(key.bytes())?.map(|row| row.value().0);
        Ok(first == Some(owner) || self.shared.get((key.bytes(), owner))?.is_some())
    }

    /// The children of a node that is here.
    fn children(&self, cid: &Cid, key: &BlockKey) -> Result<Vec<Cid>, Error> {
        if cid.codec() != DAG_PB {
            return Ok(Vec::new());
        }
        let Some(row) = self.blocks.get(key.bytes())? else { return Ok(Vec::new()) };
        let BlockPlace::Inline(block) = BlockPlace::from_row(row.value().1) else { return Ok(Vec::new()) };
        Ok(match DagNode::decode(cid, block) {
            Ok(DagNode::File { children, .. }) => children.into_iter().map(|child| child.cid).collect(),
            _ => Vec::new(),
        })
    }
}
