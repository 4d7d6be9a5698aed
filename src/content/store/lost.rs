//! Blobs that were found damaged: noted under each of their digests until they are stored again.

use std::collections::HashSet;

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{ReadTransaction, ReadableTable};

use super::{
    Error, Store, Stored,
    extents::Extents,
    files,
    tables::{self, DAMAGED, Hash, PARTIAL, Tables},
};

/// A blob that was stored, and of which bytes are missing since it was found damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlob {
    /// Its sha256.
    pub digest: Digest,
    /// The root of one of its DAGs.
    pub root: Cid,
    /// Its size.
    pub size: u64,
    /// How many of its bytes are right.
    pub right: u64,
}

impl Store {
    /// Whether this was a stored blob that was found damaged, and is not stored since.
    pub fn is_lost(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.0.database.read(|read| tables::row(read, DAMAGED, digest.bytes(), |_| ()))?.is_some())
    }

    /// Every blob that was found damaged, and is not stored since.
    pub fn lost(&self) -> Result<Vec<DamagedBlob>, Error> {
        self.0.database.read(|read| {
            let (mut lost, mut seen) = (Vec::new(), HashSet::new());
            for row in read.open_table(DAMAGED)?.iter()? {
                let (_, row) = row?;
                let (hash, ids) = row.value();
                let Some(id) = ids.first().copied().filter(|id| seen.insert(*id)) else { continue };
                let partial = tables::row(read, PARTIAL, id, |(root, size, parts)| {
                    let stored = files::stored(id, (hash, size, root))?;
                    Ok::<_, Error>((stored, Extents::from_rows(parts).length()))
                })?;
                if let Some((Stored { digest, root, size, .. }, right)) = partial.transpose()? {
                    lost.push(DamagedBlob { digest, root, size, right });
                }
            }
            Ok(lost)
        })
    }
}

/// Whether a partial file was stored and is damaged.
pub fn is_damaged(read: &ReadTransaction, id: u64) -> Result<bool, Error> {
    for row in read.open_table(DAMAGED)?.iter()? {
        if row?.1.value().1.contains(&id) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Tables<'_> {
    /// Forgets that a blob is stored, and notes under each of its digests that its layouts, `ids`, are being downloaded.
    pub(super) fn unstore(&mut self, hash: &Hash, ids: Vec<u64>) -> Result<(), Error> {
        let Some((size, _, aliases)) = self.stored_row(hash)? else { return Ok(()) };
        self.stored.remove(hash)?;
        self.small.remove(hash)?;
        // Where a crash undoes the renaming, the file goes at the next start.
        self.doomed.insert(hash, ())?;
        tables::add_to(&mut self.meta, tables::BYTES, -(size as i64))?;
        for alias in &aliases {
            self.aliases.remove(alias.as_slice())?;
        }
        for digest in aliases.iter().map(Vec::as_slice).chain([&hash[..]]) {
            self.damaged.insert(digest, (hash, ids.clone()))?;
        }
        Ok(())
    }

    /// Forgets a layout of a damaged blob, and with the last of them the damage.
    pub(super) fn forget_damage(&mut self, id: u64) -> Result<(), Error> {
        let mut changed = Vec::new();
        for row in self.damaged.iter()? {
            let (digest, row) = row?;
            let (hash, mut ids) = row.value();
            if ids.contains(&id) {
                ids.retain(|other| *other != id);
                changed.push((digest.value().to_vec(), *hash, ids));
            }
        }
        for (digest, hash, ids) in changed {
            match ids.is_empty() {
                true => drop(self.damaged.remove(digest.as_slice())?),
                false => drop(self.damaged.insert(digest.as_slice(), (&hash, ids))?),
            }
        }
        Ok(())
    }

    /// Forgets that a blob was damaged, and gives its other digests.
    pub(super) fn regain(&mut self, hash: &Hash) -> Result<Vec<Vec<u8>>, Error> {
        if self.damaged.get(&hash[..])?.is_none() {
            return Ok(Vec::new());
        }
        let mut aliases = Vec::new();
        self.damaged.retain(|digest, (of, _)| {
            let is_other = of != hash;
            if !is_other && digest != hash {
                aliases.push(digest.to_vec());
            }
            is_other
        })?;
        Ok(aliases)
    }
}
