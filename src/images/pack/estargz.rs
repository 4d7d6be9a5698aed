//! eStargz, the form of a layer that stargz-snapshotter mounts before it is here:
//! <https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md>.
//!
//! ```text
//! tar ─► TarReader: an entry with its headers as they stand
//!          └─► LayerWriter: cut before the bytes of each file, and within large ones
//!                ├─► Members: a gzip member for each cut, on all cores
//!                └─► Toc: what the entries are, and in which member ─► the last file of the tar, and the footer
//! ```
//!
//! The headers of the tar stay byte for byte, and the order of its entries. What the same tar becomes depends on
//! nothing else.

mod members;
mod repeated;
mod tar_reader;
#[cfg(test)]
mod tests;
mod toc;

use std::io::{self, Read, Write};

use ocipfs_oci::{Algorithm, Digest, Hasher};
use tar::{EntryType, Header};

use super::{END, padding};
use members::Members;
pub use repeated::Repeated;
use tar_reader::{RawEntry, TarReader, clean};
use toc::{Toc, TocEntry, TocItem};

/// Names the encoder: whatever changes its bytes changes this name.
pub const ENCODER: &str = "ocipfs-estargz-1";

/// Annotation of a layer with the digest of its table of contents.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation of a layer with the number of its bytes as a tar, which Podman's store needs.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// The file of the table of contents.
const TOC_NAME: &str = "stargz.index.json";
/// A file that says that nothing is to be fetched before it is read, and one that says up to where.
const NO_PREFETCH_LANDMARK: &str = ".no.prefetch.landmark";
const PREFETCH_LANDMARK: &str = ".prefetch.landmark";
const LANDMARK: &[u8] = &[0xf];
/// Bytes of a file in one member: what a reader of one byte fetches, and a leaf of IPFS.
const CHUNK_BYTES: u64 = 1 << 20;
/// Headers that follow each other in one member.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// The footer, an empty gzip member.
const FOOTER_BYTES: usize = 51;

/// Why a tar does not become an eStargz layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or the layer cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has what a table of contents cannot say.
    #[error("{0}")]
    Unsupported(String),
    /// An entry comes twice, so that the entries have to be known before the first one is written.
    #[error("the layer has {0:?} twice")]
    Repeated(String),
}

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The digest of its table of contents.
    pub toc_digest: Digest,
    /// The number of bytes of its tar.
    pub uncompressed_size: u64,
}

/// Writes a tar as an eStargz layer. It fails with [`Error::Repeated`] where `repeated` is missing and needed.
pub fn write<W: Write>(tar: impl Read, repeated: Option<&Repeated>, out: W) -> Result<(Written, W), Error> {
    let (mut tar, mut layer) = (TarReader::new(tar), LayerWriter::new(out));
    let mut seen = Repeated::default();
    layer.landmark()?;
    while let Some(entry) = tar.next()? {
        let is_new = seen.add(&entry.path)?;
        let is_left_out = match repeated {
            Some(repeated) => !repeated.is_last(&entry.path, seen.count()),
            None if is_new => false,
            None => return Err(Error::Repeated(entry.path)),
        };
        if entry.toc.kind == "hardlink" && !seen.has(&clean(&entry.toc.link_name)) {
            let (name, target) = (entry.toc.name, entry.toc.link_name);
            return Err(Error::Unsupported(format!(
                "it has no {target:?}, to which {name:?} is a hard link"
            )));
        }
        if !is_left_out && !is_own(&entry.path) {
            layer.entry(entry, &mut tar)?;
        }
    }
    layer.finish()
}

/// Reads the entries of a tar of which some come twice: the last of each counts.
pub fn repeated(tar: impl Read) -> Result<Repeated, Error> {
    let (mut tar, mut seen) = (TarReader::new(tar), Repeated::default());
    while let Some(entry) = tar.next()? {
        seen.add(&entry.path)?;
    }
    Ok(seen)
}

/// Whether the end of a layer says that it is an eStargz layer.
pub fn has_footer(end: &[u8]) -> bool {
    let Some(start) = end.len().checked_sub(FOOTER_BYTES) else { return false };
    let end = &end[start..];
    let offset = std::str::from_utf8(&end[16..32]).ok();
    offset.and_then(|offset| u64::from_str_radix(offset, 16).ok()).is_some_and(|offset| end == footer(offset))
}

/// Whether a file belongs to the format: those of an earlier conversion are left out.
fn is_own(path: &str) -> bool {
    [TOC_NAME, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK].contains(&path)
}

/// Writes the entries of a layer.
struct LayerWriter<W> {
    members: Members<W>,
    /// The bytes of the member that is not finished.
    open: Vec<u8>,
    /// How many of these are bytes of a file, at the beginning.
    chunk: usize,
    /// What begins in it.
    items: Vec<TocItem>,
    diff_id: Hasher,
    length: u64,
}

impl<W: Write> LayerWriter<W> {
    fn new(out: W) -> Self {
        let (open, items) = (Vec::new(), Vec::new());
        let diff_id = Hasher::new(Algorithm::Sha256);
        Self { members: Members::new(out), open, chunk: 0, items, diff_id, length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.diff_id.update(bytes);
        self.length += bytes.len() as u64;
        self.open.extend_from_slice(bytes);
    }

    /// Ends the member.
    fn cut(&mut self) -> Result<(), Error> {
        if self.open.is_empty() {
            return Ok(());
        }
        let (bytes, chunk) = (std::mem::take(&mut self.open), std::mem::take(&mut self.chunk));
        self.members.submit(bytes, chunk, std::mem::take(&mut self.items))
    }

    /// Writes that nothing is to be fetched before it is read.
    fn landmark(&mut self) -> Result<(), Error> {
        let length = LANDMARK.len() as u64;
        self.entry(RawEntry::file(NO_PREFETCH_LANDMARK, length), TarReader::new(LANDMARK).payload(length))
    }

    fn entry<R: Read>(&mut self, entry: RawEntry, payload: &mut TarReader<R>) -> Result<(), Error> {
        let RawEntry { headers, toc, size, .. } = entry;
        if self.open.len() - self.chunk + headers.len() > MAX_HEADER_BYTES {
            self.cut()?;
        }
        self.push(&headers);
        if size == 0 {
            self.items.push(TocItem::Whole(toc));
            return Ok(());
        }
        let mut whole = (size > CHUNK_BYTES).then(|| Hasher::new(Algorithm::Sha256));
        let (name, mut first, mut offset) = (toc.name.clone(), Some(toc), 0);
        while offset < size {
            let length = CHUNK_BYTES.min(size - offset);
            self.cut()?;
            self.open = payload.read(length)?;
            self.chunk = self.open.len();
            self.diff_id.update(&self.open);
            self.length += length;
            if let Some(whole) = &mut whole {
                whole.update(&self.open);
            }
            let mut chunk = first.take().unwrap_or_else(|| TocEntry::chunk(&name));
            chunk.chunk_offset = offset;
            offset += length;
            // The last one goes to the end of the file.
            chunk.chunk_size = if offset < size { length } else { 0 };
            self.items.push(TocItem::Chunk(chunk));
        }
        self.items.extend(whole.map(|whole| TocItem::FileEnd(whole.finish())));
        self.push(padding(size));
        Ok(())
    }

    /// Writes the table of contents and the footer.
    fn finish(mut self) -> Result<(Written, W), Error> {
        self.cut()?;
        let (toc, at, out) = self.members.finish()?;
        let Toc { length, digest, .. } = &toc;
        let mut member = TocMember {
            out: flate2::write::GzEncoder::new(out, flate2::Compression::new(super::gzip::LEVEL)),
            diff_id: self.diff_id,
            length: self.length,
        };
        member.write_all(header(TOC_NAME, *length).as_bytes())?;
        let (length, toc_digest) = (*length, digest.clone());
        toc.write_to(&mut member)?;
        member.write_all(padding(length))?;
        member.write_all(&END)?;
        let TocMember { out, diff_id, length } = member;
        let mut out = out.finish()?;
        out.write_all(&footer(at))?;
        Ok((Written { diff_id: diff_id.finish(), toc_digest, uncompressed_size: length }, out))
    }
}

/// The member of the table of contents, which is the end of the tar.
struct TocMember<W: Write> {
    out: flate2::write::GzEncoder<W>,
    diff_id: Hasher,
    length: u64,
}

impl<W: Write> Write for TocMember<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.diff_id.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The header of a file that belongs to the format.
fn header(name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// An empty gzip member whose extra field says where the table of contents is.
fn footer(toc_at: u64) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    let subfield = format!("{toc_at:016x}STARGZ");
    // RFC 1952: deflate, an extra field, no time, unknown operating system; RFC 1951: a last block that is stored, and empty.
    footer[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    footer[10..16].copy_from_slice(&[26, 0, b'S', b'G', 22, 0]);
    footer[16..38].copy_from_slice(subfield.as_bytes());
    footer[38..43].copy_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer
}
