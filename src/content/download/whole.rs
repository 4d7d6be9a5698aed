//! The running hash of a whole file, which is resumed where an earlier attempt saved it.

use ocipfs_oci::{Algorithm, Digest, Hasher};

use crate::content::{
    Error,
    store::{Hashed, PartialBlob},
};

/// Read for hashing in one piece.
const PIECE_BYTES: u64 = 1 << 20;
/// Hashed in one go.
const MAX_HASHED_BYTES: u64 = 8 << 20;

/// The sha256 of the first bytes of a file.
pub struct WholeHasher {
    hasher: Hasher,
    /// How many bytes it has taken.
    length: u64,
}

impl WholeHasher {
    /// Goes on where the file's rows say, else begins.
    pub fn of(file: &PartialBlob) -> Self {
        let saved = file.hashed();
        let saved = saved.and_then(|saved| Some((Hasher::resume(&saved.state)?, saved.length)));
        let (hasher, length) = saved.unwrap_or_else(|| (Hasher::new(Algorithm::Sha256), 0));
        Self { hasher, length }
    }

    /// How far it is.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the length and state of the hash, to be saved.
    pub fn state(&self) -> Option<Hashed> {
        Some(Hashed { length: self.length, state: self.hasher.state()? })
    }

    /// Takes data that belongs at `offset`, if it is the next: then it need not be read again.
    pub fn push(&mut self, offset: u64, data: &[u8]) {
        if offset == self.length {
            self.hasher.update(data);
            self.length += data.len() as u64;
        }
    }

    /// Hashes what is here, up to a bound; `step` is told of each piece.
    pub fn read_on(mut self, file: &PartialBlob, step: impl Fn()) -> Result<Self, Error> {
        self.catch_up(file, step)?;
        Ok(self)
    }

    /// Hashes what is here behind the data that it has taken, up to a bound.
    pub fn catch_up(&mut self, file: &PartialBlob, step: impl Fn()) -> Result<(), Error> {
        let end = self.length + file.available(self.length).min(MAX_HASHED_BYTES);
        while self.length < end {
            let bytes = file.read_at(self.length, PIECE_BYTES.min(end - self.length) as usize)?;
            self.hasher.update(&bytes);
            self.length += bytes.len() as u64;
            step();
        }
        Ok(())
    }

    /// The digest of what it has taken.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// Hashes a file that is here whole.
pub fn hash(file: &PartialBlob, algorithm: Algorithm, step: impl Fn()) -> Result<Digest, Error> {
    let (mut hasher, mut at) = (Hasher::new(algorithm), 0);
    while at < file.size() {
        let bytes = file.read_at(at, PIECE_BYTES.min(file.size() - at) as usize)?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
        step();
    }
    Ok(hasher.finish())
}
