//! Reads a bundle: its header, its manifest, then its blocks.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use bytes::Bytes;
use ocipfs_node::{
    Block, Cid,
    car::{self, ReadError},
    inline_bytes, is_block,
};
use ocipfs_unixfs::DagNode;

use super::{END_TYPE, EndOfPart, Error, MAX_MANIFEST_BYTES, Manifest, writer::END_BYTES};

/// Nodes of a manifest below each other.
const MAX_DEPTH: usize = 8;

/// A bundle, or a part of one, whose manifest was read.
pub struct BundleReader<R> {
    reader: car::Reader<R>,
    what: String,
    /// The CID of the manifest, which is that of the bundle.
    pub root: Cid,
    /// What is in the bundle.
    pub manifest: Manifest,
}

/// Reads only the manifest of a bundle, and its CID.
pub fn read_manifest(input: impl Read, what: &str) -> Result<(Cid, Manifest), Error> {
    let BundleReader { root, manifest, .. } = BundleReader::open(input, what)?;
    Ok((root, manifest))
}

/// Reads the end of a part of the bundle `root`, which says which part it is; none where it is missing, as in a truncated file.
pub fn read_end(file: &File, root: &Cid) -> io::Result<Option<EndOfPart>> {
    let size = file.metadata()?.len();
    let mut tail = vec![0; size.min(END_BYTES) as usize];
    let offset = size - tail.len() as u64;
    file.read_exact_at(&mut tail, offset)?;
    let kind = END_TYPE.as_bytes();
    let Some(inside) = tail.windows(kind.len()).rposition(|window| window == kind) else { return Ok(None) };
    // Where its section begins depends on the length of its number.
    Ok((0..inside).rev().find_map(|at| last_block(root, &tail[at..])))
}

/// Reads bytes as the section of one block, the end of a part.
fn last_block(root: &Cid, section: &[u8]) -> Option<EndOfPart> {
    let archive = [&car::header(&[*root])[..], section].concat();
    let (mut reader, _) = car::Reader::open(&archive[..]).ok()?;
    let block = reader.next_unverified().ok()??;
    let is_last = matches!(reader.next_unverified(), Ok(None));
    let end = EndOfPart::parse(&block.data).filter(|end| end.bundle == root.to_string())?;
    (is_last && is_block(&block.cid, &block.data)).then_some(end)
}

impl<R: Read> BundleReader<R> {
    /// Reads the header and the manifest; `what` names the bundle in errors.
    pub fn open(input: R, what: &str) -> Result<Self, Error> {
        let (mut reader, roots) = car::Reader::open(input).map_err(|error| of_header(what, error))?;
        let Some(root) = roots.first().copied() else {
            return Err(Error::NotABundle { what: what.into(), why: "it has no root".into() });
        };
        let json = file(&mut reader, root, what)?;
        let manifest = Manifest::parse(&json, what)?;
        Ok(Self { reader, what: what.into(), root, manifest })
    }

    /// Returns the next block, which the caller verifies; none at the end.
    pub fn next_unverified(&mut self) -> Result<Option<Block>, ReadError> {
        self.reader.next_unverified()
    }

    /// Returns how many bytes were read.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Returns what errors call it.
    pub fn what(&self) -> &str {
        &self.what
    }
}

fn of_header(what: &str, error: ReadError) -> Error {
    match error {
        ReadError::Input(error) => Error::Read { what: what.into(), why: error.to_string() },
        ReadError::Invalid(error) => Error::NotABundle { what: what.into(), why: error.to_string() },
    }
}

/// Reads a file whose blocks come first and in order.
fn file<R: Read>(reader: &mut car::Reader<R>, root: Cid, what: &str) -> Result<Vec<u8>, Error> {
    let damaged = |why: String| Error::DamagedManifest { what: what.into(), why };
    let (mut waiting, mut bytes) = (vec![(root, 0)], Vec::new());
    while let Some((cid, depth)) = waiting.pop() {
        let data = match inline_bytes(&cid) {
            Some(bytes) => Bytes::copy_from_slice(bytes),
            None => next(reader, &cid, root, what)?,
        };
        let node = DagNode::decode(&cid, data).map_err(|error| damaged(error.to_string()))?;
        let DagNode::File { data, children } = node else {
            return Err(Error::NotABundle { what: what.into(), why: "its first root is not a file".into() });
        };
        if depth > MAX_DEPTH || bytes.len() + data.len() > MAX_MANIFEST_BYTES {
            return Err(damaged(format!("it has more than {MAX_MANIFEST_BYTES} bytes")));
        }
        bytes.extend_from_slice(&data);
        waiting.extend(children.iter().rev().map(|child| (child.cid, depth + 1)));
    }
    Ok(bytes)
}

fn next<R: Read>(reader: &mut car::Reader<R>, expected: &Cid, root: Cid, what: &str) -> Result<Bytes, Error> {
    let damaged = |why: String| Error::DamagedManifest { what: what.into(), why };
    match reader.next_unverified() {
        Ok(Some(Block { cid, data })) if cid == *expected => match is_block(&cid, &data) {
            true => Ok(data),
            false => Err(damaged(format!("block {cid} does not match its CID"))),
        },
        // The blocks of other archives come in any order.
        Ok(Some(_)) if *expected == root => {
            Err(Error::NotABundle { what: what.into(), why: "it does not begin with its first root".into() })
        }
        Ok(Some(Block { cid, .. })) => Err(damaged(format!("expected block {expected}, found {cid}"))),
        Ok(None) => Err(damaged("the file ends within it".into())),
        Err(ReadError::Input(error)) => Err(Error::Read { what: what.into(), why: error.to_string() }),
        Err(ReadError::Invalid(error)) => Err(damaged(error.to_string())),
    }
}
