//! Handler of requests about images.

use std::str::FromStr;

use ocipfs_node::Cid;
use ocipfs_oci::{Name, Platform, Tag};

use super::{Instance, Notes, export::Export, meter::Meter};
use crate::{
    content::{ImportedImage, Profile},
    control::{
        Failure, ImageInfo, ImageReply, ImageRequest, ImportOptions, InspectedImage, Note, Reply, Unit,
        attachment::Attachment,
        failure::{content_failure, import_failure, names_failure},
    },
    images::{
        archive::{self, Compress},
        import::{self, ImportFormat, Imported, Tagged},
    },
    names::{ImageTree, NameKind, TreeOptions},
};

impl Instance {
    pub(super) async fn image(
        &self,
        request: ImageRequest,
        attachment: Attachment,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        let reply = match request {
            ImageRequest::Import { options } => {
                let registry = options.registry.clone();
                let options = self.import_options(options)?;
                let images = self.import_from(attachment, options, registry, notes, import_failure);
                ImageReply::Imported { images: images.await? }
            }
            ImageRequest::Convert { reference, options } => {
                self.convert(&reference, &[], options, notes).await?
            }
            ImageRequest::ConvertPlatforms { reference, platforms, options } => {
                self.convert(&reference, &platforms, options, notes).await?
            }
            ImageRequest::Export { references, dest, format, referrers } => {
                let export = Export { references, dest, format, referrers };
                self.image_export(export, attachment, notes).await?
            }
            ImageRequest::Ls => ImageReply::Listed { images: self.image_ls().await? },
            ImageRequest::Inspect { reference } => self.image_inspect(&reference).await?,
            ImageRequest::Rm { reference } => self.image_rm(&reference).await?,
            ImageRequest::Tag { reference, name } => self.image_tag(&reference, &name).await?,
        };
        Ok(Reply::Image(reply))
    }

    async fn convert(
        &self,
        reference: &str,
        platforms: &[Platform],
        options: ImportOptions,
        notes: Notes,
    ) -> Result<ImageReply, Failure> {
        let registry = options.registry.clone();
        let options = self.import_options(options)?;
        let images = self.image_convert((reference, platforms), options, registry, notes);
        Ok(ImageReply::Imported { images: images.await? })
    }

    fn import_options(&self, options: ImportOptions) -> Result<import::Options, Failure> {
        let ImportOptions { name, form, compress, estargz, profile, .. } = options;
        let form = ImportFormat::from_str(&form).map_err(Failure::new)?;
        let usual = match form {
            // So that its CIDs are those of nerdctl.
            ImportFormat::Descriptor => Profile::KuboCidV1,
            ImportFormat::Layout | ImportFormat::Dockerized => self.content().profile(),
        };
        Ok(import::Options {
            form,
            compress: compress.map(|text| Compress::from_str(&text)).transpose().map_err(Failure::new)?,
            estargz,
            profile: profile.map_or(Ok(usual), |text| Profile::from_str(&text)).map_err(Failure::new)?,
            name: name.map(|text| called(&text)).transpose()?,
        })
    }

    /// Imports the attached archive; `failure` says what to do about an error.
    pub(super) async fn import_from(
        &self,
        attachment: Attachment,
        options: import::Options,
        registry: Option<String>,
        notes: Notes,
        failure: fn(import::Error) -> Failure,
    ) -> Result<Vec<ImageInfo>, Failure> {
        let Attachment::Archive(source) = attachment else {
            return Err(Failure::new("no archive is attached to the request"));
        };
        let meter = Meter::begin(&notes, "import", Unit::Bytes, source.size());
        let told = meter.clone();
        let progress = Box::new(move |done| told.set(done));
        let imported = import::import(self.content(), source, options, progress).await;
        let (images, warnings) = imported.map_err(failure)?;
        meter.finish();
        warnings.into_iter().for_each(|text| drop(notes.send(Note::Warning(text))));
        self.warn_of_unsigned(&images, &notes).await;
        let registry = registry.unwrap_or_else(|| self.0.registry.clone());
        Ok(images.iter().map(|image| info(&registry, image)).collect())
    }

    async fn image_tag(&self, reference: &str, name: &str) -> Result<ImageReply, Failure> {
        let image_ref = self.image_ref(reference)?;
        let (name, tag) = called(name)?;
        let (_, gc_root) = self.imported(&image_ref.name).await?;
        let (_, tree) = self.image_tree(&image_ref, TreeOptions::WHOLE).await?;
        let ImageTree { top, documents, referrers, .. } = tree;
        let (image, tag) = (Tagged { top, documents, referrers }, tag.unwrap_or(Tag::latest()));
        let tagged = import::tag(self.content(), &gc_root, image, name, tag).await.map_err(import_failure)?;
        Ok(ImageReply::Imported { images: vec![info(&self.0.registry, &tagged)] })
    }

    async fn image_ls(&self) -> Result<Vec<ImageInfo>, Failure> {
        let gc_root = self.content().imported_images().await.map_err(content_failure)?;
        let mut images: Vec<ImageInfo> = Vec::new();
        for (cid, named) in gc_root {
            let info = |named: &ImportedImage| ImageInfo {
                reference: format!("{}/{}", self.0.registry, named.reference),
                cid: cid.to_string(),
                digest: named.digest.to_string(),
                size: named.size,
            };
            images.extend(named.iter().map(info));
        }
        images.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(images)
    }

    async fn image_inspect(&self, reference: &str) -> Result<ImageReply, Failure> {
        let image_ref = self.image_ref(reference)?;
        let kind = NameKind::parse(&image_ref.name).map_err(names_failure)?;
        let found =
            kind.manifest(self.resolver(), &image_ref.reference).await.map_err(names_failure)?.detached();
        Ok(ImageReply::Inspected(Box::new(InspectedImage {
            reference: format!("{}/{}", self.0.registry, image_ref.text()),
            digest: found.digest.to_string(),
            media_type: found.media_type.to_string(),
            owned: self.imported(&image_ref.name).await.is_ok(),
            manifest: serde_json::from_slice(&found.bytes).map_err(Failure::new)?,
        })))
    }

    async fn image_rm(&self, reference: &str) -> Result<ImageReply, Failure> {
        let image_ref = self.image_ref(reference)?;
        let (cid, reference) = self.imported(&image_ref.name).await?;
        self.content().release(&cid).await.map_err(content_failure)?;
        let references = reference.images.into_iter().map(|named| named.reference).collect();
        Ok(ImageReply::Removed { cid: cid.to_string(), references })
    }

    /// Returns the images imported under a name, a root's CID, or below it.
    async fn imported(&self, name: &str) -> Result<(Cid, crate::content::GcRoot), Failure> {
        let images = self.content().imported_images().await.map_err(content_failure)?;
        let found = images.into_iter().find(|(cid, images)| {
            let cid = cid.to_string();
            let is_name = |named: &ImportedImage| named.reference.split([':', '@']).next() == Some(name);
            name.split('/').any(|component| component == cid) || images.iter().any(is_name)
        });
        let gc_root = match found {
            Some((cid, _)) => {
                self.content().gc_root(&cid).await.map_err(content_failure)?.map(|gc_root| (cid, gc_root))
            }
            None => None,
        };
        gc_root.ok_or_else(|| {
            Failure::new(format!("image {name} not found among the imported images"))
                .hint("`ocipfs image ls` lists the imported images")
        })
    }
}

fn info(registry: &str, image: &Imported) -> ImageInfo {
    ImageInfo {
        reference: format!("{registry}/{}", image.reference),
        cid: image.cid.to_string(),
        digest: image.top.digest.to_string(),
        size: image.size,
    }
}

fn called(text: &str) -> Result<(Name, Option<Tag>), Failure> {
    archive::split(text)
        .map_err(|e| Failure::new(e).hint("names are lower case: `foo`, `foo:1.0`, `org/foo`"))
}
