//! Other tools: cosign and oras at the node that imported, Kubo and ipfs-car on the bundle itself.

use std::{collections::HashSet, fs};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Source, document, import, inspect, layer, push_index};
use crate::{
    clients::{COSIGN, Client, KUBO, ORAS},
    harness::{Serve, blocking, trials},
    peers::{ipfs_car, kubo::Kubo},
    push::Repository,
    tools::cosign::{keyed, sign, verify},
};

pub fn trials() -> Vec<Trial> {
    let both = COSIGN.available().and_then(|()| ORAS.available());
    [
        trials![needs both.clone();
            cosign_verifies_and_oras_discovers_what_was_imported,
            twenty_signed_images_cross_the_gap_and_a_second_bundle_has_only_what_is_new,
        ],
        trials![needs KUBO.available(); kubo_imports_a_bundle_and_reads_a_layer],
        trials![needs ipfs_car::available(); ipfs_car_reads_a_bundle],
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn cosign_verifies_and_oras_discovers_what_was_imported() {
    let (source, target) = (Serve::start(&[]), Serve::start(&[]));
    let repository = Repository::new(&source, "team/app");
    let digest = repository.push_image("1", b"a layer").await;
    blocking(move || {
        let (cosign, oras) = (keyed(), ORAS.start().unwrap());
        let at = |node: &Serve| format!("{}/team/app@{digest}", node.registry());
        sign(&cosign, &at(&source), &[]);
        let sbom = oras.write("sbom.json", "{}").unwrap();
        let kind = "application/vnd.example.sbom";
        let flags = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", kind];
        oras.run(&[&flags[..], &[&at(&source), &sbom]].concat()).unwrap();
        let path = target.data_dir().join("a.car").display().to_string();
        source.ask(&["bundle", "export", &path, "team/app:1"]);
        drop(source);
        verify(&cosign, &at(&target), &[]).unwrap_err();
        document(&import(target.data_dir(), &[&path]));
        verify(&cosign, &at(&target), &[]).unwrap();
        let found = oras.run(&["discover", "--plain-http", "--format", "json", &at(&target)]).unwrap();
        assert!(found.contains(kind), "{found}");
    })
    .await;
}

const SBOM: &str = "application/vnd.example.sbom";

/// Images by their repositories and digests, which cosign signs and oras attaches SBOMs to.
struct Signed {
    cosign: Client,
    oras: Client,
    images: Vec<(String, String)>,
}

impl Signed {
    fn references(&self, node: &Serve) -> Vec<String> {
        self.images.iter().map(|(name, digest)| format!("{}/{name}@{digest}", node.registry())).collect()
    }

    /// Signs the images from a number on, and gives each an SBOM.
    fn sign(&self, node: &Serve, from: usize) {
        let key = self.cosign.path("cosign.key");
        let flags = ["sign", "--yes", "--tlog-upload=false", "--allow-http-registry", "--key", &key];
        let references = self.references(node).split_off(from);
        let images: Vec<&str> = references.iter().map(String::as_str).collect();
        self.cosign.run(&[&flags[..], &images].concat()).unwrap();
        for (number, image) in images.iter().enumerate() {
            let number = from + number;
            let sbom =
                self.oras.write(&format!("sbom{number}.json"), &format!("{{\"of\": {number}}}")).unwrap();
            let flags = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", SBOM];
            self.oras.run(&[&flags[..], &[image, &sbom]].concat()).unwrap();
        }
    }

    /// Holds that a node has all images with their signatures and SBOMs.
    fn are_at(&self, node: &Serve) {
        let key = self.cosign.path("cosign.pub");
        let flags = ["verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key", &key];
        let references = self.references(node);
        let images: Vec<&str> = references.iter().map(String::as_str).collect();
        self.cosign.run(&[&flags[..], &images].concat()).unwrap();
        for image in images {
            let found = self.oras.run(&["discover", "--plain-http", "--format", "json", image]).unwrap();
            assert!(found.contains(SBOM), "{image}: {found}");
        }
    }
}

/// The blobs of a bundle, whether it has their bytes or an earlier one: their digests and sizes.
fn blobs(path: &str) -> Vec<(String, u64)> {
    let manifest = inspect(path)["manifest"].clone();
    let blobs = manifest["blobs"].as_array().unwrap().iter();
    blobs.map(|blob| (blob["digest"].as_str().unwrap().into(), blob["size"].as_u64().unwrap())).collect()
}

async fn twenty_signed_images_cross_the_gap_and_a_second_bundle_has_only_what_is_new() {
    const IMAGES: usize = 20;
    const NEW: usize = 12 << 20;
    let (source, target) = (Serve::start(&[]), Serve::start(&[]));
    let mut images = Vec::new();
    for number in 0..IMAGES {
        let name = format!("team/app{number}");
        let digest = Repository::new(&source, &name).push_image("1", &layer(number, 50_000)).await;
        images.push((name, digest));
    }
    let (index, platforms) = push_index(&Repository::new(&source, "team/multi"), "1", 100).await;
    images.push(("team/multi".into(), index));
    let signed = Signed { cosign: keyed(), oras: ORAS.start().unwrap(), images };
    let [first, second] =
        ["first.car", "second.car"].map(|name| target.data_dir().join(name).display().to_string());
    let (signed, source, target, first) = blocking(move || {
        signed.sign(&source, 0);
        let said = source.json(&["bundle", "export", &first, "team/*"]);
        assert_eq!(said["images"].as_array().map(Vec::len), Some(IMAGES + 1), "{said}");
        document(&import(target.data_dir(), &[&first]));
        signed.are_at(&target);
        (signed, source, target, first)
    })
    .await;
    for digest in &platforms {
        let found = Repository::new(&target, "team/multi").get(&format!("manifests/{digest}")).await;
        assert_eq!(found.status, 200);
    }
    let name = format!("team/app{IMAGES}");
    let digest = Repository::new(&source, &name).push_image("1", &layer(IMAGES, NEW)).await;
    let mut signed = signed;
    signed.images.push((name, digest));
    blocking(move || {
        signed.sign(&source, signed.images.len() - 1);
        let said = source.json(&["bundle", "export", &second, "team/*", "--since", &first]);
        let known: HashSet<String> = blobs(&first).into_iter().map(|(digest, _)| digest).collect();
        let new: u64 =
            blobs(&second).iter().filter(|(digest, _)| !known.contains(digest)).map(|(_, size)| size).sum();
        let length = fs::metadata(&second).unwrap().len();
        assert!(new >= NEW as u64 && length * 100 <= new * 102, "{length} bytes for {new} new ones: {said}");
        assert_eq!(target.status()["peers"], 0, "there is a gap");
        drop(source);
        document(&import(target.data_dir(), &[&second]));
        signed.are_at(&target);
    })
    .await;
}

/// Exports two images, and returns the source, the bundle and its manifest.
async fn exported() -> (Source, String, Value) {
    let source = Source::start(&[3 << 20, 1000]).await;
    let (path, _) = source.export("a.car", &["team/*"]);
    let shown = document(&source.node.command(&["--json", "bundle", "inspect", &path]));
    (source, path, shown)
}

async fn kubo_imports_a_bundle_and_reads_a_layer() {
    let (source, path, shown) = exported().await;
    blocking(move || {
        let kubo = Kubo::offline();
        let said = kubo.run(&["--offline", "dag", "import", "--stats", &path]);
        let root = shown["bundle"].as_str().unwrap();
        assert!(said.contains(root), "{said}");
        let manifest = kubo.bytes(&["--offline", "cat", root]).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&manifest).unwrap(), shown["manifest"]);
        for blob in shown["manifest"]["blobs"].as_array().unwrap() {
            let bytes = kubo.bytes(&["--offline", "cat", blob["cid"].as_str().unwrap()]).unwrap();
            let digest = ocipfs_oci::Digest::sha256_of(&bytes).to_string();
            assert_eq!(blob["digest"], digest.as_str());
        }
    })
    .await;
    drop(source);
}

async fn ipfs_car_reads_a_bundle() {
    let (source, path, shown) = exported().await;
    blocking(move || {
        let root = shown["bundle"].as_str().unwrap();
        let roots = String::from_utf8(ipfs_car::run(&["roots", &path]).unwrap()).unwrap();
        assert_eq!(roots.trim(), root);
        let blocks = String::from_utf8(ipfs_car::run(&["blocks", &path]).unwrap()).unwrap();
        for blob in shown["manifest"]["blobs"].as_array().unwrap() {
            assert!(blocks.contains(blob["cid"].as_str().unwrap()), "{blocks}");
        }
        let manifest = ipfs_car::run(&["unpack", &path]).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&manifest).unwrap(), shown["manifest"]);
        let layer = &super::layer(0, 3 << 20);
        let digest = ocipfs_oci::Digest::sha256_of(layer).to_string();
        let blobs = shown["manifest"]["blobs"].as_array().unwrap();
        let blob = blobs.iter().find(|blob| blob["digest"] == digest.as_str()).unwrap();
        let read = ipfs_car::run(&["unpack", &path, "--root", blob["cid"].as_str().unwrap()]).unwrap();
        assert!(read == *layer);
    })
    .await;
    drop(source);
}
