//! Exports for another network: several images in one archive, with their signatures and other referrers.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use super::document;
use crate::{
    harness::{Serve, noise, ocipfs, trials},
    http::Answer,
    push::{Repository, descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        pushed_images_with_signatures_and_referrers_arrive_in_one_archive,
        an_export_to_standard_output_is_imported_from_standard_input,
        a_buildkit_cache_is_exported_with_its_layers,
        an_image_with_nondistributable_layers_is_exported_without_them,
        unsupported_destinations_of_an_export_are_rejected,
    ]
}

/// A manifest that refers to another one.
fn referrer(subject: &str, size: usize, text: &[u8]) -> Value {
    let mut json = manifest(b"{}", &[text]);
    json["artifactType"] = "application/vnd.sbom".into();
    json["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": size });
    json
}

fn digest(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("docker-content-digest").into()
}

/// Pushes an image with a signature of cosign, an SBOM, a signature of that, and the fall-back of the referrers API; gives the
/// digests of the image and of the SBOM.
pub async fn push_signed(repository: &Repository, tag: &str, layer: &[u8]) -> (String, String) {
    let image = repository.push_image(tag, layer).await;
    let size = repository.get(&format!("manifests/{tag}")).await.body.len();
    let signature = [layer, b"signature"].concat();
    let hex = image.strip_prefix("sha256:").expect("a digest");
    repository.push_image(&format!("sha256-{hex}.sig"), &signature).await;
    let sbom = referrer(&image, size, b"sbom");
    repository.push(b"sbom").await;
    let bytes = sbom.to_string();
    let sbom = digest(&repository.put(&Digest::sha256_of(bytes.as_bytes()).to_string(), &sbom).await);
    let signed = referrer(&sbom, bytes.len(), b"sbom");
    digest(&repository.put(&Digest::sha256_of(signed.to_string().as_bytes()).to_string(), &signed).await);
    let listed = descriptor(media_type::OCI_MANIFEST, bytes.as_bytes());
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [listed] });
    digest(&repository.put(&format!("sha256-{hex}"), &index).await);
    (image, sbom)
}

/// What a repository serves: its tags with their digests, and how many manifests refer to these.
pub async fn served(repository: &Repository, of: &[&str]) -> Value {
    let tags = repository.get("tags/list").await.json()["tags"].clone();
    let mut all = json!({});
    for tag in tags.as_array().expect("tags") {
        let tag = tag.as_str().expect("a tag");
        let found = repository.get(&format!("manifests/{tag}")).await;
        assert_eq!(found.status, 200, "{found:?}");
        all[tag] = found.header("docker-content-digest").into();
        let json = found.json();
        for blob in json["layers"].as_array().into_iter().flatten() {
            let digest = blob["digest"].as_str().expect("a digest");
            assert_eq!(repository.get(&format!("blobs/{digest}")).await.status, 200, "{tag}");
        }
    }
    for digest in of {
        let found = repository.get(&format!("referrers/{digest}")).await.json();
        let mut digests: Vec<String> = found["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|referrer| referrer["digest"].to_string())
            .collect();
        digests.sort();
        all[*digest] = digests.into();
    }
    all
}

/// The repository of an image that was imported at a node.
fn imported(node: &Serve, reference: &str) -> Repository {
    let path = reference.split_once('/').expect("a registry").1;
    let name = path.split('@').next().unwrap_or(path);
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    Repository::new(node, name)
}

async fn pushed_images_with_signatures_and_referrers_arrive_in_one_archive() {
    let source = Serve::start(&[]);
    let names = ["team/app", "db"];
    let mut all = Vec::new();
    for name in names {
        let repository = Repository::new(&source, name);
        let (image, sbom) =
            push_signed(&repository, "1.0", &noise(3000)[names[0].len() - name.len()..]).await;
        let before = served(&repository, &[&image, &sbom]).await;
        assert_eq!(before.as_object().map(serde_json::Map::len), Some(5), "{before}");
        all.push((image, sbom, before));
    }
    // Of the second one by digest, too, which is the same image.
    let by_digest = format!("db@{}", all[1].0);
    for form in ["all.oci.tar", "all.tar", "all.tar.gz", "all.tar.zst", "all"] {
        let path = source.data_dir().join(form);
        let path = path.to_str().expect("UTF-8");
        let said = source.command(&["--json", "image", "export", "team/app:1.0", "db:1.0", &by_digest, path]);
        let said = document(&said);
        assert_eq!(said["images"].as_array().map(Vec::len), Some(3), "{said}");
        assert_eq!(said["images"][0]["referrers"], 3, "{said}");
        let target = Serve::start(&[]);
        let references = document(&target.command(&["--json", "image", "import", path]));
        assert_eq!(references.as_array().map(Vec::len), Some(2), "{form}: {references}");
        for (at, (image, sbom, before)) in all.iter().enumerate() {
            let repository = imported(&target, references[at]["reference"].as_str().expect("a reference"));
            assert_eq!(served(&repository, &[image, sbom]).await, *before, "{form}");
        }
    }
    let path = source.data_dir().join("alone.oci.tar");
    let path = path.to_str().expect("UTF-8");
    source.ask(&["image", "export", "--no-referrers", "team/app:1.0", path]);
    let target = Serve::start(&[]);
    let repository = imported(&target, &target.ask(&["image", "import", path]));
    let found = served(&repository, &[&all[0].0]).await;
    assert_eq!(found, json!({ "1.0": all[0].0, all[0].0.as_str(): [] }));
}

async fn an_export_to_standard_output_is_imported_from_standard_input() {
    let [source, target] = [Serve::start(&[]), Serve::start(&[])];
    let image = Repository::new(&source, "app").push_image("1", &noise(3 << 20)).await;
    let mut export = ocipfs(source.data_dir())
        .args(["--json", "image", "export", "app:1", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let tar = export.stdout.take().expect("it is piped");
    let import = ocipfs(target.data_dir())
        .args(["-q", "image", "import", "-"])
        .stdin(tar)
        .output()
        .expect("the program starts");
    assert!(export.wait().expect("it ended").success());
    let reference = String::from_utf8(import.stdout).expect("UTF-8");
    assert!(import.status.success() && reference.trim_end().ends_with("/app:1"), "{reference:?}");
    let repository = imported(&target, reference.trim_end());
    let found = repository.get("manifests/1").await;
    assert_eq!(found.header("docker-content-digest"), image);
    repository.has(&noise(3 << 20)).await;
    // A reader that goes away ends it.
    let mut export = ocipfs(source.data_dir())
        .args(["image", "export", "app:1", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(export.stdout.take());
    let said = export.wait_with_output().expect("it ended");
    assert!(!said.status.success());
}

async fn a_buildkit_cache_is_exported_with_its_layers() {
    let [source, target] = [Serve::start(&[]), Serve::start(&[])];
    let repository = Repository::new(&source, "app");
    let (layer, config) = (noise(5000), br#"{"layers":[],"records":[]}"#);
    repository.push(&layer).await;
    repository.push(config).await;
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
        descriptor(media_type::OCI_LAYER_TAR_GZIP, &layer),
        descriptor("application/vnd.buildkit.cacheconfig.v0", config),
    ] });
    let cache = digest(&repository.put("cache", &index).await);
    for form in ["cache", "cache.tar"] {
        let path = source.data_dir().join(form);
        let path = path.to_str().expect("UTF-8");
        let said = source.command(&["image", "export", "app:cache", path]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let repository = imported(&target, &target.ask(&["image", "import", path]));
        let found = repository.get("manifests/cache").await;
        assert_eq!(found.header("docker-content-digest"), cache, "{form}");
        repository.has(&layer).await;
        repository.has(config).await;
    }
    let given = source.data_dir().join("given.tar");
    let given = given.to_str().expect("UTF-8");
    source
        .command(&["image", "export", "--format", "docker-archive", "app:cache", given])
        .failed(1, &["not an image", "--format oci-archive"]);
    assert!(!Path::new(given).exists());
}

async fn an_image_with_nondistributable_layers_is_exported_without_them() {
    let [source, target] = [Serve::start(&[]), Serve::start(&[])];
    let repository = Repository::new(&source, "win");
    let layer = noise(5000);
    repository.push(&layer).await;
    repository.push(b"{}").await;
    let mut image = manifest(b"{}", &[&layer]);
    let layers = image["layers"].as_array_mut().expect("layers");
    layers.push(descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"windows"));
    let mut web = descriptor(media_type::OCI_LAYER_TAR_GZIP, b"web");
    web["urls"] = json!(["https://example.org/layer"]);
    layers.push(web);
    let pushed = digest(&repository.put("1", &image).await);
    for form in ["win.oci.tar", "win.tar", "win"] {
        let path = source.data_dir().join(form);
        let path = path.to_str().expect("UTF-8");
        source.ask(&["image", "export", "win:1", path]);
        let there = imported(&target, &target.ask(&["image", "import", path]));
        let found = there.get("manifests/1").await;
        assert_eq!(
            (found.header("docker-content-digest"), found.json()),
            (&*pushed, image.clone()),
            "{form}"
        );
        there.has(&layer).await;
    }
    // What is distributed must be there.
    fs::remove_dir_all(source.data_dir().join("win/blobs/sha256")).expect("blobs");
    let path = source.data_dir().join("win");
    target.command(&["image", "import", path.to_str().expect("UTF-8")]).failed(1, &["has no blobs/sha256/"]);
}

async fn unsupported_destinations_of_an_export_are_rejected() {
    let node = Serve::start(&[]);
    Repository::new(&node, "app").push_image("1", &noise(3000)).await;
    for name in ["app.tar.xz", "app.zip", "app.gz", "app.tbz2"] {
        let path = node.data_dir().join(name);
        let path = path.to_str().expect("UTF-8");
        node.command(&["image", "export", "app:1", path]).failed(1, &[name, ".tar.zst"]);
        assert!(!Path::new(path).exists(), "{name}");
    }
    let directory = ["image", "export", "--format", "oci", "app:1", "-"];
    node.command(&directory).failed(1, &["standard output", "oci-archive"]);
    // `image export REFERENCE` lacks its destination.
    node.command(&["image", "export", "app:1"]).failed(2, &["<DEST>"]);
    let archive = node.data_dir().join("app.tar.gz");
    let archive = archive.to_str().expect("UTF-8");
    node.ask(&["image", "export", "app:1", archive]);
    let listed = Command::new("tar").args(["-tzf", archive]).output().expect("tar is installed");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    assert!(listed.starts_with("oci-layout\nindex.json\nmanifest.json\nblobs/sha256/"), "{listed}");
}
