//! Images of several layers, and for several platforms.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clients::{Docker, Podman, Skopeo, static_program},
    harness::{Layer, Serve, files_below, noise, tar_of, trials},
    http::{Answer, get, get_found},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![
            layer_add_of_several_layers_makes_one_image_in_order,
            layer_add_of_several_layers_stores_nothing_if_one_is_invalid,
            layer_index_makes_a_multi_platform_image_that_is_pulled_from_another_node,
            layer_index_rejects_invalid_input_with_a_hint,
            layer_index_accepts_layers_of_other_nodes_and_nested_indexes,
        ],
        trials![needs Skopeo::available(); skopeo_copies_the_selected_platform],
        trials![needs Podman::available(); podman_runs_an_image_of_several_layers_and_platforms],
        trials![needs Docker::available(); docker_pulls_an_image_of_several_layers_and_platforms],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `layer/<cid>` and the tag, if there is one.
fn split(reference: &str) -> (&str, Option<&str>) {
    let name = reference.split_once('/').expect("a registry").1;
    name.rsplit_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)))
}

async fn fetch(node: &Serve, name: &str, rest: &str) -> Answer {
    let answer = get_found(&node.url(&format!("/v2/{name}/{rest}"))).await;
    assert_eq!(answer.status, 200, "{name}/{rest}: {}", String::from_utf8_lossy(&answer.body));
    answer
}

/// Holds that the image of `manifest` has these layers and this architecture, at a node that may have none of it.
async fn has_layers(node: &Serve, name: &str, manifest: &Value, layers: &[Vec<u8>], architecture: &str) {
    let digests: Vec<String> = layers.iter().map(|layer| Digest::sha256_of(layer).to_string()).collect();
    let told: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap())
        .collect();
    assert_eq!(told, digests);
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = fetch(node, name, &format!("blobs/{config}")).await.json();
    assert_eq!(
        (&config["architecture"], config["rootfs"]["diff_ids"].as_array().unwrap().len()),
        (&architecture.into(), layers.len())
    );
    for (layer, digest) in layers.iter().zip(&digests) {
        assert!(fetch(node, name, &format!("blobs/{digest}")).await.body == *layer);
    }
}

/// Tars of different bytes, and their paths.
fn tars(node: &Serve, names: &[&str]) -> (Vec<String>, Vec<Vec<u8>>) {
    let tar = |(number, name): (usize, &&str)| {
        let path = tar_of(node.data_dir(), name, &noise((number + 1) << 20));
        (path.to_str().unwrap().to_string(), fs::read(&path).unwrap())
    };
    names.iter().enumerate().map(tar).unzip()
}

async fn layer_add_of_several_layers_makes_one_image_in_order() {
    let source = Serve::start(&[]);
    let before = source.stored("blocks");
    let (paths, bytes) = tars(&source, &["base.tar", "middle.tar", "app.tar"]);
    let said = source.command(&["--json", "layer", "add", &paths[0], &paths[1], &paths[2]]);
    let added: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!(added["layers"].as_array().unwrap().len(), 3);
    let reference = added["reference"].as_str().unwrap();
    let (name, tag) = split(reference);
    assert_eq!(tag, Some("app.tar"), "the last layer's file");

    let reader = Serve::start(&["--peer", source.address()]);
    let manifest = fetch(&reader, name, "manifests/app.tar").await.json();
    has_layers(&reader, name, &manifest, &bytes, "amd64").await;
    let tags = fetch(&reader, name, "tags/list").await.json();
    assert_eq!(tags["tags"], serde_json::json!(["app.tar", "latest"]));
    let refused = get(&reader.url(&format!("/v2/{name}/manifests/base.tar"))).await;
    refused.refused(404, "MANIFEST_UNKNOWN", &["expected app.tar"]);
    // In another order it is another image, and what is one layer is what it always was.
    let other = source.ask(&["layer", "add", &paths[2], &paths[1], &paths[0]]);
    assert_ne!(split(&other).0, name);
    let single = source.ask(&["layer", "add", &paths[0]]);
    let (single_name, _) = split(&single);
    let manifest = fetch(&reader, single_name, "manifests/latest").await.json();
    has_layers(&reader, single_name, &manifest, &bytes[..1], "amd64").await;

    let inspected = source.json(&["layer", "inspect", reference]);
    assert_eq!((&inspected["local"], &inspected["owned"]), (&true.into(), &true.into()));
    assert_eq!(inspected["manifest"]["layers"].as_array().unwrap().len(), 3);
    // The node that only pulled it has all of it, too, and serves it when its source is gone.
    source.ask(&["layer", "rm", reference]);
    source.ask(&["layer", "rm", &other]);
    source.ask(&["layer", "rm", &single]);
    assert_eq!((source.stored("blobs"), source.stored("blocks")), (0, before));
    assert_eq!(reader.json(&["layer", "inspect", reference])["local"], true);
}

async fn layer_add_of_several_layers_stores_nothing_if_one_is_invalid() {
    let node = Serve::start(&[]);
    let before = node.stored("blocks");
    let (paths, _) = tars(&node, &["base.tar"]);
    let bad = node.data_dir().join("bad.tar");
    fs::write(&bad, "no tar").unwrap();
    let said = node.command(&["layer", "add", &paths[0], bad.to_str().unwrap()]);
    said.failed(1, &["bad.tar is not a layer", "hint: "]);
    node.command(&["layer", "add", &paths[0], "/nowhere/x.tar"]).failed(1, &["/nowhere/x.tar", "hint: "]);
    assert_eq!((node.stored("blobs"), node.stored("blocks")), (0, before));
    assert_eq!(files_below(node.data_dir(), "blobs") + files_below(node.data_dir(), "incoming"), 0);
}

/// Images for two platforms, the second of two layers, joined.
fn joined(source: &Serve) -> (String, [Vec<Vec<u8>>; 2]) {
    let (paths, bytes) = tars(source, &["amd.tar", "base.tar", "arm.tar"]);
    let amd = source.ask(&["-q", "layer", "add", &paths[0]]);
    let arm = source.ask(&["-q", "layer", "add", &paths[1], &paths[2], "--platform", "linux/arm64/v8"]);
    let index = source.ask(&["layer", "index", &amd, &arm]);
    (index, [bytes[..1].to_vec(), bytes[1..].to_vec()])
}

async fn layer_index_makes_a_multi_platform_image_that_is_pulled_from_another_node() {
    let source = Serve::start(&[]);
    let before = source.stored("blocks");
    let (reference, layers) = joined(&source);
    let (name, tag) = split(&reference);
    assert_eq!(tag, None, "two files, and none stands for both");
    let reader = Serve::start(&["--peer", source.address()]);
    let index = fetch(&reader, name, "manifests/latest").await;
    assert_eq!(index.header("content-type"), ocipfs_oci::media_type::OCI_INDEX);
    let digest = index.header("docker-content-digest").to_string();
    assert_eq!(digest, Digest::sha256_of(&index.body).to_string());
    for reference in [digest.as_str(), "amd.tar", "arm.tar"] {
        assert!(fetch(&reader, name, &format!("manifests/{reference}")).await.body == index.body);
    }
    let index = index.json();
    for (number, (layers, architecture)) in layers.iter().zip(["amd64", "arm64"]).enumerate() {
        let entry = &index["manifests"][number];
        assert_eq!(entry["platform"]["architecture"], architecture);
        let manifest =
            fetch(&reader, name, &format!("manifests/{}", entry["digest"].as_str().unwrap())).await;
        assert_eq!(entry["size"], manifest.body.len());
        has_layers(&reader, name, &manifest.json(), layers, architecture).await;
    }
    assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");
    let tags = fetch(&reader, name, "tags/list").await.json();
    assert_eq!(tags["tags"], serde_json::json!(["amd.tar", "arm.tar", "latest"]));
    let refused = get(&reader.url(&format!("/v2/{name}/manifests/base.tar"))).await;
    refused.refused(404, "MANIFEST_UNKNOWN", &["expected amd.tar or arm.tar"]);

    let inspected = source.json(&["layer", "inspect", &reference]);
    assert_eq!((&inspected["local"], &inspected["owned"]), (&true.into(), &true.into()));
    assert_eq!(inspected["image_digest"], digest.as_str());
    // An index holds its layers: they stay when the parts are gone, and go with it.
    for part in inspected["manifest"]["manifests"].as_array().unwrap() {
        let layer = part.get("layer").unwrap_or(&part["layers"][0]);
        assert!(layer["annotations"]["io.ocipfs.layer.ipfs.cid"].is_string(), "{part}");
    }
    let status = source.status();
    assert_eq!(status["layers"], 3, "{status}");
    source.ask(&["layer", "rm", &reference]);
    assert_eq!(source.stored("blobs"), 3, "the parts have them still");
    // Joined again, the parts removed, the index has them alone.
    let (reference, layers) = joined(&source);
    let manifests = source.json(&["layer", "inspect", &reference])["manifest"].clone();
    assert_eq!(manifests["manifests"].as_array().unwrap().len(), 2);
    let (paths, _) = tars(&source, &["amd.tar", "base.tar", "arm.tar"]);
    let amd = source.ask(&["layer", "add", &paths[0]]);
    let arm = source.ask(&["layer", "add", &paths[1], &paths[2], "--platform", "linux/arm64/v8"]);
    source.ask(&["layer", "rm", &amd]);
    source.ask(&["layer", "rm", &arm]);
    let (name, _) = split(&reference);
    for layer in layers.iter().flatten() {
        let digest = Digest::sha256_of(layer);
        assert!(fetch(&source, name, &format!("blobs/{digest}")).await.body == *layer);
    }
    source.ask(&["layer", "rm", &reference]);
    assert_eq!((source.stored("blobs"), source.stored("blocks")), (0, before));
}

async fn layer_index_rejects_invalid_input_with_a_hint() {
    let node = Serve::start(&["--find-timeout", "1s"]);
    let layer = Layer::add(&node, &noise(1000));
    let reference = layer.reference(&node);
    let twice = node.command(&["layer", "index", &reference, layer.cid()]);
    twice.failed(1, &["duplicate platform linux/amd64", "hint: ", "--platform"]);
    let directory = node.json(&["layer", "inspect", &reference])["manifest"]["layer"]["annotations"]
        ["io.ocipfs.layer.ipfs.cid"]
        .as_str()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_string();
    node.command(&["layer", "index", &directory]).failed(1, &[&directory, "hint: "]);
    node.command(&["layer", "index", "nonsense"]).failed(1, &["invalid layer reference", "hint: "]);
    let unknown = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    node.command(&["layer", "index", unknown]).failed(1, &["no provider found for", "hint: "]);
    node.command(&["layer", "index"]).failed(2, &["<REFERENCE>"]);
    assert_eq!(node.status()["layers"], 1);
}

async fn layer_index_accepts_layers_of_other_nodes_and_nested_indexes() {
    let source = Serve::start(&[]);
    let (index, layers) = joined(&source);
    let joiner = Serve::start(&["--peer", source.address()]);
    joiner.until("the source is connected", |status| status["peers"] == 1).await;
    // An index may be part of another, and gives its platforms.
    let said = joiner.command(&["layer", "index", &index]);
    assert!(said.code == Some(0) && said.stderr.contains("3 of the layers are not stored here"), "{said:?}");
    assert_eq!(split(said.last_line()).0, split(&index).0);
    let (name, _) = split(&index);
    for layer in layers.iter().flatten() {
        let digest = Digest::sha256_of(layer);
        assert!(fetch(&joiner, name, &format!("blobs/{digest}")).await.body == *layer);
    }
}

/// A program in two layers for linux/amd64, and beside it another for linux/arm64, through a node that had none.
struct Programs {
    _source: Serve,
    reader: Serve,
    name: String,
    _dir: TempDir,
}

const SAYS: &str = "hello through two layers\n";

impl Programs {
    fn new() -> Self {
        let (source, dir) = (Serve::start(&[]), tempfile::tempdir().unwrap());
        let layer = |name: &str, file: &std::path::Path| {
            let path = dir.path().join(name);
            let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
            builder.append_path_with_name(file, file.file_name().unwrap()).unwrap();
            builder.into_inner().unwrap();
            path.to_str().unwrap().to_string()
        };
        let note = dir.path().join("note");
        fs::write(&note, "below").unwrap();
        let program = static_program(dir.path(), SAYS);
        let [below, above] = [layer("below.tar", &note), layer("above.tar", &program)];
        let amd = source.ask(&["-q", "layer", "add", &below, &above]);
        let arm = source.ask(&["-q", "layer", "add", &below, "--platform", "linux/arm64"]);
        let index = source.ask(&["-q", "layer", "index", &arm, &amd]);
        let reader = Serve::start(&["--peer", source.address()]);
        let name = split(&index).0.to_string();
        Self { _source: source, reader, name, _dir: dir }
    }

    fn reference(&self) -> String {
        format!("{}/{}", self.reader.registry(), self.name)
    }
}

async fn blocking<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(story).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn skopeo_copies_the_selected_platform() {
    blocking(|| {
        let (programs, skopeo) = (Programs::new(), Skopeo::new().unwrap());
        for (architecture, count) in [("arm64", 1), ("amd64", 2)] {
            let dir = tempfile::tempdir().unwrap();
            let destination = format!("dir:{}", dir.path().display());
            skopeo.copy_for(architecture, &programs.reference(), &destination).unwrap();
            let manifest = fs::read(dir.path().join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["layers"].as_array().unwrap().len(), count, "{architecture}");
        }
        let raw: Value = serde_json::from_str(&skopeo.inspect_raw(&programs.reference()).unwrap()).unwrap();
        assert_eq!(raw["manifests"].as_array().unwrap().len(), 2);
    })
    .await;
}

async fn podman_runs_an_image_of_several_layers_and_platforms() {
    blocking(|| {
        let (programs, podman) = (Programs::new(), Podman::new().unwrap());
        assert_eq!(podman.run(&programs.reference(), &["/hello"]).unwrap(), SAYS);
    })
    .await;
}

async fn docker_pulls_an_image_of_several_layers_and_platforms() {
    blocking(|| {
        let (programs, docker) = (Programs::new(), Docker::start().unwrap());
        docker.pull(&programs.reference()).unwrap();
        assert_eq!(docker.image_files(&programs.reference()).unwrap(), ["hello", "note"]);
    })
    .await;
}
