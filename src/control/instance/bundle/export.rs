//! `bundle export`: first all that belongs to the images is here and its manifest is made, then it is written.

use std::path::PathBuf;

use ocipfs_node::{Block, Cid};

use super::contents::Contents;
use crate::{
    content::CidPath,
    control::{
        Earlier, ExportedBundle, Failure, Note, RequestedImage, Unit,
        attachment::Attachment,
        failure::{bundle_failure, content_failure, unwritable},
        instance::{Instance, Notes, meter::Meter},
    },
    images::{
        bundle::{BundleWriter, Error, MAX_MANIFEST_BYTES, Manifest, WantList, keep_manifest, manifest_file},
        export::ExportTarget,
    },
};

/// Request to export a bundle.
pub struct ExportRequest {
    pub images: Vec<RequestedImage>,
    pub dest: PathBuf,
    pub split: Option<u64>,
    pub since: Vec<Earlier>,
    pub want: Option<WantList>,
}

impl Instance {
    pub(super) async fn bundle_export(
        &self,
        request: ExportRequest,
        attachment: Attachment,
        notes: Notes,
    ) -> Result<ExportedBundle, Failure> {
        let ExportRequest { mut images, dest, split, since, want } = request;
        let _guard = self.content().gc_guard().await;
        let mut contents = Contents::new(self.network_record(), want.as_ref());
        for earlier in since {
            self.leave_out(earlier, &mut contents).await?;
        }
        images.extend(want.iter().flat_map(|want| &want.images).map(|image| RequestedImage {
            reference: format!("{}@{}", image.repository, image.digest),
            platforms: image.platforms.iter().filter_map(|text| text.parse().ok()).collect(),
            tag: image.tag.clone(),
            listed_in: None,
        }));
        self.add_images(&images, &mut contents, &notes).await?;
        let kinds = contents.take_kinds();
        let mut manifest = contents.into_manifest();
        manifest.records = self.name_records(&kinds, &manifest).await?;
        let (root, blocks) = manifest_file(&manifest).map_err(bundle_failure)?;
        let Attachment::Export(destination) = attachment else {
            return Err(Failure::new("no destination is attached to the request"));
        };
        let mut target = (destination.create)().map_err(|error| unwritable(&dest, error))?;
        let written = self.write_bundle(&mut target, (root, &blocks), &manifest, split, &notes).await;
        let (parts, bytes) = match written {
            Ok(written) => written,
            Err(error) => {
                target.abandon().await;
                return Err(match error {
                    Error::Write(error) => unwritable(&dest, error),
                    other => bundle_failure(other),
                });
            }
        };
        target.finish().await.map_err(|error| unwritable(&dest, error))?;
        let json = manifest.to_json().map_err(bundle_failure)?;
        if let Err(failure) = keep_manifest(self.content(), root, json).await {
            let text = format!("--since {root} will need the file: its manifest cannot be kept: {failure}");
            let _ = notes.send(Note::Warning(text));
        }
        let blobs = manifest.contained().count();
        Ok(ExportedBundle {
            dest,
            bundle: root.to_string(),
            parts,
            bytes,
            blobs,
            left_out: manifest.blobs.len() - blobs,
            images: manifest.images.iter().map(|image| self.bundle_image(image)).collect(),
        })
    }

    /// Leaves out what an earlier bundle has.
    async fn leave_out(&self, earlier: Earlier, contents: &mut Contents) -> Result<(), Failure> {
        let (bundle, blobs) = match earlier {
            Earlier::Read { bundle, blobs } => (bundle, blobs),
            Earlier::Exported(cid) => {
                let at: CidPath = cid.parse().map_err(Failure::new)?;
                let bytes = self.content().read(&at, MAX_MANIFEST_BYTES as u64).await;
                let bytes = bytes.map_err(|error| {
                    content_failure(error).hint("give the file of the earlier bundle in place of its CID")
                })?;
                let manifest = Manifest::parse(&bytes, &cid).map_err(bundle_failure)?;
                (cid, manifest.blobs.into_iter().map(|blob| blob.digest).collect())
            }
        };
        contents.leave_out(bundle, blobs);
        Ok(())
    }

    async fn write_bundle(
        &self,
        target: &mut ExportTarget,
        file: (Cid, &[Block]),
        manifest: &Manifest,
        split: Option<u64>,
        notes: &Notes,
    ) -> Result<(u32, u64), Error> {
        let meter = Meter::begin(notes, "export", Unit::Bytes, Some(manifest.contained_bytes()));
        let mut writer = BundleWriter::begin(target, file, split).await?;
        for root in manifest.contained().filter_map(|blob| blob.cid) {
            let mut blocks = self.content().file_blocks(root);
            while let Some(block) = blocks.recv().await {
                let block = block?;
                let length = block.block.data.len() as u64;
                writer.write(block).await?;
                meter.add(length);
            }
        }
        self.write_trees(&mut writer, manifest).await?;
        let written = writer.finish().await?;
        meter.finish();
        Ok(written)
    }
}
