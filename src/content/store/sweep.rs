//! The blocks of files that were removed: they go in lots, so that no other writer waits long for a large file.
//!
//! The commit that removes a file takes its rows and records its root in `REMOVED`; from then on its blocks are not
//! served. A sweep walks the DAG and removes children before their parents, so that after a crash another sweep finds
//! the way to what is left.

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable};

use super::{
    Error, Store,
    layout::{Key, Place},
    tables::{self, REMOVED, Tables},
};
use crate::content::dag::{DAG_PB, Unit};

/// Steps of the walk in one commit.
const LOT: usize = if cfg!(test) { 16 } else { 8192 };

/// Whether an owner of blocks was removed.
pub fn is_removed(read: &ReadTransaction, owner: u64) -> Result<bool, Error> {
    Ok(tables::row(read, REMOVED, owner, |_| ())?.is_some())
}

/// Where a sweep is in a DAG: what is to be visited, and whether its children were already.
struct Sweep {
    owner: u64,
    waiting: Vec<(Cid, bool)>,
}

impl Store {
    /// Removes the blocks of all files that were removed.
    pub fn sweep(&self) -> Result<(), Error> {
        while let Some(mut sweep) = self.next_sweep()? {
            while !sweep.waiting.is_empty() {
                self.0.database.write(|write| sweep.lot(&mut Tables::open(write)?))?;
            }
        }
        Ok(())
    }

    fn next_sweep(&self) -> Result<Option<Sweep>, Error> {
        self.0.database.read(|read| {
            let removed = read.open_table(REMOVED)?;
            let Some((owner, root)) = removed.first()? else { return Ok(None) };
            let root = Cid::try_from(root.value()).map_err(|e| Error::Damaged(e.to_string()))?;
            Ok(Some(Sweep { owner: owner.value(), waiting: vec![(root, false)] }))
        })
    }
}

impl Sweep {
    /// Takes one lot; with the last, what was recorded of the file.
    fn lot(&mut self, tables: &mut Tables) -> Result<(), Error> {
        for _ in 0..LOT {
            let Some((cid, is_visited)) = self.waiting.pop() else { break };
            let key = Key::of(&cid);
            // A DAG may name one block many times.
            if !tables.owns(&key, self.owner)? {
                continue;
            }
            let children = if is_visited { Vec::new() } else { tables.children(&cid, &key)? };
            if children.is_empty() {
                tables.disown(&key, self.owner)?;
            } else {
                self.waiting.push((cid, true));
                self.waiting.extend(children.into_iter().map(|child| (child, false)));
            }
        }
        if self.waiting.is_empty() {
            tables.removed.remove(self.owner)?;
        }
        Ok(())
    }
}

impl Tables<'_> {
    fn owns(&self, key: &Key, owner: u64) -> Result<bool, Error> {
        let first = self.blocks.get(key.bytes())?.map(|row| row.value().0);
        Ok(first == Some(owner) || self.shared.get((key.bytes(), owner))?.is_some())
    }

    /// The children of a node that is here.
    fn children(&self, cid: &Cid, key: &Key) -> Result<Vec<Cid>, Error> {
        if cid.codec() != DAG_PB {
            return Ok(Vec::new());
        }
        let Some(row) = self.blocks.get(key.bytes())? else { return Ok(Vec::new()) };
        let Place::Inline(block) = Place::from_row(row.value().1) else { return Ok(Vec::new()) };
        Ok(match Unit::decode(cid, block) {
            Ok(Unit::File { children, .. }) => children.into_iter().map(|child| child.cid).collect(),
            _ => Vec::new(),
        })
    }
}
