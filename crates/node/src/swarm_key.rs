//! The pre-shared key of a private swarm, in the three-line format of Kubo's `swarm.key`.

use std::{fmt, fs, path::Path, str::FromStr};

const HEADER: &str = "/key/swarm/psk/1.0.0/";
const ENCODING: &str = "/base16/";

/// Why a text is not a swarm key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line is invalid.
    #[error("invalid swarm key: expected {expected} in line {line}; `ocipfs swarm key` prints a new one")]
    Line {
        /// The line number, starting at 1.
        line: usize,
        /// The expected content.
        expected: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the swarm key {path}: {why}")]
    File {
        /// The path as given.
        path: String,
        /// The error of the operating system.
        why: String,
    },
}

/// The 32 bytes that all members of a private swarm share.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmKey([u8; 32]);

impl SwarmKey {
    /// Generates a random key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a `swarm.key` file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = |why: String| Error::File { path: path.display().to_string(), why };
        let text = fs::read(path).map_err(|e| file(e.to_string()))?;
        String::from_utf8(text).map_err(|_| file("not text".into()))?.parse()
    }

    /// Returns the sha256 of the key in hexadecimal digits, which identifies the key without revealing it.
    pub fn fingerprint(&self) -> String {
        use multihash_codetable::{Code, MultihashDigest};
        hex::encode(Code::Sha2_256.digest(&self.0).digest())
    }

    /// Returns a key of 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes of the key.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl FromStr for SwarmKey {
    type Err = Error;

    // Fully validated here: the library's parser panics on 64 bytes that are not ASCII.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().map(str::trim_end);
        for (line, expected) in [(1, HEADER), (2, ENCODING)] {
            if lines.next() != Some(expected) {
                return Err(Error::Line { line, expected });
            }
        }
        let digits = Error::Line { line: 3, expected: "64 hexadecimal digits" };
        let mut key = [0; 32];
        match lines.next() {
            Some(hex) if hex::decode_to_slice(hex, &mut key).is_ok() => {}
            _ => return Err(digits),
        }
        if lines.any(|line| !line.is_empty()) {
            return Err(Error::Line { line: 4, expected: "absent" });
        }
        Ok(Self(key))
    }
}

impl fmt::Display for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEADER}\n{ENCODING}\n{}", hex::encode(self.0))
    }
}

/// Does not print the secret.
impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SwarmKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_swarm_key_round_trips_through_text() {
        let key = SwarmKey::generate();
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert_eq!(format!("{key}\n").parse(), Ok(key.clone()));
        assert_ne!(key, SwarmKey::generate());
        assert!(!format!("{key:?}").contains(&hex::encode(key.bytes())));
    }

    #[test]
    fn an_invalid_swarm_key_is_rejected_with_its_line() {
        let digits = "a".repeat(64);
        for (text, line) in [
            (String::new(), 1),
            (format!("/key/swarm/psk/2.0.0/\n/base16/\n{digits}"), 1),
            (format!("{HEADER}\n/base64/\n{digits}"), 2),
            (format!("{HEADER}\n{ENCODING}\n"), 3),
            (format!("{HEADER}\n{ENCODING}\n{}", &digits[1..]), 3),
            (format!("{HEADER}\n{ENCODING}\n{}", "é".repeat(32)), 3),
            (format!("{HEADER}\n{ENCODING}\n{}", "g".repeat(64)), 3),
            (format!("{HEADER}\n{ENCODING}\n{digits}\nmore"), 4),
        ] {
            match text.parse::<SwarmKey>() {
                Err(Error::Line { line: found, .. }) => assert_eq!(found, line, "{text:?}"),
                other => panic!("{text:?} gave {other:?}"),
            }
        }
    }
}
