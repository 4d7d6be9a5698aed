//! The table of contents: JSON with an object for each entry, and for each further chunk of a file.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use serde::{Serialize, Serializer};

use super::Error;

/// The JSON of a layer, which a snapshotter has in memory to mount it.
const MAX_TOC_BYTES: u64 = 128 << 20;
const BEGIN: &[u8] = br#"{"version":1,"entries":["#;
/// No byte follows: the digest is one of the object.
const END: &[u8] = b"]}";

/// An entry, in the order of the JSON.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TocEntry {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modtime: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link_name: String,
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub mode: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub gid: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub dev_major: u32,
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub dev_minor: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Bytes64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_digest: Option<Digest>,
}

impl TocEntry {
    /// A further chunk of a file.
    pub fn chunk(name: &str) -> Self {
        Self { name: name.into(), kind: "chunk", ..Self::default() }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

/// Bytes, in base64.
#[derive(Clone, Debug)]
pub struct Bytes64(pub Vec<u8>);

impl Serialize for Bytes64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

/// Returns a time of a file; none where it is unknown or cannot be said.
pub fn modtime(seconds: u64) -> Option<String> {
    /// The end of the year 9999.
    const MAX_SECONDS: u64 = 253_402_300_799;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(MAX_SECONDS));
    (1..=MAX_SECONDS).contains(&seconds).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

/// What begins in a member, in the order of the tar.
pub enum TocItem {
    /// An entry without bytes.
    Whole(TocEntry),
    /// A chunk of a file, with which the member begins.
    Chunk(TocEntry),
    /// The end of a file of several chunks, and its digest.
    FileEnd(Digest),
}

/// Makes the JSON, which is compressed in memory.
pub struct TocBuilder {
    json: GzEncoder<Vec<u8>>,
    digest: Hasher,
    length: u64,
    is_first: bool,
    /// A file of several chunks: its first entry, and the JSON of the others.
    file: Option<(TocEntry, Vec<u8>)>,
}

impl Default for TocBuilder {
    fn default() -> Self {
        let json = GzEncoder::new(Vec::new(), Compression::fast());
        Self { json, digest: Hasher::new(Algorithm::Sha256), length: 0, is_first: true, file: None }
    }
}

impl TocBuilder {
    /// Adds an item of the member at `offset`, which begins with bytes of this digest.
    pub fn add(&mut self, item: TocItem, offset: u64, chunk: Option<&Digest>) -> Result<(), Error> {
        match item {
            TocItem::Whole(entry) => self.entry(&entry),
            TocItem::Chunk(entry) => {
                let is_whole = entry.kind == "reg" && entry.chunk_size == 0;
                let digest = chunk.cloned().filter(|_| is_whole);
                let entry = TocEntry { offset, chunk_digest: chunk.cloned(), digest, ..entry };
                if is_whole {
                    return self.entry(&entry);
                }
                let Some((_, others)) = &mut self.file else {
                    self.file = Some((entry, Vec::new()));
                    return Ok(());
                };
                others.push(b',');
                serde_json::to_writer(&mut *others, &entry).map_err(io::Error::from)?;
                within_limit(self.length + others.len() as u64)
            }
            TocItem::FileEnd(digest) => {
                let Some((first, others)) = self.file.take() else { return Ok(()) };
                self.entry(&TocEntry { digest: Some(digest), ..first })?;
                self.push(&others)
            }
        }
    }

    fn entry(&mut self, entry: &TocEntry) -> Result<(), Error> {
        let before: &[u8] = if std::mem::take(&mut self.is_first) { BEGIN } else { b"," };
        self.push(before)?;
        let json = serde_json::to_vec(entry).map_err(io::Error::from)?;
        self.push(&json)
    }

    fn push(&mut self, json: &[u8]) -> Result<(), Error> {
        self.length += json.len() as u64;
        within_limit(self.length)?;
        self.digest.update(json);
        Ok(self.json.write_all(json)?)
    }

    /// Ends it. There is an entry at least, the landmark.
    pub fn finish(mut self) -> Result<Toc, Error> {
        self.push(END)?;
        Ok(Toc { length: self.length, digest: self.digest.finish(), json: self.json.finish()? })
    }
}

fn within_limit(length: u64) -> Result<(), Error> {
    let most = MAX_TOC_BYTES >> 20;
    match length > MAX_TOC_BYTES {
        true => Err(Error::Unsupported(format!("its table of contents would have more than {most} MiB"))),
        false => Ok(()),
    }
}

/// A table of contents.
pub struct Toc {
    /// The bytes of its JSON.
    pub length: u64,
    /// The digest of these.
    pub digest: Digest,
    json: Vec<u8>,
}

impl Toc {
    /// Writes the JSON.
    pub fn write_to(self, out: &mut impl Write) -> io::Result<()> {
        let mut json = GzDecoder::new(&self.json[..]);
        // In pieces that depend on nothing: an encoder may see where they end.
        let mut piece = vec![0; 1 << 16];
        let mut left = self.length as usize;
        while left > 0 {
            let length = piece.len().min(left);
            json.read_exact(&mut piece[..length])?;
            out.write_all(&piece[..length])?;
            left -= length;
        }
        Ok(())
    }
}
