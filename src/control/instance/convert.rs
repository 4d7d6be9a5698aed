//! `image convert` and `image push`: an image of the registry is imported as if it were an archive, in another form.

use std::{collections::HashMap, io::Cursor};

use bytes::Bytes;
use ocipfs_oci::{Digest, Platform};
use tokio::runtime::Handle;

use super::{Instance, Notes, export::tree_failure, reference::ImageRef};
use crate::{
    content::{self, BlockingReader, Content, Stored},
    control::{Attachment, Failure, ImageInfo, Note, failure::content_failure},
    images::{
        archive::{self, ArchiveFolder, ArchiveSource, FolderFile, blob_path},
        export::{self, Format},
        import,
        input::Input,
    },
    names::{BlobSource, ImageTree, NameKind, Resolver, TreeOptions},
};

/// Bytes of a blob by which a document is recognized.
const HEAD_BYTES: u64 = 512;

impl Instance {
    pub(super) async fn image_convert(
        &self,
        (reference, platforms): (&str, &[Platform]),
        options: import::Options,
        registry: Option<String>,
        notes: Notes,
    ) -> Result<Vec<ImageInfo>, Failure> {
        let image_ref = self.image_ref(reference)?;
        let wanted = TreeOptions { referrers: false, platforms };
        let (kind, mut tree) = self.image_tree(&image_ref, wanted).await?;
        tree.reduce(platforms).map_err(tree_failure)?;
        tree.warnings.iter().for_each(|text| drop(notes.send(Note::Warning(text.clone()))));
        let stored = StoredImage::new(self, kind, &image_ref, tree)?;
        let source = Attachment::Archive(ArchiveSource::Folder(Box::new(stored)));
        self.import_from(source, options, registry, notes, failure).await
    }
}

/// What an image of the registry cannot be read by is not the fault of an archive.
fn failure(error: import::Error) -> Failure {
    match error {
        import::Error::Content(error) => content_failure(error),
        import::Error::Archive(archive::Error::Store(error)) => content_failure(error.into()),
        error => Failure::new(error),
    }
}

/// An image of the registry as a layout folder, whose blobs are fetched when they are read.
struct StoredImage {
    content: Content,
    resolver: Resolver,
    kind: NameKind,
    documents: HashMap<String, Bytes>,
    blobs: HashMap<String, (Digest, u64)>,
}

impl StoredImage {
    fn new(
        instance: &Instance,
        kind: NameKind,
        image_ref: &ImageRef,
        tree: ImageTree,
    ) -> Result<Self, Failure> {
        let entry = export::image_entry(&tree.top, image_ref.repository(), &image_ref.reference);
        let index = export::index(vec![entry], Format::Oci).map_err(Failure::new)?;
        let documents = tree.documents.into_iter().map(|(digest, bytes)| (blob_path(&digest), bytes));
        let mut documents: HashMap<String, Bytes> = documents.collect();
        documents.insert("index.json".into(), index.into());
        documents.insert("oci-layout".into(), Bytes::from_static(export::OCI_LAYOUT));
        let blobs = tree.blobs.into_iter().map(|(digest, size)| (blob_path(&digest), (digest, size)));
        let (content, resolver) = (instance.content().clone(), instance.resolver().clone());
        Ok(Self { content, resolver, kind, documents, blobs: blobs.collect() })
    }

    /// Fetches a blob, and finds it in the store.
    async fn store_whole(
        &self,
        digest: &Digest,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<Stored>, String> {
        let failed = |error: content::Error| error.to_string();
        if let Some(stored) = self.content.stored_blob(digest).await.map_err(failed)? {
            return Ok(Some(stored));
        }
        let found = self.kind.locate_blob(&self.resolver, digest).await.map_err(|error| error.to_string())?;
        let BlobSource::Blob(blob) = found else { return Ok(None) };
        self.content.fetch_stored_with(&blob, progress).await.map_err(failed)
    }

    fn is_document(&self, stored: &Stored) -> Result<bool, String> {
        let file = self.content.store().open_file(stored).map_err(|error| error.to_string())?;
        let head =
            file.read_at(0, stored.size.min(HEAD_BYTES) as usize).map_err(|error| error.to_string())?;
        Ok(head.trim_ascii_start().first().is_none_or(|byte| matches!(byte, b'{' | b'[')))
    }

    fn read(&self, digest: &Digest) -> Result<FolderFile, String> {
        let handle = Handle::current();
        let found = handle.block_on(self.kind.locate_blob(&self.resolver, digest));
        match found.map_err(|error| error.to_string())? {
            BlobSource::Inline(bytes) => Ok(in_memory(bytes)),
            BlobSource::Blob(blob) => {
                let reader = handle.block_on(self.content.open(&blob, 0..blob.size));
                let reader = BlockingReader::from(reader.map_err(|error| error.to_string())?);
                Ok(FolderFile { input: Input::stream(reader), size: blob.size })
            }
        }
    }
}

fn in_memory(bytes: Bytes) -> FolderFile {
    FolderFile { size: bytes.len() as u64, input: Input::stream(Cursor::new(bytes)) }
}

impl ArchiveFolder for StoredImage {
    fn open(&self, path: &str) -> Result<Option<FolderFile>, archive::Error> {
        if let Some(bytes) = self.documents.get(path) {
            return Ok(Some(in_memory(bytes.clone())));
        }
        let Some((digest, size)) = self.blobs.get(path) else { return Ok(None) };
        let failed = |why: String| archive::Error::Document { what: digest.to_string(), why };
        let file = self.read(digest).map_err(failed)?;
        match file.size == *size {
            true => Ok(Some(file)),
            false => Err(failed(format!("expected {size} bytes, found {}", file.size))),
        }
    }

    fn size(&self) -> Option<u64> {
        let documents = self.documents.values().map(|bytes| bytes.len() as u64);
        Some(documents.chain(self.blobs.values().map(|(_, size)| *size)).sum())
    }

    fn stored(
        &self,
        path: &str,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<Stored>, archive::Error> {
        let Some((digest, size)) = self.blobs.get(path) else { return Ok(None) };
        let failed = |why: String| archive::Error::Document { what: digest.to_string(), why };
        let Some(stored) = Handle::current().block_on(self.store_whole(digest, progress)).map_err(failed)?
        else {
            return Ok(None);
        };
        if stored.size != *size {
            return Err(failed(format!("expected {size} bytes, found {}", stored.size)));
        }
        if self.is_document(&stored).map_err(failed)? {
            return Ok(None);
        }
        progress(*size);
        Ok(Some(stored))
    }

    fn has(&self, path: &str) -> Result<bool, archive::Error> {
        Ok(self.documents.contains_key(path) || self.blobs.contains_key(path))
    }

    /// Everything of the image is named by its manifests.
    fn list(&self, _: &str, _: &mut dyn FnMut(&str, u64)) -> Result<(), archive::Error> {
        Ok(())
    }
}
