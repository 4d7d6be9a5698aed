//! What docker and podman load of an export with an index of platforms, referrers and tags of cosign: the image, and nothing else.

use std::{fs, path::Path};

use flate2::{Compression, write::GzEncoder};
use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::{
    clients::{Docker, Podman, static_program},
    harness::{Serve, blocking, trials},
    http::Answer,
    push::{Repository, descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available(); docker_loads_an_export_with_an_index_referrers_and_cosign_tags],
        trials![needs Podman::available(); podman_loads_an_export_with_an_index_referrers_and_cosign_tags],
    ]
    .into_iter()
    .flatten()
    .collect()
}

const SAYS: &str = "hello from a signed image\n";
const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The layer of an image of one program.
fn layer(prints: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let program = fs::read(static_program(dir.path(), prints)).unwrap();
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "hello", &program[..]).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn config(architecture: &str, layer: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(layer), &mut tar).unwrap();
    let rootfs = json!({ "type": "layers", "diff_ids": [Digest::sha256_of(&tar).to_string()] });
    let run = json!({ "Entrypoint": ["/hello"] });
    json!({ "architecture": architecture, "os": "linux", "config": run, "rootfs": rootfs }).to_string().into()
}

fn digest(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("docker-content-digest").into()
}

/// Pushes a manifest by its digest; what names it.
async fn put(repository: &Repository, json: &Value) -> Value {
    let bytes = json.to_string();
    digest(&repository.put(&Digest::sha256_of(bytes.as_bytes()).to_string(), json).await);
    descriptor(json["mediaType"].as_str().unwrap(), bytes.as_bytes())
}

/// Pushes something about a manifest.
async fn refer(repository: &Repository, subject: &Value, text: &[u8]) -> Value {
    repository.push(b"{}").await;
    repository.push(text).await;
    let mut json = manifest(b"{}", &[text]);
    json["artifactType"] = "application/vnd.sbom".into();
    json["subject"] =
        json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
    put(repository, &json).await
}

/// Pushes an image for two platforms, of which one is this machine's, signed and with SBOMs, as `app:1.0`.
async fn push_signed(node: &Serve) {
    let repository = Repository::new(node, "app");
    let mut platforms = Vec::new();
    let own = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let other = if own == "arm64" { "amd64" } else { "arm64" };
    for (architecture, prints) in [(other, "another platform\n"), (own, SAYS)] {
        let layer = layer(prints);
        let config = config(architecture, &layer);
        repository.push(&config).await;
        repository.push(&layer).await;
        let mut image = put(&repository, &manifest(&config, &[&layer])).await;
        refer(&repository, &image, format!("an SBOM for {architecture}").as_bytes()).await;
        image["platform"] = json!({ "architecture": architecture, "os": "linux" });
        platforms.push(image);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": platforms });
    let top = digest(&repository.put("1.0", &index).await);
    let named = descriptor(media_type::OCI_INDEX, index.to_string().as_bytes());
    let sbom = refer(&repository, &named, b"an SBOM for all").await;
    refer(&repository, &sbom, b"a signature of the SBOM").await;
    let payload = format!("a signature of {top}");
    repository.push(payload.as_bytes()).await;
    let mut signature = manifest(b"{}", &[payload.as_bytes()]);
    signature["layers"][0]["mediaType"] = SIGNATURE.into();
    let hex = top.strip_prefix("sha256:").unwrap();
    digest(&repository.put(&format!("sha256-{hex}.sig"), &signature).await);
    let fallback = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [sbom] });
    digest(&repository.put(&format!("sha256-{hex}"), &fallback).await);
}

fn export(node: &Serve, dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    let said = node.command(&["--json", "image", "export", "app:1.0", path.to_str().unwrap()]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    // Two SBOMs of platforms, one of the index, its signature, and that of cosign.
    assert_eq!(said["images"][0]["referrers"], 5, "{said}");
    path
}

/// The only image that a client says it loaded.
fn loaded(said: &str) -> &str {
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("Loaded image")).collect();
    let [line] = lines[..] else { panic!("{said}") };
    line.trim().split_once(": ").expect("the name of an image").1
}

async fn docker_loads_an_export_with_an_index_referrers_and_cosign_tags() {
    let (node, dir) = (Serve::start(&[]), tempfile::tempdir().unwrap());
    push_signed(&node).await;
    blocking(move || {
        let docker = Docker::start().unwrap();
        for name in ["signed.tar", "signed.tar.gz"] {
            let said = docker.load(&export(&node, dir.path(), name)).unwrap();
            assert_eq!(loaded(&said), "app:1.0", "{name}");
            assert_eq!(docker.run("app:1.0", &[]).unwrap(), SAYS, "{name}");
            docker.forget_images().unwrap();
        }
    })
    .await;
}

async fn podman_loads_an_export_with_an_index_referrers_and_cosign_tags() {
    let (node, dir) = (Serve::start(&[]), tempfile::tempdir().unwrap());
    push_signed(&node).await;
    blocking(move || {
        let podman = Podman::new().unwrap();
        // podman 4.3 fails on any docker archive of several entries that is compressed with gzip, also by GNU gzip.
        for name in ["signed.tar", "signed.tar.zst"] {
            let said = podman.load(&export(&node, dir.path(), name)).unwrap();
            let image = loaded(&said);
            assert!(image.ends_with("/app:1.0"), "{name}: {said}");
            assert_eq!(podman.run(image, &[]).unwrap(), SAYS, "{name}");
            podman.forget_images().unwrap();
        }
    })
    .await;
}
