//! One file of an archive becomes a blob that is written and not yet stored, compressed on the way or not.

use std::{
    io::{self, Read, Write},
    str::FromStr,
};

use bytes::Bytes;
use ocipfs_node::Block;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use super::Error;
use crate::{
    content::{
        BlobWriter, KnownBlob, OtherDag, PIECE_BYTES, Pieces, Profile, ReadSeek, Root, Store, StoreError,
        Stored, StoredBytes, WrittenBlob,
    },
    images::pack::{
        gzip::GzipWriter,
        inspect::{Compression, LayerInspector},
    },
};

const ZSTD_LEVEL: i32 = 3;

/// How an uncompressed layer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Uncompressed.
    None,
    /// By the encoder `ocipfs-gzip-2`.
    Gzip,
    /// By zstd at level 3, on one core.
    Zstd,
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("unknown compression {text:?}: expected `gzip`, `zstd` or `none`")),
        }
    }
}

/// A blob that is written and not yet stored.
pub struct StagedBlob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The top of its DAG.
    pub root: Root,
    /// How it is compressed, where it is a layer.
    pub compression: Compression,
    sha256: Digest,
    /// Other digests of the same bytes.
    aliases: Vec<Digest>,
    source: StagedBytes,
}

/// Where the bytes of a staged blob are.
enum StagedBytes {
    Written(Box<WrittenBlob>),
    /// In the store already.
    Stored(Stored),
    /// In the store, where only another DAG over them is new.
    OtherDag(Box<OtherDag>),
}

impl StagedBlob {
    fn new(
        written: WrittenBlob,
        digest: Option<&Digest>,
        compression: Compression,
    ) -> Result<Self, StoreError> {
        let sha256 = written.digest.clone().ok_or(StoreError::BrokenOff)?;
        let aliases = digest.filter(|digest| **digest != sha256).cloned().into_iter().collect();
        let (root, digest) = (written.root, digest.unwrap_or(&sha256).clone());
        let source = StagedBytes::Written(Box::new(written));
        Ok(Self { digest, size: root.size, root, compression, sha256, aliases, source })
    }

    /// Takes a blob that is stored, in place of the same bytes of an archive.
    pub fn of_known(known: KnownBlob, digest: &Digest, compression: Compression) -> Self {
        let KnownBlob { root, stored } = known;
        let sha256 = stored.digest.clone();
        let aliases = Some(digest).filter(|digest| **digest != sha256).cloned().into_iter().collect();
        let source = StagedBytes::Stored(stored);
        Self { digest: digest.clone(), size: root.size, root, compression, sha256, aliases, source }
    }

    /// Takes a blob that is stored with other DAGs, under the digest that it is named by.
    pub fn of_other(
        store: &Store,
        profile: Profile,
        stored: Stored,
        digest: &Digest,
    ) -> Result<Self, StoreError> {
        let (sha256, dag) = (stored.digest.clone(), OtherDag::of(store, stored, profile)?);
        let root = dag.root;
        let (compression, aliases) = (Compression::None, Vec::new());
        let source = StagedBytes::OtherDag(Box::new(dag));
        Ok(Self { digest: digest.clone(), size: root.size, root, compression, sha256, aliases, source })
    }

    /// Opens its bytes.
    pub fn open(&self, store: &Store) -> Result<Box<dyn ReadSeek>, StoreError> {
        match &self.source {
            StagedBytes::Written(written) => written.open(),
            StagedBytes::Stored(stored) => Ok(Box::new(StoredBytes::open(store, stored)?)),
            StagedBytes::OtherDag(dag) => Ok(Box::new(dag.open(store)?)),
        }
    }

    /// Stores all of them, and blocks that belong to no file, or nothing.
    pub fn store_all(store: &Store, pieces: &[Self], blocks: &[Block]) -> Result<(), StoreError> {
        let (mut written, mut known) = (Vec::new(), Vec::new());
        for Self { sha256, aliases, source, .. } in pieces {
            match source {
                StagedBytes::Written(blob) => written.push(blob.to_store(sha256, aliases)),
                StagedBytes::Stored(stored) => known.push((stored.clone(), aliases.clone())),
                StagedBytes::OtherDag(dag) => dag.store(store)?,
            }
        }
        store.store_all_and_keep(&written, known, blocks)
    }
}

/// Writes a few bytes that are known to have this digest.
pub fn put_as(
    store: &Store,
    profile: Profile,
    bytes: Bytes,
    digest: &Digest,
) -> Result<StagedBlob, StoreError> {
    StagedBlob::new(WrittenBlob::of(store, profile, bytes)?, Some(digest), Compression::None)
}

/// Plan for staging a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Keep it as it is.
    pub keep: bool,
    /// Compress it.
    pub compress: Option<Compress>,
    /// Find the digest of what is in it.
    pub unpack: bool,
    /// How it is compressed already, by its first bytes.
    pub compression: Compression,
}

impl Plan {
    /// Keep it, and look no further.
    pub const AS_IS: Self =
        Self { keep: true, compress: None, unpack: false, compression: Compression::None };
}

/// A file that was taken.
#[derive(Default)]
pub struct StagedEntry {
    /// The file without changes.
    pub kept: Option<StagedBlob>,
    /// The compressed file.
    pub compressed: Option<StagedBlob>,
    /// The digest of the uncompressed layer, where it was requested or is that of the file.
    pub diff_id: Option<Digest>,
}

/// Where the bytes of a file are put.
pub struct Stager<'a> {
    pub store: &'a Store,
    pub profile: Profile,
    pub plan: Plan,
    /// Digest that the bytes must have.
    pub expected: Option<&'a Digest>,
}

impl Stager<'_> {
    /// Reads `size` bytes; `what` names them in errors.
    pub fn stage(self, what: &str, mut input: impl Read, size: u64) -> Result<StagedEntry, Error> {
        let Plan { keep, compress, unpack, compression } = self.plan;
        let mut kept = keep.then(|| BlobWriter::new(self.store, self.profile)).transpose()?;
        let mut squeezed = compress.map(|how| Squeeze::new(self.store, self.profile, how)).transpose()?;
        let mut inspect = unpack.then(LayerInspector::unpadded);
        let algorithm = self.expected.map_or(Algorithm::Sha256, Digest::algorithm);
        // What is kept is hashed by a thread of its own.
        let mut hasher = (!keep || algorithm != Algorithm::Sha256).then(|| Hasher::new(algorithm));
        // Of a fixed length, so that an encoder sees the input in the same pieces everywhere.
        let (mut done, pieces, mut chunk) = (0, Pieces::default(), Vec::new());
        loop {
            if size >= PIECE_BYTES as u64 {
                pieces.make_room(&mut chunk);
            }
            input
                .by_ref()
                .take(PIECE_BYTES as u64)
                .read_to_end(&mut chunk)
                .map_err(|e| Error::of_io(what, e))?;
            if chunk.is_empty() {
                break;
            }
            done += chunk.len() as u64;
            let chunk = pieces.take(&mut chunk);
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk);
            }
            if let Some(kept) = &mut kept {
                kept.write(chunk.clone())?;
            }
            if let Some(inspect) = &mut inspect {
                inspect.update(&chunk).map_err(|why| Error::Layer { what: what.into(), why })?;
            }
            if let Some(squeezed) = &mut squeezed {
                squeezed.write_all(&chunk).map_err(|e| Error::of_io(what, e))?;
            }
        }
        if done != size {
            return Err(Error::Truncated(what.into()));
        }
        let measured = inspect.map(LayerInspector::finish).transpose();
        let measured = measured.map_err(|why| Error::Layer { what: what.into(), why })?;
        let hashed = hasher.map(Hasher::finish);
        let kept =
            kept.map(|put| StagedBlob::new(put.finish()?, hashed.as_ref(), compression)).transpose()?;
        let found = hashed.or_else(|| kept.as_ref().map(|piece| piece.digest.clone()));
        let found = found.ok_or(StoreError::BrokenOff)?;
        if self.expected.is_some_and(|expected| *expected != found) {
            return Err(Error::Lie { what: what.into(), why: format!("digest is {found}") });
        }
        Ok(StagedEntry {
            kept,
            compressed: squeezed.map(|squeezed| squeezed.finish(what)).transpose()?,
            diff_id: match measured {
                Some(layer) => Some(layer.diff_id),
                None => (compression == Compression::None).then_some(found),
            },
        })
    }
}

/// A blob that an encoder writes.
pub struct EncodedBlob(BlobWriter);

impl Write for EncodedBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_slice(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl EncodedBlob {
    /// Begins one.
    pub fn new(store: &Store, profile: Profile) -> Result<Self, StoreError> {
        Ok(Self(BlobWriter::new(store, profile)?))
    }

    /// Ends it.
    pub fn finish(self, compression: Compression) -> Result<StagedBlob, StoreError> {
        StagedBlob::new(self.0.finish()?, None, compression)
    }
}

/// An encoder that writes into the store.
enum Squeeze {
    None(EncodedBlob),
    Gzip(GzipWriter<EncodedBlob>),
    Zstd(zstd::Encoder<'static, EncodedBlob>),
}

impl Squeeze {
    fn new(store: &Store, profile: Profile, how: Compress) -> Result<Self, Error> {
        let blob = EncodedBlob::new(store, profile)?;
        Ok(match how {
            Compress::None => Self::None(blob),
            Compress::Gzip => Self::Gzip(GzipWriter::new(blob)),
            Compress::Zstd => {
                Self::Zstd(zstd::Encoder::new(blob, ZSTD_LEVEL).map_err(|e| Error::of_io("zstd", e))?)
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::None(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
            Self::Zstd(out) => out.write_all(bytes),
        }
    }

    fn finish(self, what: &str) -> Result<StagedBlob, Error> {
        let failed = |e| Error::of_io(what, e);
        let (blob, compression) = match self {
            Self::None(out) => (out, Compression::None),
            Self::Gzip(out) => (out.finish().map_err(failed)?, Compression::Gzip),
            Self::Zstd(out) => (out.finish().map_err(failed)?, Compression::Zstd),
        };
        Ok(blob.finish(compression)?)
    }
}
