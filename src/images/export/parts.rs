//! A bundle that is being written: one file, numbered parts, or a stream. Files get their names once all of them are on the disk:
//! a name that is there is complete.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

/// Small writes are joined; a block is written as it is.
const BUFFER_BYTES: usize = 256 << 10;
/// Handed to the disk while more is written, so that the end has little to wait for.
const SYNC_EVERY: u64 = 64 << 20;

/// Where a bundle is written to.
pub enum PartsDest {
    /// A file, which must not be there.
    File(PathBuf),
    /// Files `<path>.001`, `<path>.002` and so on, which must not be there.
    Numbered(PathBuf),
    /// Any other place, for a single part. What it gets is complete only if the export succeeds.
    Stream(Box<dyn Write + Send>),
}

/// The parts of a bundle. Dropped before their end, they leave nothing.
pub struct Parts {
    dest: PartsDest,
    open: Option<OpenPart>,
    /// Files that are written, and the names that they get.
    made: Vec<(PathBuf, PathBuf)>,
}

/// The part that is written.
struct OpenPart {
    /// Another thread syncs it.
    file: BufWriter<Arc<File>>,
    unsynced: u64,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Parts {
    /// Begins with no part.
    pub fn new(dest: PartsDest) -> io::Result<Self> {
        let parts = Self { dest, open: None, made: Vec::new() };
        match parts.name(1) {
            Some(name) if name.try_exists()? => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Ok(parts),
        }
    }

    /// Returns the name of a part.
    fn name(&self, part: usize) -> Option<PathBuf> {
        match &self.dest {
            PartsDest::File(path) => Some(path.clone()),
            PartsDest::Numbered(path) => {
                let mut name = path.clone().into_os_string();
                name.push(format!(".{part:03}"));
                Some(name.into())
            }
            PartsDest::Stream(_) => None,
        }
    }

    /// Begins the next part.
    pub fn begin(&mut self) -> io::Result<()> {
        self.end()?;
        let Some(name) = self.name(self.made.len() + 1) else { return Ok(()) };
        if name.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut unfinished = name.clone().into_os_string();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        // A command that was killed may have left one.
        let file = Arc::new(File::create(&unfinished)?);
        self.made.push((unfinished, name));
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        self.open = Some(OpenPart { file, unsynced: 0, syncing: None });
        Ok(())
    }

    /// Writes the next bytes of the part.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.dest, &mut self.open) {
            (PartsDest::Stream(stream), _) => stream.write_all(bytes),
            (_, Some(part)) => part.write(bytes),
            (_, None) => Err(io::Error::other("no part was begun")),
        }
    }

    /// Ends the part, if one is open: it is on the disk on return.
    pub fn end(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), OpenPart::sync)
    }

    /// Ends the bundle, and gives all parts their names.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()?;
        if let PartsDest::Stream(stream) = &mut self.dest {
            return stream.flush();
        }
        if let Some((_, taken)) = self.made.iter().find(|(_, name)| name.exists()) {
            let text = format!("{} was made by another program meanwhile", taken.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        for (unfinished, name) in std::mem::take(&mut self.made) {
            fs::rename(&unfinished, &name)?;
            sync_directory(&name)?;
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.made.iter().for_each(|(unfinished, _)| drop(fs::remove_file(unfinished)));
    }
}

impl OpenPart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        let is_busy = self.syncing.as_ref().is_some_and(|thread| !thread.is_finished());
        if self.unsynced < SYNC_EVERY || is_busy {
            return Ok(());
        }
        self.unsynced = 0;
        self.wait()?;
        let file = self.file.get_ref().clone();
        let sync = move || file.sync_data();
        self.syncing = Some(thread::Builder::new().name("write-back".into()).spawn(sync)?);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let ended = self.syncing.take().map(|thread| thread.join());
        // An error that one sync has told is not told by the next.
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn sync(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.wait()?;
        self.file.get_ref().sync_all()
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn parts_get_their_names_once_all_of_them_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.car");
        let mut parts = Parts::new(PartsDest::Numbered(path.clone())).unwrap();
        for text in ["one", "two"] {
            parts.begin().unwrap();
            parts.write(text.as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["x.car.001.unfinished", "x.car.002.unfinished"]);
        parts.finish().unwrap();
        assert_eq!(names(dir.path()), ["x.car.001", "x.car.002"]);
        assert_eq!(fs::read(dir.path().join("x.car.002")).unwrap(), b"two");
        let again = Parts::new(PartsDest::Numbered(path)).err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_abandoned_bundle_leaves_no_file_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.car");
        let mut parts = Parts::new(PartsDest::File(path.clone())).unwrap();
        parts.begin().unwrap();
        parts.write(b"some").unwrap();
        drop(parts);
        assert!(names(dir.path()).is_empty());
        let mut parts = Parts::new(PartsDest::File(path.clone())).unwrap();
        parts.begin().unwrap();
        fs::write(&path, "another program's").unwrap();
        assert_eq!(parts.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(dir.path()), ["x.car"]);
        assert_eq!(fs::read(&path).unwrap(), b"another program's");
    }
}
