//! The paths of a tar that may have an entry twice.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::Error;

/// Entries of a layer: for each of them a few bytes are in memory.
const MAX_ENTRIES: u64 = 2 << 20;

/// The entries of a tar by their paths, of which the hash is kept, and the last of each.
#[derive(Debug, Default)]
pub struct Repeated {
    last: HashMap<u64, u64>,
    count: u64,
}

impl Repeated {
    /// Adds the next entry, and returns whether its path is new.
    pub fn add(&mut self, path: &str) -> Result<bool, Error> {
        self.count += 1;
        if self.count > MAX_ENTRIES {
            return Err(Error::Unsupported(format!("it has more than {MAX_ENTRIES} entries")));
        }
        Ok(self.last.insert(key(path), self.count).is_none())
    }

    /// Returns how many entries there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether there was an entry with this path.
    pub fn has(&self, path: &str) -> bool {
        self.last.contains_key(&key(path))
    }

    /// Returns whether the entry with this number is the last of its path.
    pub fn is_last(&self, path: &str, number: u64) -> bool {
        self.last.get(&key(path)).is_none_or(|last| *last == number)
    }
}

/// The same in each run of this program.
fn key(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
