//! `--as layout`: `<root>/<name>/{oci-layout,index.json,blobs/sha256/<hex>}`.

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::Index;

use super::{Called, Error, ImageBuilder, Imported, Made, cid_v1, reference};
use crate::{content::Changes, images::archive};

pub use crate::images::export::OCI_LAYOUT;
/// The annotation that is a tag in an `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub fn make(builder: &mut ImageBuilder, called: &[Called]) -> Result<Made, Error> {
    let mut repositories: BTreeMap<_, Vec<&Called>> = BTreeMap::new();
    for image in called {
        repositories.entry(&image.name).or_default().push(image);
    }
    let (mut folder, mut files) = (Changes::default(), BTreeSet::new());
    for (name, images) in repositories {
        let mut digests = BTreeSet::new();
        let mut entries = Vec::new();
        for image in images {
            digests.extend(below(builder, image)?);
            let mut entry = image.top.clone();
            entry.annotations.insert(REF_NAME.into(), image.tag.to_string());
            entries.push(entry);
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
    let images = called.iter().map(|image| {
        let reference = reference(format!("ipfs/{cid}/{}", image.name), Some(&image.tag))?;
        Ok(Imported { reference, cid, top: image.top.clone(), size: builder.size(&image.top)? })
    });
    let images = images.collect::<Result<_, Error>>()?;
    Ok(Made { cid, document: Some(document), images, files })
}

fn below(builder: &ImageBuilder, image: &Called) -> Result<BTreeSet<ocipfs_oci::Digest>, Error> {
    Ok(builder.images.below(&image.top)?)
}
