//! Tools that push to a node, pull from it, and pull from a follower whose publisher is gone; and the archives they write.

mod buildkit;
pub mod cosign;
mod crane;
mod helm;
mod login;
pub mod notation;
mod oras;
pub mod regctl;
mod saved;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    following::{current, follower, push},
    harness::Serve,
    http::{get, get_found},
    names::{image::Image, program_layer},
};

pub fn trials() -> Vec<Trial> {
    [
        buildkit::trials(),
        cosign::trials(),
        crane::trials(),
        helm::trials(),
        login::trials(),
        notation::trials(),
        oras::trials(),
        regctl::trials(),
        saved::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const SAYS: &str = "hello from a tool\n";

/// Waits in a story that [`blocking`](crate::harness::blocking) runs.
fn wait<T>(waiting: impl Future<Output = T>) -> T {
    Handle::current().block_on(waiting)
}

/// A publisher, its follower, and a directory for what tools write.
struct Nodes {
    publisher: Serve,
    follower: Serve,
    dir: TempDir,
}

impl Nodes {
    fn start() -> Self {
        let publisher = Serve::start(&[]);
        let follower = follower(&[&publisher], &["--prefetch", "all"]);
        Self { publisher, follower, dir: tempfile::tempdir().unwrap() }
    }

    /// Pushes an image of one program, compressed as builders push it.
    fn push(&self, name: &str, tag: &str) -> Image {
        let image = Image::with_layer(SAYS, program_layer(self.dir.path(), SAYS)).gzipped();
        wait(push(&self.publisher, name, tag, &image));
        image
    }

    /// Waits until the follower has everything.
    fn follow(&self) {
        wait(current(&self.follower, &self.publisher));
    }

    /// Stops the publisher once the follower has everything, and returns the follower.
    fn orphan(self) -> (Serve, TempDir) {
        self.follow();
        self.publisher.kill();
        (self.follower, self.dir)
    }

    /// A path for what a tool writes.
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Imports an archive, and holds that each of its images is pulled through the follower by its CID.
    fn import(&self, archive: &str) -> Vec<Imported> {
        let printed = self.publisher.json(&["image", "import", archive]);
        let entries = printed.as_array().unwrap_or_else(|| panic!("{archive}: {printed}"));
        let imported = entries.iter().map(|entry| {
            let reference = entry["reference"].as_str().unwrap();
            let (_, path) = reference.split_once('/').unwrap();
            let (name, tag) = path.split_once('@').or_else(|| path.rsplit_once(':')).unwrap();
            let digest = entry["digest"].as_str().unwrap();
            assert_eq!(whole(&self.follower, name, tag), digest, "{archive}: {reference}");
            Imported {
                name: name.into(),
                tag: tag.into(),
                digest: digest.into(),
                reference: reference.into(),
            }
        });
        imported.collect()
    }
}

/// An image that a command imported.
struct Imported {
    /// The reference that was printed.
    reference: String,
    /// Its repository, `ipfs/<cid>/<name>`.
    name: String,
    /// Its tag, or its digest where it has none.
    tag: String,
    digest: String,
}

impl Imported {
    /// The name and tag without the root, `<name>:<tag>`.
    fn called(&self) -> String {
        let name = self.name.splitn(3, '/').last().unwrap();
        format!("{name}:{}", self.tag)
    }
}

/// Returns a manifest of a node and its digest.
fn manifest(node: &Serve, name: &str, reference: &str) -> (String, Value) {
    let answer = wait(get_found(&node.url(&format!("/v2/{name}/manifests/{reference}"))));
    assert_eq!(answer.status, 200, "{name}:{reference}: {answer:?}");
    (Digest::sha256_of(&answer.body).to_string(), answer.json())
}

/// Holds that a node has the manifest and all that it names, and returns the manifest's digest.
fn whole(node: &Serve, name: &str, reference: &str) -> String {
    let (digest, json) = manifest(node, name, reference);
    for entry in json["manifests"].as_array().into_iter().flatten() {
        let (kind, digest) = (entry["mediaType"].as_str().unwrap(), entry["digest"].as_str().unwrap());
        // The entries of a cache index of BuildKit are blobs.
        if kind.contains("manifest") || kind.contains("index") {
            assert_eq!(whole(node, name, digest), digest);
        } else {
            has_blob(node, name, entry);
        }
    }
    let layers = json["layers"].as_array().into_iter().flatten();
    layers.chain(json.get("config")).for_each(|entry| has_blob(node, name, entry));
    digest
}

fn has_blob(node: &Serve, name: &str, descriptor: &Value) {
    blob(node, name, descriptor);
}

/// Returns the blob of a descriptor.
fn blob(node: &Serve, name: &str, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let answer = wait(get_found(&node.url(&format!("/v2/{name}/blobs/{digest}"))));
    assert_eq!(answer.status, 200, "{name}@{digest}: {answer:?}");
    assert_eq!(Digest::sha256_of(&answer.body).to_string(), digest);
    answer.body
}

/// Returns the artifact types of a manifest's referrers, sorted.
fn referrers(node: &Serve, name: &str, digest: &str) -> Vec<String> {
    let listed = wait(get(&node.url(&format!("/v2/{name}/referrers/{digest}")))).json();
    let listed = listed["manifests"].as_array().unwrap_or_else(|| panic!("{listed}"));
    let mut kinds: Vec<_> =
        listed.iter().map(|one| one["artifactType"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}
