//! Leaving a network: nothing that is here then is shown in the next one until it is shared again.
//!
//! Every file gets a row that says so, what commands added counts as added no longer, blocks that belong to no file pass
//! to the owner `FORMER_OWNER`, and the published tree is forgotten. What is pushed, added or sent by peers from then on has rows of its own, as anywhere; what comes again
//! while it is still here loses its row ([`share_again`]).

use std::sync::atomic::Ordering;

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{
    Error, Origin, Store,
    blocks::{FORMER_OWNER, NO_OWNER},
    index,
    layout::{BlockKey, BlockPlace},
    tables::{self, LEFT_NETWORK, META, Tables},
    trees::forget_trees,
};

impl Store {
    /// Hides everything that is here from the peers of the network that is entered next.
    pub fn leave_network(&self) -> Result<(), Error> {
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            tables.meta.insert(LEFT_NETWORK, 1)?;
            for id in file_ids(&tables)? {
                tables.set_origin(id, Origin::FormerNetwork)?;
            }
            for (key, place) in loose(&tables)? {
                tables.own(&key, FORMER_OWNER, &place)?;
                tables.disown(&key, NO_OWNER)?;
            }
            drop(tables);
            index::leave_network(write)?;
            forget_trees(write)
        })?;
        self.0.left_network.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the node ever left a network: what peers may not know of is looked for only then.
    pub fn has_left_network(&self) -> bool {
        self.0.left_network.load(Ordering::Relaxed)
    }
}

/// Whether an index says that the node left a network.
pub fn left_network(read: &ReadTransaction) -> Result<bool, Error> {
    Ok(tables::number(&read.open_table(META)?, LEFT_NETWORK)? > 0)
}

/// Shares a stored file again that was hidden since the node left a network; false where none ever was.
pub fn share_again(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    let mut tables = Tables::open(write)?;
    let has_left = tables::number(&tables.meta, LEFT_NETWORK)? > 0;
    if has_left && let Some(id) = tables.stored_root(&BlockKey::of(root))? {
        tables.share_again(id)?;
    }
    Ok(has_left)
}

/// Shares content again that a command adds and that was hidden since the node left a network: stored files, and blocks that
/// belong to no file, such as the directory of a layer.
pub fn share_added_again(write: &WriteTransaction, roots: &[Cid]) -> Result<(), Error> {
    if roots.is_empty() || tables::number(&write.open_table(META)?, LEFT_NETWORK)? == 0 {
        return Ok(());
    }
    let mut tables = Tables::open(write)?;
    for root in roots {
        let key = BlockKey::of(root);
        match tables.stored_root(&key)? {
            Some(id) => tables.share_again(id)?,
            None => tables.share_block_again(&key)?,
        }
    }
    Ok(())
}

fn file_ids(tables: &Tables) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    for row in tables.files.iter()? {
        ids.push(row?.0.value());
    }
    for row in tables.partial.iter()? {
        ids.push(row?.0.value());
    }
    Ok(ids)
}

/// The blocks that belong to no file.
fn loose(tables: &Tables) -> Result<Vec<(BlockKey, BlockPlace)>, Error> {
    let mut all = Vec::new();
    for row in tables.blocks.iter()? {
        let (key, row) = row?;
        if let (NO_OWNER, place) = row.value() {
            all.push((BlockKey::from_row(key.value()), BlockPlace::from_row(place)));
        }
    }
    for row in tables.shared.iter()? {
        let (key, place) = row?;
        if let (key, NO_OWNER) = key.value() {
            all.push((BlockKey::from_row(key), BlockPlace::from_row(place.value())));
        }
    }
    Ok(all)
}

impl Tables<'_> {
    fn share_block_again(&mut self, key: &BlockKey) -> Result<(), Error> {
        let first = self.blocks.get(key.bytes())?.map(|row| {
            let (owner, place) = row.value();
            (owner, BlockPlace::from_row(place))
        });
        let place = match first {
            Some((FORMER_OWNER, place)) => Some(place),
            _ => {
                let shared = self.shared.get((key.bytes(), FORMER_OWNER))?;
                shared.map(|place| BlockPlace::from_row(place.value()))
            }
        };
        if let Some(place) = place {
            self.own(key, NO_OWNER, &place)?;
            self.disown(key, FORMER_OWNER)?;
        }
        Ok(())
    }

    /// A file that a client pushed or a command added again is hidden no longer.
    pub(super) fn share_again(&mut self, id: u64) -> Result<(), Error> {
        let is_hidden =
            self.origins.get(id)?.is_some_and(|row| row.value() == super::origin::FROM_FORMER_NETWORK);
        if is_hidden { self.set_origin(id, Origin::Pushed) } else { Ok(()) }
    }
}
