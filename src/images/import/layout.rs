//! `--as layout`: `<root>/<name>/{oci-layout,index.json,blobs/sha256/<hex>}`.

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::{Descriptor, Digest, Index};

use super::{Called, Error, ImageBuilder, Imported, Made, cid_v1, reference};
use crate::{
    content::Changes,
    images::{
        archive::{self, Images, ManifestOrIndex, REF_NAME},
        layout::SUBJECT,
    },
};

pub use crate::images::export::OCI_LAYOUT;

pub fn make(builder: &mut ImageBuilder, called: &[Called]) -> Result<Made, Error> {
    let mut repositories: BTreeMap<_, Vec<&Called>> = BTreeMap::new();
    for image in called {
        repositories.entry(&image.name).or_default().push(image);
    }
    let (mut folder, mut files) = (Changes::default(), BTreeSet::new());
    for (name, images) in repositories {
        let entries = entries(&builder.images, &images)?;
        let mut digests = BTreeSet::new();
        for image in &images {
            digests.extend(builder.images.below(&image.top)?);
        }
        for digest in &digests {
            if let Some(root) = builder.blob(digest)? {
                folder.set(&format!("{name}/{}", archive::blob_path(digest)), root);
            }
        }
        files.extend(digests);
        let index = serde_json::to_vec(&Index::new(entries)).map_err(|e| Error::Names(e.to_string()))?;
        for (file, bytes) in [("index.json", index), ("oci-layout", OCI_LAYOUT.to_vec())] {
            let (digest, root) = builder.made(bytes)?;
            folder.set(&format!("{name}/{file}"), root);
            files.insert(digest);
        }
    }
    let document = folder.document(builder.profile)?;
    let cid = cid_v1(&document.root.cid);
    let images = called.iter().filter(|image| image.is_image).map(|image| {
        let name = format!("ipfs/{cid}/{}", image.name);
        let reference = reference(name, image.tag.as_ref(), &image.top.digest)?;
        Ok(Imported { reference, cid, top: image.top.clone(), size: builder.size(&image.top)? })
    });
    let images = images.collect::<Result<_, Error>>()?;
    Ok(Made { cid, document: Some(document), images, files })
}

/// Returns the entries of a repository's index. Each referrer has an entry that names its subject, also where only another
/// index lists it.
pub fn entries(images: &Images, called: &[&Called]) -> Result<Vec<Descriptor>, Error> {
    let mut entries = Vec::new();
    for image in called {
        let mut entry = image.top.clone();
        if let Some(tag) = &image.tag {
            entry.annotations.insert(REF_NAME.into(), tag.to_string());
        }
        entries.push(entry);
    }
    let mut listed: BTreeSet<Digest> = called.iter().map(|image| image.top.digest.clone()).collect();
    let mut at = 0;
    while let Some(entry) = entries.get(at).cloned() {
        at += 1;
        let Some(node) = images.node(&entry)? else { continue };
        let subject = node.subject().map(Digest::to_string);
        let nested = match node {
            ManifestOrIndex::Index(index) => index.manifests,
            ManifestOrIndex::Manifest(_) => Vec::new(),
        };
        if let Some(subject) = subject {
            entries[at - 1].annotations.insert(SUBJECT.into(), subject);
        }
        for child in nested {
            let refers = |child: &Descriptor| {
                Ok::<_, Error>(images.node(child)?.is_some_and(|node| node.subject().is_some()))
            };
            if refers(&child)? && listed.insert(child.digest.clone()) {
                entries.push(child);
            }
        }
    }
    Ok(entries)
}
