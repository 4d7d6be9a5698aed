//! Documents that a bundle has and that are not blobs yet: manifests that are made here, or came as blocks.

use std::collections::BTreeMap;

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::Digest;

use super::Error;
use crate::{
    content::{self, Content, GcRoot, Profile, Store},
    images::archive::{StagedBlob, put_as},
};

/// Stores the documents that are not stored, in one commit. Under a guard they stay.
pub async fn store_documents(content: &Content, documents: &BTreeMap<Digest, Bytes>) -> Result<(), Error> {
    let (documents, profile) = (documents.clone(), content.profile());
    let store = move |store: &Store| {
        let mut staged = Vec::new();
        for (digest, bytes) in documents {
            if store.present_guarded(&digest)?.is_none() {
                staged.push(put_as(store, profile, bytes, &digest)?);
            }
        }
        if staged.is_empty() { Ok(()) } else { StagedBlob::store_all(store, &staged, &[]) }
    };
    Ok(content.store().run(store).await?)
}

/// Keeps the manifest of a bundle as cached content, so that a later one can say what it leaves out.
pub async fn keep_manifest(content: &Content, root: Cid, json: Vec<u8>) -> Result<(), content::Error> {
    let digest = Digest::sha256_of(&json);
    let of = digest.clone();
    let store = move |store: &Store| {
        let staged = put_as(store, Profile::default(), json.into(), &of)?;
        StagedBlob::store_all(store, &[staged], &[])
    };
    let _guard = content.gc_guard().await;
    content.store().run(store).await?;
    content.retain(root, GcRoot::new(false, &[root], vec![(digest, root.into())])).await
}
