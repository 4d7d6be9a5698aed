//! Digests (`sha256:<hex>`) and hashers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use crate::excerpt;

/// Why a text or a byte string is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has no `:`.
    #[error("invalid digest {0:?}: expected `sha256:` or `sha512:` and hex digits")]
    Shape(String),
    /// The algorithm before the `:` is not supported.
    #[error("unsupported digest algorithm {0:?}: expected sha256 or sha512")]
    Algorithm(String),
    /// The hash has the wrong length for its algorithm.
    #[error("invalid {algorithm} digest of {digits} digits: expected {} hex digits", .algorithm.size() * 2)]
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// The number of hex digits.
        digits: usize,
    },
    /// The hash contains other characters than lower-case hex digits.
    #[error("invalid {algorithm} digest {found:?}: expected lower-case hex digits, 0-9 and a-f")]
    Hex {
        /// The algorithm.
        algorithm: Algorithm,
        /// The invalid hash.
        found: String,
    },
}

/// The supported hash functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, used by nearly every image.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the name used in digests and in the paths of an image layout.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the length of a digest in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(Error::Algorithm(excerpt(text))),
        }
    }
}

/// The digest of a blob: an algorithm and the hash of the bytes.
///
/// Digests sort as their texts do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(Hash);

// Boxed, since the rare sha512 would double the size of every digest in memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hash {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// Creates a digest from a hash computed elsewhere. Fails if its length does not match the algorithm.
    pub fn new(algorithm: Algorithm, hash: &[u8]) -> Result<Self, Error> {
        let length = |_| Error::Length { algorithm, digits: hash.len().saturating_mul(2) };
        Ok(Self(match algorithm {
            Algorithm::Sha256 => Hash::Sha256(hash.try_into().map_err(length)?),
            Algorithm::Sha512 => Hash::Sha512(Box::new(hash.try_into().map_err(length)?)),
        }))
    }

    pub(crate) const fn from_sha256(hash: [u8; 32]) -> Self {
        Self(Hash::Sha256(hash))
    }

    /// Hashes `content` with SHA-256.
    pub fn sha256_of(content: &[u8]) -> Self {
        Self(Hash::Sha256(Sha256::digest(content).into()))
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Hash::Sha256(_) => Algorithm::Sha256,
            Hash::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Returns the bytes of the hash.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Hash::Sha256(hash) => hash,
            Hash::Sha512(hash) => hash.as_slice(),
        }
    }

    /// Returns the hash in lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes())
    }

    /// Returns the strong entity tag of the content: the quoted digest.
    pub fn etag(&self) -> String {
        format!("\"{self}\"")
    }

    /// Returns whether an `If-None-Match` header lists this content (RFC 9110, section 13.1.2: weak tags count too).
    pub fn is_among(&self, if_none_match: &str) -> bool {
        let etag = self.etag();
        let mut tags = if_none_match.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (algorithm, hash) = text.split_once(':').ok_or_else(|| Error::Shape(excerpt(text)))?;
        let algorithm: Algorithm = algorithm.parse()?;
        let not_hex = || Error::Hex { algorithm, found: excerpt(hash) };
        // The hex crate also accepts upper case, which would give one blob two digests.
        if !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(not_hex());
        }
        if hash.len() != algorithm.size() * 2 {
            return Err(Error::Length { algorithm, digits: hash.len() });
        }
        Self::new(algorithm, &hex::decode(hash).map_err(|_| not_hex())?)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An incremental hash.
#[derive(Clone, Debug)]
pub struct Hasher(Running);

#[derive(Clone, Debug)]
enum Running {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Running::Sha256(Sha256::new()),
            Algorithm::Sha512 => Running::Sha512(Sha512::new()),
        })
    }

    /// Hashes all of `content` at once.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// Adds bytes to the hash.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Returns the state of a sha256 hash, to be saved and resumed later; `None` for other algorithms.
    pub fn state(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Running::Sha256(hash) => Some(hash.serialize().to_vec()),
            Running::Sha512(_) => None,
        }
    }

    /// Resumes a sha256 hash from a saved state; `None` if the state is invalid.
    pub fn resume(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Some(Self(Running::Sha256(Sha256::deserialize(&state).ok()?)))
    }

    /// Returns the digest of all added bytes.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            Running::Sha256(hash) => Hash::Sha256(hash.finalize().into()),
            Running::Sha512(hash) => Hash::Sha512(Box::new(hash.finalize().into())),
        })
    }
}

#[cfg(test)]
mod tests;
