//! Layers, and files of node directories.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Serve, finish, ocipfs};

/// Deterministic bytes that do not compress: the same in every run and on every machine.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// A tar of one file `data` with these bytes, in `dir`.
pub fn tar_of(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let mut builder = tar::Builder::new(fs::File::create(&path).expect("a file"));
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "data", bytes).expect("a tar");
    builder.into_inner().expect("a tar");
    path
}

/// A layer as a reference names it, split into what requests need.
pub struct Layer {
    /// `layer/<cid>`.
    pub name: String,
    /// The file's name.
    pub tag: String,
    /// The layer's digest.
    pub digest: String,
    /// The layer's bytes.
    pub bytes: Vec<u8>,
}

impl Layer {
    /// Adds a tar of `bytes` at `node`.
    pub fn add(node: &Serve, bytes: &[u8]) -> Self {
        let path = tar_of(node.data_dir(), "layer.tar", bytes);
        let reference = node.ask(&["-q", "layer", "add", path.to_str().expect("UTF-8")]);
        let stored = fs::read(path).expect("the tar");
        let (_, name) = reference.split_once('/').expect("a registry");
        let (name, tag) = name.rsplit_once(':').expect("a tag");
        let digest = ocipfs_oci::Digest::sha256_of(&stored).to_string();
        Self { name: name.into(), tag: tag.into(), digest, bytes: stored }
    }

    /// The CID of the layer manifest.
    pub fn cid(&self) -> &str {
        self.name.trim_start_matches("layer/")
    }

    pub fn manifest_path(&self) -> String {
        format!("/v2/{}/manifests/{}", self.name, self.tag)
    }

    pub fn blob_path(&self) -> String {
        format!("/v2/{}/blobs/{}", self.name, self.digest)
    }

    /// Returns the reference that a client pulls through `node`.
    pub fn reference(&self, node: &Serve) -> String {
        format!("{}/{}:{}", node.registry(), self.name, self.tag)
    }
}

/// Returns a number of `store stat` in a node directory.
pub fn stored(data_dir: &Path, what: &str) -> u64 {
    let said = finish(ocipfs(data_dir).args(["--json", "store", "stat"]));
    let stat: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    stat[what].as_u64().expect("a number")
}

/// The files below a folder of the node directory, however deep: what is stored there.
pub fn files_below(data_dir: &Path, folder: &str) -> usize {
    let count = |entry: fs::DirEntry| match entry.file_type().expect("a type").is_dir() {
        true => files_below(&entry.path(), ""),
        false => 1,
    };
    let entries = fs::read_dir(data_dir.join(folder)).into_iter().flatten();
    entries.map(|entry| count(entry.expect("an entry"))).sum()
}
