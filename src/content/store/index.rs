//! GC roots in the store's index. Each has a key, and retains the roots of DAGs: they and what is below them are kept.

mod gc_root;
mod pins;
mod retention;
mod rows;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{cell::RefCell, sync::Arc};

use ocipfs_node::{Cid, as_v1};
use ocipfs_oci::Digest;
use redb::{
    ReadTransaction, ReadableMultimapTable, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use super::{database::Database, error::Error};

use gc_root::images;
pub use gc_root::{GcRoot, ImportedImage};
pub use pins::{PinInfo, add_pin, pins};
pub use retention::{RetentionClass, evict_root, for_each_root, held_by, is_unreferenced};
pub use rows::RETAINED;
use rows::{BLOBS, FORMER_NETWORK, GcRootRows, HEADERS, RELEASES, ROOTS, blobs_of, open, roots_of};
pub use upgrade::from_format_2;

/// Root CID -> nothing: released by its last GC root, and not collected yet.
const RELEASED_ROOTS: TableDefinition<&[u8], ()> = TableDefinition::new("freed");

/// How many GC roots there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainedCounts {
    /// Images that a command imported.
    pub images: u64,
    /// Layers that a command added.
    pub layers: u64,
    /// GC roots of cached content.
    pub pulled: u64,
}

/// The GC roots.
pub struct Index(Arc<Database>);

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

/// Retains a root under a key that is a name: of a repository, a pin or a followed name.
pub fn retain_root(write: &WriteTransaction, gc_root_key: &str, root: &Cid) -> Result<(), Error> {
    write.open_multimap_table(RETAINED)?.insert(as_v1(root).to_bytes().as_slice(), gc_root_key.as_bytes())?;
    Ok(())
}

/// Releases a root from such a key. Returns whether it is unreferenced now, so that it may be collected.
pub fn release_root(write: &WriteTransaction, gc_root_key: &str, root: &Cid) -> Result<bool, Error> {
    let mut retained = write.open_multimap_table(RETAINED)?;
    retained.remove(as_v1(root).to_bytes().as_slice(), gc_root_key.as_bytes())?;
    GcRootRows::released(write)?;
    let is_unreferenced = retained.get(as_v1(root).to_bytes().as_slice())?.is_empty();
    if is_unreferenced {
        write.open_table(RELEASED_ROOTS)?.insert(as_v1(root).to_bytes().as_slice(), ())?;
    }
    Ok(is_unreferenced)
}

/// Returns at most `most` roots that were released and are not collected yet.
pub fn released(read: &ReadTransaction, most: usize) -> Result<Vec<Cid>, Error> {
    let released = match read.open_table(RELEASED_ROOTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        released => released?,
    };
    released.iter()?.take(most).map(|row| Cid::try_from(row?.0.value()).map_err(damaged)).collect()
}

/// Forgets that roots were released: they are collected, or retained again.
pub fn forget_released(write: &WriteTransaction, roots: &[Cid]) -> Result<(), Error> {
    let mut released = write.open_table(RELEASED_ROOTS)?;
    for root in roots {
        released.remove(as_v1(root).to_bytes().as_slice())?;
    }
    Ok(())
}

/// Lets what commands added share nothing until they add it again: the node leaves a network.
pub fn leave_network(write: &WriteTransaction) -> Result<(), Error> {
    let mut rows = GcRootRows::open(write)?;
    for row in rows.headers.iter()? {
        rows.former.insert(row?.0.value(), ())?;
    }
    Ok(())
}

/// Whether a command added a root since the node left a network: not only pulls, followed names, pins and repositories
/// hold it.
pub fn is_added(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    let (retained, headers) = match read.open_multimap_table(RETAINED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        retained => (retained?, open(read, HEADERS)?),
    };
    let Some(headers) = headers else { return Ok(false) };
    let former = open(read, FORMER_NETWORK)?;
    for key in retained.get(as_v1(root).to_bytes().as_slice())? {
        let key = key?;
        // The keys are sorted: CIDs come before names.
        if Cid::try_from(key.value()).is_err() {
            break;
        }
        let is_kept = headers.get(key.value())?.is_some_and(|row| row.value().0);
        let is_former =
            former.as_ref().map(|former| former.get(key.value())).transpose()?.flatten().is_some();
        if is_kept && !is_former {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a GC root by CID or a followed name retains a root: that was taken for public where origins had no rows.
pub fn was_public(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    let retained = write.open_multimap_table(RETAINED)?;
    // The keys are sorted: CIDs come before names, and what is followed before pins and repositories.
    let first = retained.get(as_v1(root).to_bytes().as_slice())?.next().transpose()?;
    Ok(first.is_some_and(|key| retention::is_cached_or_followed(key.value())))
}

/// Whether a GC root retains a root.
pub fn is_retained(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    match read.open_multimap_table(RETAINED) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        retained => Ok(!retained?.get(as_v1(root).to_bytes().as_slice())?.is_empty()),
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

    /// Retains `gc_root` in place of what the key retained before.
    #[cfg(test)]
    pub fn retain(&self, key: &Cid, gc_root: &GcRoot) -> Result<(), Error> {
        self.retain_with(key, gc_root, |_| Ok(()))
    }

    /// Retains `gc_root` in place of what the key retained before, in a transaction that does more.
    pub fn retain_with(
        &self,
        key: &Cid,
        gc_root: &GcRoot,
        more: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let gc_root_key = key.to_bytes();
        self.0.write(|write| {
            GcRootRows::released(write)?;
            {
                let mut rows = GcRootRows::open(write)?;
                rows.clear(&gc_root_key)?;
                gc_root.set_header(&mut rows, &gc_root_key)?;
                gc_root.add(&mut rows, &gc_root_key)?;
            }
            more(write)
        })
    }

    /// Adds `gc_root` to what the key retains already.
    pub fn retain_also(&self, key: &Cid, gc_root: GcRoot) -> Result<(), Error> {
        let key = *key;
        self.0.write_together(move |write| retain_also(write, &key, &gc_root))
    }

    /// Returns the GC root of a key.
    pub fn gc_root(&self, key: &Cid) -> Result<Option<GcRoot>, Error> {
        let gc_root_key = key.to_bytes();
        self.0.read(|read| {
            let (Some(headers), Some(roots), Some(blobs)) =
                (open(read, HEADERS)?, open(read, ROOTS)?, open(read, BLOBS)?)
            else {
                return Ok(None);
            };
            let Some(header) = headers.get(gc_root_key.as_slice())? else { return Ok(None) };
            let (announced, below): (Vec<_>, Vec<_>) =
                roots_of(&roots, &gc_root_key)?.into_iter().partition(|(_, announced)| *announced);
            let cids = |roots: Vec<(Cid, bool)>| roots.into_iter().map(|(cid, _)| cid).collect();
            let blobs = blobs_of(&blobs, &gc_root_key)?.collect::<Result<_, _>>()?;
            let (is_kept, images) = (header.value().0, images(header.value())?);
            Ok(Some(GcRoot { is_kept, roots: cids(announced), blobs, below: cids(below), images }))
        })
    }

    /// Tells every root that is announced; one that several GC roots retain, more than once.
    pub fn for_each_announced(&self, mut each: impl FnMut(Cid) -> Result<(), Error>) -> Result<(), Error> {
        self.for_each_row(ROOTS, |_, (root, announced)| {
            if announced {
                each(Cid::try_from(root).map_err(damaged)?)?;
            }
            Ok(())
        })
    }

    /// Tells the digest of every blob that a GC root has; one that several have, more than once.
    pub fn for_each_blob(&self, mut each: impl FnMut(Digest) -> Result<(), Error>) -> Result<(), Error> {
        self.for_each_row(BLOBS, |(_, digest), _| each(digest.parse().map_err(damaged)?))
    }

    /// Imported images by their root.
    pub fn images(&self) -> Result<Vec<(Cid, Vec<ImportedImage>)>, Error> {
        let mut all = Vec::new();
        self.for_each_row(HEADERS, |key, header| {
            if header.1 > 0 {
                all.push((Cid::try_from(key).map_err(damaged)?, images(header)?));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// How many GC roots there are.
    pub fn counts(&self) -> Result<RetainedCounts, Error> {
        let mut counts = RetainedCounts::default();
        self.for_each_row(HEADERS, |_, (is_kept, images, _)| {
            counts.images += images;
            counts.layers += u64::from(images == 0 && is_kept);
            counts.pulled += u64::from(images == 0 && !is_kept);
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

    /// Removes a GC root. Returns the roots that are unreferenced then, or none if there was no such GC root.
    pub fn release(&self, key: &Cid) -> Result<Option<Vec<Cid>>, Error> {
        let gc_root_key = key.to_bytes();
        self.0.write(|write| {
            GcRootRows::released(write)?;
            let mut rows = GcRootRows::open(write)?;
            match rows.is_kept(&gc_root_key)? {
                Some(_) => rows.clear(&gc_root_key).map(Some),
                None => Ok(None),
            }
        })
    }
}

/// Retains `gc_root` in addition to what the key retains already, in a transaction that may do more.
pub fn retain_also(write: &WriteTransaction, key: &Cid, gc_root: &GcRoot) -> Result<(), Error> {
    let (mut rows, gc_root_key) = (GcRootRows::open(write)?, key.to_bytes());
    if gc_root.is_kept {
        rows.former.remove(gc_root_key.as_slice())?;
    }
    match rows.is_kept(&gc_root_key)? {
        None => gc_root.set_header(&mut rows, &gc_root_key)?,
        Some(false) if gc_root.is_kept => {
            let images =
                rows.headers.get(gc_root_key.as_slice())?.map(|row| images(row.value())).transpose()?;
            let gc_root = GcRoot { images: images.unwrap_or_default(), ..gc_root.clone() };
            gc_root.set_header(&mut rows, &gc_root_key)?;
        }
        Some(_) => {}
    }
    gc_root.add(&mut rows, &gc_root_key)
}
