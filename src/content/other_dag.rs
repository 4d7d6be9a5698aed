//! A stored blob as a DAG of another shape, without a copy of its bytes.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use ocipfs_unixfs::Root;

use super::{
    FileOptions,
    blob_writer::DagChunker,
    store::{BlobFile, BlobLayout, Error, Store, Stored},
};

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A DAG over a stored blob, which is not stored yet.
pub struct OtherDag {
    /// Its top.
    pub root: Root,
    stored: Stored,
    layout: BlobLayout,
}

impl OtherDag {
    /// Reads a stored blob, and makes a DAG of it.
    pub fn of(store: &Store, stored: Stored, options: impl Into<FileOptions>) -> Result<Self, Error> {
        let mut chunker = DagChunker::new(options.into());
        let mut bytes = StoredBytes::open(store, &stored)?;
        while let Some(piece) = bytes.next().map_err(|why| Error::Read { cid: stored.root, why })? {
            chunker.push(&piece);
        }
        let (root, layout, _) = chunker.finish();
        Ok(Self { root, stored, layout })
    }

    /// Opens the bytes of the blob.
    pub fn open(&self, store: &Store) -> Result<StoredBytes, Error> {
        StoredBytes::open(store, &self.stored)
    }

    /// Stores it.
    pub fn store(&self, store: &Store) -> Result<(), Error> {
        store.add_layout(&self.stored, &self.layout).map(drop)
    }
}

/// The bytes of a stored blob. Where they are read from one end to the other, damage is an error.
pub struct StoredBytes {
    file: BlobFile,
    check: Option<super::store::Check>,
    at: u64,
    piece: Bytes,
}

impl StoredBytes {
    /// Opens them.
    pub fn open(store: &Store, stored: &Stored) -> Result<Self, Error> {
        let file = store.open_file(stored)?;
        let check = file.check(&(0..file.size()));
        Ok(Self { file, check, at: 0, piece: Bytes::new() })
    }

    /// The next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let length = PIECE_BYTES.min(self.file.size() - self.at);
        if length == 0 {
            return Ok(None);
        }
        let piece = self.file.read_next(&mut self.check, self.at, length as usize)?;
        self.at += length;
        Ok(Some(piece))
    }
}

impl Read for StoredBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.next()?.unwrap_or_default();
        }
        let part = self.piece.split_to(into.len().min(self.piece.len()));
        into[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

impl Seek for StoredBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.size().checked_add_signed(by),
            SeekFrom::Current(by) => (self.at - self.piece.len() as u64).checked_add_signed(by),
        };
        let at = at.filter(|at| *at <= self.file.size());
        self.at = at.ok_or_else(|| io::Error::other("a place outside of the blob"))?;
        (self.check, self.piece) = (None, Bytes::new());
        Ok(self.at)
    }
}
