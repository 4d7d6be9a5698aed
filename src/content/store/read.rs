//! Finding and reading blocks and blobs.

use std::{fs::File, io::ErrorKind, path::Path, sync::Arc};

use bytes::Bytes;
use ocipfs_node::{Cid, inline_bytes};
use ocipfs_oci::Digest;

use super::{
    BlobFile, Error, Store, Stored, files,
    layout::{BlockKey, BlockPlace, frame},
    source::OpenBytes,
    sweep,
    tables::{self, ALIASES, BLOCKS, FILES, Hash, ROOTS, SHARED, SMALL, STORED},
};

impl Store {
    /// The length of a block that is here, as each one is that its CID carries.
    pub fn size(&self, cid: &Cid) -> Result<Option<u64>, Error> {
        if let Some(bytes) = inline_bytes(cid) {
            return Ok(Some(bytes.len() as u64));
        }
        let key = BlockKey::of(cid);
        let place = match self.0.pending.get(&key) {
            Some(waiting) => Some(waiting.place),
            None => self.block_row(&key)?.map(|(_, place)| place),
        };
        Ok(place.map(|place| place.block_size(cid)))
    }

    /// The bytes of a block that is here.
    pub fn get(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        #[cfg(test)]
        self.work().reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(bytes) = inline_bytes(cid) {
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        let key = BlockKey::of(cid);
        // Before the index: what is committed in between is found there.
        if let Some(waiting) = self.0.pending.get(&key) {
            return self.read(cid, waiting.place, &waiting.source).map(Some);
        }
        // Again, where the owner was removed in between and another has the block.
        for _ in 0..2 {
            match self.block_row(&key)? {
                None => return Ok(None),
                Some((_, BlockPlace::Inline(block))) => return Ok(Some(block)),
                Some((owner, place)) => {
                    if let Some(source) = self.source(owner)? {
                        return self.read(cid, place, &source).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    fn read(&self, cid: &Cid, place: BlockPlace, source: &OpenBytes) -> Result<Bytes, Error> {
        match place {
            BlockPlace::Inline(block) => Ok(block),
            BlockPlace::Window { offset, length } => {
                let (head, tail) = frame(cid, length);
                let read = self.0.buffers.read(source, offset, length as usize, (&head, &tail));
                read.map_err(|why| Error::Read { cid: *cid, why })
            }
        }
    }

    /// A stored blob, by its sha256 or another of its digests.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        self.0.database.read(|read| {
            let sha256 = match files::sha256(digest) {
                Ok(sha256) => Some(sha256),
                Err(_) => tables::row(read, ALIASES, digest.bytes(), |sha256| *sha256)?,
            };
            let Some(sha256) = sha256 else { return Ok(None) };
            let id = tables::row(read, STORED, &sha256, |(_, ids, _)| ids.first().copied())?.flatten();
            let Some(id) = id else { return Ok(None) };
            tables::row(read, FILES, id, |row| files::stored(id, row))?.transpose()
        })
    }

    /// A stored blob, by the root of any of its layouts.
    pub fn file(&self, root: &Cid) -> Result<Option<Stored>, Error> {
        self.0.database.read(|read| {
            let id = tables::row(read, ROOTS, BlockKey::of(root).bytes(), |id| id)?;
            let Some(id) = id else { return Ok(None) };
            tables::row(read, FILES, id, |row| files::stored(id, row))?.transpose()
        })
    }

    /// Opens a stored blob; it stays readable when it is removed meanwhile.
    pub fn open_file(&self, stored: &Stored) -> Result<BlobFile, Error> {
        self.use_file(stored.id);
        let source = self.source(stored.id)?;
        let source = source.filter(|source| source.length().is_ok_and(|length| length >= stored.size));
        let source = source.ok_or_else(|| Error::Gone(stored.digest.clone()))?;
        Ok(BlobFile { store: self.clone(), stored: stored.clone(), source })
    }

    /// An owner of a block that is not being removed, and where that one has it.
    pub(super) fn block_row(&self, key: &BlockKey) -> Result<Option<(u64, BlockPlace)>, Error> {
        self.0.database.read(|read| {
            let first =
                tables::row(read, BLOCKS, key.bytes(), |(owner, row)| (owner, BlockPlace::from_row(row)))?;
            let Some(first) = first else { return Ok(None) };
            if !sweep::is_removed(read, first.0)? {
                return Ok(Some(first));
            }
            for row in read.open_table(SHARED)?.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                let (row_key, place) = row?;
                let owner = row_key.value().1;
                if !sweep::is_removed(read, owner)? {
                    return Ok(Some((owner, BlockPlace::from_row(place.value()))));
                }
            }
            Ok(None)
        })
    }

    pub(super) fn file_row(&self, id: u64) -> Result<Option<(Hash, u64)>, Error> {
        self.0.database.read(|read| tables::row(read, FILES, id, |(sha256, size, _)| (*sha256, size)))
    }

    /// The bytes of a stored or a partial file; none if it was removed.
    pub(super) fn source(&self, id: u64) -> Result<Option<OpenBytes>, Error> {
        if let Some(source) = self.0.sources.get(id) {
            return Ok(Some(source));
        }
        let source = match self.file_row(id)? {
            Some((sha256, _)) => self.blob_source(&sha256)?,
            None => self.open_at(&self.0.disk.incoming(id))?,
        };
        if let Some(source) = &source {
            self.0.sources.insert(id, source.clone());
        }
        Ok(source)
    }

    /// A blob is in the index, in its place, or still under the id it came in by, in this order.
    pub(super) fn blob_source(&self, sha256: &Hash) -> Result<Option<OpenBytes>, Error> {
        let small = self.0.database.read(|read| tables::row(read, SMALL, sha256, Bytes::copy_from_slice))?;
        if let Some(bytes) = small {
            return Ok(Some(OpenBytes::Bytes(bytes)));
        }
        let ids = self.0.database.read(|read| tables::row(read, STORED, sha256, |(_, ids, _)| ids))?;
        let incoming = ids.unwrap_or_default().into_iter().map(|id| self.0.disk.incoming(id));
        let place = self.0.disk.blob(sha256);
        // In its place at last, as it may have moved while it was looked for.
        for path in [place.clone()].into_iter().chain(incoming).chain([place]) {
            if let Some(source) = self.open_at(&path)? {
                return Ok(Some(source));
            }
        }
        Ok(None)
    }

    pub(super) fn open_at(&self, path: &Path) -> Result<Option<OpenBytes>, Error> {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(|file| Some(OpenBytes::File(Arc::new(file)))).map_err(Error::at(path)),
        }
    }
}
