//! The page for browsers: what it shows in headless Chromium, and to whom.

mod browser;
mod login;
mod looks;
mod moving;
mod unsigned;
mod visitors;

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::{
    following::{follower, published},
    harness::{Serve, noise},
    push::{Repository, descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    [login::trials(), looks::trials(), moving::trials(), unsigned::trials(), visitors::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Two nodes with something in each view: a publisher, and a follower that is connected to it.
struct World {
    publisher: Serve,
    follower: Serve,
}

impl World {
    /// Pushes an image for two platforms, with a signature, and an image of one.
    async fn start() -> Self {
        let publisher = Serve::start(&[]);
        let app = Repository::new(&publisher, "team/app");
        let platforms =
            [push_platform(&app, "amd64", 3 << 20).await, push_platform(&app, "arm64", 2 << 20).await];
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": platforms });
        let subject = created(app.put("1.0", &index).await.header("docker-content-digest"));
        push_signature(&app, &index, &subject).await;
        Repository::new(&publisher, "base").push_image("latest", &noise(300_000)).await;
        let follower = follower(&[&publisher], &["--prefetch", "all"]);
        published(&publisher).await;
        follower
            .until("the publisher's repositories are followed", |status| {
                status["followed"][0]["complete_repositories"] == 2
            })
            .await;
        Self { publisher, follower }
    }
}

fn created(digest: &str) -> Digest {
    digest.parse().expect("a digest")
}

/// Pushes a manifest of one layer for a platform; its entry in an index.
async fn push_platform(repository: &Repository, architecture: &str, length: usize) -> Value {
    let config = json!({ "os": "linux", "architecture": architecture, "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [] } })
    .to_string();
    let layers = [noise(length), noise(length / 4 + 1)];
    for blob in [config.as_bytes(), &layers[0], &layers[1]] {
        repository.push(blob).await;
    }
    let manifest = manifest(config.as_bytes(), &[&layers[0], &layers[1]]);
    let text = manifest.to_string();
    let digest = Digest::sha256_of(text.as_bytes()).to_string();
    assert_eq!(repository.put(&digest, &manifest).await.status, 201);
    let mut entry = descriptor(media_type::OCI_MANIFEST, text.as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": architecture });
    entry
}

async fn push_signature(repository: &Repository, index: &Value, subject: &Digest) {
    repository.push(b"{}").await;
    repository.push(b"signature").await;
    let mut signature = manifest(b"{}", &[b"signature"]);
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["subject"] = descriptor(media_type::OCI_INDEX, index.to_string().as_bytes());
    assert_eq!(signature["subject"]["digest"], subject.to_string());
    let digest = Digest::sha256_of(signature.to_string().as_bytes()).to_string();
    assert_eq!(repository.put(&digest, &signature).await.status, 201);
}
