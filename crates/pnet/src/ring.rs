//! The keys of a node, which change while its transport keeps the same handle.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{KEY_BYTES, PreSharedKey};

/// The rings of this process, by handle.
static RINGS: LazyLock<Mutex<Rings>> = LazyLock::new(Mutex::default);

/// Rings that are in use, by the key that each began with.
type Rings = HashMap<[u8; KEY_BYTES], Weak<Mutex<Keys>>>;

/// The keys that new connections use.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The key that the node dials with. It is accepted, too.
    pub dial: [u8; KEY_BYTES],
    /// Further keys that are accepted from peers that dial this node.
    pub accepted: Vec<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Returns all keys that are accepted, the one that the node dials with first.
    pub fn all(&self) -> impl Iterator<Item = &[u8; KEY_BYTES]> {
        std::iter::once(&self.dial).chain(&self.accepted)
    }
}

/// Does not print the secrets.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// The keys of one node. Clones share them; connections are encrypted with them as long as one clone is kept.
#[derive(Clone, Debug)]
pub struct KeyRing {
    handle: [u8; KEY_BYTES],
    keys: Arc<Mutex<Keys>>,
}

impl KeyRing {
    /// Creates a ring of one key.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        // As a key it would be one that no peer has.
        let handle = rand::random();
        let keys = Arc::new(Mutex::new(Keys { dial: key, accepted: Vec::new() }));
        let mut rings = locked(&RINGS);
        rings.retain(|_, ring| ring.strong_count() > 0);
        rings.insert(handle, Arc::downgrade(&keys));
        drop(rings);
        Self { handle, keys }
    }

    /// Returns what a transport is configured with, in place of a key.
    pub fn handle(&self) -> PreSharedKey {
        PreSharedKey(self.handle)
    }

    /// Returns the keys.
    pub fn keys(&self) -> Keys {
        locked(&self.keys).clone()
    }

    /// Replaces the keys of new connections; open ones stay as they are.
    pub fn set(&self, keys: Keys) {
        *locked(&self.keys) = keys;
    }
}

/// Returns the keys of a handle, or the key itself.
pub(crate) fn keys_of(key: &[u8; KEY_BYTES]) -> Keys {
    let ring = locked(&RINGS).get(key).and_then(Weak::upgrade);
    match ring {
        Some(keys) => locked(&keys).clone(),
        None => Keys { dial: *key, accepted: Vec::new() },
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
