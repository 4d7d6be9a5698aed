//! The total of an import from folders: counted beside the import, which does not wait for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
};

use super::Attachment;
use crate::{
    control::{LayerRequest, Note, Request},
    images::{archive::ArchiveSource, pack::folder::tar_size},
};

/// The bytes of what is attached, once they are counted; none where nothing is counted here.
pub struct FolderTotal(Option<Arc<OnceLock<u64>>>);

/// What is counted.
enum Counted {
    /// A layout, whose files are read as they are.
    Layout(PathBuf),
    /// Files of known sizes, and folders that become layers.
    Layers { known: u64, folders: Vec<PathBuf> },
}

impl FolderTotal {
    /// Begins to count the folders of an attachment.
    pub fn of(request: &Request, attachment: &Attachment) -> Self {
        let Some(counted) = Counted::of(request, attachment) else { return Self(None) };
        let total = Arc::new(OnceLock::new());
        let found = total.clone();
        // A total that cannot be counted stays unknown: the import says what is wrong with the folder.
        let count = move || drop(counted.count().map(|bytes| found.set(bytes)));
        let counting = thread::Builder::new().name("count".into()).spawn(count);
        Self(counting.is_ok().then_some(total))
    }

    /// Adds the total where the instance does not know it.
    pub fn fill(&self, note: Note) -> Note {
        let counted = self.0.as_ref().and_then(|total| total.get());
        match (note, counted) {
            (Note::Progress(mut progress), Some(total)) if progress.total.is_none() => {
                progress.total = Some(progress.done.max(*total));
                Note::Progress(progress)
            }
            (note, _) => note,
        }
    }
}

impl Counted {
    fn of(request: &Request, attachment: &Attachment) -> Option<Self> {
        match (attachment, request) {
            (Attachment::Archive(ArchiveSource::Folder(folder)), _) => {
                folder.path().map(|path| Self::Layout(path.into()))
            }
            // What comes from IPFS is not counted here.
            (Attachment::Layers(files), Request::Layer(LayerRequest::Add { sources, .. }))
                if sources.len() == files.len() && files.iter().any(|file| file.is_folder) =>
            {
                let (mut known, mut folders) = (0, Vec::new());
                for file in files {
                    match (file.folder(), file.size) {
                        (Some(folder), _) => folders.push(folder.into()),
                        (None, size) => known += size?,
                    }
                }
                Some(Self::Layers { known, folders })
            }
            _ => None,
        }
    }

    fn count(self) -> io::Result<u64> {
        match self {
            Self::Layout(folder) => bytes_below(&folder),
            Self::Layers { known, folders } => {
                folders.iter().try_fold(known, |sum, folder| Ok(sum + tar_size(folder)?))
            }
        }
    }
}

/// Returns the bytes of all files below a directory. Links to files count, since a layout may consist of them.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let (mut folders, mut bytes) = (vec![folder.to_path_buf()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Ok(file) = fs::metadata(entry.path())
                && file.is_file()
            {
                bytes += file.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{Progress, Source},
        images::layer::LayerFile,
    };

    /// Waits for the thread that counts.
    fn counted(total: &FolderTotal) -> u64 {
        *total.0.as_ref().expect("it is counted").wait()
    }

    #[test]
    fn the_total_of_folders_is_that_of_their_tars() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("rootfs");
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/hosts"), [1; 700]).unwrap();
        fs::hard_link(folder.join("etc/hosts"), folder.join("hosts")).unwrap();
        let tar = dir.path().join("a.tar");
        fs::write(&tar, [0; 1024]).unwrap();
        let files = [&folder, &tar].map(|path| LayerFile::open(path, 0).unwrap());
        let add = |sources| Request::Layer(LayerRequest::Add { sources, platform: None, profile: None });
        let attachment = Attachment::Layers(files.into());
        let total = FolderTotal::of(&add(vec![Source::Attached, Source::Attached]), &attachment);
        // Three headers, the content in two blocks, and the end; then the file.
        assert_eq!(counted(&total), (3 + 2 + 2) * 512 + 1024);
        let progress = |done, total| Note::Progress(Progress { done, total, ..Progress::default() });
        assert_eq!(total.fill(progress(5, None)), progress(5, Some(4608)));
        assert_eq!(total.fill(progress(5000, None)), progress(5000, Some(5000)));
        // At its end the instance knows it better.
        assert_eq!(total.fill(progress(4700, Some(4700))), progress(4700, Some(4700)));
        let with_ipfs = add(vec![Source::Attached, Source::Ipfs("bafy".into()), Source::Attached]);
        assert!(FolderTotal::of(&with_ipfs, &attachment).0.is_none());
    }

    #[test]
    fn the_total_of_a_layout_is_that_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("index.json"), [b' '; 10]).unwrap();
        fs::write(dir.path().join("blobs/sha256/a"), [0; 300]).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("blobs/sha256/b")).unwrap();
        let attachment = Attachment::Archive(ArchiveSource::open(dir.path()).unwrap());
        assert_eq!(counted(&FolderTotal::of(&Request::Status, &attachment)), 610);
    }
}
