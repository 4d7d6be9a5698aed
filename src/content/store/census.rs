//! What there is, in one snapshot of the index: what is reached from where, and what is not.

use std::collections::HashSet;

use bytes::Bytes;
use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable};

use super::{
    Error,
    blocks::NOBODY,
    extents::Extents,
    layout::{Key, Place},
    tables::{self, ARRIVING, BLOCKS, FILES, ROOTS, SHARED, STORED, USED},
};
use crate::content::dag::{DAG_PB, Unit};

/// A stored blob with all its layouts, or a file that is arriving.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its sha256, then its other digests; none of a file that is arriving.
    pub hashes: Vec<Vec<u8>>,
    /// The roots of its layouts and their ids.
    pub layouts: Vec<(Cid, u64)>,
    /// The bytes that are here.
    pub bytes: u64,
    /// When it was read last.
    pub used: u64,
}

/// A block that belongs to no file.
#[derive(Clone, Debug)]
pub struct Loose {
    pub key: Key,
    pub bytes: u64,
}

/// Blocks that are reached from roots: files by their roots, and whatever is no part of a file.
#[derive(Clone, Debug, Default)]
pub struct Reached(HashSet<Key>);

impl Item {
    /// Whether it is here whole.
    pub fn is_stored(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Whether all of its layouts are among those that went.
    pub fn is_among(&self, gone: &HashSet<Cid>) -> bool {
        self.layouts.iter().all(|(root, _)| gone.contains(root))
    }

    /// The roots of its layouts.
    pub fn roots(&self) -> Vec<Cid> {
        self.layouts.iter().map(|(root, _)| *root).collect()
    }
}

impl Reached {
    /// Whether it leads here.
    pub fn contains(&self, cid: &Cid) -> bool {
        self.0.contains(&Key::of(cid))
    }

    /// Whether it leads to a loose block.
    pub fn has(&self, loose: &Loose) -> bool {
        self.0.contains(&loose.key)
    }

    /// Whether it leads to any layout of this.
    pub fn has_any(&self, item: &Item) -> bool {
        item.layouts.iter().any(|(root, _)| self.contains(root))
    }

    /// Walks down from `roots`, as far as it is here.
    pub fn add(&mut self, read: &ReadTransaction, roots: impl IntoIterator<Item = Cid>) -> Result<(), Error> {
        let (blocks, files) = (read.open_table(BLOCKS)?, read.open_table(ROOTS)?);
        let mut waiting: Vec<Cid> = roots.into_iter().collect();
        while let Some(cid) = waiting.pop() {
            let key = Key::of(&cid);
            if self.0.contains(&key) {
                continue;
            }
            // What is below the root of a file is the file's own.
            if cid.codec() == DAG_PB && files.get(key.bytes())?.is_none() {
                let row = blocks.get(key.bytes())?.map(|row| Place::from_row(row.value().1));
                if let Some(Place::Inline(block)) = row {
                    waiting.extend(children(&cid, block));
                }
            }
            self.0.insert(key);
        }
        Ok(())
    }
}

fn children(cid: &Cid, block: Bytes) -> Vec<Cid> {
    match Unit::decode(cid, block) {
        Ok(Unit::File { children, .. }) => children.into_iter().map(|child| child.cid).collect(),
        Ok(Unit::Directory(links) | Unit::Shard { links, .. }) => {
            links.into_iter().map(|(_, cid)| cid).collect()
        }
        Ok(Unit::Symlink) | Err(_) => Vec::new(),
    }
}

fn parse(root: &[u8]) -> Result<Cid, Error> {
    Cid::try_from(root).map_err(|e| Error::Damaged(e.to_string()))
}

/// Tells every blob, and every file that is arriving.
pub fn items(read: &ReadTransaction, mut each: impl FnMut(Item) -> Result<(), Error>) -> Result<(), Error> {
    let (files, used) = (read.open_table(FILES)?, read.open_table(USED)?);
    let last_use = |id: u64| Ok::<_, Error>(used.get(id)?.map_or(0, |row| row.value()));
    for row in read.open_table(STORED)?.iter()? {
        let (sha256, row) = row?;
        let (bytes, ids, aliases) = row.value();
        let hashes = std::iter::once(&sha256.value()[..]).chain(aliases).map(Vec::from).collect();
        let mut item = Item { hashes, layouts: Vec::new(), bytes, used: 0 };
        for id in ids {
            let Some(file) = files.get(id)? else { continue };
            item.layouts.push((parse(file.value().2)?, id));
            item.used = item.used.max(last_use(id)?);
        }
        each(item)?;
    }
    for row in read.open_table(ARRIVING)?.iter()? {
        let (id, row) = row?;
        let (root, _, parts) = row.value();
        let layouts = vec![(parse(root)?, id.value())];
        let bytes = Extents::from_rows(parts).length();
        each(Item { hashes: Vec::new(), layouts, bytes, used: last_use(id.value())? })?;
    }
    Ok(())
}

/// Tells every block that belongs to no file.
pub fn loose(read: &ReadTransaction, mut each: impl FnMut(Loose) -> Result<(), Error>) -> Result<(), Error> {
    let mut tell = |key: &[u8], place: tables::PlaceRow| {
        each(Loose { key: Key::from_row(key), bytes: place.1.len() as u64 })
    };
    for row in read.open_table(BLOCKS)?.iter()? {
        let (key, row) = row?;
        let (owner, place) = row.value();
        if owner == NOBODY {
            tell(key.value(), place)?;
        }
    }
    for row in read.open_table(SHARED)?.iter()? {
        let (key, place) = row?;
        let (key, owner) = key.value();
        if owner == NOBODY {
            tell(key, place.value())?;
        }
    }
    Ok(())
}
