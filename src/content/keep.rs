//! Retaining downloaded and local blobs under the document that names them.

use std::collections::BTreeSet;

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;
use ocipfs_unixfs::{DagNode, RAW, leaf_frame};
use redb::WriteTransaction;

use super::{
    Blob, Content, Error, GcRoot, Store, StoreError,
    store::{BlobLayout, Leaf, Origin, index, note_from_peers, share_added_again},
};

impl Content {
    /// Retains a verified local blob, and announces it.
    pub async fn retain_blob(&self, blob: &Blob, file: Cid, is_kept: bool) -> Result<(), Error> {
        let _guard = self.gc_guard().await;
        // What led here is kept before it is said to be.
        self.wait_for_blocks().await;
        let kept = Kept::of(blob, file, is_kept);
        self.store_single(blob, file, kept.clone()).await?;
        self.announce_kept(&[kept]).await
    }

    /// Tells peers of what is retained from now on, and has the limits looked at.
    pub(super) async fn announce_kept(&self, kept: &[Kept]) -> Result<(), Error> {
        self.announce(kept.iter().flat_map(Kept::roots).collect()).await?;
        let gc = self.0.gc.clone();
        let notify = move |store: &Store| {
            gc.content_added(store);
            Ok(())
        };
        Ok(self.store().run(notify).await?)
    }

    /// Makes a blob of a file that is one block, which is how it came, and retains it where a GC root is given: in one commit.
    async fn store_single(&self, blob: &Blob, file: Cid, kept: Kept) -> Result<(), Error> {
        let blob = blob.clone();
        let store = move |store: &Store| {
            let found = single(store, &blob, file)?;
            let is_public = store.origin(&file)? == Some(Origin::Peers);
            let retain = move |write: &WriteTransaction| {
                if is_public {
                    note_from_peers(write, &file)?;
                }
                kept.retain(write)
            };
            let Some((data, layout)) = found else {
                return store.database().write_together(retain);
            };
            let mut draft = store.draft()?;
            draft.write(&data)?;
            let (digest, aliases) = (Digest::sha256_of(&data), [blob.digest.clone()]);
            let retain = move |write: &_, _: &_| retain(write);
            draft.sync()?.commit_with(&digest, &aliases, &[layout], &[], retain).map(drop)
        };
        Ok(self.store().run(store).await?)
    }
}

/// The rows of a downloaded blob: its file and its GC root.
#[derive(Clone)]
pub(super) struct Kept {
    file: Cid,
    /// Key of the GC root, and the GC root.
    reference: Option<(Cid, GcRoot)>,
}

impl Kept {
    pub(super) fn of(blob: &Blob, file: Cid, is_kept: bool) -> Self {
        let reference = blob.gc_root.map(|gc_root| {
            let roots: BTreeSet<Cid> = [gc_root, *blob.at.root(), file].into();
            let roots: Vec<Cid> = roots.into_iter().collect();
            (gc_root, GcRoot::new(is_kept, &roots, vec![(blob.digest.clone(), blob.at.clone())]))
        });
        Self { file, reference }
    }

    pub(super) fn retain(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        let Some((gc_root, reference)) = &self.reference else { return Ok(()) };
        index::retain_also(write, gc_root, reference)?;
        // A command adds it, so it is shared also where it is from a network that the node left.
        if reference.is_kept {
            share_added_again(write, &reference.all_roots())?;
        }
        Ok(())
    }

    fn roots(&self) -> Vec<Cid> {
        self.reference.as_ref().map_or(vec![self.file], |(_, reference)| reference.roots())
    }
}

/// The bytes and the layout of a file that is one block; none where the blob is stored already, or is another kind of file.
fn single(store: &Store, blob: &Blob, file: Cid) -> Result<Option<(Bytes, BlobLayout)>, StoreError> {
    if store.blob(&blob.digest)?.is_some() {
        return Ok(None);
    }
    let Some(block) = store.get(&file)? else { return Ok(None) };
    Ok(match DagNode::decode(&file, block.clone()) {
        Ok(DagNode::File { data, children }) if children.is_empty() => {
            let layout = single_layout(Block { cid: file, data: block }, &data);
            Some((data, layout))
        }
        _ => None,
    })
}

/// The layout of a file that is one block, with its data.
pub(super) fn single_layout(block: Block, data: &Bytes) -> BlobLayout {
    let (root, length) = (block.cid, data.len() as u64);
    let (head, tail) = if root.codec() == RAW { Default::default() } else { leaf_frame(length) };
    let is_window = !data.is_empty()
        && block.data.len() == head.len() + data.len() + tail.len()
        && block.data.starts_with(&head)
        && block.data[head.len()..].starts_with(data)
        && block.data.ends_with(&tail);
    match is_window {
        true => BlobLayout { root, leaves: vec![Leaf { cid: root, offset: 0, length }], nodes: vec![] },
        false => BlobLayout { root, leaves: vec![], nodes: vec![block] },
    }
}
