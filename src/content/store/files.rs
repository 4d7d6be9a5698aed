//! The rows of stored blobs and of their layouts: added and removed within one transaction.

use std::collections::BTreeMap;

use ocipfs_node::Cid;
use ocipfs_oci::{Algorithm, Digest};
use redb::{ReadableTable, WriteTransaction};

use super::{
    Error, Stored,
    extents::Extents,
    layout::{BlobLayout, BlockKey, BlockPlace},
    tables::{BYTES, FILES, Hash, PARTIAL_BYTES, PartialRow, ROOTS, Tables, add_to},
    usage::now,
};

/// The row of a blob.
pub struct NewBlobRow<'a> {
    pub sha256: Hash,
    pub size: u64,
    /// Other digests of the same bytes.
    pub aliases: &'a [Digest],
    /// The bytes themselves, where they are too few for a file.
    pub small: Option<&'a [u8]>,
}

/// A blob that a commit adds: its row, and the DAGs over it.
pub struct NewBlob {
    /// The id of its file, if it has one.
    pub id: u64,
    pub sha256: Hash,
    pub size: u64,
    pub aliases: Vec<Digest>,
    pub small: Option<Vec<u8>>,
    pub layouts: Vec<BlobLayout>,
}

impl NewBlob {
    pub fn row(&self) -> NewBlobRow<'_> {
        let Self { sha256, size, aliases, small, .. } = self;
        NewBlobRow { sha256: *sha256, size: *size, aliases, small: small.as_deref() }
    }
}

/// The size, the file ids and the aliases of a blob.
pub(super) type KnownBlobRow = (u64, Vec<u64>, Vec<Vec<u8>>);

/// The hash of a sha256 digest.
pub fn sha256(digest: &Digest) -> Result<Hash, Error> {
    digest.bytes().try_into().map_err(|_| Error::NotSha256(digest.clone()))
}

/// A file's row as the callers see it.
pub fn stored(id: u64, (sha256, size, root): (&Hash, u64, &[u8])) -> Result<Stored, Error> {
    let digest = Digest::new(Algorithm::Sha256, sha256).map_err(|e| Error::Damaged(e.to_string()))?;
    let root = Cid::try_from(root).map_err(|e| Error::Damaged(e.to_string()))?;
    Ok(Stored { id, digest, size, root })
}

/// Whether a file with this root is stored.
pub fn is_stored(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    let id = write.open_table(ROOTS)?.get(BlockKey::of(root).bytes())?.map(|row| row.value());
    id.map_or(Ok(false), |id| Ok(write.open_table(FILES)?.get(id)?.is_some()))
}

impl Tables<'_> {
    /// Records the bytes and their digests.
    pub fn add_blob(&mut self, whole: &NewBlobRow) -> Result<(), Error> {
        let known = self.stored_row(&whole.sha256)?;
        let is_new = known.is_none();
        let mut row = known.unwrap_or((whole.size, Vec::new(), Vec::new()));
        for alias in self.regain(&whole.sha256)? {
            self.aliases.insert(alias.as_slice(), &whole.sha256)?;
            row.2.push(alias);
        }
        for alias in whole.aliases.iter().map(|alias| alias.bytes().to_vec()) {
            if alias != whole.sha256 && !row.2.contains(&alias) {
                self.aliases.insert(alias.as_slice(), &whole.sha256)?;
                row.2.push(alias);
            }
        }
        self.set_stored_row(&whole.sha256, row)?;
        // Also over a row whose bytes are damaged.
        if let Some(bytes) = whole.small {
            self.small.insert(&whole.sha256, bytes)?;
        }
        if is_new {
            add_to(&mut self.meta, BYTES, whole.size as i64)?;
        }
        Ok(())
    }

    pub(super) fn stored_row(&self, sha256: &Hash) -> Result<Option<KnownBlobRow>, Error> {
        Ok(self.stored.get(sha256)?.map(|row| {
            let (size, ids, aliases) = row.value();
            (size, ids, aliases.into_iter().map(Vec::from).collect())
        }))
    }

    fn set_stored_row(&mut self, sha256: &Hash, (size, ids, aliases): KnownBlobRow) -> Result<(), Error> {
        self.stored.insert(sha256, (size, ids, aliases.iter().map(Vec::as_slice).collect()))?;
        Ok(())
    }

    /// Records a file of a blob that is recorded; its blocks have their rows.
    pub fn add_file(&mut self, id: u64, root: &Cid, whole: &NewBlobRow) -> Result<(), Error> {
        self.files.insert(id, (&whole.sha256, whole.size, root.to_bytes().as_slice()))?;
        self.roots.insert(BlockKey::of(root).bytes(), id)?;
        self.used.insert(id, now())?;
        self.change_ids(&whole.sha256, |ids| ids.push(id))?;
        Ok(())
    }

    /// Adds a layout of a blob that is recorded, and gives its id: `id`, unless the layout is there already.
    pub fn add_layout(&mut self, id: u64, layout: &BlobLayout, whole: &NewBlobRow) -> Result<u64, Error> {
        if let Some(known) = self.stored_root(&BlockKey::of(&layout.root))? {
            self.share_again(known)?;
            return Ok(known);
        }
        // Of a large layout the blocks were recorded before.
        if self.removed.remove(id)?.is_some() {
            self.add_file(id, &layout.root, whole)?;
            return Ok(id);
        }
        // In the order of the table: neighbours fall into one page. Of equal blocks one window is enough.
        let leaves = layout.leaves.iter().map(|leaf| (BlockKey::of(&leaf.cid), BlockPlace::window(leaf)));
        let nodes =
            layout.nodes.iter().map(|node| (BlockKey::of(&node.cid), BlockPlace::Inline(node.data.clone())));
        for (key, place) in leaves.chain(nodes).collect::<BTreeMap<_, _>>() {
            self.own(&key, id, &place)?;
        }
        self.add_file(id, &layout.root, whole)?;
        Ok(id)
    }

    /// The id of the stored file with this root.
    pub fn stored_root(&self, root: &BlockKey) -> Result<Option<u64>, Error> {
        let Some(id) = self.roots.get(root.bytes())?.map(|row| row.value()) else { return Ok(None) };
        Ok(self.files.get(id)?.map(|_| id))
    }

    /// Removes a stored file and says whether its blob went with it. Its blocks go with the next sweep.
    pub fn remove_file(&mut self, id: u64, root: &Cid, sha256: &Hash) -> Result<bool, Error> {
        self.removed.insert(id, root.to_bytes().as_slice())?;
        self.files.remove(id)?;
        self.used.remove(id)?;
        self.roots.remove(BlockKey::of(root).bytes())?;
        self.origins.remove(id)?;
        let left = self.change_ids(sha256, |ids| ids.retain(|other| *other != id))?;
        if left > 0 {
            return Ok(false);
        }
        self.remove_blob(sha256)?;
        Ok(true)
    }

    fn remove_blob(&mut self, sha256: &Hash) -> Result<(), Error> {
        if let Some(row) = self.stored.remove(sha256)? {
            let (size, _, aliases) = row.value();
            for alias in aliases {
                self.aliases.remove(alias)?;
            }
            add_to(&mut self.meta, BYTES, -(size as i64))?;
        }
        if self.small.remove(sha256)?.is_none() {
            self.doomed.insert(sha256, ())?;
        }
        Ok(())
    }

    /// Records what is here of a partial file.
    pub fn set_partial(&mut self, id: u64, row: PartialRow) -> Result<(), Error> {
        self.forget_partial(id)?;
        add_to(&mut self.meta, PARTIAL_BYTES, Extents::from_rows(row.2.clone()).length() as i64)?;
        self.partial.insert(id, row)?;
        Ok(())
    }

    /// Forgets that a file is being downloaded.
    pub fn forget_partial(&mut self, id: u64) -> Result<(), Error> {
        let before = self.partial.remove(id)?.map(|row| Extents::from_rows(row.value().2).length());
        before.map_or(Ok(()), |bytes| add_to(&mut self.meta, PARTIAL_BYTES, -(bytes as i64)))
    }

    /// Removes what is known of a file that was arriving. Its blocks go with the next sweep.
    pub fn remove_partial(&mut self, id: u64, root: &Cid) -> Result<(), Error> {
        self.removed.insert(id, root.to_bytes().as_slice())?;
        self.forget_partial(id)?;
        self.hashed.remove(id)?;
        self.used.remove(id)?;
        self.origins.remove(id)?;
        self.forget_damage(id)?;
        let key = BlockKey::of(root);
        if self.roots.get(key.bytes())?.is_some_and(|row| row.value() == id) {
            self.roots.remove(key.bytes())?;
        }
        Ok(())
    }

    fn change_ids(&mut self, sha256: &Hash, change: impl FnOnce(&mut Vec<u64>)) -> Result<usize, Error> {
        let Some(mut row) = self.stored_row(sha256)? else { return Ok(0) };
        change(&mut row.1);
        let left = row.1.len();
        self.set_stored_row(sha256, row)?;
        Ok(left)
    }
}
