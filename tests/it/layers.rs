//! Results of `layer add` and `layer rm`.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use ocipfs::content::Profile;
use serde_json::Value;

use crate::{
    harness::{Layer, Serve, files_below, finish, last_line, noise, ocipfs, tar_of, trials},
    http::get,
    offline::Offline,
};

pub fn trials() -> Vec<Trial> {
    trials![
        layer_rm_deletes_a_layer_and_its_blocks,
        a_layer_that_shares_blocks_with_a_removed_one_is_kept,
        layer_add_accepts_an_ipfs_path_of_another_node,
        layer_add_of_a_folder_is_reproducible_on_every_machine,
        layer_add_of_zstd_warns_about_old_docker_versions,
        the_config_of_a_layer_image_has_the_given_platform,
        the_original_example_manifest_has_its_cid_in_the_legacy_profile,
    ]
}

/// The path that a reference stands for in a node's registry.
fn manifest_path(reference: &str) -> String {
    let (name, tag) = reference.split_once('/').expect("a registry").1.rsplit_once(':').expect("a tag");
    format!("/v2/{name}/manifests/{tag}")
}

fn cid(reference: &str) -> &str {
    reference.split("layer/").nth(1).and_then(|rest| rest.split(':').next()).expect("a CID")
}

async fn blob(node: &Serve, reference: &str) -> Vec<u8> {
    let manifest = get(&node.url(&manifest_path(reference))).await;
    assert_eq!(manifest.status, 200, "{reference}");
    let digest = manifest.json()["layers"][0]["digest"].as_str().expect("a digest").to_string();
    let blob = get(&node.url(&format!("/v2/layer/{}/blobs/{digest}", cid(reference)))).await;
    assert_eq!(blob.status, 200, "{}", String::from_utf8_lossy(&blob.body));
    blob.body
}

async fn layer_rm_deletes_a_layer_and_its_blocks() {
    let node = Serve::start(&[]);
    let before = node.stored("blocks");
    let layer = Layer::add(&node, &noise(3 << 20));
    assert!(node.stored("blocks") >= before + 4 && files_below(node.data_dir(), "blobs") == 1);
    assert_eq!(node.ask(&["layer", "rm", &layer.reference(&node)]), layer.cid());
    get(&node.url(&layer.manifest_path())).await.refused(404, "MANIFEST_UNKNOWN", &["no provider found for"]);
    get(&node.url(&layer.blob_path())).await.refused(404, "BLOB_UNKNOWN", &["no provider found for"]);
    assert_eq!(node.stored("blocks"), before);
    assert_eq!((node.stored("blobs"), files_below(node.data_dir(), "blobs")), (0, 0));
    assert_eq!(node.status()["layers"], 0);
    node.command(&["layer", "rm", layer.cid()]).failed(1, &["not found among the added layers"]);
    // And it can be had again.
    let again = Layer::add(&node, &noise(3 << 20));
    assert_eq!(again.cid(), layer.cid());
    assert!(get(&node.url(&again.blob_path())).await.body == layer.bytes);
}

async fn a_layer_that_shares_blocks_with_a_removed_one_is_kept() {
    let node = Serve::start(&[]);
    let bytes = noise(3 << 20);
    for profile in ["unixfs-v1-2025", "legacy"] {
        let add = |name: &str, profile: &str| {
            let path = tar_of(node.data_dir(), name, &bytes);
            node.ask(&["-q", "layer", "add", path.to_str().expect("UTF-8"), "--profile", profile])
        };
        let (first, second) = (add("first.tar", "unixfs-v1-2025"), add("second.tar", profile));
        let expected = blob(&node, &first).await;
        node.ask(&["layer", "rm", &second]);
        get(&node.url(&manifest_path(&second))).await.refused(404, "MANIFEST_UNKNOWN", &[]);
        assert!(blob(&node, &first).await == expected, "the second in {profile} is gone");
        node.ask(&["layer", "rm", &first]);
        assert_eq!(node.status()["layers"], 0);
    }
}

async fn layer_add_accepts_an_ipfs_path_of_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let source = Serve::start(&[]);
    let path = tar_of(dir.path(), "foo-0.1.0.tar", &noise(3 << 20));
    let first: Value =
        serde_json::from_str(&source.command(&["--json", "layer", "add", path.to_str().unwrap()]).stdout)
            .unwrap();
    let at = first["layers"][0]["layer"].as_str().expect("where the layer is");
    assert!(at.ends_with("/foo-0.1.0.tar"), "{at}");
    let reader = Serve::start(&["--peer", source.address()]);
    let reference = reader.ask(&["-q", "layer", "add", &format!("ipfs://{at}")]);
    assert_eq!(cid(&reference), first["cid"], "the same layer has the same manifest everywhere");
    assert!(reference.ends_with(":foo-0.1.0.tar"), "{reference}");
    source.kill();
    assert!(blob(&reader, &reference).await == fs::read(&path).unwrap());
    assert_eq!(reader.status()["layers"], 1);
}

/// A folder with what a root file system has; the order of creation differs by `order`.
fn rootfs(dir: &Path, order: [&str; 3]) -> String {
    let folder = dir.join("rootfs");
    fs::create_dir_all(folder.join("usr/bin")).unwrap();
    for name in order {
        fs::write(folder.join("usr/bin").join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", folder.join("bin")).unwrap();
    folder.to_str().unwrap().into()
}

async fn layer_add_of_a_folder_is_reproducible_on_every_machine() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let add = |machine: &Path, folder: &str| {
        last_line(ocipfs(&machine.join("node")).args(["-q", "layer", "add", folder]))
    };
    let first_folder = rootfs(one.path(), ["a", "b", "c"]);
    let first = add(one.path(), &first_folder);
    assert!(
        first.starts_with("127.0.0.1:5050/layer/bafkrei") && first.ends_with(":rootfs.tar.gz"),
        "{first}"
    );
    assert_eq!(add(one.path(), &first_folder), first);
    let second_folder = rootfs(two.path(), ["c", "a", "b"]);
    assert_eq!(add(two.path(), &second_folder), first);
    let node = Serve::start_in(&two.path().join("node"), &[]);
    assert_eq!(cid(&node.ask(&["layer", "add", &second_folder])), cid(&first));
    assert_eq!(node.status()["layers"], 1);
    fs::write(Path::new(&second_folder).join("usr/bin/a"), "changed").unwrap();
    assert_ne!(cid(&node.ask(&["layer", "add", &second_folder])), cid(&first));
}

async fn layer_add_of_zstd_warns_about_old_docker_versions() {
    let dir = tempfile::tempdir().unwrap();
    let tar = fs::read(tar_of(dir.path(), "plain.tar", &noise(1000))).unwrap();
    let path = dir.path().join("foo.tar.zst");
    fs::write(&path, zstd::encode_all(&tar[..], 3).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let node = Serve::start(&[]);
    let said = node.command(&["layer", "add", path]);
    assert!(said.code == Some(0) && said.stderr.contains("warning: "), "{said:?}");
    assert!(said.stderr.contains("Docker before 23"), "{said:?}");
    assert!(said.stdout.contains("layer.v1.tar+zstd"), "{said:?}");
    let quiet = node.command(&["-q", "layer", "add", path]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    let plain = dir.path().join("plain.tar");
    assert_eq!(node.command(&["layer", "add", plain.to_str().unwrap()]).stderr, "");
}

async fn the_config_of_a_layer_image_has_the_given_platform() {
    let node = Serve::start(&[]);
    let path = tar_of(node.data_dir(), "foo.tar", &noise(1000));
    let path = path.to_str().unwrap();
    let plain = node.ask(&["-q", "layer", "add", path]);
    let arm = node.ask(&["-q", "layer", "add", path, "--platform", "linux/arm64/v8"]);
    assert_ne!(cid(&plain), cid(&arm));
    for (reference, platform) in [(&plain, ["amd64", "linux", ""]), (&arm, ["arm64", "linux", "v8"])] {
        let manifest = get(&node.url(&manifest_path(reference))).await.json();
        let digest = manifest["config"]["digest"].as_str().unwrap();
        let config = get(&node.url(&format!("/v2/layer/{}/blobs/{digest}", cid(reference)))).await.json();
        let text = |key: &str| config[key].as_str().unwrap_or_default().to_string();
        assert_eq!([text("architecture"), text("os"), text("variant")], platform);
    }
    let said = finish(ocipfs(node.data_dir()).args(["layer", "add", path, "--platform", "linux"]));
    said.failed(2, &["--platform"]);
}

async fn the_original_example_manifest_has_its_cid_in_the_legacy_profile() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let cid = offline.put(include_bytes!("../../example/layer.json"), Profile::Legacy).await;
    assert_eq!(cid.to_string(), "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc");
    drop(offline);
    // By the CIDv1 of the same hash it is an image, with the digest that people pin.
    let node = Serve::start_in(dir.path(), &[]);
    let name = "layer/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    let answer = get(&node.url(&format!("/v2/{name}/manifests/foo-0.1.0.tar.gz"))).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(
        answer.header("docker-content-digest"),
        "sha256:b588c6d2f8ba7c4275aa80975b8eaf489ea6456c9ea44297960a34a07f7ab059"
    );
}
