//! Digests (`sha256:<hex>`) and the hashers that make them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use crate::excerpt;

/// Tells why a text or a byte string is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has no `:`.
    #[error("{0:?} is no digest: `sha256:` or `sha512:` followed by hex digits would be")]
    Shape(String),
    /// The algorithm before the `:` is not one of ours.
    #[error("digest algorithm {0:?} is not supported: sha256 and sha512 are")]
    Algorithm(String),
    /// The hash is too short or too long for its algorithm.
    #[error("a {algorithm} digest has {} hex digits, not {digits}", .algorithm.size() * 2)]
    Length {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// How many hex digits were given.
        digits: usize,
    },
    /// The hash holds something other than lower-case hex digits.
    #[error("{found:?} is no {algorithm} hash: only the hex digits 0-9 and a-f, in lower case, are allowed")]
    Hex {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// What stood in place of the hash.
        found: String,
    },
}

/// The hash functions a digest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which nearly every image uses.
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

    /// Returns the length of a hash, in bytes.
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

/// The name of a blob: an algorithm and the hash of the bytes.
///
/// Digests sort as their texts do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(Hash);

// Boxed, because the rare sha512 would double the size of every digest held in memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hash {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// Makes a digest of a hash computed elsewhere; fails when its length is not the algorithm's.
    pub fn new(algorithm: Algorithm, hash: &[u8]) -> Result<Self, Error> {
        let length = |_| Error::Length { algorithm, digits: hash.len().saturating_mul(2) };
        Ok(Self(match algorithm {
            Algorithm::Sha256 => Hash::Sha256(hash.try_into().map_err(length)?),
            Algorithm::Sha512 => Hash::Sha512(Box::new(hash.try_into().map_err(length)?)),
        }))
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

    /// Returns the hash itself.
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

    /// Returns the strong entity tag of the content: the digest in quotes.
    pub fn etag(&self) -> String {
        format!("\"{self}\"")
    }

    /// Tells whether an `If-None-Match` names this content (RFC 9110, section 13.1.2: weak tags count too).
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
        // The hex crate takes upper case too, which would give one blob two names.
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

/// A running hash over bytes that arrive in pieces.
#[derive(Clone, Debug)]
pub struct Hasher(Running);

#[derive(Clone, Debug)]
enum Running {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash over nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Running::Sha256(Sha256::new()),
            Algorithm::Sha512 => Running::Sha512(Sha512::new()),
        })
    }

    /// Hashes bytes that are all here.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Returns the state of a running sha256, to be saved and resumed later; none of another algorithm.
    pub fn state(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Running::Sha256(hash) => Some(hash.serialize().to_vec()),
            Running::Sha512(_) => None,
        }
    }

    /// Resumes a sha256 from a saved state; none where the bytes are not such a state.
    pub fn resume(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Some(Self(Running::Sha256(Sha256::deserialize(&state).ok()?)))
    }

    /// Returns the digest of all bytes taken.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            Running::Sha256(hash) => Hash::Sha256(hash.finalize().into()),
            Running::Sha512(hash) => Hash::Sha512(Box::new(hash.finalize().into())),
        })
    }
}

#[cfg(test)]
mod tests;
