//! Writes a bundle into a file, a stream, or parts of a size. Each part is a CARv1 of its own, with the manifest at its
//! beginning: it can be imported alone, in any order.

use bytes::Bytes;
use ocipfs_node::{Block, Cid, car};
use ocipfs_unixfs::links;

use super::{END_TYPE, EndOfPart, Error, Manifest};
use crate::{
    content::{Document, FileBlock, Profile},
    images::export::ExportTarget,
};

/// The most that the end of a part takes.
pub(super) const END_BYTES: u64 = 1 << 10;
/// What a part must have room for besides its manifest: a block, and the nodes above it.
const MIN_ROOM_BYTES: u64 = 16 << 20;

/// A bundle that is being written.
pub struct BundleWriter<'a> {
    target: &'a mut ExportTarget,
    /// The size that no part reaches.
    split: Option<u64>,
    root: Cid,
    /// The header and the manifest, with which each part begins.
    prologue: Vec<Bytes>,
    part: u32,
    /// Bytes of this part, and of those before it.
    written: u64,
    written_before: u64,
    /// The nodes above the next block.
    above: Vec<Block>,
}

/// Returns the file of a manifest: its blocks in the order in which a bundle has them.
pub fn manifest_file(manifest: &Manifest) -> Result<(Cid, Vec<Block>), Error> {
    let Document { root, blocks } = Document::file(manifest.to_json()?.into(), Profile::default());
    let find = |cid: &Cid| blocks.iter().find(|block| block.cid == *cid).cloned();
    let (mut waiting, mut ordered) = (vec![root.cid], Vec::new());
    while let Some(block) = waiting.pop().as_ref().and_then(find) {
        let below = links(&block.cid, block.data.clone()).map_err(crate::content::Error::from)?;
        waiting.extend(below.into_iter().rev());
        ordered.push(block);
    }
    Ok((root.cid, ordered))
}

impl<'a> BundleWriter<'a> {
    /// Begins a bundle with its manifest; `path` is told to the target as the path of each part.
    pub async fn begin(
        target: &'a mut ExportTarget,
        (root, manifest): (Cid, &[Block]),
        split: Option<u64>,
    ) -> Result<Self, Error> {
        let mut prologue = vec![Bytes::from(car::header(&[root]))];
        for block in manifest {
            prologue.push(car::section(&block.cid, block.data.len()).into());
            prologue.push(block.data.clone());
        }
        let least = prologue.iter().map(|bytes| bytes.len() as u64).sum::<u64>() + MIN_ROOM_BYTES;
        if let Some(split) = split.filter(|split| *split < least) {
            return Err(Error::SmallParts { split, least });
        }
        let (part, written, written_before, above) = (0, 0, 0, Vec::new());
        let mut writer = Self { target, split, root, prologue, part, written, written_before, above };
        writer.begin_part().await?;
        Ok(writer)
    }

    /// Writes the next block of a file, in another part where this one is full.
    pub async fn write(&mut self, next: FileBlock) -> Result<(), Error> {
        let FileBlock { block, depth, is_inner } = next;
        self.above.truncate(depth);
        let length = block.data.len() as u64 + car::section(&block.cid, block.data.len()).len() as u64;
        if self.split.is_some_and(|split| self.written + length + END_BYTES >= split) {
            self.end_part(false).await?;
            self.begin_part().await?;
            for node in self.above.clone() {
                self.section(&node).await?;
            }
        }
        self.section(&block).await?;
        if is_inner {
            self.above.push(block);
        }
        Ok(())
    }

    /// Ends the bundle. Returns the number of its parts and of its bytes.
    pub async fn finish(mut self) -> Result<(u32, u64), Error> {
        self.end_part(true).await?;
        Ok((self.part, self.written_before + self.written))
    }

    async fn begin_part(&mut self) -> Result<(), Error> {
        self.part += 1;
        self.written_before += std::mem::take(&mut self.written);
        self.target.file(&self.part.to_string(), 0).await?;
        for bytes in self.prologue.clone() {
            self.bytes(bytes).await?;
        }
        Ok(())
    }

    async fn end_part(&mut self, last: bool) -> Result<(), Error> {
        let (media_type, bundle) = (END_TYPE.into(), self.root.to_string());
        let end = EndOfPart { media_type, bundle, part: self.part, last };
        let json = serde_json::to_vec(&end).map_err(std::io::Error::from)?;
        let Document { blocks, .. } = Document::file(json.into(), Profile::default());
        for block in &blocks {
            self.section(block).await?;
        }
        Ok(())
    }

    async fn section(&mut self, block: &Block) -> Result<(), Error> {
        self.bytes(car::section(&block.cid, block.data.len()).into()).await?;
        self.bytes(block.data.clone()).await
    }

    async fn bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        Ok(self.target.write(bytes).await?)
    }
}
