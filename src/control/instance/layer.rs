//! Handler of requests about layers.

use std::{str::FromStr, sync::Arc};

use ocipfs_node::Cid;
use ocipfs_oci::Platform;

use super::{Instance, Notes, meter::Meter};
use crate::{
    content::{self, CidPath, Profile},
    control::{
        Added, AddedLayer, Failure, Inspected, LayerRequest, Note, Reply, Source, Unit,
        attachment::{Attachment, Received},
        failure::{add_failure, content_failure},
    },
    images::layer::{self, Image, ImageIndex, Layer, LayerDocument, LayerManifest, add, join},
};

const OLD_DOCKER: &str =
    "the layer is compressed with zstd, which Docker before 23 cannot unpack; use gzip for such clients";
const AS_PRINTED: &str =
    "give a reference printed by `layer add`; to add a layer by its own CID, use ipfs://<cid>";

impl Instance {
    pub(super) async fn layer(
        &self,
        request: LayerRequest,
        received: Received,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        match request {
            LayerRequest::Add { sources, platform, profile } => {
                let platform = platform.map(|text| Platform::from_str(&text)).transpose();
                let options = add::Options {
                    platform: platform.map_err(Failure::new)?,
                    profile: self.profile(profile)?,
                };
                self.layer_add(sources, received, options, notes).await
            }
            LayerRequest::Index { references, profile } => {
                self.layer_index(&references, self.profile(profile)?, notes).await
            }
            LayerRequest::Inspect { reference } => self.layer_inspect(&reference).await,
            LayerRequest::Rm { reference } => self.layer_rm(&reference).await,
        }
    }

    /// The profile that was asked for, else the node's.
    fn profile(&self, text: Option<String>) -> Result<Profile, Failure> {
        let profile = text.map_or(Ok(self.content().profile()), |text| Profile::from_str(&text));
        profile.map_err(Failure::new)
    }

    fn reference(&self, cid: &Cid, document: &LayerDocument) -> String {
        // Of several files none stands for all.
        let tag = match document.file_tags().as_slice() {
            [tag] => format!(":{tag}"),
            _ => String::new(),
        };
        format!("{}/layer/{cid}{tag}", self.0.registry)
    }

    fn added(&self, cid: &Cid, document: &LayerDocument) -> Reply {
        let of = |manifest: &LayerManifest| {
            let platform = manifest.platform.as_ref().map(ToString::to_string);
            let layers = manifest.layers.iter().map(move |layer| added_layer(layer, platform.clone()));
            layers.collect::<Vec<_>>()
        };
        Reply::Added(Added {
            reference: self.reference(cid, document),
            cid: cid.to_string(),
            layers: document.manifests().iter().flat_map(of).collect(),
        })
    }

    async fn layer_add(
        &self,
        sources: Vec<Source>,
        received: Received,
        options: add::Options,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        let Received { attachment, gone } = received;
        let files = if let Attachment::Layers(files) = attachment { files } else { Vec::new() };
        let (mut files, mut total) = (files.into_iter(), Some(0));
        let sources = sources.into_iter().map(|source| match source {
            Source::Attached => {
                let file =
                    files.next().ok_or_else(|| Failure::new("a file is not attached to the request"))?;
                total = total.zip(file.size).map(|(total, size)| total + size);
                Ok(add::Source::File(file))
            }
            Source::Ipfs(text) => {
                total = None;
                parse_path(&text).map(add::Source::Ipfs)
            }
        });
        let sources = sources.collect::<Result<Vec<_>, Failure>>()?;
        let meter = Meter::begin(&notes, "add", Unit::Bytes, total);
        let told = meter.clone();
        let progress = Arc::new(move |done| told.set(done));
        let added = add::add(self.content(), sources, options, progress, gone.cancelled()).await;
        let added = added.map_err(add_failure)?;
        meter.finish();
        if added.has_zstd {
            let _ = notes.send(Note::Warning(OLD_DOCKER.into()));
        }
        Ok(self.added(&added.cid, &LayerDocument::Manifest(added.manifest)))
    }

    async fn layer_index(
        &self,
        references: &[String],
        profile: Profile,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        let parts = references.iter().map(|text| parse_reference(text)).collect::<Result<Vec<_>, _>>()?;
        let joined = join::join(self.content(), &parts, profile).await.map_err(join_failure)?;
        if joined.missing > 0 {
            let text = format!(
                "{} of the layers are not stored here, and are fetched from their peers when they are pulled",
                joined.missing
            );
            let _ = notes.send(Note::Warning(text));
        }
        Ok(self.added(&joined.cid, &joined.document))
    }

    async fn layer_inspect(&self, reference: &str) -> Result<Reply, Failure> {
        let cid = parse_reference(reference)?;
        let bytes = self.content().read(&cid.into(), layer::MAX_BYTES).await.map_err(content_failure)?;
        let document = LayerDocument::parse(&bytes)
            .map_err(|e| Failure::new(format!("{cid} is {e}")).hint(AS_PRINTED))?;
        let image_digest = match &document {
            LayerDocument::Manifest(manifest) => Image::of(manifest).manifest_digest,
            LayerDocument::Index(manifests) => ImageIndex::of(manifests).digest,
        };
        let mut local = true;
        for layer in document.layers() {
            local &= self.content().has(&layer.digest).await.map_err(content_failure)?;
        }
        let gc_root = self.content().gc_root(&cid).await.map_err(content_failure)?;
        Ok(Reply::Inspected(Box::new(Inspected {
            reference: self.reference(&cid, &document),
            cid: cid.to_string(),
            image_digest: image_digest.to_string(),
            local,
            owned: gc_root.is_some_and(|gc_root| gc_root.is_kept),
            manifest: serde_json::from_slice(&bytes).map_err(Failure::new)?,
        })))
    }

    async fn layer_rm(&self, reference: &str) -> Result<Reply, Failure> {
        let cid = parse_reference(reference)?;
        match self.content().release(&cid).await.map_err(content_failure)? {
            true => Ok(Reply::Removed { cid: cid.to_string() }),
            false => Err(Failure::new(format!("layer {cid} not found among the added layers"))
                .hint("`ocipfs layer inspect` shows a reference's layers, and whether they are stored")),
        }
    }
}

fn added_layer(layer: &Layer, platform: Option<String>) -> AddedLayer {
    AddedLayer {
        platform,
        layer: layer.at.to_string(),
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        media_type: layer.media_type.to_string(),
    }
}

fn parse_path(text: &str) -> Result<CidPath, Failure> {
    text.parse().map_err(|e: content::PathError| {
        Failure::new(e).hint("give a layer on IPFS as ipfs://<cid> or ipfs://<cid>/<file>")
    })
}

/// Takes `[registry/]layer/<cid>[:tag][@digest]`, or the CID alone.
fn parse_reference(text: &str) -> Result<Cid, Failure> {
    let name = text.split_once("layer/").map_or(text, |(_, name)| name);
    let cid = name.split([':', '@']).next().unwrap_or_default();
    let cid = Cid::from_str(cid).map_err(|e| {
        Failure::new(format!("invalid layer reference {text:?}: {e}"))
            .hint("give a reference printed by `layer add`, or its CID")
    })?;
    Ok(Cid::new_v1(cid.codec(), *cid.hash()))
}

fn join_failure(error: join::Error) -> Failure {
    match error {
        join::Error::Add(error) => add_failure(error),
        join::Error::Part { .. } => Failure::new(error).hint(AS_PRINTED),
        join::Error::Index(_) => Failure::new(error).hint(
            "add the layers of each platform with `ocipfs layer add --platform OS/ARCH`, and name each once",
        ),
    }
}
