//! Whole images: imported from what docker, podman and skopeo write, listed, removed, and exported again.

mod attached;
pub mod bundles;
mod clients;
mod estargz;
mod hostile;
mod interrupted;
mod loaded;
mod tools;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::{Value, json};

use crate::harness::{Layer, Said, Serve, files_below, last_line, noise, ocipfs, tar_of, trials};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        image_import_of_a_docker_archive_is_reproducible_in_both_archive_formats,
        image_import_reads_an_archive_from_stdin,
        images_are_imported_under_a_name_listed_and_removed,
        a_cancelled_image_import_leaves_no_files,
        image_export_of_a_layer_writes_a_layout_and_archives,
        image_export_fetches_a_layer_from_peers,
    ];
    all.extend(bundles::trials());
    all.extend(attached::trials());
    all.extend(interrupted::trials());
    all.extend(clients::trials());
    all.extend(estargz::trials());
    all.extend(hostile::trials());
    all.extend(loaded::trials());
    all.extend(tools::trials());
    all
}

fn hex(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).hex()
}

fn entry(builder: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, bytes).expect("a tar");
}

/// A tar of files.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    files.iter().for_each(|(path, bytes)| entry(&mut builder, path, bytes));
    builder.into_inner().expect("a tar")
}

/// Bytes that no encoder makes shorter, the same in every run.
fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A layer, its configuration, and where each is in an archive.
fn image(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let layer = fs::read(tar_of(dir, "layer.tar", &random(3 << 20))).expect("a tar");
    let rootfs = json!({ "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] });
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs });
    (layer, config.to_string().into_bytes())
}

/// Returns an archive as `docker save` wrote it before Docker 25.
fn before_25(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (layer, config) = image(dir);
    let (path, name) = (format!("{}/layer.tar", hex(&layer)), format!("{}.json", hex(&config)));
    let manifest = json!([{ "Config": name, "RepoTags": ["foo:1.0"], "Layers": [path] }]);
    vec![(path, layer), (name, config), ("manifest.json".into(), manifest.to_string().into_bytes())]
}

/// Returns an archive as `docker save` writes it since Docker 25.
fn since_25(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (layer, config) = image(dir);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let descriptor = |kind: &str, bytes: &[u8]| {
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len() })
    };
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config), "layers": [descriptor("layer.v1.tar", &layer)] });
    let manifest = manifest.to_string().into_bytes();
    let mut top = descriptor("manifest.v1+json", &manifest);
    top["annotations"] = json!({ "io.containerd.image.name": "docker.io/library/foo:1.0",
        "org.opencontainers.image.ref.name": "1.0" });
    let docker = json!([{ "Config": blob(&config), "RepoTags": ["foo:1.0"], "Layers": [blob(&layer)] }]);
    let index = json!({ "schemaVersion": 2, "manifests": [top] });
    let blobs = [layer, config, manifest].map(|bytes| (blob(&bytes), bytes));
    let json = [
        ("index.json", index),
        ("manifest.json", docker),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
    ];
    let json = json.map(|(path, value)| (path.to_string(), value.to_string().into_bytes()));
    blobs.into_iter().chain(json).collect()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a file");
    path.to_str().expect("UTF-8").into()
}

/// A reference without its registry.
fn name(reference: &str) -> &str {
    reference.split_once('/').expect("a registry").1
}

async fn image_import_of_a_docker_archive_is_reproducible_in_both_archive_formats() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = write(one.path(), "old.tar", &archive(&before_25(one.path())));
    let new = write(one.path(), "new.tar", &archive(&since_25(one.path())));
    for form in ["layout", "descriptor", "dockerized"] {
        let import = |machine: &Path, path: &str| {
            last_line(ocipfs(&machine.join("node")).args(["-q", "image", "import", path, "--as", form]))
        };
        let first = import(one.path(), &old);
        assert_eq!(import(one.path(), &old), first);
        assert_eq!(import(one.path(), &new), first);
        assert_eq!(import(two.path(), &new), first);
        let expected = match form {
            "layout" => ("ipfs/bafybei", "/foo:1.0"),
            "descriptor" => ("ipfs/bafkrei", ""),
            _ => ("ciq", "/foo:latest"),
        };
        let name = name(&first);
        assert!(name.starts_with(expected.0) && name.ends_with(expected.1), "{first}");
    }
    assert_eq!(files_below(&one.path().join("node"), "incoming"), 0);
    // Both share the layer.
    assert_eq!(files_below(&one.path().join("node"), "blobs"), 1);
}

/// Runs a command with this input.
fn with_input(data_dir: &Path, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = ocipfs(data_dir);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // What is refused early is not read to its end.
    let _ = stdin.write_all(input);
    drop(stdin);
    Said::of(child.wait_with_output().expect("it ends"))
}

async fn image_import_reads_an_archive_from_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = archive(&since_25(dir.path()));
    let path = write(dir.path(), "archive.tar", &bytes);
    let alone = with_input(&dir.path().join("alone"), &["-q", "image", "import", "-"], &bytes);
    assert_eq!(alone.code, Some(0), "{alone:?}");
    let node = Serve::start(&[]);
    let piped = with_input(node.data_dir(), &["-q", "image", "import", "-"], &bytes);
    assert_eq!((piped.code, piped.stdout.lines().count()), (Some(0), 1), "{piped:?}");
    assert_eq!(name(piped.last_line()), name(alone.last_line()));
    let file = node.ask(&["image", "import", &path, "-r", "registry.example"]);
    assert_eq!(file, format!("registry.example/{}", name(alone.last_line())));
    let cut = with_input(node.data_dir(), &["image", "import", "-"], &bytes[..1 << 20]);
    cut.failed(1, &["truncated", "hint: "]);
    with_input(node.data_dir(), &["image", "import", "-"], b"").failed(1, &["not a docker archive or"]);
    // Far more than any queue holds, none of which is read.
    with_input(node.data_dir(), &["image", "import", "-"], &vec![b'x'; 16 << 20])
        .failed(1, &["not a docker archive or"]);
}

fn document(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

async fn images_are_imported_under_a_name_listed_and_removed() {
    let node = Serve::start(&[]);
    let before = node.stored("blocks");
    let path = write(node.data_dir(), "foo.tar", &archive(&before_25(node.data_dir())));
    let imported = document(&node.command(&["--json", "image", "import", &path, "--name", "org/bar:2"]));
    let reference = imported[0]["reference"].as_str().expect("a reference");
    assert!(reference.ends_with("/org/bar:2"), "{reference}");
    let listed = document(&node.command(&["--json", "image", "ls"]));
    assert_eq!(listed, imported);
    let said = node.command(&["image", "ls"]);
    assert!(said.stdout.contains(reference), "{said:?}");
    let status = node.status();
    assert_eq!((&status["images"], &status["layers"]), (&json!(1), &json!(0)));
    let cid = imported[0]["cid"].as_str().expect("a CID");
    assert_eq!(node.ask(&["image", "rm", reference]), cid);
    node.command(&["image", "rm", reference]).failed(1, &["not found among the imported images", "image ls"]);
    assert_eq!((node.stored("blobs"), node.stored("blocks")), (0, before));
    assert_eq!(files_below(node.data_dir(), "blobs"), 0);
    node.command(&["image", "import", &path, "--name", "Foo"]).failed(1, &["upper-case"]);
    node.command(&["image", "import", &path, "--as", "else"]).failed(2, &["layout"]);
    node.command(&["image", "import", "/nowhere.tar"]).failed(1, &["cannot read /nowhere.tar"]);
}

async fn a_cancelled_image_import_leaves_no_files() {
    let node = Serve::start(&[]);
    // More than waits for the encoder's cores.
    let layer = fs::read(tar_of(node.data_dir(), "layer.tar", &random(48 << 20))).expect("a tar");
    let bytes = archive(&[("layer.tar".into(), layer)]);
    let mut command = ocipfs(node.data_dir());
    let mut child =
        command.args(["image", "import", "-"]).stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.as_mut().expect("stdin is piped").write_all(&bytes[..40 << 20]).expect("it is read");
    crate::harness::until("the draft is begun", || files_below(node.data_dir(), "incoming") > 0).await;
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    crate::harness::until("the draft is gone", || files_below(node.data_dir(), "incoming") == 0).await;
    assert_eq!(node.stored("blobs"), 0);
}

/// Checks every blob of an exported layout against its digest, from the index down to the layer.
fn check_layout(dir: &Path, layer: &Layer) {
    let blob = |digest: &Value| {
        let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
        let bytes = fs::read(dir.join("blobs/sha256").join(hex)).expect("a blob");
        assert_eq!(Digest::sha256_of(&bytes).hex(), hex);
        bytes
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let index = json(&fs::read(dir.join("index.json")).expect("an index"));
    let manifest = json(&blob(&index["manifests"][0]["digest"]));
    blob(&manifest["config"]["digest"]);
    assert!(blob(&manifest["layers"][0]["digest"]) == layer.bytes);
}

async fn image_export_of_a_layer_writes_a_layout_and_archives() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(3 << 20));
    let reference = layer.reference(&node);
    let dest = |name: &str| node.data_dir().join(name).to_str().expect("UTF-8").to_string();
    let folder = dest("layout");
    assert_eq!(node.ask(&["image", "export", &reference, &folder]), folder);
    check_layout(Path::new(&folder), &layer);
    node.command(&["image", "export", &reference, &folder]).failed(1, &["not empty", "hint: "]);
    for name in ["image.tar", "image.oci.tar"] {
        node.ask(&["image", "export", &reference, &dest(name)]);
        let mut tar = tar::Archive::new(fs::File::open(dest(name)).expect("an archive"));
        tar.unpack(dest(&format!("{name}.d"))).expect("a tar");
        let unpacked = PathBuf::from(dest(&format!("{name}.d")));
        check_layout(&unpacked, &layer);
        assert_eq!(unpacked.join("manifest.json").exists(), name == "image.tar");
    }
    // What was exported is imported, with the same image in it.
    let digest = document(&node.command(&["--json", "image", "inspect", &reference]))["digest"].clone();
    for name in ["layout", "image.oci.tar"] {
        let imported = document(&node.command(&["--json", "image", "import", &dest(name)]));
        assert_eq!(imported[0]["digest"], digest, "{name}");
    }
    node.command(&["image", "export", "nowhere/at/all", &dest("none")])
        .failed(1, &["not found, locally or under a followed name"]);
    assert!(!Path::new(&dest("none")).exists());
}

async fn image_export_fetches_a_layer_from_peers() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(3 << 20));
    let reader = Serve::start(&["--peer", source.address()]);
    let folder = reader.data_dir().join("layout");
    reader.ask(&["image", "export", &layer.name, folder.to_str().expect("UTF-8")]);
    check_layout(&folder, &layer);
    // Half an export is none: no peer has the bytes.
    let other = Layer::add(&source, &random(1000));
    reader.ask(&["image", "inspect", &other.name]);
    source.kill();
    let half = reader.data_dir().join("half");
    let said = reader.command(&["image", "export", &other.name, half.to_str().expect("UTF-8")]);
    said.failed(1, &["error: "]);
    assert!(!half.exists());
}
