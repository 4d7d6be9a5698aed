//! A node directory opened in this process while no `serve` runs, to store what no command would.

use std::path::Path;

use bytes::Bytes;
use ocipfs::content::{BlobWriter, Document, Profile, Store};
use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;
use serde_json::{Value, json};

/// The store of a node directory.
pub struct Offline(Store);

impl Offline {
    pub async fn open(data_dir: &Path) -> Self {
        std::fs::create_dir_all(data_dir).expect("a directory");
        Self(Store::open(data_dir).expect("a store"))
    }

    /// Stores a file.
    pub async fn put(&self, bytes: impl AsRef<[u8]>, profile: Profile) -> Cid {
        let mut put = BlobWriter::new(&self.0, profile).expect("a draft");
        put.write(Bytes::copy_from_slice(bytes.as_ref())).expect("room");
        put.store().expect("it is stored").0.root
    }

    /// Stores blocks that are no file.
    pub fn put_blocks(&self, blocks: &[Block]) {
        self.0.put_blocks(blocks).expect("it is stored");
    }

    /// Stores a file in a directory; the directory's CID.
    pub async fn put_in_directory(&self, name: &str, bytes: impl AsRef<[u8]>) -> Cid {
        let mut put = BlobWriter::new(&self.0, Profile::UnixfsV1).expect("a draft");
        put.write(Bytes::copy_from_slice(bytes.as_ref())).expect("room");
        let (_, root) = put.store().expect("it is stored");
        let directory = Document::directory(name, &root, Profile::UnixfsV1);
        self.0.put_blocks(&directory.blocks).expect("it is stored");
        directory.root.cid
    }
}

/// A layer manifest that says of `bytes` what is true, and of `at` that they are there.
pub fn layer_manifest(bytes: &[u8], at: impl std::fmt::Display) -> Value {
    let digest = Digest::sha256_of(bytes).to_string();
    json!({
        "mediaType": "application/vnd.ocipfs.layer.manifest.v1+json",
        "layer": {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest,
            "size": bytes.len(),
            "annotations": {
                "io.ocipfs.layer.ipfs.cid": at.to_string(),
                "io.ocipfs.layer.fs.digest": digest,
            }
        }
    })
}
