//! Bytes coming in: cut, hashed and kept, with nothing left behind where they end badly.

#[allow(dead_code)]
mod pipeline;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use ocipfs_node::{Block, Cid};

use super::{
    Content, Error, MIB, Profile,
    dag::{Builder, Root},
};

/// Blocks are kept in batches of this many bytes.
const BATCH: usize = 8 * MIB;

/// A DAG that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub(super) root: Root,
}

impl Stored {
    /// The CID of its root.
    pub fn cid(&self) -> Cid {
        self.root.cid
    }

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        self.root.size
    }
}

impl Content {
    /// Stores a stream as a file. Where the stream fails, what was stored of it is removed again.
    pub async fn put(
        &self,
        bytes: impl Stream<Item = std::io::Result<Bytes>>,
        profile: Profile,
    ) -> Result<Stored, Error> {
        let mut batch = Batch { content: self, profile, blocks: Vec::new(), size: 0, new: Vec::new() };
        match batch.take_in(bytes).await {
            Ok(root) => Ok(Stored { root }),
            Err(error) => {
                self.node().remove(&batch.new).await?;
                Err(error)
            }
        }
    }

    /// Wraps a file in a directory, so that its name travels with it.
    pub async fn wrap(&self, name: &str, file: &Stored, profile: Profile) -> Result<Stored, Error> {
        let (root, block) = profile.directory(name, &file.root);
        self.node().put(vec![block]).await?;
        Ok(Stored { root })
    }
}

struct Batch<'a> {
    content: &'a Content,
    profile: Profile,
    blocks: Vec<Block>,
    size: usize,
    /// What was not there before.
    new: Vec<Cid>,
}

impl Batch<'_> {
    async fn take_in(&mut self, bytes: impl Stream<Item = std::io::Result<Bytes>>) -> Result<Root, Error> {
        let profile = self.profile;
        let mut builder = Builder::new(profile);
        let mut open = BytesMut::with_capacity(profile.chunk());
        let mut bytes = std::pin::pin!(bytes);
        while let Some(mut next) = bytes.next().await.transpose()? {
            while !next.is_empty() {
                let part = next.split_to(next.len().min(profile.chunk() - open.len()));
                open.extend_from_slice(&part);
                if open.len() == profile.chunk() {
                    let chunk =
                        std::mem::replace(&mut open, BytesMut::with_capacity(profile.chunk())).freeze();
                    self.add(builder.push(chunk)).await?;
                }
            }
        }
        if !open.is_empty() {
            self.add(builder.push(open.freeze())).await?;
        }
        let (root, last) = builder.finish();
        self.add(last).await?;
        self.flush().await?;
        Ok(root)
    }

    async fn add(&mut self, blocks: Vec<Block>) -> Result<(), Error> {
        self.size += blocks.iter().map(|block| block.data.len()).sum::<usize>();
        self.blocks.extend(blocks);
        if self.size >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let node = self.content.node();
        let mut missing = Vec::with_capacity(self.blocks.len());
        for block in self.blocks.drain(..) {
            if !node.has(&block.cid).await? {
                self.new.push(block.cid);
                missing.push(block);
            }
        }
        self.size = 0;
        Ok(node.put(missing).await?)
    }
}
