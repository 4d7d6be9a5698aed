//! Verification of stored blobs: hashes them again.

use std::io;

use bytes::Bytes;
use ocipfs_node::{Cid, is_block};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use redb::ReadableTable;

use super::{
    Error, Leaf, Store, Stored,
    extents::Extents,
    files, graph,
    layout::{BlockKey, BlockPlace, frame},
    source::OpenBytes,
    tables::{self, BLOCKS, PARTIAL, SHARED},
};
use ocipfs_unixfs::{DAG_PB, DagNode};

/// Read in one piece.
const PIECE_BYTES: u64 = 1 << 20;

/// A file whose bytes are not what its digest or its blocks say.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// One of its layouts; of a partial file, the digest is that of nothing.
    pub file: Stored,
    /// The windows that are wrong, as far as its DAG tells.
    pub windows: Vec<Leaf>,
    /// Description of any other damage.
    pub why: String,
}

impl Store {
    /// The first layout of every stored blob, and every partial file that is not in use.
    pub fn all_files(&self) -> Result<Vec<(Stored, bool)>, Error> {
        self.0.database.read(|read| {
            let mut all = Vec::new();
            graph::for_each_file(read, |item| {
                let Some((root, id)) = item.layouts.first() else { return Ok(()) };
                let hash = item.hashes.first().map_or(&[0; 32][..], Vec::as_slice);
                let digest =
                    Digest::new(Algorithm::Sha256, hash).map_err(|e| Error::Damaged(e.to_string()))?;
                all.push((Stored { id: *id, digest, size: item.bytes, root: *root }, item.is_stored()));
                Ok(())
            })?;
            Ok(all)
        })
    }

    /// Hashes a stored blob, and its blocks; what is wrong with it, unless it was removed meanwhile.
    pub fn verify_blob(&self, file: &Stored) -> Result<Option<Damaged>, Error> {
        let sha256 = files::sha256(&file.digest)?;
        let source = self.blob_source(&sha256)?;
        let leaves = self.leaves(&file.root, file.size)?;
        let (why, windows) = match &source {
            None => ("file is missing".to_string(), leaves),
            Some(source) => match self.hash(source, file.size, &leaves) {
                (Ok(digest), wrong) if digest == file.digest && wrong.is_empty() => return Ok(None),
                (Ok(digest), wrong) if digest == file.digest => ("blocks differ".into(), wrong),
                (Ok(digest), wrong) => (format!("digest is {digest}"), wrong),
                (Err(error), wrong) => (format!("cannot be read: {error}"), wrong),
            },
        };
        if self.file(&file.root)?.is_none_or(|now| now.digest != file.digest) {
            return Ok(None);
        }
        Ok(Some(Damaged { file: file.clone(), windows, why }))
    }

    /// Hashes the blocks of a file that has come in part.
    pub fn verify_partial(&self, file: &Stored) -> Result<Option<Damaged>, Error> {
        let row = |read: &redb::ReadTransaction| {
            tables::row(read, PARTIAL, file.id, |(_, size, parts)| (size, Extents::from_rows(parts)))
        };
        let (Some((size, here)), Some(source)) =
            (self.0.database.read(row)?, self.open_at(&self.0.disk.incoming(file.id))?)
        else {
            return Ok(None);
        };
        let mut windows = self.leaves(&file.root, size)?;
        windows.retain(|leaf| {
            here.contain(leaf.offset, leaf.offset + leaf.length) && !self.is_right(&source, leaf)
        });
        let why = "a downloaded part is damaged".to_string();
        Ok((!windows.is_empty()).then(|| Damaged { file: file.clone(), windows, why }))
    }

    /// Hashes every block that stands in the index itself; how many there are, and those that are wrong.
    pub fn verify_blocks(&self) -> Result<(u64, Vec<Cid>), Error> {
        self.0.database.read(|read| {
            let (mut count, mut wrong) = (0, Vec::new());
            let mut look = |key: &[u8], place: tables::PlaceRow| {
                let BlockPlace::Inline(block) = BlockPlace::from_row(place) else { return Ok(()) };
                let cid = BlockKey::from_row(key).cid()?;
                count += 1;
                if !is_block(&cid, &block) {
                    wrong.push(cid);
                }
                Ok::<_, Error>(())
            };
            for row in read.open_table(BLOCKS)?.iter()? {
                let (key, row) = row?;
                look(key.value(), row.value().1)?;
            }
            for row in read.open_table(SHARED)?.iter()? {
                let (key, row) = row?;
                look(key.value().0, row.value())?;
            }
            wrong.dedup();
            Ok((count, wrong))
        })
    }

    /// Hashes a file and, read once, the windows in it; its digest, and the windows that are wrong.
    fn hash(&self, source: &OpenBytes, size: u64, leaves: &[Leaf]) -> (io::Result<Digest>, Vec<Leaf>) {
        let (mut hasher, mut wrong, mut at, mut failed) =
            (Hasher::new(Algorithm::Sha256), Vec::new(), 0, Ok(()));
        let gap = Leaf { cid: Cid::default(), offset: size, length: 0 };
        for leaf in leaves.iter().chain([&gap]) {
            // What no window covers is hashed for the whole alone.
            while at < leaf.offset && failed.is_ok() {
                let length = PIECE_BYTES.min(leaf.offset - at);
                failed = self.window(source, at, length).map(|bytes| hasher.update(&bytes));
                at += length;
            }
            let read = self.window(source, leaf.offset, leaf.length);
            if leaf.length > 0 && !read.as_ref().is_ok_and(|bytes| is_leaf(leaf, bytes)) {
                wrong.push(*leaf);
            }
            match read {
                Ok(bytes) if leaf.offset == at => hasher.update(&bytes),
                Ok(_) => {}
                Err(error) => failed = Err(error),
            }
            at = at.max(leaf.offset + leaf.length);
        }
        (failed.map(|()| hasher.finish()), wrong)
    }

    fn window(&self, source: &OpenBytes, offset: u64, length: u64) -> io::Result<Bytes> {
        self.0.buffers.read(source, offset, length as usize, (&[], &[]))
    }

    /// Whether a window has the bytes of its block.
    pub(super) fn is_right(&self, source: &OpenBytes, leaf: &Leaf) -> bool {
        self.window(source, leaf.offset, leaf.length).is_ok_and(|data| is_leaf(leaf, &data))
    }

    /// The windows of a file, as far as the inner nodes of its DAG are here.
    pub fn leaves(&self, root: &Cid, size: u64) -> Result<Vec<Leaf>, Error> {
        let (mut leaves, mut waiting) = (Vec::new(), vec![Leaf { cid: *root, offset: 0, length: size }]);
        while let Some(part) = waiting.pop() {
            let place = match part.cid.codec() == DAG_PB {
                true => self.block_row(&BlockKey::of(&part.cid))?.map(|(_, place)| place),
                false => Some(BlockPlace::window(&part)),
            };
            match place {
                Some(BlockPlace::Window { .. }) => leaves.push(part),
                Some(BlockPlace::Inline(block)) => {
                    let Ok(DagNode::File { data, children }) = DagNode::decode(&part.cid, block) else {
                        continue;
                    };
                    let mut offset = part.offset + data.len() as u64;
                    for child in children {
                        waiting.push(Leaf { cid: child.cid, offset, length: child.size });
                        offset += child.size;
                    }
                }
                None => {}
            }
        }
        leaves.sort_by_key(|leaf| leaf.offset);
        Ok(leaves)
    }
}

fn is_leaf(leaf: &Leaf, data: &[u8]) -> bool {
    let (head, tail) = frame(&leaf.cid, leaf.length);
    match head.is_empty() && tail.is_empty() {
        true => is_block(&leaf.cid, data),
        false => is_block(&leaf.cid, &[&head, data, &tail].concat()),
    }
}
