//! GC roots in the store's index: what is retained, and for which holder.

mod gc_root;
mod holders;
mod rows;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{cell::RefCell, sync::Arc};

use ocipfs_node::Cid;
use redb::{
    ReadTransaction, ReadableMultimapTable, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use super::{database::Database, error::Error};

use gc_root::images;
pub use gc_root::{GcRoot, Named};
pub use holders::{RetentionClass, evict_root, for_each_root, is_unreferenced, pins};
use rows::{BLOBS, FORMER, HEADERS, HELD, RELEASES, ROOTS, ReferenceRows, blobs_of, open, roots_of};
pub use upgrade::from_format_2;

/// Root CID -> nothing: released by its last holder, and not collected yet.
const FREED: TableDefinition<&[u8], ()> = TableDefinition::new("freed");

/// How many holdings there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainedCounts {
    /// Images that a command imported.
    pub images: u64,
    /// Layers that a command added.
    pub layers: u64,
    /// GC roots of cached content.
    pub pulled: u64,
}

/// The holdings.
pub struct Index(Arc<Database>);

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

fn name(cid: &Cid) -> Vec<u8> {
    Cid::new_v1(cid.codec(), *cid.hash()).to_bytes()
}

/// Retains a root for a holder with a name of its own: a repository, a pin.
pub fn retain_root(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<(), Error> {
    write.open_multimap_table(HELD)?.insert(name(root).as_slice(), holder.as_bytes())?;
    Ok(())
}

/// Releases a root of such a holder. Returns whether it has no holder left, so that it may be collected.
pub fn release_root(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<bool, Error> {
    let mut held = write.open_multimap_table(HELD)?;
    held.remove(name(root).as_slice(), holder.as_bytes())?;
    ReferenceRows::released(write)?;
    let is_unreferenced = held.get(name(root).as_slice())?.is_empty();
    if is_unreferenced {
        write.open_table(FREED)?.insert(name(root).as_slice(), ())?;
    }
    Ok(is_unreferenced)
}

/// Returns at most `most` roots that were released and are not collected yet.
pub fn released(read: &ReadTransaction, most: usize) -> Result<Vec<Cid>, Error> {
    let released = match read.open_table(FREED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        released => released?,
    };
    released.iter()?.take(most).map(|row| Cid::try_from(row?.0.value()).map_err(damaged)).collect()
}

/// Forgets that roots were released: they are collected, or held again.
pub fn forget_released(write: &WriteTransaction, roots: &[Cid]) -> Result<(), Error> {
    let mut released = write.open_table(FREED)?;
    for root in roots {
        released.remove(name(root).as_slice())?;
    }
    Ok(())
}

/// Lets what commands added share nothing until they add it again: the node leaves a network.
pub fn leave_network(write: &WriteTransaction) -> Result<(), Error> {
    let mut rows = ReferenceRows::open(write)?;
    for row in rows.headers.iter()? {
        rows.former.insert(row?.0.value(), ())?;
    }
    Ok(())
}

/// Whether a command added a root since the node left a network: not only pulls, followed names, pins and repositories
/// hold it.
pub fn is_added(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    let (held, headers) = match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        held => (held?, open(read, HEADERS)?),
    };
    let Some(headers) = headers else { return Ok(false) };
    let former = open(read, FORMER)?;
    for key in held.get(name(root).as_slice())? {
        let key = key?;
        // The keys are sorted: CIDs, which holdings have, come before names.
        if Cid::try_from(key.value()).is_err() {
            break;
        }
        let is_owned = headers.get(key.value())?.is_some_and(|row| row.value().0);
        let is_former =
            former.as_ref().map(|former| former.get(key.value())).transpose()?.flatten().is_some();
        if is_owned && !is_former {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a holding or a followed name holds a root: that was taken for public where origins had no rows.
pub fn was_public(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    let held = write.open_multimap_table(HELD)?;
    // The keys are sorted: CIDs come before names, and what is followed before pins and repositories.
    let first = held.get(name(root).as_slice())?.next().transpose()?;
    Ok(first.is_some_and(|key| holders::came_from_peers(key.value())))
}

/// Whether anybody keeps a root.
pub fn is_held(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        held => Ok(!held?.get(name(root).as_slice())?.is_empty()),
    }
}

/// How often something was released.
pub fn releases(read: &ReadTransaction) -> Result<u64, Error> {
    let Some(releases) = open(read, RELEASES)? else { return Ok(0) };
    Ok(releases.get(())?.map_or(0, |row| row.value()))
}

impl Index {
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// Holds what `holding` names in place of what the key held before.
    pub fn retain(&self, key: &Cid, reference: &GcRoot) -> Result<(), Error> {
        let holder = key.to_bytes();
        self.0.write(|write| {
            ReferenceRows::released(write)?;
            let mut rows = ReferenceRows::open(write)?;
            rows.clear(&holder)?;
            reference.set_header(&mut rows, &holder)?;
            reference.add(&mut rows, &holder)
        })
    }

    /// Adds `reference` to what the key retains already.
    pub fn retain_also(&self, key: &Cid, reference: GcRoot) -> Result<(), Error> {
        let key = *key;
        self.0.write_together(move |write| retain_also(write, &key, &reference))
    }

    /// Returns the GC root of a key.
    pub fn reference(&self, key: &Cid) -> Result<Option<GcRoot>, Error> {
        let holder = key.to_bytes();
        self.0.read(|read| {
            let (Some(headers), Some(roots), Some(blobs)) =
                (open(read, HEADERS)?, open(read, ROOTS)?, open(read, BLOBS)?)
            else {
                return Ok(None);
            };
            let Some(header) = headers.get(holder.as_slice())? else { return Ok(None) };
            let (announced, below): (Vec<_>, Vec<_>) =
                roots_of(&roots, &holder)?.into_iter().partition(|(_, announced)| *announced);
            let cids = |roots: Vec<(Cid, bool)>| roots.into_iter().map(|(cid, _)| cid).collect();
            let blobs = blobs_of(&blobs, &holder)?.collect::<Result<_, _>>()?;
            let (owned, images) = (header.value().0, images(header.value())?);
            Ok(Some(GcRoot { owned, roots: cids(announced), blobs, below: cids(below), images }))
        })
    }

    /// Tells every root that is announced; one that several holdings have more than once.
    pub fn for_each_announced(&self, mut each: impl FnMut(Cid) -> Result<(), Error>) -> Result<(), Error> {
        self.for_each_row(ROOTS, |_, (root, announced)| {
            if announced {
                each(Cid::try_from(root).map_err(damaged)?)?;
            }
            Ok(())
        })
    }

    /// Imported images by their root.
    pub fn images(&self) -> Result<Vec<(Cid, Vec<Named>)>, Error> {
        let mut all = Vec::new();
        self.for_each_row(HEADERS, |key, header| {
            if header.1 > 0 {
                all.push((Cid::try_from(key).map_err(damaged)?, images(header)?));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// How many holdings there are.
    pub fn counts(&self) -> Result<RetainedCounts, Error> {
        let mut counts = RetainedCounts::default();
        self.for_each_row(HEADERS, |_, (owned, images, _)| {
            counts.images += images;
            counts.layers += u64::from(images == 0 && owned);
            counts.pulled += u64::from(images == 0 && !owned);
            Ok(())
        })?;
        Ok(counts)
    }

    fn for_each_row<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
        each: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let each = RefCell::new(each);
        self.0.read(|read| {
            let Some(table) = open(read, table)? else { return Ok(()) };
            for row in table.iter()? {
                let (key, row) = row?;
                (each.borrow_mut())(key.value(), row.value())?;
            }
            Ok(())
        })
    }

    /// Removes a holding; the roots that no holder has any more, or none if there was no such holding.
    pub fn release(&self, key: &Cid) -> Result<Option<Vec<Cid>>, Error> {
        let holder = key.to_bytes();
        self.0.write(|write| {
            ReferenceRows::released(write)?;
            let mut rows = ReferenceRows::open(write)?;
            match rows.is_owned(&holder)? {
                Some(_) => rows.clear(&holder).map(Some),
                None => Ok(None),
            }
        })
    }
}

/// Holds what `holding` names in addition to what the key holds already, in a transaction that may do more.
pub fn retain_also(write: &WriteTransaction, key: &Cid, reference: &GcRoot) -> Result<(), Error> {
    let (mut rows, holder) = (ReferenceRows::open(write)?, key.to_bytes());
    if reference.owned {
        rows.former.remove(holder.as_slice())?;
    }
    match rows.is_owned(&holder)? {
        None => reference.set_header(&mut rows, &holder)?,
        Some(false) if reference.owned => {
            let images = rows.headers.get(holder.as_slice())?.map(|row| images(row.value())).transpose()?;
            let reference = GcRoot { images: images.unwrap_or_default(), ..reference.clone() };
            reference.set_header(&mut rows, &holder)?;
        }
        Some(_) => {}
    }
    reference.add(&mut rows, &holder)
}
