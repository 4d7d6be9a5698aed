//! `image export`: writes images to an archive, from their manifests down to their blobs.

mod contents;

use std::{io, path::Path, str::FromStr};

use bytes::Bytes;

use super::{Instance, Notes, meter::Meter, reference::ImageRef};
use crate::{
    control::{
        Failure, ImageReply, Note, Unit,
        attachment::Attachment,
        failure::{content_failure, names_failure, unwritable},
    },
    images::{
        archive::blob_path,
        export::{ExportTarget, Format},
    },
    names::{BlobSource, ImageTree, NameKind, TreeError, TreeOptions},
};
use contents::Contents;

pub(super) use contents::Export;

impl Instance {
    pub(super) async fn image_export(
        &self,
        export: Export,
        attachment: Attachment,
        notes: Notes,
    ) -> Result<ImageReply, Failure> {
        let Export { references, dest, format, referrers } = export;
        let given = format.map(|text| Format::from_str(&text)).transpose().map_err(Failure::new)?;
        let (format, _) = Format::of(&dest, given).map_err(Failure::new)?;
        let mut contents = Contents::new(format, given.is_some());
        for reference in &references {
            let image_ref = self.image_ref(reference)?;
            let (kind, tree) = self.image_tree(&image_ref, TreeOptions { referrers, platforms: &[] }).await?;
            contents.add(&self.0.registry, kind, &image_ref, tree)?;
        }
        contents.warnings().for_each(|text| drop(notes.send(Note::Warning(text))));
        let failed = |e| unwritable(&dest, e);
        let first = contents.documents()?;
        let Attachment::Export(destination) = attachment else {
            return Err(Failure::new("no destination is attached to the request"));
        };
        let mut target = (destination.create)().map_err(failed)?;
        if let Err(failure) = self.fill(&mut target, &dest, first, &contents, &notes).await {
            target.abandon().await;
            return Err(failure);
        }
        target.finish().await.map_err(failed)?;
        Ok(ImageReply::Exported { dest, images: contents.images })
    }

    /// Reads the manifests of an image.
    pub(super) async fn image_tree(
        &self,
        image_ref: &ImageRef,
        options: TreeOptions<'_>,
    ) -> Result<(NameKind, ImageTree), Failure> {
        let kind = NameKind::parse(&image_ref.name).map_err(names_failure)?;
        let tree = ImageTree::read(self.resolver(), &kind, &image_ref.reference, options).await;
        Ok((kind, tree.map_err(tree_failure)?))
    }

    /// Writes the files that are known, then each blob as it comes.
    async fn fill(
        &self,
        target: &mut ExportTarget,
        dest: &Path,
        first: Vec<(String, Bytes)>,
        contents: &Contents,
        notes: &Notes,
    ) -> Result<(), Failure> {
        let failed = |e| unwritable(dest, e);
        let total = contents.blobs.values().map(|blob| blob.size).sum();
        let meter = Meter::begin(notes, "export", Unit::Bytes, Some(total));
        for (path, bytes) in first {
            write(target, &path, bytes).await.map_err(failed)?;
        }
        for (digest, wanted) in &contents.blobs {
            let kind = &contents.kinds[wanted.kind];
            let found = kind.locate_blob(self.resolver(), digest).await.map_err(names_failure)?;
            let found_size = match &found {
                BlobSource::Inline(bytes) => bytes.len() as u64,
                BlobSource::Blob(blob) => blob.size,
            };
            if found_size != wanted.size {
                let size = wanted.size;
                return Err(Failure::new(format!(
                    "size mismatch of {digest}: expected {size} bytes, found {found_size}"
                )));
            }
            let blob = match found {
                BlobSource::Inline(bytes) => {
                    write(target, &blob_path(digest), bytes).await.map_err(failed)?;
                    meter.add(found_size);
                    continue;
                }
                BlobSource::Blob(blob) => blob,
            };
            let mut reader = self.content().open(&blob, 0..blob.size).await.map_err(content_failure)?;
            target.file(&blob_path(digest), blob.size).await.map_err(failed)?;
            while let Some(bytes) = reader.next().await {
                let bytes = bytes.map_err(content_failure)?;
                let length = bytes.len() as u64;
                target.write(bytes).await.map_err(failed)?;
                meter.add(length);
            }
        }
        meter.finish();
        Ok(())
    }
}

/// Adds what to do where an image cannot be read whole.
pub(super) fn tree_failure(error: TreeError) -> Failure {
    match error {
        TreeError::Names(error) => names_failure(error),
        TreeError::Referrers(_) => Failure::new(error)
            .hint("--no-referrers leaves out the signatures and other referrers of an image"),
        TreeError::Document(_) | TreeError::TooLarge | TreeError::NoPlatform { .. } => Failure::new(error),
    }
}

async fn write(target: &mut ExportTarget, path: &str, bytes: Bytes) -> io::Result<()> {
    target.file(path, bytes.len() as u64).await?;
    target.write(bytes).await
}

#[cfg(test)]
mod tests;
