//! The records of IPNS names in a bundle, with the directories that lead from each to the images of the bundle.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_node::{CarriedRecord, Cid, IpnsName, MutableName, SignedRecord};

use crate::{
    content::{FileBlock, TreePaths},
    control::{
        Failure, Note,
        failure::{bundle_failure, content_failure},
        instance::{Instance, Notes},
    },
    images::bundle::{BundleWriter, Error, Manifest, NameRecord},
    names::NameKind,
};

/// Names whose records one bundle has.
const MAX_RECORDS: usize = 100;

impl Instance {
    /// Returns the records of the names that mean images of a bundle: of this node, of nodes that it follows, and of names that
    /// were requested.
    pub(super) async fn name_records(
        &self,
        kinds: &[NameKind],
        manifest: &Manifest,
    ) -> Result<Vec<NameRecord>, Failure> {
        let mut names = BTreeSet::from([self.publisher().name().to_string()]);
        let followed = self.resolver().followed().names();
        names.extend(followed.iter().map(IpnsName::to_string));
        names.extend(kinds.iter().filter_map(|kind| match kind {
            NameKind::Ipns { key: MutableName::Key(name), .. } => Some(name.to_string()),
            _ => None,
        }));
        let mut records = Vec::new();
        for text in names.into_iter().take(MAX_RECORDS) {
            let Ok(name) = text.parse::<IpnsName>() else { continue };
            if let Some(record) = self.name_record(name, kinds, manifest).await? {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Returns the record of a name, if it leads to an image of the bundle.
    async fn name_record(
        &self,
        name: IpnsName,
        kinds: &[NameKind],
        manifest: &Manifest,
    ) -> Result<Option<NameRecord>, Failure> {
        let newest = self.content().node().newest_record(name).await.map_err(Failure::new)?;
        let Some(SignedRecord { value, bytes }) = newest else { return Ok(None) };
        let root = value.strip_prefix("/ipfs/").and_then(|path| path.split('/').next());
        let Some(root) = root.and_then(|root| Cid::try_from(root).ok()) else { return Ok(None) };
        let hosted = manifest.images.iter().map(|image| image.repository.to_string());
        let below = kinds.iter().filter_map(|kind| match kind {
            NameKind::Ipns { below, .. } => Some(below.clone()),
            _ => None,
        });
        let repositories: BTreeSet<String> = hosted.chain(below).collect();
        let mut paths = TreePaths::default();
        for repository in repositories {
            let at = |path: &str| format!("{repository}/{path}").trim_matches('/').to_string();
            paths.directories.extend(["", "blobs", "blobs/sha256", "blobs/sha512"].map(at));
            paths.files.extend(["index.json", "oci-layout"].map(at));
        }
        let nodes = self.content().tree_nodes(root, paths).await.map_err(content_failure)?;
        let record = BASE64_STANDARD.encode(bytes);
        let blocks: Vec<String> = nodes.iter().map(Cid::to_string).collect();
        // Only the top, where none of the images is below it.
        let is_unrelated = blocks.len() <= 1;
        Ok((!is_unrelated).then(|| NameRecord {
            name: name.to_string(),
            record,
            root: root.to_string(),
            blocks,
        }))
    }

    /// Writes the directories behind the blobs.
    pub(super) async fn write_trees(
        &self,
        writer: &mut BundleWriter<'_>,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        for text in manifest.records.iter().flat_map(|record| &record.blocks) {
            let Ok(cid) = Cid::try_from(text.as_str()) else { continue };
            let block = self.content().stored_node(cid).await?;
            writer.write(FileBlock { block, depth: 0, is_inner: false }).await?;
        }
        Ok(())
    }

    /// Takes the records of bundles that were imported; one that is not valid is told.
    pub(super) async fn take_records(&self, records: &[NameRecord], notes: &Notes) -> Result<(), Failure> {
        for NameRecord { name, record, root, blocks } in records {
            let warn = |why: &str| drop(notes.send(Note::Warning(format!("record of {name}: {why}"))));
            let (Ok(parsed), Ok(bytes)) = (name.parse::<IpnsName>(), BASE64_STANDARD.decode(record)) else {
                warn("it is malformed");
                continue;
            };
            let cids: Vec<Cid> = blocks.iter().filter_map(|text| Cid::try_from(text.as_str()).ok()).collect();
            if let Ok(root) = Cid::try_from(root.as_str()) {
                self.content().keep_tree(root, &cids).await.map_err(|error| bundle_failure(error.into()))?;
            }
            let carried = self.content().node().carry_record(parsed, bytes).await.map_err(Failure::new)?;
            if carried == CarriedRecord::Invalid {
                warn("its key did not sign it");
            }
        }
        Ok(())
    }
}
