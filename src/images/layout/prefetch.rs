use std::collections::HashSet;

use futures::{StreamExt, stream};
use ocipfs_node::Cid;
use ocipfs_oci::Manifest;

use super::{
    DEPTH, Layout,
    index::{MAX_BYTES, entries},
    referrers::is_unfit,
};
use crate::{
    content::{self, CidPath, Content},
    images::Error,
};

const AT_ONCE: usize = 8;

/// Fetches the manifests of a layout, and `with_blobs` all that they name; what comes is held under `holder`. What cannot
/// be had does not keep it from the rest: the first error is given at the end.
pub async fn prefetch(content: &Content, at: &CidPath, holder: Cid, with_blobs: bool) -> Result<(), Error> {
    let path = at.below(["index.json"]);
    let malformed = |path: CidPath, why: String| Error::Malformed { at: path, why };
    let parse =
        |bytes: &[u8], path: &CidPath| entries(bytes).map_err(|e| malformed(path.clone(), e.to_string()));
    let mut level = parse(&content.read(&path, MAX_BYTES).await?, &path)?;
    let layout = &Layout::new(at.clone(), holder, Vec::new());
    let (mut seen, mut fetched) = (HashSet::new(), Ok(()));
    for _ in 0..DEPTH {
        level.retain(|entry| seen.insert(entry.digest.clone()));
        let documents = stream::iter(level)
            .map(|entry| async move { (layout.document(content, &entry).await, entry) })
            .buffer_unordered(AT_ONCE);
        let documents: Vec<_> = documents.collect().await;
        level = Vec::new();
        for (document, entry) in documents {
            let had = match document {
                Ok(document) if entry.is_index() => {
                    let entries = parse(&document.bytes, &path).unwrap_or_default();
                    level.extend(entries);
                    Ok(())
                }
                Ok(document) if with_blobs => blobs(content, layout, &document.bytes).await,
                Ok(_) => Ok(()),
                // An index may be sparse, and what is wrong now stays so.
                Err(error) if is_unfit(&error) => Ok(()),
                Err(error) => Err(error),
            };
            fetched = fetched.and(had);
        }
        if level.is_empty() {
            break;
        }
    }
    fetched
}

/// All of a manifest's blobs that can be had; the first error, if there was any.
async fn blobs(content: &Content, layout: &Layout, manifest: &[u8]) -> Result<(), Error> {
    let mut fetched = Ok(());
    // An artifact may be of any form: what is no image has nothing that is known here.
    let Ok(manifest) = Manifest::parse(manifest) else { return Ok(()) };
    for blob in manifest.blobs().filter(|blob| blob.media_type.is_layer() || blob.urls.is_empty()) {
        let at = layout.path(&blob.digest);
        let blob = layout.at_path(blob.digest.clone(), blob.size, at);
        match content.cache(&blob).await.map_err(Error::from) {
            // What does not fit into the cache is passed over: it can still be streamed.
            Err(Error::Content(content::Error::NoRoom { size })) => {
                tracing::debug!(digest = %blob.digest, size, "not prefetched: it does not fit into the cache");
            }
            // An image may be sparse, too.
            Err(error) if !is_unfit(&error) => fetched = fetched.and(Err(error)),
            _ => {}
        }
    }
    fetched
}
