//! Each kind of name, through a node that had nothing of what it names.

mod clients;
mod descriptors;
mod dnslink;
mod dockerized;
mod folder;
mod foreign;
pub mod image;
mod ipns;
mod layouts;
mod refusals;

use std::{path::Path, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use tempfile::TempDir;

use crate::{
    dns::Dns,
    harness::Serve,
    http::{Answer, get, get_found},
    offline::Offline,
};
use image::Image;

/// Deadline for names that are looked up again within seconds.
const SOON: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

pub fn trials() -> Vec<Trial> {
    [
        clients::trials(),
        descriptors::trials(),
        dnslink::trials(),
        dockerized::trials(),
        foreign::trials(),
        ipns::trials(),
        layouts::trials(),
        refusals::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A node that has what a story put there, and another that knows it.
struct Pair {
    source: Option<Serve>,
    reader: Serve,
    _dir: TempDir,
}

impl Pair {
    /// Stores what `put` puts, and starts both; with them what `put` returned.
    async fn new<T>(put: impl AsyncFnOnce(&Offline) -> T) -> (Self, T) {
        let dir = tempfile::tempdir().unwrap();
        let offline = Offline::open(dir.path()).await;
        let value = put(&offline).await;
        drop(offline);
        (Self::over(dir).await, value)
    }

    async fn over(dir: TempDir) -> Self {
        let source = Serve::start_in(dir.path(), &[]);
        let reader = Serve::start(&["--peer", source.address(), "--find-timeout", "3s"]);
        reader.until("the source is connected", |status| status["peers"] == 1).await;
        Self { source: Some(source), reader, _dir: dir }
    }

    /// Replaces the reader by one that asks `dns` of domains.
    async fn ask_dns(&mut self, dns: &Dns) {
        let source = self.source.as_ref().expect("it runs").address();
        let arguments = ["--peer", source, "--find-timeout", "3s", "--dns-resolver", &dns.address()];
        self.reader = Serve::start(&arguments);
        self.reader.until("the source is connected", |status| status["peers"] == 1).await;
    }

    /// Takes the source away for good.
    fn end_source(&mut self) {
        self.source.take().expect("it runs").kill();
    }

    async fn get(&self, path: impl AsRef<str>) -> Answer {
        get(&self.reader.url(&format!("/v2/{}", path.as_ref()))).await
    }

    /// Asks for what the source has.
    async fn found(&self, path: impl AsRef<str>) -> Answer {
        get_found(&self.reader.url(&format!("/v2/{}", path.as_ref()))).await
    }

    /// Asks until the answer is as `holds` wants it: earlier results are used for their time to live.
    async fn answers(&self, what: &str, path: &str, holds: impl Fn(&Answer) -> bool) {
        let asking = async {
            while !holds(&self.get(path).await) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        assert!(tokio::time::timeout(SOON, asking).await.is_ok(), "still waiting: {what}");
    }

    /// Waits until `name` has the image under `reference`.
    async fn comes_to_mean(&self, name: &str, reference: &str, image: &Image) {
        let path = format!("{name}/manifests/{reference}");
        self.answers("it means another image", &path, |answer| answer.body == image.manifest).await;
    }

    /// Holds that `name` has the image under `reference` and under its digest, and all its blobs.
    async fn pulls(&self, name: &str, reference: &str, image: &Image) {
        for reference in [reference, &image.digest()] {
            let answer = self.found(format!("{name}/manifests/{reference}")).await;
            is_manifest(&answer, &image.manifest, image.media_type);
        }
        for blob in image.blobs() {
            self.has_blob(name, &Digest::sha256_of(blob).to_string(), blob).await;
        }
    }

    async fn has_blob(&self, name: &str, digest: &str, bytes: &[u8]) {
        let answer = self.found(format!("{name}/blobs/{digest}")).await;
        assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.body == bytes, "{name}: {digest}");
    }

    async fn tags(&self, name: &str) -> Vec<String> {
        let answer = self.found(format!("{name}/tags/list")).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        serde_json::from_value(answer.json()["tags"].clone()).expect("a list")
    }
}

#[track_caller]
fn is_manifest(answer: &Answer, bytes: &[u8], media_type: &str) {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.body == bytes, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), media_type);
    assert_eq!(answer.header("docker-content-digest").rsplit_once(':').unwrap().1, {
        match answer.header("docker-content-digest").starts_with("sha512") {
            true => image::sha512(bytes),
            false => Digest::sha256_of(bytes).hex(),
        }
    });
}

/// A program of a fixed text in a tar, in `dir`.
pub fn program_layer(dir: &Path, says: &str) -> Vec<u8> {
    let folder = dir.join("program");
    std::fs::create_dir_all(&folder).unwrap();
    let program = crate::clients::static_program(&folder, says);
    let mut builder = tar::Builder::new(Vec::new());
    // The same bytes at any time.
    builder.mode(tar::HeaderMode::Deterministic);
    builder.append_path_with_name(program, "hello").unwrap();
    builder.into_inner().unwrap()
}
