//! Imports of blobs that the store has already.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::*;
use crate::images::{
    archive::{ArchiveFolder, FolderFile},
    input::Input,
};

/// A layout folder that notes what is opened, and how many bytes that has.
#[derive(Clone)]
struct NotedFolder {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    opened: Arc<Mutex<Vec<(String, usize)>>>,
}

impl NotedFolder {
    fn new(files: Vec<(String, Vec<u8>)>) -> Self {
        Self { files: Arc::new(files.into_iter().collect()), opened: Arc::default() }
    }

    /// The files that were opened since the last call, and their bytes.
    fn take_opened(&self) -> (Vec<String>, usize) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap());
        let bytes = opened.iter().map(|(_, length)| length).sum();
        (opened.into_iter().map(|(path, _)| path).collect(), bytes)
    }

    async fn import(&self, content: &Content, profile: Profile) -> Vec<Imported> {
        let source = ArchiveSource::Folder(Box::new(self.clone()));
        let options = options(ImportFormat::Layout, profile);
        import(content, source, options, Box::new(|_| {})).await.unwrap().0
    }
}

impl ArchiveFolder for NotedFolder {
    fn open(&self, path: &str) -> Result<Option<FolderFile>, archive::Error> {
        let Some(bytes) = self.files.get(path) else { return Ok(None) };
        self.opened.lock().unwrap().push((path.into(), bytes.len()));
        let input = Input::stream(Cursor::new(bytes.clone()));
        Ok(Some(FolderFile { input, size: bytes.len() as u64 }))
    }

    fn has(&self, path: &str) -> Result<bool, archive::Error> {
        Ok(self.files.contains_key(path))
    }

    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), archive::Error> {
        for (file, bytes) in self.files.iter() {
            if let Some((folder, name)) = file.rsplit_once('/')
                && folder == path
            {
                each(name, bytes.len() as u64);
            }
        }
        Ok(())
    }
}

fn folder() -> NotedFolder {
    let layers = [layer("a", 3 << 20), layer("b", 100)];
    NotedFolder::new(oci(&layers, ocipfs_oci::media_type::OCI_LAYER_TAR, &[]))
}

#[tokio::test]
async fn a_second_import_of_a_layout_folder_reads_none_of_its_blobs() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let dir = tempfile::tempdir().unwrap();
        let (content, folder) = (content(dir.path()).await, folder());
        let images = folder.import(&content, profile).await;
        let (first, bytes) = folder.take_opened();
        assert!(first.len() == 6 && bytes > 3 << 20, "{first:?} {bytes}");
        assert_eq!(folder.import(&content, profile).await, images);
        let (mut again, bytes) = folder.take_opened();
        again.sort();
        assert_eq!(again, ["index.json", "oci-layout"]);
        assert!(bytes < 1000, "{bytes}");
        // What is released is gone, and read again.
        assert!(content.release(&images[0].cid).await.unwrap());
        assert_eq!(content.store_stat().await.unwrap(), Default::default());
        assert_eq!(folder.import(&content, profile).await, images);
        assert_eq!(folder.take_opened().0.len(), 6);
    }
}

#[tokio::test]
async fn an_import_in_another_profile_or_of_a_missing_blob_reads_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (content, folder) = (content(dir.path()).await, folder());
    let images = folder.import(&content, Profile::UnixfsV1).await;
    folder.take_opened();
    let other = folder.import(&content, Profile::Legacy).await;
    assert!(other[0].cid != images[0].cid && folder.take_opened().1 > 3 << 20);
    let large = folder.files.iter().find(|(_, bytes)| bytes.len() > 1 << 20).unwrap().1;
    let hex = ocipfs_oci::Digest::sha256_of(large).hex();
    std::fs::remove_file(dir.path().join("blobs").join(&hex[..2]).join(&hex)).unwrap();
    assert_eq!(folder.import(&content, Profile::UnixfsV1).await, images);
    assert!(folder.take_opened().1 > 3 << 20);
    let root = images[0].reference.strip_prefix("ipfs/").unwrap().rsplit_once(':').unwrap().0;
    assert!(read(&content, &format!("{root}/blobs/sha256/{hex}")).await == *large);
}

#[tokio::test]
async fn a_blob_that_the_folder_lacks_is_not_taken_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (content, folder) = (content(dir.path()).await, folder());
    folder.import(&content, Profile::UnixfsV1).await;
    let without_large = folder.files.iter().filter(|(_, bytes)| bytes.len() < 1 << 20);
    let cut = NotedFolder::new(without_large.map(|(path, bytes)| (path.clone(), bytes.clone())).collect());
    let source = ArchiveSource::Folder(Box::new(cut));
    let options = options(ImportFormat::Layout, Profile::UnixfsV1);
    let error = import(&content, source, options, Box::new(|_| {})).await.unwrap_err();
    assert!(matches!(error, Error::Archive(archive::Error::Missing { .. })), "{error}");
}

#[tokio::test]
async fn a_second_import_of_a_tar_writes_none_of_its_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let files = oci(&[layer("a", 3 << 20)], ocipfs_oci::media_type::OCI_LAYER_TAR, &[]);
    // Where the lists come first, it is known from the start that nothing is compressed.
    let lists_first: Vec<_> = {
        let (lists, blobs): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| !path.starts_with("blobs/"));
        lists.into_iter().chain(blobs).collect()
    };
    let compress_none =
        || Options { compress: Some(Compress::None), ..options(ImportFormat::Layout, Profile::UnixfsV1) };
    let next_draft = || content.store().draft().unwrap().id();
    let before = next_draft();
    let images = imported(&content, tar(&lists_first), compress_none()).await.unwrap();
    let between = next_draft();
    assert_eq!(imported(&content, tar(&lists_first), compress_none()).await.unwrap(), images);
    // Documents are in memory, and written with what is made of them.
    let (first, second) = (between - before, next_draft() - between);
    assert_eq!(second, first - 1, "the layer is not written again");
}
