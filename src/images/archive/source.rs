//! Where an archive comes from: a stream of a tar, or a layout folder.

use std::{fs, io, io::Read, path::Path};

use super::{
    Error,
    folder::{ArchiveFolder, LocalFolder},
    input,
    listing::EarlyManifest,
};
use crate::images::input::Input;

/// Where images come from.
pub enum ArchiveSource {
    /// A tar, compressed or not.
    Stream(ArchiveStream),
    /// A layout folder.
    Folder(Box<dyn ArchiveFolder>),
}

/// A tar as a stream.
pub struct ArchiveStream {
    /// What errors call it.
    pub what: String,
    /// Its bytes.
    pub input: Input,
    /// Their number, where it is known.
    pub size: Option<u64>,
    /// Its `manifest.json`.
    pub manifest: EarlyManifest,
}

impl ArchiveSource {
    /// Opens a file, a folder, or something else that can be read, such as a named pipe.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let what = path.display().to_string();
        let failed = |e: io::Error| Error::Read { what: what.clone(), why: e.to_string() };
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.is_dir() {
            return Ok(Self::Folder(Box::new(LocalFolder::new(path).map_err(failed)?)));
        }
        let mut file = fs::File::open(path).map_err(failed)?;
        // A pipe cannot be read twice.
        if !meta.is_file() {
            return Ok(Self::stream(what, file));
        }
        let manifest = input::find_manifest(&mut file).map_err(failed)?;
        Ok(Self::Stream(ArchiveStream { input: Input::File(file), size: Some(meta.len()), manifest, what }))
    }

    /// Takes a stream.
    pub fn stream(what: impl Into<String>, input: impl Read + Send + 'static) -> Self {
        let (input, what) = (Input::stream(input), what.into());
        Self::Stream(ArchiveStream { what, input, size: None, manifest: EarlyManifest::Unknown })
    }

    /// The bytes that will be read, where they are known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Stream(stream) => stream.size,
            Self::Folder(folder) => folder.size(),
        }
    }
}
