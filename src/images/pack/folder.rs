//! A folder as a tar whose bytes depend on nothing but the folder.
//!
//! Entries are sorted by the bytes of their path, belong to user and group 0 without names, and
//! have one time. What a tar cannot hold is an error, never left out in silence.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::EntryType;

use entry::TarEntry;

mod entry;
#[cfg(test)]
mod tests;
mod xattrs;

const BUFFER: u64 = 1 << 17;

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the folder cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file, folder or link.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },
    /// A file grew, shrank or was replaced.
    #[error("{} changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// The folder holds a socket.
    #[error("{} is a socket, which a tar cannot hold", .0.display())]
    Socket(PathBuf),
    /// An extended attribute has a name that a PAX record would cut in two.
    #[error("{} has the extended attribute {name:?}, whose '=' a tar cannot hold", path.display())]
    AttributeName {
        /// The file or folder.
        path: PathBuf,
        /// The name of the attribute.
        name: OsString,
    },
    /// The tar cannot be written.
    #[error("cannot write the tar: {0}")]
    Write(io::Error),
}

/// Writes what is inside `dir` as a tar, with `epoch` (in seconds) as the time of every entry.
///
/// Modes, symbolic links, hard links inside the folder, devices, fifos and extended attributes
/// are kept; `dir` itself is not an entry. After an error, the tar is incomplete.
pub fn pack(dir: &Path, epoch: u64, out: impl Write) -> Result<(), Error> {
    let mut packer = Packer { epoch, first_names: HashMap::new(), out: BufWriter::new(out) };
    for name in walk(dir)? {
        packer.append(&dir.join(&name), name.into_vec())?;
    }
    packer.out.write_all(&super::END).map_err(Error::Write)?;
    packer.out.flush().map_err(Error::Write)
}

/// Lists all below `dir`, relative to it and in the order of the archive.
fn walk(dir: &Path) -> Result<Vec<OsString>, Error> {
    let mut names = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        for item in fs::read_dir(&path).map_err(cannot_read(&path))? {
            let item = item.map_err(cannot_read(&path))?;
            let name = folder.join(item.file_name());
            if item.file_type().map_err(cannot_read(&path))?.is_dir() {
                folders.push(name.clone());
            }
            names.push(name.into_os_string());
        }
    }
    // As bytes: paths compare by their components, where `a/b` comes before `a.b`.
    names.sort_unstable();
    Ok(names)
}

/// Returns the size of the tar of `dir` as far as it is known without reading the files: extended attributes and names that
/// need PAX records are not counted.
pub fn tar_size(dir: &Path) -> io::Result<u64> {
    let (mut folders, mut seen) = (vec![dir.to_path_buf()], HashSet::new());
    let mut size = super::END.len() as u64;
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder)? {
            let item = item?;
            let metadata = item.metadata()?;
            size += super::BLOCK as u64;
            if metadata.is_dir() {
                folders.push(item.path());
            } else if metadata.is_file()
                && (metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())))
            {
                size += metadata.len() + super::padding(metadata.len()).len() as u64;
            }
        }
    }
    Ok(size)
}

struct Packer<W: Write> {
    epoch: u64,
    /// The names under which the inodes with several links were packed.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    out: BufWriter<W>,
}

impl<W: Write> Packer<W> {
    fn append(&mut self, path: &Path, mut name: Vec<u8>) -> Result<(), Error> {
        let metadata = fs::symlink_metadata(path).map_err(cannot_read(path))?;
        let kind = kind(&metadata).ok_or_else(|| Error::Socket(path.into()))?;
        if kind == EntryType::Directory {
            name.push(b'/');
        } else if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.first_names.get(&inode).cloned() {
                return self.write(TarEntry::new(&name, EntryType::Link, metadata.mode()).link(&first));
            }
            self.first_names.insert(inode, name.clone());
        }
        let entry = TarEntry::new(&name, kind, metadata.mode()).attributes(xattrs::read(path)?);
        match kind {
            EntryType::Regular => self.append_file(entry, path, &metadata),
            EntryType::Symlink => {
                let target = fs::read_link(path).map_err(cannot_read(path))?;
                self.write(entry.link(target.as_os_str().as_bytes()))
            }
            EntryType::Char | EntryType::Block => self.write(entry.device(metadata.rdev())),
            _ => self.write(entry),
        }
    }

    fn append_file(&mut self, entry: TarEntry<'_>, path: &Path, listed: &Metadata) -> Result<(), Error> {
        let mut file = File::open(path).map_err(cannot_read(path))?;
        let opened = file.metadata().map_err(cannot_read(path))?;
        if (opened.dev(), opened.ino()) != (listed.dev(), listed.ino()) {
            return Err(Error::Changed(path.into()));
        }
        let size = opened.len();
        self.write(entry.size(size))?;
        copy(&mut file, size, path, &mut self.out)?;
        self.out.write_all(super::padding(size)).map_err(Error::Write)
    }

    fn write(&mut self, entry: TarEntry<'_>) -> Result<(), Error> {
        entry.write(self.epoch, &mut self.out).map_err(Error::Write)
    }
}

/// `None` for a socket, the one kind of file that no tar format knows.
fn kind(metadata: &Metadata) -> Option<EntryType> {
    let kind = metadata.file_type();
    Some(match () {
        _ if kind.is_file() => EntryType::Regular,
        _ if kind.is_dir() => EntryType::Directory,
        _ if kind.is_symlink() => EntryType::Symlink,
        _ if kind.is_fifo() => EntryType::Fifo,
        _ if kind.is_char_device() => EntryType::Char,
        _ if kind.is_block_device() => EntryType::Block,
        _ => return None,
    })
}

/// Copies a file that has to end after exactly `size` bytes.
fn copy(from: &mut impl Read, size: u64, path: &Path, out: &mut impl Write) -> Result<(), Error> {
    let mut left = size;
    // One byte more than is announced, so that a file that grew shows it.
    let mut buffer = vec![0; size.saturating_add(1).min(BUFFER) as usize];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) if left == 0 => return Ok(()),
            Ok(length) if length as u64 <= left && length > 0 => length,
            Ok(_) => return Err(Error::Changed(path.into())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot_read(path)(error)),
        };
        out.write_all(&buffer[..length]).map_err(Error::Write)?;
        left -= length as u64;
    }
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |reason| Error::Read { path: path.into(), reason }
}
