//! nerdctl and stargz-snapshotter with ocipfs in the place of an IPFS daemon.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::json;

use crate::{clients::Nerdctl, harness::Serve};

mod building;
mod encrypted;
mod lazy;
mod pushing;
mod starting;

pub fn trials() -> Vec<Trial> {
    [pushing::trials(), building::trials(), encrypted::trials(), lazy::trials(), starting::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the image prints.
const HELLO: &str = "hello from ipfs\n";
/// Files of the image, and the bytes of each.
const FILES: usize = 6;
const FILE_BYTES: usize = 4 << 20;

/// A node with an RPC, whose file `api` is in its directory, and a peer if one is named.
fn daemon(arguments: &[&str]) -> Serve {
    Serve::start(&[&["--rpc-listen", "127.0.0.1:0"], arguments].concat())
}

/// A node that gets what it lacks from another one.
fn daemon_beside(other: &Serve) -> Serve {
    daemon(&["--peer", other.address()])
}

/// nerdctl that speaks to the RPC of a node.
fn nerdctl(node: &Serve) -> Nerdctl {
    Nerdctl::start(node.data_dir(), node.registry()).unwrap()
}

/// Runs a container that ends, without a network.
fn run(nerdctl: &Nerdctl, image: &str, command: &[&str]) -> String {
    let args = [&["run", "-q", "--rm", "--net", "none", image], command].concat();
    nerdctl.run(&args).unwrap()
}

/// Loads the image `trial:1`.
fn load(nerdctl: &Nerdctl) {
    let archive = PathBuf::from(nerdctl.path("trial.tar"));
    write_archive(&archive);
    nerdctl.run(&["load", "-q", "-i", archive.to_str().unwrap()]).unwrap();
}

/// Loads the image `trial:1` and pushes it through `node`. Returns the nerdctl that did, and the CID of its descriptor.
fn pushed(node: &Serve) -> (Nerdctl, String) {
    let pushing = nerdctl(node);
    load(&pushing);
    let cid = push(&pushing, &[], "trial:1");
    (pushing, cid)
}

/// Pushes an image of nerdctl and returns the CID of its descriptor.
fn push(nerdctl: &Nerdctl, flags: &[&str], image: &str) -> String {
    let said = nerdctl.run(&[&["push"], flags, &[&format!("ipfs://{image}")]].concat()).unwrap();
    let cid = said.trim();
    assert!(cid.starts_with("bafkrei"), "{said}");
    cid.to_owned()
}

/// Pushes the image `trial:1` to the registry of a node.
fn push_to(nerdctl: &Nerdctl, node: &Serve, name: &str) {
    let pushed = format!("{}/{name}", node.registry());
    nerdctl.run(&["tag", "trial:1", &pushed]).unwrap();
    nerdctl.run(&["push", "-q", &pushed]).unwrap();
}

/// The bytes of a file of the image, which gzip makes no shorter: splitmix64.
fn file(n: usize) -> Vec<u8> {
    let word = |i: u64| {
        let mut word = (i + ((n as u64) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ word >> 31).to_le_bytes()
    };
    (0..FILE_BYTES as u64 / 8).flat_map(word).collect()
}

/// An OCI archive of two layers: busybox, and files.
fn write_archive(path: &Path) {
    let layers = [programs(), files()];
    let zipped = layers.each_ref().map(|layer| gzip(layer));
    let digest = |bytes: &[u8]| Digest::sha256_of(bytes).to_string();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/cat", "/hello"] },
        "rootfs": { "type": "layers", "diff_ids": layers.each_ref().map(|layer| digest(layer)) },
    });
    let config = config.to_string().into_bytes();
    let of = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": of("config.v1+json", &config),
        "layers": zipped.each_ref().map(|layer| of("layer.v1.tar+gzip", layer)),
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = of("manifest.v1+json", &manifest);
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    entry["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/trial:1", "org.opencontainers.image.ref.name": "1",
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    add(&mut archive, "index.json", index.to_string().as_bytes(), 0o644);
    for blob in [&config, &manifest, &zipped[0], &zipped[1]] {
        add(&mut archive, &format!("blobs/sha256/{}", Digest::sha256_of(blob).hex()), blob, 0o644);
    }
    archive.into_inner().unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn programs() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    add(&mut layer, "bin/busybox", &busybox.expect("busybox"), 0o755);
    for name in ["sh", "cat", "sha256sum"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    add(&mut layer, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644);
    layer.into_inner().unwrap()
}

fn files() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "hello", HELLO.as_bytes(), 0o644);
    for n in 0..FILES {
        add(&mut layer, &format!("data/{n}"), &file(n), 0o644);
    }
    layer.into_inner().unwrap()
}

fn add<W: Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, bytes).unwrap();
}
