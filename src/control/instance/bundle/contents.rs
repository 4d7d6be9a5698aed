//! What a bundle of several images consists of. All of it is stored here before the bundle is written.

use std::collections::{HashMap, HashSet};

use ocipfs_oci::{Digest, Reference};

use crate::{
    content::{Store, Stored},
    control::{
        Failure, Note, RequestedImage, Unit,
        failure::{bundle_failure, content_failure, names_failure},
        instance::{Instance, Notes, export::tree_failure, meter::Meter, reference::ImageRef},
    },
    images::bundle::{
        BundledBlob, BundledImage, BundledManifest, MANIFEST_TYPE, Manifest, WantList, store_documents,
    },
    names::{BlobSource, ImageTree, NameKind, TreeError, TreeOptions},
};

/// The images of a bundle, down to their blobs.
pub struct Contents {
    network: String,
    since: Vec<String>,
    completes: Option<String>,
    images: Vec<BundledImage>,
    /// What the images were requested by.
    kinds: Vec<NameKind>,
    blobs: Vec<BundledBlob>,
    /// The blobs that are listed.
    listed: HashSet<Digest>,
    /// The blobs of earlier bundles.
    earlier: HashSet<Digest>,
    /// The only blobs that are wanted; all if none are named.
    wanted: Option<HashSet<Digest>>,
}

impl Contents {
    pub fn new(network: String, want: Option<&WantList>) -> Self {
        let (since, images, kinds, blobs, listed, earlier) = Default::default();
        let completes = want.map(|want| want.bundle.clone());
        let wanted = want.map(|want| want.blobs.iter().cloned().collect());
        Self { network, since, completes, images, kinds, blobs, listed, earlier, wanted }
    }

    /// Leaves out the blobs of an earlier bundle.
    pub fn leave_out(&mut self, bundle: String, blobs: Vec<Digest>) {
        self.since.push(bundle);
        self.earlier.extend(blobs);
    }

    fn is_left_out(&self, digest: &Digest) -> bool {
        // What is wanted is missing on the other side, whatever it was sent before.
        self.wanted.as_ref().map_or_else(|| self.earlier.contains(digest), |wanted| !wanted.contains(digest))
    }

    fn add_blob(&mut self, digest: &Digest, size: u64, stored: Option<&Stored>) {
        if self.listed.insert(digest.clone()) {
            let (cid, elsewhere) = (stored.map(|stored| stored.root), self.is_left_out(digest));
            self.blobs.push(BundledBlob { digest: digest.clone(), size, cid, elsewhere });
        }
    }

    /// Takes what the images were requested by.
    pub fn take_kinds(&mut self) -> Vec<NameKind> {
        std::mem::take(&mut self.kinds)
    }

    pub fn into_manifest(self) -> Manifest {
        let Self { network, since, completes, images, blobs, .. } = self;
        let media_type = MANIFEST_TYPE.into();
        Manifest { media_type, network, since, completes, records: Vec::new(), images, blobs }
    }
}

/// Why an image is not added.
enum AddError {
    /// It was not found.
    Absent(Failure),
    Failed(Failure),
}

impl AddError {
    fn failure(self) -> Failure {
        match self {
            Self::Absent(failure) | Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for AddError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Says at once which images of a list were not found.
fn not_found(absent: &[&RequestedImage]) -> Option<Failure> {
    const MAX_SHOWN: usize = 20;
    let list = absent.first()?.listed_in.clone().unwrap_or_default();
    let shown: Vec<&str> = absent.iter().take(MAX_SHOWN).map(|image| image.reference.as_str()).collect();
    let more = absent.len().saturating_sub(MAX_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{} images of {list} were not found: {}{more}", absent.len(), shown.join(", "));
    Some(Failure::new(text).hint("push or import them to this node first, or follow a node that has them"))
}

impl Instance {
    /// Adds images with all that belongs to them, which is fetched where it is not here.
    pub(super) async fn add_images(
        &self,
        images: &[RequestedImage],
        contents: &mut Contents,
        notes: &Notes,
    ) -> Result<(), Failure> {
        // How much is in the images is not known before all manifests are read.
        let meter = Meter::begin(notes, "fetch", Unit::Bytes, None);
        let mut absent = Vec::new();
        for image in images {
            for image_ref in self.requested(image).await? {
                match self.add_image(&image_ref, image, contents, (notes, &meter)).await {
                    Err(AddError::Absent(_)) if image.listed_in.is_some() => absent.push(image),
                    added => added.map_err(AddError::failure)?,
                }
            }
        }
        if let Some(failure) = not_found(&absent) {
            return Err(failure);
        }
        meter.finish();
        match contents.images.is_empty() {
            true => Err(Failure::new("no image to export").hint("give references of images, or --from-list")),
            false => Ok(()),
        }
    }

    async fn add_image(
        &self,
        image_ref: &ImageRef,
        request: &RequestedImage,
        contents: &mut Contents,
        (notes, meter): (&Notes, &Meter),
    ) -> Result<(), AddError> {
        let kind = NameKind::parse(&image_ref.name).map_err(names_failure)?;
        let options = TreeOptions { referrers: true, platforms: &request.platforms };
        let tree = match ImageTree::read(self.resolver(), &kind, &image_ref.reference, options).await {
            Err(TreeError::Names(error)) if error.is_absence() => {
                return Err(AddError::Absent(names_failure(error)));
            }
            tree => tree.map_err(tree_failure)?,
        };
        for text in &tree.warnings {
            let _ = notes.send(Note::Warning(text.clone()));
        }
        let bundled = bundled(image_ref, &tree, request)?;
        self.add_tree(&kind, tree, contents, meter).await?;
        if !contents.images.contains(&bundled) {
            contents.images.push(bundled);
        }
        if !contents.kinds.contains(&kind) {
            contents.kinds.push(kind);
        }
        Ok(())
    }

    /// Adds the blobs of an image: manifests first.
    async fn add_tree(
        &self,
        kind: &NameKind,
        tree: ImageTree,
        contents: &mut Contents,
        meter: &Meter,
    ) -> Result<(), Failure> {
        let ImageTree { order, documents, blobs, .. } = tree;
        store_documents(self.content(), &documents).await.map_err(bundle_failure)?;
        let stored = self.stored_blobs(documents.keys().chain(blobs.keys())).await?;
        for document in &order {
            let size = documents.get(&document.digest).map_or(document.size, |bytes| bytes.len() as u64);
            contents.add_blob(&document.digest, size, stored.get(&document.digest));
        }
        drop(documents);
        for (digest, size) in &blobs {
            let (mut found, before) = (stored.get(digest).cloned(), meter.done());
            if found.is_none() && !contents.is_left_out(digest) && !contents.listed.contains(digest) {
                found = Some(self.fetch_blob(kind, digest, *size, meter).await?);
            }
            meter.set(before + size);
            contents.add_blob(digest, *size, found.as_ref());
        }
        Ok(())
    }

    /// Fetches a blob from peers.
    async fn fetch_blob(
        &self,
        kind: &NameKind,
        digest: &Digest,
        size: u64,
        meter: &Meter,
    ) -> Result<Stored, Failure> {
        let before = meter.done();
        let stored = match kind.locate_blob(self.resolver(), digest).await.map_err(names_failure)? {
            BlobSource::Blob(blob) if blob.size != size => {
                return Err(Failure::new(format!(
                    "size mismatch of {digest}: expected {size} bytes, found {}",
                    blob.size
                )));
            }
            BlobSource::Blob(blob) => {
                self.content().fetch_stored_with(&blob, &mut |here| meter.set(before + here)).await
            }
            BlobSource::Inline(bytes) => {
                let made = [(digest.clone(), bytes)].into();
                store_documents(self.content(), &made).await.map_err(bundle_failure)?;
                self.content().stored_blob(digest).await
            }
        };
        stored
            .map_err(content_failure)?
            .ok_or_else(|| Failure::new(format!("blob {digest} was removed while it was exported")))
    }

    async fn stored_blobs(
        &self,
        digests: impl Iterator<Item = &Digest>,
    ) -> Result<HashMap<Digest, Stored>, Failure> {
        let digests: Vec<Digest> = digests.cloned().collect();
        let find = move |store: &Store| {
            let mut all = HashMap::new();
            for digest in digests {
                if let Some(stored) = store.present_guarded(&digest)? {
                    all.insert(digest, stored);
                }
            }
            Ok(all)
        };
        let found = self.content().store().run(find).await;
        found.map_err(|error| content_failure(error.into()))
    }
}

/// Returns the entry of an image in the manifest of a bundle.
fn bundled(
    image_ref: &ImageRef,
    tree: &ImageTree,
    request: &RequestedImage,
) -> Result<BundledImage, Failure> {
    let name = image_ref.repository();
    let Ok(NameKind::Hosted { name: repository }) = NameKind::parse(name) else {
        return Err(Failure::new(format!("{name} has no repository name, which an image of a bundle needs"))
            .hint(
                "push it to a repository, or import it with `ocipfs image import --name`, and export that",
            ));
    };
    let manifest = |document: &ocipfs_oci::Descriptor| {
        let referrer = tree.referrers.iter().find(|referrer| referrer.top.digest == document.digest);
        BundledManifest {
            media_type: document.media_type.clone(),
            digest: document.digest.clone(),
            subject: referrer.map(|referrer| referrer.subject.clone()),
            tag: referrer.and_then(|referrer| referrer.tag.clone()),
        }
    };
    let documents: u64 = tree.documents.values().map(|bytes| bytes.len() as u64).sum();
    Ok(BundledImage {
        repository,
        tag: match &image_ref.reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => request.tag.clone(),
        },
        size: documents + tree.blobs.values().sum::<u64>(),
        platforms: request.platforms.iter().map(ToString::to_string).collect(),
        manifests: tree.order.iter().map(manifest).collect(),
    })
}
