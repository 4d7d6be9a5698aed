//! The entries of an archive, taken as they come: documents into memory, all else into the store.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, Cursor, Read},
};

use bytes::Bytes;
use ocipfs_oci::{Digest, Hasher};

use super::{
    ArchiveSource, ArchiveStream, Compress, Error, MAX_INDEX, MAX_MANIFEST, Options,
    counted::Counter,
    folder::{ArchiveFolder, FolderFile},
    input,
    input::{Decompressed, Limit, Limited, Packing},
    listing,
    listing::EarlyManifest,
    path::{clean, digest_of},
    stage::{Plan, StagedBlob, StagedEntry, Stager},
    unlisted,
};
use crate::images::pack::inspect::{self, Compression};

/// Documents and small blobs that may be in memory. With what is made of them an import stays below 150 MB.
const MAX_MEMORY: u64 = 80 << 20;
/// Memory per entry, whatever its content, until it is stored and retained.
const ENTRY_BYTES: u64 = 2560;
/// Memory per byte of `index.json`: for the text, and for the images that it names.
const PARSED_FACTOR: u64 = 4;
/// Blobs up to this size are in memory until they are stored.
const SMALL_BYTES: u64 = 64 << 10;
/// Leading bytes by which a tar is recognized.
pub(super) const HEAD_BYTES: u64 = 512;
/// Bytes of a compressed archive that are read after the end of its tar, or after what is wrong in it.
const MAX_REST: u64 = 8 << 20;
/// Links that lead to links.
const MAX_LINKS: usize = 16;

/// Entries of an archive, by path.
pub struct ArchiveParts {
    pub(super) options: Options,
    entries: HashMap<String, ArchivePart>,
    /// A layout folder, whose blobs are read when they are named.
    folder: Option<(Box<dyn ArchiveFolder>, RefCell<Counter>)>,
    /// Whether it is a docker archive, whose layers are compressed; none where only its end tells.
    is_docker: Option<bool>,
    /// Layers that `manifest.json` is known to list.
    layers: HashSet<String>,
    memory: u64,
}

pub(super) enum ArchivePart {
    Document(Bytes),
    Staged(Box<StagedEntry>),
    Link(String),
    /// A file that is neither a layer nor a document, and is compressed so.
    Unusable(&'static str),
}

/// What a file of an archive is to become.
pub(super) enum ArchivePartKind {
    /// JSON, which is read into memory.
    Document,
    /// A blob in the store.
    Staged(Plan),
    /// A file that is neither a layer nor a document, and is compressed so.
    Unusable(&'static str),
}

/// A blob or a layer of the archive.
pub enum ArchiveFile {
    /// In memory.
    Document(Bytes),
    /// In the store.
    Staged(Box<StagedEntry>),
}

pub(super) fn hashes_to(bytes: &[u8], digest: &Digest) -> bool {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    hasher.finish() == *digest
}

impl ArchiveParts {
    /// Reads a tar to its end, or opens a folder.
    pub fn read(source: ArchiveSource, mut options: Options) -> Result<Self, Error> {
        let counter = Counter::new(std::mem::replace(&mut options.progress, Box::new(|_| {})));
        let (entries, layers) = (HashMap::new(), HashSet::new());
        let mut parts = Self { options, entries, folder: None, is_docker: None, layers, memory: 0 };
        let ArchiveStream { what, input, manifest, .. } = match source {
            ArchiveSource::Stream(stream) => stream,
            ArchiveSource::Folder(folder) => {
                let is_docker = folder.has("manifest.json")?;
                parts.folder = Some((folder, RefCell::new(counter)));
                parts.is_docker = Some(
                    is_docker
                        && !parts.document("index.json")?.is_some_and(|index| listing::is_unchanged(&index)),
                );
                return Ok(parts);
            }
        };
        match manifest {
            EarlyManifest::Unknown => {}
            EarlyManifest::Absent => parts.is_docker = Some(false),
            EarlyManifest::Found(json) => {
                parts.is_docker = Some(true);
                parts.layers = listing::layers(&json);
            }
        }
        parts.read_tar(counter.into_reader(input), &what)?;
        let is_docker = parts.entries.contains_key("manifest.json");
        let is_unchanged = parts.entries.get("index.json").is_some_and(ArchivePart::is_unchanged);
        parts.is_docker = Some(is_docker && !is_unchanged);
        Ok(parts)
    }

    fn read_tar(&mut self, input: impl Read + 'static, what: &str) -> Result<(), Error> {
        let failed = |e| Error::of_io(what, e);
        let Decompressed { input, compression, damage } = input::decompressed(input).map_err(failed)?;
        let (input, limit) = Limited::new(input);
        let mut archive = tar::Archive::new(input);
        let read = self.read_entries(&mut archive, &limit, what);
        // A decoder may find damage only after it gave what is wrong: checksums follow the data.
        limit.data();
        if compression.is_some() {
            let _ = io::copy(&mut archive.into_inner().take(MAX_REST), &mut io::sink());
        }
        // Whatever the tar reader made of it, this is the cause.
        match (compression, damage.take()) {
            (Some(_), Some(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::Truncated(what.into()))
            }
            (Some(compression), Some(error)) => {
                Err(Error::Compressed { what: what.into(), compression, why: error.to_string() })
            }
            _ => read,
        }
    }

    fn read_entries<R: Read>(
        &mut self,
        archive: &mut tar::Archive<R>,
        limit: &Limit,
        what: &str,
    ) -> Result<(), Error> {
        let failed = |e| Error::of_io(what, e);
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(|_| self.no_entry(what))?;
            self.read_entry(&mut entry, limit)?;
            io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
            limit.headers();
        }
        Ok(())
    }

    /// Returns the error for input that ends early: without a first entry it is not a tar at all.
    fn no_entry(&self, what: &str) -> Error {
        match self.entries.is_empty() {
            true => {
                Error::Unknown("expected a folder or a tar, plain or compressed with gzip, zstd, xz or bzip2")
            }
            false => Error::Truncated(what.into()),
        }
    }

    fn read_entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, limit: &Limit) -> Result<(), Error> {
        limit.data();
        let path = clean(&entry.path_bytes())?;
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            // A symbolic link begins where it is, a hard link at the root.
            let whole = match path.rsplit_once('/') {
                Some((folder, _)) if kind.is_symlink() && !target.starts_with(b"/") => {
                    [folder.as_bytes(), b"/", &target].concat()
                }
                _ => target.into_owned(),
            };
            return self.keep(path, 0, ArchivePart::Link(clean(&whole)?));
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Ok(());
        }
        let size = entry.size();
        let part = match self.known(&path, Some(size))? {
            Some((known, _)) => Some(known),
            None => self.stage(&path, size, entry)?,
        };
        match part {
            Some(part) => {
                if path == "index.json" && part.is_unchanged() {
                    self.is_docker = Some(false);
                }
                self.keep(path, size, part)
            }
            None => Ok(()),
        }
    }

    fn keep(&mut self, path: String, size: u64, part: ArchivePart) -> Result<(), Error> {
        let in_memory = matches!(part, ArchivePart::Document(_)) || size <= SMALL_BYTES;
        let bytes = match path.as_str() {
            "index.json" => size * PARSED_FACTOR,
            _ if in_memory => size,
            _ => 0,
        };
        self.memory += ENTRY_BYTES + path.len() as u64 + bytes;
        if self.memory > MAX_MEMORY {
            return Err(Error::TooLarge { what: "all of its small files".into(), limit: MAX_MEMORY });
        }
        self.entries.insert(path, part);
        Ok(())
    }

    /// Takes a file for what its name and its beginning say that it is.
    fn stage(&self, path: &str, size: u64, mut input: impl Read) -> Result<Option<ArchivePart>, Error> {
        let failed = |e| Error::of_io(path, e);
        let limit = match path {
            "index.json" => Some(MAX_INDEX),
            "manifest.json" | "oci-layout" => Some(MAX_MANIFEST),
            _ => None,
        };
        if let Some(limit) = limit {
            return read_document(path, size, limit, input).map(|bytes| Some(ArchivePart::Document(bytes)));
        }
        let mut head = Vec::new();
        input.by_ref().take(HEAD_BYTES.min(size)).read_to_end(&mut head).map_err(failed)?;
        let digest = digest_of(path);
        let plan = match self.kind_of(path, &head, size) {
            Some(ArchivePartKind::Staged(plan)) => plan,
            Some(ArchivePartKind::Unusable(packing)) => return Ok(Some(ArchivePart::Unusable(packing))),
            Some(ArchivePartKind::Document) => {
                let input = Cursor::new(head).chain(input);
                let bytes = read_document(path, size, MAX_MANIFEST, input)?;
                return match digest {
                    Some(digest) if !hashes_to(&bytes, &digest) => {
                        Err(Error::Lie { what: path.into(), why: "digest mismatch".into() })
                    }
                    _ => Ok(Some(ArchivePart::Document(bytes))),
                };
            }
            None => return Ok(None),
        };
        let Options { store, profile, .. } = &self.options;
        let stager = Stager { store, profile: *profile, plan, expected: digest.as_ref() };
        let staged = stager.stage(path, Cursor::new(head).chain(input), size)?;
        Ok(Some(ArchivePart::Staged(Box::new(staged))))
    }

    /// Returns what a file is to become, by its name and its first bytes; none where it is of no use.
    pub(super) fn kind_of(&self, path: &str, head: &[u8], size: u64) -> Option<ArchivePartKind> {
        let is_json = head.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['));
        if is_json && size <= MAX_MANIFEST {
            return Some(ArchivePartKind::Document);
        }
        let layer = inspect::compression_of(head);
        let plan = match (digest_of(path), layer) {
            (Some(_), Some(Compression::None)) => self.plan_of_blob(path),
            (Some(_), _) => Plan::AS_IS,
            (None, Some(Compression::None)) => match self.options.compress.unwrap_or(Compress::Gzip) {
                Compress::None => Plan::AS_IS,
                how => Plan { keep: false, compress: Some(how), ..Plan::AS_IS },
            },
            (None, Some(_)) => Plan { unpack: true, ..Plan::AS_IS },
            (None, None) => return Packing::detect(head).name().map(ArchivePartKind::Unusable),
        };
        Some(ArchivePartKind::Staged(Plan { compression: layer.unwrap_or(Compression::None), ..plan }))
    }

    /// Returns the plan for a blob that looks like an uncompressed layer.
    fn plan_of_blob(&self, path: &str) -> Plan {
        let (keep, compress) = match (self.options.compress, self.is_docker) {
            (Some(Compress::None), _) | (None, Some(false)) => (true, None),
            (how, Some(true)) if self.layers.contains(path) => (false, how.or(Some(Compress::Gzip))),
            // It may be something else that looks like one, which is kept as it is.
            (how, _) => (true, how.or(Some(Compress::Gzip))),
        };
        Plan { keep, compress, ..Plan::AS_IS }
    }

    /// Whether uncompressed layers of a layout are to be replaced.
    pub fn replaces(&self) -> bool {
        self.is_docker == Some(true) || self.options.compress.is_some_and(|how| how != Compress::None)
    }

    /// A document outside of the blobs.
    pub fn document(&mut self, path: &str) -> Result<Option<Bytes>, Error> {
        match self.find(path)? {
            Some(ArchiveFile::Document(bytes)) => {
                self.entries.insert(path.into(), ArchivePart::Document(bytes.clone()));
                Ok(Some(bytes))
            }
            Some(ArchiveFile::Staged(_)) => Err(Error::document(path, "not JSON")),
            None => Ok(None),
        }
    }

    /// Takes out what is at `path`, wherever links lead.
    pub fn find(&mut self, path: &str) -> Result<Option<ArchiveFile>, Error> {
        let path = self.follow(path)?;
        match self.entries.remove(&path) {
            Some(ArchivePart::Document(bytes)) => Ok(Some(ArchiveFile::Document(bytes))),
            Some(ArchivePart::Staged(taken)) => Ok(Some(ArchiveFile::Staged(taken))),
            Some(ArchivePart::Link(_)) => Ok(None),
            Some(ArchivePart::Unusable(packing)) => Err(unusable(&path, packing)),
            None => match self.in_folder(&path)? {
                Some(ArchivePart::Document(bytes)) => Ok(Some(ArchiveFile::Document(bytes))),
                Some(ArchivePart::Staged(taken)) => Ok(Some(ArchiveFile::Staged(taken))),
                Some(ArchivePart::Unusable(packing)) => Err(unusable(&path, packing)),
                _ => Ok(None),
            },
        }
    }

    /// Whether there is something at `path`.
    pub fn has(&self, path: &str) -> Result<bool, Error> {
        match &self.folder {
            Some((folder, _)) if !self.entries.contains_key(path) => folder.has(path),
            _ => Ok(self.entries.contains_key(path)),
        }
    }

    /// Returns the JSON blobs that were not taken and have a subject, sorted by digest.
    pub fn unlisted(&self, is_taken: impl Fn(&Digest) -> bool) -> Result<Vec<(Digest, Bytes)>, Error> {
        let mut all = Vec::new();
        for (path, part) in &self.entries {
            if let (Some(digest), ArchivePart::Document(bytes)) = (digest_of(path), part) {
                all.push((digest, bytes.clone()));
            }
        }
        if let Some((folder, _)) = &self.folder {
            all.extend(unlisted::in_folder(folder.as_ref(), &is_taken)?);
        }
        all.retain(|(digest, bytes)| !is_taken(digest) && unlisted::has_subject(bytes));
        all.sort_by_key(|(digest, _)| digest.to_string());
        Ok(all)
    }

    /// Where links lead from `path`.
    pub fn follow(&self, path: &str) -> Result<String, Error> {
        let mut path = clean(path.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.entries.get(&path) {
                Some(ArchivePart::Link(target)) => path = target.clone(),
                _ => return Ok(path),
            }
        }
        Err(Error::document(path, "dangling links"))
    }

    fn in_folder(&self, path: &str) -> Result<Option<ArchivePart>, Error> {
        let Some((folder, counter)) = &self.folder else { return Ok(None) };
        let counter = &mut *counter.borrow_mut();
        // It is not even opened: a command that serves the folder need not send it.
        if let Some((known, size)) = self.known(path, None)?
            && folder.has(path)?
        {
            counter.add(size);
            return Ok(Some(known));
        }
        if let Some(digest) = digest_of(path)
            && let Some(stored) = counter.file(|here| folder.stored(path, here))?
        {
            let Options { store, profile, .. } = &self.options;
            let piece = StagedBlob::of_other(store, *profile, stored, &digest)?;
            let staged = StagedEntry { kept: Some(piece), ..StagedEntry::default() };
            return Ok(Some(ArchivePart::Staged(Box::new(staged))));
        }
        let Some(FolderFile { input, size }) = folder.open(path)? else { return Ok(None) };
        self.stage(path, size, counter.reader(input))
    }
}

impl ArchivePart {
    fn is_unchanged(&self) -> bool {
        matches!(self, Self::Document(index) if listing::is_unchanged(index))
    }
}

fn unusable(path: &str, packing: &str) -> Error {
    Error::document(
        path,
        format!("compressed with {packing}: a layer is a tar, plain or compressed with gzip or zstd"),
    )
}

fn read_document(path: &str, size: u64, limit: u64, input: impl Read) -> Result<Bytes, Error> {
    if size > limit {
        return Err(Error::TooLarge { what: path.into(), limit });
    }
    let mut bytes = Vec::new();
    input.take(size + 1).read_to_end(&mut bytes).map_err(|e| Error::of_io(path, e))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes.into()),
        false => Err(Error::Truncated(path.into())),
    }
}
