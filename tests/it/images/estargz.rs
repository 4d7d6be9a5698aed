//! eStargz layers, and images that are put on IPFS as nerdctl does.

use std::{fs, io::Read};

use flate2::{bufread::MultiGzDecoder, write::GzEncoder};
use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::{Value, json};

use super::{archive, document, hex, name, random, since_25, write};
use crate::{
    bundles::push_index,
    harness::{Serve, trials},
    http::get,
    peers::estargz,
    push::{Repository, descriptor, manifest},
};

const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        image_convert_to_estargz_makes_the_layers_of_image_import_estargz,
        image_convert_leaves_layers_that_cannot_be_estargz_as_they_are,
        image_push_as_ipfs_prints_a_cid_that_every_node_makes_and_peers_get,
        image_push_of_one_platform_makes_an_index_without_the_others,
    ];
    all.extend(trials![needs estargz::available();
        the_library_of_stargz_reads_the_layers_of_image_import_estargz,
    ]);
    all
}

/// The manifest of an image of a registry, through its index if it has one.
async fn image(node: &Serve, reference: &str) -> Value {
    let (repository, tag) = name(reference).rsplit_once(':').unwrap_or((name(reference), "latest"));
    get(&node.url(&format!("/v2/{repository}/manifests/{tag}"))).await.json()
}

async fn blob(node: &Serve, reference: &str, digest: &Value) -> Vec<u8> {
    let (repository, _) = name(reference).rsplit_once(':').unwrap_or((name(reference), ""));
    let blob = get(&node.url(&format!("/v2/{repository}/blobs/{}", digest.as_str().unwrap()))).await;
    assert_eq!(Digest::sha256_of(&blob.body).to_string(), *digest);
    blob.body
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Holds that the configuration names the layers as they are.
async fn check_diff_ids(node: &Serve, reference: &str, manifest: &Value) {
    let config: Value =
        serde_json::from_slice(&blob(node, reference, &manifest["config"]["digest"]).await).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
    for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
        let bytes = blob(node, reference, &layer["digest"]).await;
        assert_eq!(layer["size"], bytes.len());
        assert_eq!(Digest::sha256_of(&gunzip(&bytes)).to_string(), *diff_id);
    }
}

async fn the_library_of_stargz_reads_the_layers_of_image_import_estargz() {
    let node = Serve::start(&[]);
    let files: Vec<(String, Vec<u8>)> =
        [("etc/empty", 0), ("etc/one", 1), ("usr/even", 2 << 20), ("usr/odd", 3_333_333)]
            .map(|(path, length)| (path.to_owned(), random(length)))
            .into();
    let mut layer = tar::Builder::new(archive(&files));
    // `archive` ended it.
    let whole = layer.get_ref().len();
    layer.get_mut().truncate(whole - 1024);
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    layer.append_link(&mut header, "usr/link", "odd").unwrap();
    header.set_entry_type(tar::EntryType::Link);
    layer.append_link(&mut header, "usr/hard", "usr/odd").unwrap();
    let layer = layer.into_inner().unwrap();
    let reference = import(&node, "team/app:1", &[layer], &["--estargz"]);
    let manifest = image(&node, &reference).await;
    check_diff_ids(&node, &reference, &manifest).await;
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let bytes = blob(&node, &reference, &layer["digest"]).await;
    let size = layer["annotations"]["io.containers.estargz.uncompressed-size"].as_str().unwrap();
    assert_eq!(size, gunzip(&bytes).len().to_string());
    let path = node.data_dir().join("layer");
    fs::write(&path, &bytes).unwrap();
    let read = estargz::read(&path, layer["annotations"][TOC_DIGEST].as_str().unwrap());
    let regular = |at: &str, mode: &str, bytes: &[u8]| {
        format!("reg {at} {mode} {} sha256:{} 0", bytes.len(), hex(bytes))
    };
    let odd = &files[3].1;
    let expected = [
        "dir ".to_owned(),
        regular(".no.prefetch.landmark", "444", &[0xf]),
        "dir etc".into(),
        regular("etc/empty", "644", b""),
        regular("etc/one", "644", &files[1].1),
        "dir usr".into(),
        regular("usr/even", "644", &files[2].1),
        regular("usr/hard", "644", odd),
        "symlink usr/link odd".into(),
        regular("usr/odd", "644", odd),
    ];
    assert_eq!(read.unwrap(), expected);
    let other = format!("sha256:{}", "0".repeat(64));
    assert!(estargz::read(&path, &other).unwrap_err().contains("invalid TOC JSON"));
}

/// Imports an image of these layers, as docker saves one.
fn import(node: &Serve, called: &str, layers: &[Vec<u8>], options: &[&str]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Image": "sha256:gone", "Cmd": ["a"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let mut files: Vec<(String, Vec<u8>)> =
        layers.iter().map(|layer| (format!("{}/layer.tar", hex(layer)), layer.clone())).collect();
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [called], "Layers": paths }]);
    files.push(("config.json".into(), config.to_string().into_bytes()));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    let path = write(node.data_dir(), "image.tar", &archive(&files));
    node.ask(&[&["-q", "image", "import", &path], options].concat())
}

async fn image_convert_to_estargz_makes_the_layers_of_image_import_estargz() {
    let node = Serve::start(&[]);
    let layers = [archive(&[("a".into(), random(2_000_000))]), archive(&[("b".into(), b"b".to_vec())])];
    let imported = import(&node, "foo:1.0", &layers, &["--estargz"]);
    let plain = import(&node, "foo:1.0", &layers, &[]);
    let converted = node.ask(&["-q", "image", "convert", &plain, "bar:2", "--estargz"]);
    assert!(converted.ends_with("/bar:2"), "{converted}");
    let (made, expected) = (image(&node, &converted).await, image(&node, &imported).await);
    check_diff_ids(&node, &converted, &made).await;
    assert_eq!(made, expected);
    assert!(image(&node, &plain).await != made);
    // What is eStargz already stays.
    let again = node.ask(&["-q", "image", "convert", &converted, "bar:2", "--estargz"]);
    assert_eq!(again, converted);
    let config = blob(&node, &converted, &made["config"]["digest"]).await;
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["config"], json!({ "Cmd": ["a"] }));
    let listed = document(&node.command(&["--json", "image", "ls"]));
    assert_eq!(listed.as_array().unwrap().len(), 3);
    node.command(&["image", "convert", "team/nowhere:1", "x:1", "--estargz"]).failed(1, &["not found"]);
    node.command(&["image", "convert", &plain, "x:1"]).failed(2, &["--estargz"]);
    let path = write(node.data_dir(), "foo.tar", &archive(&since_25(node.data_dir())));
    node.command(&["image", "import", &path, "--estargz", "--compress", "zstd"]).failed(2, &["--compress"]);
}

async fn image_convert_leaves_layers_that_cannot_be_estargz_as_they_are() {
    let node = Serve::start(&[]);
    let repository = Repository::new(&node, "app");
    let mut sparse = tar::Header::new_gnu();
    sparse.set_entry_type(tar::EntryType::GNUSparse);
    sparse.set_size(0);
    sparse.set_cksum();
    let tars = [[sparse.as_bytes(), &[0; 1024][..]].concat(), archive(&[("a".into(), b"a".to_vec())])];
    let layers = tars.each_ref().map(|tar| gzip(tar));
    let diff_ids = tars.each_ref().map(|tar| format!("sha256:{}", hex(tar)));
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string().into_bytes();
    for bytes in [&config, &layers[0], &layers[1]] {
        repository.push(bytes).await;
    }
    let pushed = manifest(&config, &[&layers[0], &layers[1]]);
    assert_eq!(repository.put("1", &pushed).await.status, 201);
    let said = node.command(&["image", "convert", "app:1", "app:lazy", "--estargz"]);
    assert!(said.stderr.contains("stays as it is") && said.stderr.contains("unsupported kind"), "{said:?}");
    let converted = image(&node, said.last_line()).await;
    assert_eq!(converted["layers"][0], pushed["layers"][0]);
    assert!(converted["layers"][1]["annotations"][TOC_DIGEST].is_string());
    check_diff_ids(&node, said.last_line(), &converted).await;
    // An artifact has no layers of an image.
    let artifact = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/plain", "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("text/plain", &config)] });
    repository.push(b"{}").await;
    assert_eq!(repository.put("artifact", &artifact).await.status, 201);
    let kept = node.ask(&["-q", "image", "convert", "app:artifact", "artifact:1", "--estargz"]);
    assert_eq!(image(&node, &kept).await, artifact);
}

async fn image_push_as_ipfs_prints_a_cid_that_every_node_makes_and_peers_get() {
    // Pushes are not shared, but for what a command puts on IPFS.
    let node = Serve::start(&["--share", "added"]);
    let (layer, config) = (gzip(&archive(&[("a".into(), random(1_500_000))])), b"{\"a\":\"<&>\"}");
    let repository = Repository::new(&node, "app");
    repository.push(config).await;
    repository.push(&layer).await;
    let pushed = manifest(config, &[&layer]);
    assert_eq!(repository.put("1", &pushed).await.status, 201);
    let cid = node.ask(&["image", "push", "app:1", "--as", "ipfs"]);
    let peer = Serve::start(&["--peer", node.address()]);
    let reference = format!("{}/ipfs/{cid}", peer.registry());
    let made = image(&peer, &reference).await;
    assert!(blob(&peer, &format!("{reference}:latest"), &made["layers"][0]["digest"]).await == layer);
    let mut expected = pushed.clone();
    for (at, bytes) in [("/config", &config[..]), ("/layers/0", &layer)] {
        let url = made.pointer(at).unwrap()["urls"][0].clone();
        assert!(url.as_str().unwrap().starts_with("ipfs://baf"), "{url} of {} bytes", bytes.len());
        expected.pointer_mut(at).unwrap()["urls"] = json!([url]);
    }
    assert_eq!(made, expected);
    let again = Serve::start(&["--profile", "legacy", "--peer", node.address()]);
    let copied =
        again.ask(&["image", "push", &reference.replace(peer.registry(), again.registry()), "--as", "ipfs"]);
    assert_eq!(copied, cid);
    let listed = document(&node.command(&["--json", "image", "push", "app:1", "--as", "ipfs"]));
    assert_eq!(listed[0]["cid"], cid);
    assert_eq!(node.ask(&["image", "rm", &cid]), cid);
    node.command(&["image", "push", "app:1"]).failed(2, &["--as"]);
}

async fn image_push_of_one_platform_makes_an_index_without_the_others() {
    let node = Serve::start(&[]);
    push_index(&Repository::new(&node, "multi"), "1", 1).await;
    let push = ["image", "push", "multi:1", "--as", "ipfs"];
    let platforms = async |more: &[&str]| {
        let cid = node.ask(&[&push[..], more].concat());
        let made = image(&node, &format!("{}/ipfs/{cid}", node.registry())).await;
        let entries = made["manifests"].as_array().expect("an index").clone();
        entries.iter().map(|entry| entry["platform"]["architecture"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(platforms(&[]).await, ["amd64", "arm64"]);
    assert_eq!(platforms(&["--platform", "linux/arm64"]).await, ["arm64"]);
    assert_eq!(platforms(&["--platform", "linux/arm64,linux/amd64"]).await, ["amd64", "arm64"]);
    let refused = [&push[..], &["--platform", "linux/riscv64"]].concat();
    node.command(&refused).failed(1, &["has no linux/riscv64", "linux/amd64, linux/arm64"]);
}
