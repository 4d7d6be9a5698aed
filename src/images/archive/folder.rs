//! The files of a layout folder, by their paths in it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    Error,
    path::{clean, digest_of},
};
use crate::{content::Stored, images::input::Input};

/// A layout folder, on this machine or at the other end of a connection.
pub trait ArchiveFolder: Send {
    /// Opens the file at `path`; none where there is nothing.
    fn open(&self, path: &str) -> Result<Option<FolderFile>, Error>;

    /// Whether there is something at `path`.
    fn has(&self, path: &str) -> Result<bool, Error>;

    /// Returns the blob at `path` where it is stored already and is not a document: it is not read then. What is fetched first
    /// is told to `progress`.
    fn stored(&self, _path: &str, _progress: &mut (dyn FnMut(u64) + Send)) -> Result<Option<Stored>, Error> {
        Ok(None)
    }

    /// The bytes that will be read, where they are known.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Returns the directory on this machine that it is.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Passes the name and the size of each file in the directory at `path`; a missing directory is empty.
    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), Error>;
}

/// A file of a folder.
pub struct FolderFile {
    /// Its bytes.
    pub input: Input,
    /// Their number.
    pub size: u64,
}

/// A folder on this machine.
pub struct LocalFolder(PathBuf);

impl LocalFolder {
    /// Takes a directory.
    pub fn new(path: &Path) -> io::Result<Self> {
        fs::canonicalize(path).map(Self)
    }

    /// Where `path` leads; links out of the folder are followed where a digest verifies what they lead to, as in Bazel's
    /// layouts.
    fn locate(&self, path: &str) -> Result<Option<PathBuf>, Error> {
        let path = clean(path.as_bytes())?;
        let full = match fs::canonicalize(self.0.join(&path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            full => full.map_err(|e| failed(&path, e))?,
        };
        match full.starts_with(&self.0) || digest_of(&path).is_some() {
            true => Ok(Some(full)),
            false => Err(Error::OutsideLink(path)),
        }
    }
}

impl ArchiveFolder for LocalFolder {
    fn path(&self) -> Option<&Path> {
        Some(&self.0)
    }

    fn open(&self, path: &str) -> Result<Option<FolderFile>, Error> {
        let Some(full) = self.locate(path)? else { return Ok(None) };
        let meta = fs::metadata(&full).map_err(|e| failed(path, e))?;
        if !meta.is_file() {
            return Err(Error::document(path, "not a file"));
        }
        let file = File::open(&full).map_err(|e| failed(path, e))?;
        Ok(Some(FolderFile { input: Input::File(file), size: meta.len() }))
    }

    fn has(&self, path: &str) -> Result<bool, Error> {
        Ok(self.0.join(clean(path.as_bytes())?).exists())
    }

    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), Error> {
        let directory = self.0.join(clean(path.as_bytes())?);
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|e| failed(path, e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed(path, e))?;
            // The entry may be a link.
            let Ok(meta) = fs::metadata(entry.path()) else { continue };
            if let (true, Some(name)) = (meta.is_file(), entry.file_name().to_str()) {
                each(name, meta.len());
            }
        }
        Ok(())
    }
}

fn failed(path: &str, error: io::Error) -> Error {
    Error::Read { what: path.into(), why: error.to_string() }
}
