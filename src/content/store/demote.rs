//! A stored blob that is damaged becomes a partial file: what is right of it stays, the rest can come again.
//! Its digests are noted (`lost`) until it is stored again.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use ocipfs_node::{Cid, is_block};
use ocipfs_oci::Digest;
use redb::ReadableTable;

use super::{
    Error, Leaf, Store, Stored, disk,
    extents::Extents,
    files::{self, NewBlob, sha256},
    layout::{BlockKey, BlockPlace},
    lock,
    partial::is_fetched,
    source::OpenBytes,
    tables::{self, FILES, Hash, PARTIAL, ROOTS, STORED, Tables},
};

/// One layout of a damaged blob.
struct Remains {
    file: Stored,
    right: Vec<Leaf>,
    wrong: Vec<Leaf>,
}

impl Store {
    /// Returns a stored blob whose file has its length; one that has lost its file is not stored any more.
    pub fn present(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        // Again where its file was being moved.
        for _ in 0..2 {
            let Some(stored) = self.blob(digest)? else { return Ok(None) };
            if self.has_file(&stored)? {
                return Ok(Some(stored));
            }
            self.demote(&stored)?;
        }
        self.blob(digest)
    }

    /// Like [`Self::present`]; under a guard the blob is not collected.
    pub fn present_guarded(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        let found = self.present(digest)?;
        found.iter().for_each(|stored| self.guard_cid(&stored.root));
        Ok(found)
    }

    fn has_file(&self, stored: &Stored) -> Result<bool, Error> {
        Ok(match self.blob_source(&sha256(&stored.digest)?)? {
            Some(source) => source.length().is_ok_and(|length| length >= stored.size),
            None => false,
        })
    }

    /// Takes the damaged parts of a blob out of the store: its layouts are being downloaded from then on, with what is right of
    /// them. Says whether something was wrong; where the file was replaced meanwhile, nothing is.
    pub fn demote(&self, file: &Stored) -> Result<bool, Error> {
        let hash = sha256(&file.digest)?;
        let source = self.blob_source(&hash)?;
        let layouts = self.layouts(&hash)?;
        let remains = layouts.into_iter().map(|layout| self.remains(layout, source.as_ref()));
        let mut remains = remains.collect::<Result<Vec<_>, Error>>()?;
        if remains.iter().all(Remains::is_whole) {
            return Ok(false);
        }
        let _moving = self.0.moving_files.write().unwrap_or_else(PoisonError::into_inner);
        if !is_same(source.as_ref(), self.blob_source(&hash)?.as_ref()) || self.layouts(&hash)?.is_empty() {
            return Ok(false);
        }
        // The files first: until the commit they are found under these names, and after a crash they are moved back.
        let moved = self.move_back(&hash, &mut remains, source.as_ref());
        let noted = moved.and_then(|()| {
            self.0.database.write(|write| {
                let mut tables = Tables::open(write)?;
                remains.iter().try_for_each(|layout| layout.note(&mut tables))?;
                tables.unstore(&hash, remains.iter().map(|layout| layout.file.id).collect())
            })
        });
        for layout in &remains {
            self.0.sources.forget(layout.file.id);
            if noted.is_err() {
                self.move_into_place(layout.file.id, &hash, !matches!(source, Some(OpenBytes::File(_))));
            }
        }
        noted?;
        self.unlinked(hash);
        tracing::warn!(digest = %file.digest, "damaged blob: pull or push it again");
        Ok(true)
    }

    /// The bytes of a block that is here and hashes to its CID. A file that has it wrong is damaged, and does not have it
    /// from then on.
    pub fn get_verified(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        // Again where one owner has it wrong and another may have it right.
        for _ in 0..3 {
            match self.get(cid) {
                Ok(Some(block)) if is_block(cid, &block) => return Ok(Some(block)),
                Ok(None) => return Ok(None),
                Ok(Some(_)) | Err(Error::Read { .. }) => self.demote_root(cid)?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes a block out of the store whose owner has it wrong.
    fn demote_root(&self, cid: &Cid) -> Result<(), Error> {
        let Some((owner, BlockPlace::Window { offset, length })) = self.block_row(&BlockKey::of(cid))? else {
            return Ok(());
        };
        let file = self.0.database.read(|read| {
            let stored = tables::row(read, FILES, owner, |row| files::stored(owner, row))?.transpose()?;
            let root = tables::row(read, PARTIAL, owner, |(root, ..)| Cid::try_from(root).ok())?.flatten();
            Ok((stored, root))
        })?;
        match file {
            (Some(stored), _) => self.demote(&stored).map(drop),
            (None, Some(root)) => {
                self.drop_parts(&root, owner, &[Leaf { cid: *cid, offset, length }]).map(drop)
            }
            (None, None) => Ok(()),
        }
    }

    /// Returns every layout of a stored blob.
    pub fn layouts_of(&self, stored: &Stored) -> Result<Vec<Stored>, Error> {
        self.layouts(&sha256(&stored.digest)?)
    }

    fn layouts(&self, hash: &Hash) -> Result<Vec<Stored>, Error> {
        self.0.database.read(|read| {
            let ids = tables::row(read, STORED, hash, |(_, ids, _)| ids)?.unwrap_or_default();
            let mut layouts = Vec::new();
            for id in ids {
                layouts.extend(tables::row(read, FILES, id, |row| files::stored(id, row))?.transpose()?);
            }
            Ok(layouts)
        })
    }

    fn remains(&self, file: Stored, source: Option<&OpenBytes>) -> Result<Remains, Error> {
        let leaves = self.leaves(&file.root, file.size)?;
        let (right, wrong) =
            leaves.into_iter().partition(|leaf| source.is_some_and(|source| self.is_right(source, leaf)));
        Ok(Remains { file, right, wrong })
    }

    /// Moves the file of a blob to where partial files are, one name for each layout. Where there is none, nothing is
    /// left of it.
    fn move_back(
        &self,
        hash: &Hash,
        remains: &mut [Remains],
        source: Option<&OpenBytes>,
    ) -> Result<(), Error> {
        let disk = &self.0.disk;
        let from = disk.blob(hash);
        let mut moved = None;
        for layout in remains {
            let to = disk.incoming(layout.file.id);
            let has_bytes = match (source, &moved) {
                (Some(OpenBytes::File(_)), None) => {
                    rename(&from, &to).map(|()| true).map_err(Error::at(&from))?
                }
                // Not every file system has links.
                (Some(OpenBytes::File(_)), Some(first)) => fs::hard_link(first, &to).is_ok(),
                _ => false,
            };
            if !has_bytes {
                disk.create(layout.file.id)?;
                layout.wrong.append(&mut layout.right);
            }
            moved.get_or_insert(to);
        }
        disk.sync_incoming()
    }

    /// Drops damaged parts of a file that has come in part, unless a fetch goes on with it: they count as missing.
    pub fn drop_parts(&self, root: &Cid, id: u64, wrong: &[Leaf]) -> Result<bool, Error> {
        let key = BlockKey::of(root);
        let live = lock(&self.0.live);
        if is_fetched(&live, &key) {
            return Ok(false);
        }
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            let known = tables.partial.get(id)?.map(|row| (row.value().1, row.value().2));
            let Some((size, parts)) = known else { return Ok(false) };
            let mut extents = Extents::from_rows(parts);
            for leaf in wrong {
                extents.remove(leaf.offset, leaf.offset + leaf.length);
                tables.disown(&BlockKey::of(&leaf.cid), id)?;
            }
            tables.set_partial(id, (&*root.to_bytes(), size, extents.rows()))?;
            tables.hashed.remove(id)?;
            Ok(true)
        })
    }

    /// Roots of layouts that are being downloaded, as far as rows say.
    pub(super) fn partial_among(&self, drafts: &[NewBlob]) -> Result<Vec<Cid>, Error> {
        let roots = drafts.iter().flat_map(|draft| &draft.layouts).map(|layout| layout.root);
        self.0.database.read(|read| {
            let mut partial = Vec::new();
            for root in roots.clone() {
                if partial_id(read, &root)?.is_some() {
                    partial.push(root);
                }
            }
            Ok(partial)
        })
    }

    /// Returns the id of the arriving file that a root leads to, as far as rows say.
    pub fn partial_id(&self, root: &Cid) -> Result<Option<u64>, Error> {
        self.0.database.read(|read| partial_id(read, root))
    }

    /// Removes what had arrived of a file that was stored in another way meanwhile.
    pub(super) fn drop_copy(&self, root: &Cid) -> Result<(), Error> {
        let key = BlockKey::of(root);
        let live = lock(&self.0.live);
        if is_fetched(&live, &key) {
            return Ok(());
        }
        let ids = self.0.database.read(|read| copies(read, root))?;
        for id in ids {
            self.remove_partial_rows(id, root)?;
            self.0.sources.forget(id);
            disk::unlink(&self.0.disk.incoming(id))?;
        }
        Ok(())
    }
}

fn partial_id(read: &redb::ReadTransaction, root: &Cid) -> Result<Option<u64>, Error> {
    let Some(id) = tables::row(read, ROOTS, BlockKey::of(root).bytes(), |id| id)? else { return Ok(None) };
    tables::row(read, PARTIAL, id, |_| id)
}

/// Partial files with this root that the root does not lead to.
fn copies(read: &redb::ReadTransaction, root: &Cid) -> Result<Vec<u64>, Error> {
    let current = tables::row(read, ROOTS, BlockKey::of(root).bytes(), |id| id)?;
    let mut ids = Vec::new();
    for row in read.open_table(PARTIAL)?.iter()? {
        let (id, row) = row?;
        let is_copy = Some(id.value()) != current
            && Cid::try_from(row.value().0).is_ok_and(|other| BlockKey::of(&other) == BlockKey::of(root));
        ids.extend(is_copy.then_some(id.value()));
    }
    Ok(ids)
}

impl Remains {
    /// Whether all of its bytes are right.
    fn is_whole(&self) -> bool {
        self.wrong.is_empty() && self.extents().contain(0, self.file.size)
    }

    fn extents(&self) -> Extents {
        let mut extents = Extents::default();
        self.right.iter().for_each(|leaf| extents.insert(leaf.offset, leaf.offset + leaf.length));
        extents
    }

    /// Makes the rows of a stored layout those of a partial file.
    fn note(&self, tables: &mut Tables) -> Result<(), Error> {
        let Stored { id, root, size, .. } = self.file;
        tables.files.remove(id)?;
        tables.set_partial(id, (&*root.to_bytes(), size, self.extents().rows()))?;
        let wrong: HashSet<BlockKey> = self.wrong.iter().map(|leaf| BlockKey::of(&leaf.cid)).collect();
        wrong.iter().try_for_each(|key| tables.disown(key, id))?;
        // One block may be many parts, of which one is right.
        let again = self.right.iter().filter(|leaf| wrong.contains(&BlockKey::of(&leaf.cid)));
        again
            .into_iter()
            .try_for_each(|leaf| tables.own(&BlockKey::of(&leaf.cid), id, &BlockPlace::window(leaf)))
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        // Not in its place yet.
        Err(error) if error.kind() == ErrorKind::NotFound && to.exists() => Ok(()),
        moved => moved,
    }
}

/// Whether both are the same file, or the same bytes.
fn is_same(one: Option<&OpenBytes>, other: Option<&OpenBytes>) -> bool {
    let inode = |file: &Arc<fs::File>| file.metadata().map(|data: Metadata| (data.dev(), data.ino())).ok();
    match (one, other) {
        (None, None) => true,
        (Some(OpenBytes::File(one)), Some(OpenBytes::File(other))) => inode(one) == inode(other),
        (Some(OpenBytes::Bytes(one)), Some(OpenBytes::Bytes(other))) => one == other,
        _ => false,
    }
}
