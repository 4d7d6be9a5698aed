use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use ocipfs_node::Cid;
use ocipfs_oci::Manifest;

use super::{
    DEPTH, Layout,
    index::{MAX_BYTES, entries},
};
use crate::{
    content::{CidPath, Content},
    images::Error,
};

const AT_ONCE: usize = 8;

/// Fetches the manifests of a layout, and `with_blobs` all that they name; what comes is held under `holder`.
pub async fn prefetch(content: &Content, at: &CidPath, holder: Cid, with_blobs: bool) -> Result<(), Error> {
    let path = at.below(["index.json"]);
    let malformed = |path: CidPath, why: String| Error::Malformed { at: path, why };
    let parse =
        |bytes: &[u8], path: &CidPath| entries(bytes).map_err(|e| malformed(path.clone(), e.to_string()));
    let mut level = parse(&content.read(&path, MAX_BYTES).await?, &path)?;
    let layout = &Layout::new(at.clone(), holder, Vec::new());
    let mut seen = HashSet::new();
    for _ in 0..DEPTH {
        level.retain(|entry| seen.insert(entry.digest.clone()));
        let documents = stream::iter(level).map(|entry| async move {
            let document = layout.document(content, &entry).await?;
            Ok::<_, Error>((entry, document))
        });
        let documents: Vec<_> = documents.buffer_unordered(AT_ONCE).try_collect().await?;
        level = Vec::new();
        for (entry, document) in documents {
            match entry.is_index() {
                true => level.extend(parse(&document.bytes, &path)?),
                false if with_blobs => blobs(content, layout, &document.bytes).await?,
                false => {}
            }
        }
        if level.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn blobs(content: &Content, layout: &Layout, manifest: &[u8]) -> Result<(), Error> {
    // An artifact may be of any form: what is no image has nothing that is known here.
    let Ok(manifest) = Manifest::parse(manifest) else { return Ok(()) };
    for blob in manifest.blobs().filter(|blob| blob.media_type.is_layer() || blob.urls.is_empty()) {
        let at = layout.path(&blob.digest);
        let blob = layout.at_path(blob.digest.clone(), blob.size, at);
        content.open(&blob, 0..blob.size).await?.settle(&mut |_| {}).await?;
    }
    Ok(())
}
