//! The store on real files.

mod any_order;
mod compact;
mod crash;
mod damage;
mod format;
mod full;
mod interleaved;
mod measured;
mod origin;
mod partial;
mod stored;
mod streamed;
mod sweep;
mod verify;
mod view;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;
use ocipfs_unixfs::{Builder, Profile};
use tempfile::TempDir;

use super::{BlobLayout, DraftToStore, Error, Leaf, Store, StoreStat, Stored, SyncedDraft};

const MIB: usize = 1 << 20;

fn temp() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Bytes of which no two blocks are equal.
fn bytes(seed: u64, length: usize) -> Bytes {
    (0..length as u64)
        .map(|i| ((i ^ seed.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

/// A DAG over `bytes`, with its leaves as blocks.
struct Dag {
    layout: BlobLayout,
    leaves: Vec<(Leaf, Bytes)>,
}

impl Dag {
    fn new(profile: Profile, bytes: &Bytes) -> Self {
        let (mut builder, mut leaves, mut nodes, mut offset) = (Builder::new(profile), vec![], vec![], 0);
        let chunks: Vec<Bytes> = match bytes.is_empty() {
            true => vec![Bytes::new()],
            false => bytes.chunks(profile.chunk()).map(|chunk| bytes.slice_ref(chunk)).collect(),
        };
        for chunk in chunks {
            let length = chunk.len() as u64;
            let mut blocks = builder.push(chunk).into_iter();
            let block = blocks.next().unwrap();
            leaves.push((Leaf { cid: block.cid, offset, length }, block.data));
            nodes.extend(blocks);
            offset += length;
        }
        let (root, last) = builder.finish();
        nodes.extend(last);
        let layout =
            BlobLayout { root: root.cid, leaves: leaves.iter().map(|(leaf, _)| *leaf).collect(), nodes };
        Self { layout, leaves }
    }

    fn root(&self) -> Cid {
        self.layout.root
    }

    fn blocks(&self) -> Vec<Block> {
        let leaves = self.leaves.iter().map(|(leaf, data)| Block { cid: leaf.cid, data: data.clone() });
        leaves.chain(self.layout.nodes.iter().cloned()).collect()
    }

    /// Whether the store has every block of it, as it should be.
    fn is_in(&self, store: &Store) -> bool {
        self.blocks().iter().all(|block| {
            store.get(&block.cid).unwrap().as_ref() == Some(&block.data)
                && store.size(&block.cid).unwrap() == Some(block.data.len() as u64)
        })
    }

    /// Whether the store has none of its blocks.
    fn is_gone_from(&self, store: &Store) -> bool {
        self.blocks().iter().all(|block| {
            store.get(&block.cid).unwrap().is_none() && store.size(&block.cid).unwrap().is_none()
        })
    }
}

fn put(store: &Store, bytes: &Bytes, dags: &[&Dag]) -> Stored {
    let mut draft = store.draft().unwrap();
    bytes.chunks(100_000).for_each(|part| draft.write(part).unwrap());
    let layouts: Vec<BlobLayout> = dags.iter().map(|dag| dag.layout.clone()).collect();
    draft.store(&Digest::sha256_of(bytes), &[], &layouts).unwrap()
}

fn whole(store: &Store, stored: &Stored) -> Bytes {
    store.open_file(stored).unwrap().read_at(0, stored.size as usize).unwrap()
}

fn blob_path(dir: &Path, bytes: &[u8]) -> PathBuf {
    let hex = Digest::sha256_of(bytes).hex();
    dir.join("blobs").join(&hex[..2]).join(hex)
}

fn incoming(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir.join("incoming")).unwrap().map(|entry| entry.unwrap().path()).collect()
}
