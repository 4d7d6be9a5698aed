//! What the nodes of these tests store.

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use ocipfs_node::{Blocks, Cid};

/// Blocks in memory; none at first.
#[derive(Default)]
pub struct Memory {
    pub blocks: Mutex<HashMap<Cid, Bytes>>,
    /// Whether the next read panics, as a fault in a store does.
    pub panics: AtomicBool,
}

impl FromIterator<(Cid, Bytes)> for Memory {
    fn from_iter<T: IntoIterator<Item = (Cid, Bytes)>>(blocks: T) -> Self {
        Self { blocks: Mutex::new(blocks.into_iter().collect()), ..Self::default() }
    }
}

impl Blocks for Memory {
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>> {
        Ok(self.blocks.lock().unwrap().get(cid).map(|data| data.len() as u64))
    }

    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a fault");
        Ok(self.blocks.lock().unwrap().get(cid).cloned())
    }
}
