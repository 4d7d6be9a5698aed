//! A node directory opened in this process while no `serve` runs, to store what no command would.

use std::path::Path;

use bytes::Bytes;
use ocipfs::content::{Content, Profile, Settings};
use ocipfs_node::{Cid, Node};
use ocipfs_oci::Digest;
use serde_json::{Value, json};

/// The blocks of a node directory.
pub struct Offline(Content);

impl Offline {
    pub async fn open(data_dir: &Path) -> Self {
        std::fs::create_dir_all(data_dir).expect("a directory");
        let node = Node::open_offline(data_dir).await.expect("a node directory");
        Self(Content::open_in(data_dir, node, Settings::default()).await.expect("an index"))
    }

    /// Stores a file.
    pub async fn put(&self, bytes: impl AsRef<[u8]>, profile: Profile) -> Cid {
        self.file(bytes, profile).await.cid()
    }

    /// Stores a file in a directory; the directory's CID.
    pub async fn put_in_directory(&self, name: &str, bytes: impl AsRef<[u8]>) -> Cid {
        let file = self.file(bytes, Profile::UnixfsV1).await;
        self.0.wrap(name, &file, Profile::UnixfsV1).await.expect("a directory").cid()
    }

    async fn file(&self, bytes: impl AsRef<[u8]>, profile: Profile) -> ocipfs::content::Stored {
        let chunks: Vec<_> = bytes.as_ref().chunks(1 << 20).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        self.0.put(futures::stream::iter(chunks), profile).await.expect("it is stored")
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
