//! A stored blob that is read: what cannot be read, or is not what its digest says, is not stored from then on.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    ops::Range,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use ocipfs_oci::{Algorithm, Hasher};

use super::{Store, Stored, files, lock, source::OpenBytes, tables::Hash};

/// A blob that is read whole is hashed on the way, unless that was done within this time.
const REHASH_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Blobs of which it is remembered when they were hashed.
const CACHE_ENTRIES: usize = 1 << 16;

/// The bytes of one blob. Clones read the same file.
#[derive(Clone)]
pub struct BlobFile {
    pub(super) store: Store,
    pub(super) stored: Stored,
    pub(super) source: OpenBytes,
}

/// The running hash of a blob that is read from one end to the other.
pub struct Check {
    hasher: Box<Hasher>,
    at: u64,
}

/// When blobs were hashed or written last.
#[derive(Default)]
pub struct LastHashed(Mutex<HashMap<Hash, (Instant, SystemTime)>>);

impl LastHashed {
    pub fn note(&self, sha256: &Hash) {
        let mut all = lock(&self.0);
        if all.len() >= CACHE_ENTRIES {
            all.clear();
        }
        all.insert(*sha256, (Instant::now(), SystemTime::now()));
    }

    /// Whether a blob is to be hashed; also where its file was written to since.
    fn is_due(&self, sha256: &Hash, written: Option<SystemTime>) -> bool {
        let all = lock(&self.0);
        let Some((when, hashed)) = all.get(sha256) else { return true };
        when.elapsed() >= REHASH_INTERVAL || written.is_some_and(|written| written > *hashed)
    }
}

impl BlobFile {
    /// The length of the blob.
    pub fn size(&self) -> u64 {
        self.stored.size
    }

    /// Reads exactly `length` bytes from `offset` on.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let read = self.store.0.buffers.read(&self.source, offset, length, (&[], &[]));
        read.inspect_err(|_| self.demote())
    }

    /// Begins to hash what is read; nothing where only a part is read, or the blob was hashed within a day.
    pub fn check(&self, range: &Range<u64>) -> Option<Check> {
        let sha256 = files::sha256(&self.stored.digest).ok()?;
        let is_due =
            *range == (0..self.size()) && self.store.0.last_hashed.is_due(&sha256, self.source.written());
        is_due.then(|| Check { hasher: Box::new(Hasher::new(Algorithm::Sha256)), at: 0 })
    }

    /// Reads the next bytes of a blob that is checked. Where the last of them show that it is damaged, it is an error.
    pub fn read_next(&self, check: &mut Option<Check>, offset: u64, length: usize) -> io::Result<Bytes> {
        let bytes = self.read_at(offset, length)?;
        let Some(running) = check else { return Ok(bytes) };
        running.hasher.update(&bytes);
        running.at += bytes.len() as u64;
        if running.at < self.size() {
            return Ok(bytes);
        }
        let digest = check.take().map(|check| check.hasher.finish());
        if digest.is_none_or(|digest| digest != self.stored.digest) {
            self.demote();
            return Err(io::Error::new(ErrorKind::InvalidData, "content does not match its digest"));
        }
        if let Ok(sha256) = files::sha256(&self.stored.digest) {
            self.store.0.last_hashed.note(&sha256);
        }
        Ok(bytes)
    }

    fn demote(&self) {
        if let Err(error) = self.store.demote(&self.stored) {
            tracing::warn!(digest = %self.stored.digest, "cannot demote a damaged blob: {error}");
        }
    }
}
