//! Handler of requests about bundles.

mod contents;
mod export;
mod records;
mod requested;

use ocipfs_node::{Cid, Node};

use super::{Instance, Notes, meter::Meter};
use crate::{
    control::{
        BundleReply, BundleRequest, ExportedImage, Failure, ImportedBundle, Unit, attachment::Attachment,
        failure::bundle_failure,
    },
    images::{
        bundle::{
            BundledImage,
            import::{self, Imported, ReadBundle, Refusal},
        },
        repository::Repositories,
    },
    names::NameKind,
};
use export::ExportRequest;

impl Instance {
    pub(super) async fn bundle(
        &self,
        request: BundleRequest,
        attachment: Attachment,
        notes: Notes,
    ) -> Result<BundleReply, Failure> {
        match request {
            BundleRequest::Export { images, dest, split, since, want } => {
                let request = ExportRequest { images, dest, split, since, want };
                Ok(BundleReply::Exported(self.bundle_export(request, attachment, notes).await?))
            }
            BundleRequest::Import { force, other_swarm, max_expansion } => {
                let options = import::Options { moves_tags: force, max_expansion };
                let imported = self.bundle_import(attachment, options, other_swarm, notes).await?;
                Ok(BundleReply::Imported(Box::new(imported)))
            }
        }
    }

    async fn bundle_import(
        &self,
        attachment: Attachment,
        options: import::Options,
        other_swarm: bool,
        notes: Notes,
    ) -> Result<ImportedBundle, Failure> {
        let Attachment::Bundles(files) = attachment else {
            return Err(Failure::new("no bundle is attached to the request"));
        };
        let total = files.iter().map(|file| file.size).sum::<Option<u64>>();
        let meter = Meter::begin(&notes, "import", Unit::Bytes, total);
        let told = meter.clone();
        let progress = move |done| told.set(done);
        let repositories = self.resolver().repositories().clone();
        let (network, known) = (self.network_record(), repositories.clone());
        let node = self.content().node().clone();
        let check = move |bundle: &ReadBundle| {
            let theirs = bundle.manifest.network.as_str();
            check_network(bundle, &network, other_swarm || is_earlier(&node, theirs, &network))?;
            check_names(bundle)?;
            if options.moves_tags { Ok(()) } else { check_tags(bundle, &known) }
        };
        let imported = import::import(self.content(), &repositories, files, options, check, progress).await;
        let imported = imported.map_err(bundle_failure)?;
        meter.finish();
        self.take_records(&imported.records, &notes).await?;
        let withheld = self.withheld_images(&imported).await?;
        Ok(ImportedBundle { withheld, ..self.imported_bundle(imported) })
    }

    /// The images that are not signed as the policies say: they are here, and not served to all.
    async fn withheld_images(&self, imported: &Imported) -> Result<Vec<String>, Failure> {
        let top =
            |image: &BundledImage| Some((image.repository.clone(), image.manifests.first()?.digest.clone()));
        let all: Vec<_> =
            imported.images.iter().filter_map(|image| Some((image.reference(), top(image)?))).collect();
        let (references, tops): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let withheld = self.withheld(tops).await?.into_iter();
        let told = references.into_iter().zip(withheld);
        Ok(told.filter_map(|(image, why)| Some(format!("{image} is not served: {}", why?))).collect())
    }

    fn imported_bundle(&self, imported: Imported) -> ImportedBundle {
        let Imported { bundles, images, missing, missing_blobs, conflicts, problems, .. } = imported;
        let conflicts = conflicts.into_iter().map(|(image, conflict)| {
            format!("{image}: the tag {} points at {}", conflict.tag, conflict.digest)
        });
        ImportedBundle {
            bundles: bundles.iter().map(Cid::to_string).collect(),
            images: images.iter().map(|image| self.bundle_image(image)).collect(),
            missing,
            missing_blobs,
            conflicts: conflicts.collect(),
            problems,
            withheld: Vec::new(),
        }
    }

    fn bundle_image(&self, image: &BundledImage) -> ExportedImage {
        ExportedImage {
            reference: format!("{}/{}", self.0.registry, image.reference()),
            digest: image.manifests.first().map(|top| top.digest.to_string()).unwrap_or_default(),
            size: image.size,
            referrers: image.referrers(),
        }
    }

    /// Returns the network that the node directory belongs to, as bundles say it.
    fn network_record(&self) -> String {
        self.0.network.as_ref().map_or_else(|| "own".into(), |network| network.to_record())
    }
}

/// Refuses what would show the images of one private swarm to another network.
fn check_network(bundle: &ReadBundle, network: &str, other_swarm: bool) -> Result<(), Refusal> {
    let theirs = bundle.manifest.network.as_str();
    if other_swarm || !theirs.starts_with("private") || theirs == network {
        return Ok(());
    }
    let why = "it is a bundle of another private swarm, whose images this node would show to its own network";
    Err(Refusal { why: why.into(), hint: "--other-swarm imports it all the same" })
}

/// Returns whether two records are of one private swarm, whose key was replaced.
fn is_earlier(node: &Node, theirs: &str, own: &str) -> bool {
    let key = |record| str::strip_prefix(record, "private ");
    key(theirs).zip(key(own)).is_some_and(|(theirs, own)| node.swarm_key_succeeds(theirs, own))
}

/// Refuses names that are not those of hosted repositories.
fn check_names(bundle: &ReadBundle) -> Result<(), Refusal> {
    let hint = "export it again";
    for image in &bundle.manifest.images {
        let why = match NameKind::parse(image.repository.as_str()) {
            Ok(NameKind::Hosted { .. }) => continue,
            Ok(_) => format!("{} is not the name of a repository", image.repository),
            Err(error) => error.to_string(),
        };
        return Err(Refusal { why, hint });
    }
    Ok(())
}

/// Refuses a bundle that would move a tag, before anything of it is stored.
fn check_tags(bundle: &ReadBundle, repositories: &Repositories) -> Result<(), Refusal> {
    const MAX_SHOWN: usize = 10;
    let refusal = |why: String| Refusal { why, hint: "--force moves the tags" };
    let mut moved = Vec::new();
    for image in &bundle.manifest.images {
        let own = image.tag.iter().zip(image.manifests.first());
        let others = image.manifests.iter().filter_map(|manifest| Some((manifest.tag.as_ref()?, manifest)));
        for (tag, manifest) in own.chain(others) {
            let known =
                repositories.tag(&image.repository, tag).map_err(|error| refusal(error.to_string()))?;
            if known.is_some_and(|known| known != manifest.digest) {
                moved.push(format!("{}:{tag}", image.repository));
            }
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    let count = moved.len();
    moved.truncate(MAX_SHOWN);
    let (shown, more) = (moved.join(", "), count.saturating_sub(MAX_SHOWN));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(refusal(format!("tags that exist here point at other manifests: {shown}{more}")))
}
