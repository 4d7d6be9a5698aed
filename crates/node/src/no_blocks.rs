//! A block store without blocks, for tests.

use std::io;

use bytes::Bytes;

use crate::{Blocks, Cid};

pub struct NoBlocks;

impl Blocks for NoBlocks {
    fn size(&self, _: &Cid) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn get(&self, _: &Cid) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}
