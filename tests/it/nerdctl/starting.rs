//! The start of a container whose image is mounted: how much of the image it fetches.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher};
use serde_json::json;

use super::{add, daemon, daemon_beside, lazy::run_mounted, nerdctl, programs};
use crate::{
    clients::Nerdctl,
    harness::{Serve, blocking, trials},
};

const MIB: usize = 1 << 20;
/// Of the files of the image, the start reads this share.
const READ_PERCENT: usize = 5;
/// Of the bytes of the image, it may fetch this one.
const FETCHED_PERCENT: u64 = 15;

pub fn trials() -> Vec<Trial> {
    trials![needs Nerdctl::available(); a_start_that_reads_a_twentieth_of_an_image_fetches_less_than_a_sixth]
}

/// Files of 1 MiB: 512 where `OCIPFS_TEST_FULL_SIZE=1`, else 100.
fn files() -> usize {
    if std::env::var_os("OCIPFS_TEST_FULL_SIZE").is_some_and(|value| value == "1") { 512 } else { 100 }
}

/// The bytes of a file, which no encoder makes shorter.
fn file(n: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ ((n as u64 + 1) << 40);
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..MIB / 8).flat_map(word).collect()
}

/// Hashes what is written.
struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a layer of files, of which those below `start` are read first; returns its digest.
fn write_layer(path: &Path) -> Digest {
    let file_of = File::create(path).unwrap();
    let mut layer = tar::Builder::new(Hashed { file: file_of, hasher: Hasher::new(Algorithm::Sha256) });
    for n in 0..files() {
        // They are spread over the layer.
        let is_read = n % (100 / READ_PERCENT) == 0;
        let name = format!("{}/{n}", if is_read { "start" } else { "rest" });
        add(&mut layer, &name, &file(n), 0o644);
    }
    layer.into_inner().unwrap().hasher.finish()
}

/// Writes an archive as docker saves an image, with a layer of programs and the layer of files.
fn write_archive(dir: &Path) -> PathBuf {
    let (path, layer) = (dir.join("image.tar"), dir.join("layer.tar"));
    let (programs, files) = (programs(), write_layer(&layer));
    let diff_ids = [Digest::sha256_of(&programs).to_string(), files.to_string()];
    let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["start:1"],
        "Layers": ["programs/layer.tar", "files/layer.tar"] }]);
    let mut archive = tar::Builder::new(File::create(&path).unwrap());
    add(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    add(&mut archive, "config.json", config.to_string().as_bytes(), 0o644);
    add(&mut archive, "programs/layer.tar", &programs, 0o644);
    archive.append_path_with_name(&layer, "files/layer.tar").unwrap();
    archive.into_inner().unwrap();
    path
}

/// What the start prints: the digest of what it reads.
fn expected() -> String {
    let mut names: Vec<usize> = (0..files()).step_by(100 / READ_PERCENT).collect();
    names.sort_by_key(usize::to_string);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    names.into_iter().for_each(|n| hasher.update(&file(n)));
    hasher.finish().hex()
}

fn received(node: &Serve) -> u64 {
    node.status()["received_bytes"].as_u64().unwrap()
}

async fn a_start_that_reads_a_twentieth_of_an_image_fetches_less_than_a_sixth() {
    let dir = tempfile::tempdir().unwrap();
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let archive = write_archive(dir.path());
        let archive = archive.to_str().unwrap();
        let import = ["-q", "image", "import", archive, "--as", "descriptor", "--estargz"];
        let reference = source.ask(&import);
        let image = format!("ipfs://{}", reference.rsplit('/').next().unwrap());
        let mounting = nerdctl(&node);
        let before = received(&node);
        let said = run_mounted(&mounting, &image, &["/bin/sh", "-c", "cat /start/* | sha256sum"]);
        assert!(said.starts_with(&expected()), "{said}");
        let (fetched, whole) = (received(&node) - before, (files() * MIB) as u64);
        eprintln!("{fetched} of {whole} bytes were fetched: {} %", fetched * 100 / whole);
        assert!(fetched * 100 <= whole * FETCHED_PERCENT, "{fetched} of {whole} bytes were fetched");
    })
    .await;
}
