//! What the nodes of these tests store.

use std::{collections::HashMap, io, sync::Mutex};

use bytes::Bytes;
use ocipfs_node::{Blocks, Cid};

/// Blocks in memory; none at first.
#[derive(Default)]
pub struct Memory(pub Mutex<HashMap<Cid, Bytes>>);

impl Blocks for Memory {
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>> {
        Ok(self.0.lock().unwrap().get(cid).map(|data| data.len() as u64))
    }

    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(cid).cloned())
    }
}
