//! Other tools: cosign and oras at the node that imported, Kubo and ipfs-car on the bundle itself.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Source, document, import};
use crate::{
    clients::{COSIGN, KUBO, ORAS},
    harness::{Serve, blocking, trials},
    peers::{ipfs_car, kubo::Kubo},
    push::Repository,
    tools::cosign::{keyed, sign, verify},
};

pub fn trials() -> Vec<Trial> {
    let both = COSIGN.available().and_then(|()| ORAS.available());
    [
        trials![needs both.clone(); cosign_verifies_and_oras_discovers_what_was_imported],
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
