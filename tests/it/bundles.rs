//! Bundles: images with their tags and referrers in one file, carried to a node of another network.

mod clients;
mod damage;
mod killing;
mod lists;
mod memory;
mod parts;

use std::{fs, path::Path, process::Stdio};

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::{
    harness::{Said, Serve, finish, noise, ocipfs, trials},
    http::get,
    images::bundles::{push_signed, served},
    push::{Repository, descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        images_arrive_with_tags_signatures_and_referrers_in_both_directions_of_the_gap,
        a_bundle_is_written_to_standard_output_and_read_from_standard_input,
        a_second_bundle_has_only_new_blobs_and_a_want_list_asks_for_the_others,
        a_tag_that_points_elsewhere_is_moved_only_by_force,
        an_import_is_published_and_shared_at_once,
        a_name_of_the_publisher_is_served_behind_the_gap,
    ];
    all.extend(clients::trials());
    all.extend(damage::trials());
    all.extend(killing::trials());
    all.extend(lists::trials());
    all.extend(memory::trials());
    all.extend(parts::trials());
    all
}

/// Bytes that no other number gives.
fn layer(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = noise(length + number * 7).split_off(number * 7);
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

/// A node with signed images.
struct Source {
    node: Serve,
    /// The repository of each, its digests, and what is served of it.
    images: Vec<(String, Vec<String>, Value)>,
}

impl Source {
    /// Starts a node and pushes an image with a layer of each of these sizes, and a signature of the same size.
    async fn start(sizes: &[usize]) -> Self {
        let mut source = Self { node: Serve::start(&[]), images: Vec::new() };
        for size in sizes {
            source.push(*size).await;
        }
        source
    }

    async fn push(&mut self, size: usize) {
        let name = format!("team/app{}", self.images.len());
        let repository = Repository::new(&self.node, &name);
        let (image, sbom) = push_signed(&repository, "1.0", &layer(self.images.len(), size)).await;
        let digests = vec![image, sbom];
        let known = known(&repository, &digests).await;
        self.images.push((name, digests, known));
    }

    fn path(&self, name: &str) -> String {
        self.node.data_dir().join(name).display().to_string()
    }

    fn export(&self, name: &str, more: &[&str]) -> (String, Value) {
        let path = self.path(name);
        let said = self.node.command(&[&["--json", "bundle", "export", &path], more].concat());
        (path, document(&said))
    }

    /// Holds that a node serves all images as this one does.
    async fn is_served_by(&self, node: &Serve) {
        for (name, digests, expected) in &self.images {
            assert_eq!(known(&Repository::new(node, name), digests).await, *expected, "{name}");
        }
    }
}

async fn known(repository: &Repository, digests: &[String]) -> Value {
    let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
    served(repository, &digests).await
}

#[track_caller]
fn document(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn import(data_dir: &Path, files: &[&str]) -> Said {
    finish(ocipfs(data_dir).args(["--json", "bundle", "import"]).args(files))
}

/// The first document that a command printed: where it failed, the error follows.
fn first_document(said: &Said) -> Value {
    let mut documents = serde_json::Deserializer::from_str(&said.stdout).into_iter::<Value>();
    documents.next().unwrap_or_else(|| panic!("{said:?}")).unwrap()
}

/// Pushes an index of two platforms, each of one layer; returns its digest and those of the platforms.
pub async fn push_index(repository: &Repository, tag: &str, number: usize) -> (String, [String; 2]) {
    let mut entries = Vec::new();
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let bytes = layer(number + at, 5000);
        repository.push(b"{}").await;
        repository.push(&bytes).await;
        let json = manifest(b"{}", &[&bytes]).to_string();
        let digest = Digest::sha256_of(json.as_bytes()).to_string();
        assert_eq!(repository.put(&digest, &serde_json::from_str(&json).unwrap()).await.status, 201);
        let mut entry = descriptor(media_type::OCI_MANIFEST, json.as_bytes());
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let digests = [0, 1].map(|at| entries[at]["digest"].as_str().unwrap().to_string());
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let answer = repository.put(tag, &index).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.header("docker-content-digest").into(), digests)
}

async fn images_arrive_with_tags_signatures_and_referrers_in_both_directions_of_the_gap() {
    let source = Source::start(&[3 << 20, 70_000, 100]).await;
    let index = push_index(&Repository::new(&source.node, "multi"), "2", 40).await;
    let (path, said) =
        source.export("a.car", &["team/app0:1.0", "team/app1:1.0", "team/app2:1.0", "multi:2"]);
    assert_eq!((said["parts"].as_u64(), said["left_out"].as_u64()), (Some(1), Some(0)), "{said}");
    assert_eq!(said["images"][0]["referrers"], 3, "{said}");
    assert_eq!(said["bytes"].as_u64(), Some(fs::metadata(&path).unwrap().len()));
    // Into a running node, and into a directory without one.
    let running = Serve::start(&[]);
    let offline = tempfile::tempdir().unwrap();
    for dir in [running.data_dir(), offline.path()] {
        let imported = document(&import(dir, &[&path]));
        assert_eq!(imported["images"].as_array().map(Vec::len), Some(4), "{imported}");
        assert_eq!(imported["problems"], json!([]), "{imported}");
        assert_eq!(imported["bundles"][0], said["bundle"], "{imported}");
        // Once more: nothing changes.
        assert_eq!(document(&import(dir, &[&path]))["images"].as_array().map(Vec::len), Some(4));
    }
    let other = Serve::start_in(offline.path(), &[]);
    for node in [&running, &other] {
        source.is_served_by(node).await;
        let multi = Repository::new(node, "multi");
        assert_eq!(multi.get("manifests/2").await.header("docker-content-digest"), index.0);
        for digest in &index.1 {
            assert_eq!(multi.get(&format!("manifests/{digest}")).await.status, 200);
        }
        assert_eq!(node.stored("partial"), 0);
    }
    // What arrived is exported like what was pushed, with the same CIDs.
    let again = running.data_dir().join("again.car").display().to_string();
    let images = ["team/app0:1.0", "team/app1:1.0", "team/app2:1.0", "multi:2"];
    running.ask(&[&["bundle", "export", &again], &images[..]].concat());
    let [before, after] = [&path, &again].map(|path| inspect(path)["manifest"].clone());
    assert_eq!(before["images"].as_array().map(Vec::len), Some(4), "{before}");
    for part in ["images", "blobs"] {
        assert_eq!(before[part], after[part]);
    }
}

/// Returns what `bundle inspect` says of a bundle, which needs no node.
fn inspect(path: &str) -> Value {
    let nowhere = Path::new("/nonexistent");
    document(&finish(ocipfs(nowhere).args(["--json", "bundle", "inspect", path])))
}

async fn a_bundle_is_written_to_standard_output_and_read_from_standard_input() {
    let source = Source::start(&[3 << 20]).await;
    let target = Serve::start(&[]);
    for arguments in [&["bundle", "export", "-", "team/app0:1.0"][..], &["bundle", "export", "-", "team/*"]] {
        let mut export = ocipfs(source.node.data_dir());
        let mut export = export.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut import = ocipfs(target.data_dir());
        let import = import.args(["-q", "bundle", "import", "-"]).stdin(export.stdout.take().unwrap());
        let said = finish(import);
        assert!(export.wait().unwrap().success());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.last_line(), format!("{}/team/app0:1.0", target.registry()));
    }
    source.is_served_by(&target).await;
}

async fn a_second_bundle_has_only_new_blobs_and_a_want_list_asks_for_the_others() {
    let mut source = Source::start(&[2 << 20, 300_000]).await;
    let (first, said) = source.export("first.car", &["team/*"]);
    let bundle = said["bundle"].as_str().unwrap().to_string();
    // The layer, and a signature as large as that.
    const NEW: usize = 4 << 20;
    source.push(NEW).await;
    let (second, said) = source.export("second.car", &["team/*", "--since", &first]);
    // By its CID it is the same.
    let (by_cid, _) = source.export("by-cid.car", &["team/*", "--since", &bundle]);
    assert_eq!(inspect(&second)["manifest"]["blobs"], inspect(&by_cid)["manifest"]["blobs"]);
    let length = fs::metadata(&second).unwrap().len();
    assert!(length < 2 * NEW as u64 * 102 / 100, "{length}: {said}");
    let difference = document(&source.node.command(&["--json", "bundle", "diff", &first, &second]));
    assert_eq!(difference["added"], json!(["team/app2:1.0"]), "{difference}");
    assert_eq!((&difference["changed"], &difference["removed"]), (&json!([]), &json!([])), "{difference}");
    // Without the first one no image is complete: the signatures of all share the empty configuration.
    let target = Serve::start(&[]);
    let want = target.data_dir().join("want.json").display().to_string();
    let said = import(target.data_dir(), &["--want", &want, &second]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let imported = first_document(&said);
    assert_eq!(imported["images"].as_array().map(Vec::len), Some(0), "{imported}");
    assert_eq!(imported["missing"]["images"].as_array().map(Vec::len), Some(3), "{imported}");
    says_what_is_missing(&imported);
    for name in ["team/app0", "team/app1", "team/app2"] {
        let found = get(&target.url(&format!("/v2/{name}/manifests/1.0"))).await;
        assert_eq!(found.status, 404, "{name}");
    }
    let (missing, said) = source.export("missing.car", &["--want", &want]);
    assert_eq!(said["images"].as_array().map(Vec::len), Some(3), "{said}");
    assert!(fs::metadata(&missing).unwrap().len() < (4 << 20) + 700_000, "{said}");
    let imported = document(&import(target.data_dir(), &[&missing]));
    assert_eq!(imported["images"].as_array().map(Vec::len), Some(3), "{imported}");
    source.is_served_by(&target).await;
    // Both at once, in the wrong order.
    let both = Serve::start(&[]);
    import(both.data_dir(), &[&second, &first, "--want", &want]);
    source.is_served_by(&both).await;
}

/// Holds that each missing blob is told with what it is, and no part: what is missing is in an earlier bundle.
#[track_caller]
fn says_what_is_missing(imported: &Value) {
    assert_eq!(imported["problems"], json!([]), "{imported}");
    let told = imported["missing_blobs"].as_array().unwrap();
    let digests: Vec<&Value> = told.iter().map(|blob| &blob["digest"]).collect();
    assert_eq!(digests, imported["missing"]["blobs"].as_array().unwrap().iter().collect::<Vec<_>>());
    let whats: Vec<&str> = told.iter().map(|blob| blob["what"].as_str().unwrap()).collect();
    for what in
        ["manifest of team/app0:1.0", "blob of team/app2:1.0", "blob of a manifest that is missing, too"]
    {
        assert!(whats.contains(&what), "{what}: {whats:?}");
    }
}

async fn a_tag_that_points_elsewhere_is_moved_only_by_force() {
    let source = Source::start(&[1000]).await;
    let (path, _) = source.export("a.car", &["team/app0:1.0"]);
    let target = Serve::start(&[]);
    let repository = Repository::new(&target, "team/app0");
    let theirs = repository.push_image("1.0", b"another").await;
    let said = import(target.data_dir(), &[&path]);
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("team/app0:1.0") && said.stdout.contains("--force"), "{said:?}");
    assert_eq!(repository.get("manifests/1.0").await.header("docker-content-digest"), theirs);
    assert_eq!(repository.get(&format!("manifests/{}", source.images[0].1[0])).await.status, 404);
    document(&import(target.data_dir(), &["--force", &path]));
    source.is_served_by(&target).await;
}

async fn an_import_is_published_and_shared_at_once() {
    let source = Source::start(&[2 << 20]).await;
    let (path, _) = source.export("a.car", &["team/app0:1.0"]);
    // Also where pushed images are not shared: a command added them.
    let target = Serve::start(&[]);
    document(&import(target.data_dir(), &[&path]));
    let follower = crate::following::follower(&[&target], &["--prefetch", "all"]);
    crate::following::current(&follower, &target).await;
    target.kill();
    source.is_served_by(&follower).await;
}

async fn a_name_of_the_publisher_is_served_behind_the_gap() {
    let source = Source::start(&[2 << 20]).await;
    let name = crate::following::name_of(&source.node);
    // Once the name means what was pushed.
    crate::following::published(&source.node).await;
    let (path, _) = source.export("a.car", &["team/app0:1.0"]);
    assert_eq!(inspect(&path)["manifest"]["records"][0]["name"], name.as_str());
    source.node.signal("KILL");
    let target = Serve::start(&["--find-timeout", "1s"]);
    document(&import(target.data_dir(), &[&path]));
    let (_, digests, _) = &source.images[0];
    let found = get(&target.url(&format!("/v2/ipns/{name}/team/app0/manifests/1.0"))).await;
    assert_eq!(found.header("docker-content-digest"), digests[0]);
    let layer = Digest::sha256_of(&layer(0, 2 << 20));
    let found = get(&target.url(&format!("/v2/ipns/{name}/team/app0/blobs/{layer}"))).await;
    assert_eq!(found.status, 200);
}
