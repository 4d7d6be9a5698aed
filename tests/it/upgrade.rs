//! Node directories of earlier formats are upgraded in place, and newer ones are refused.

use std::{fs, path::Path, process::Command};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use crate::{
    clients::search_path,
    following::{pulls, push},
    harness::{Serve, blocking, files_below, finish, noise, ocipfs, stored, trials},
    http::get,
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_node_directory_of_format_2_is_upgraded_in_place,
        a_node_directory_of_format_3_of_an_earlier_program_is_used_as_it_is,
        a_node_directory_of_a_newer_format_is_rejected_and_left_as_it_was,
        after_a_downgrade_the_backup_and_the_bundle_of_the_documentation_have_everything,
    ]
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Unpacks the node directory of a fixture, and tells what is in it.
fn unpack(fixture: &str, dir: &Path) -> Value {
    let archive = fs::File::open(format!("{FIXTURES}/{fixture}/node.tar.zst")).expect("a fixture");
    let archive = zstd::Decoder::new(archive).expect("zstd");
    tar::Archive::new(archive).unpack(dir).expect("a tar");
    let expected = fs::read(format!("{FIXTURES}/{fixture}/expected.json")).expect("a fixture");
    serde_json::from_slice(&expected).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Pulls an image or a layer whole, without any peer.
async fn pull(node: &Serve, name: &str, reference: &str) -> String {
    let manifest = get(&node.url(&format!("/v2/{name}/manifests/{reference}"))).await;
    assert_eq!(manifest.status, 200, "{name}:{reference}: {manifest:?}");
    let json = manifest.json();
    let blobs = json["layers"].as_array().into_iter().flatten().chain(json.get("config"));
    for digest in blobs.map(|blob| text(&blob["digest"]).to_string()) {
        let blob = get(&node.url(&format!("/v2/{name}/blobs/{digest}"))).await;
        assert!(blob.status == 200 && Digest::sha256_of(&blob.body).to_string() == digest, "{name} {digest}");
    }
    Digest::sha256_of(&manifest.body).to_string()
}

async fn a_node_directory_of_format_2_is_upgraded_in_place() {
    everything_is_there("format-2").await;
}

async fn a_node_directory_of_format_3_of_an_earlier_program_is_used_as_it_is() {
    everything_is_there("format-3").await;
}

async fn everything_is_there(fixture: &str) {
    let dir = tempfile::tempdir().unwrap();
    let expected = unpack(fixture, dir.path());
    for what in ["blobs", "bytes", "layouts", "blocks", "partial", "partial_bytes", "pinned_bytes", "pins"] {
        assert_eq!(stored(dir.path(), what), expected["stat"][what].as_u64().unwrap(), "{what}");
    }
    let node = Serve::start_in(dir.path(), &["--find-timeout", "1s"]);
    for (reference, digest) in expected["tags"].as_object().unwrap() {
        let (name, tag) = reference.split_once(':').unwrap();
        assert_eq!(pull(&node, name, tag).await, text(digest), "{reference}");
    }
    for what in ["added", "pulled", "pinned", "imported"] {
        let (name, tag) = text(&expected[what]).rsplit_once(':').unwrap();
        pull(&node, name, tag).await;
    }
    let followed = format!("ipfs/{}/theirs/app", text(&expected["followed_root"]));
    for (tag, digest) in expected["followed_tags"].as_object().unwrap() {
        assert_eq!(pull(&node, &followed, tag).await, text(digest));
    }
    let multi = text(&expected["tags"]["app:multi"]);
    let referrers = get(&node.url(&format!("/v2/app/referrers/{multi}"))).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], expected["referrer"]);
    let status = node.status();
    assert_eq!(status["followed"][0]["name"], expected["followed"]);
    assert_eq!((status["layers"].as_u64(), status["images"].as_u64()), (Some(1), Some(1)));
    assert_eq!(node.ask(&["store", "ls"]), text(&expected["pin"]));
    // What is held is held for those who held it before.
    node.ask(&["store", "gc"]);
    let (name, tag) = text(&expected["pulled"]).rsplit_once(':').unwrap();
    pull(&node, name, tag).await;
    node.ask(&["store", "unpin", text(&expected["pin"])]);
    node.ask(&["image", "rm", text(&expected["imported"])]);
    node.ask(&["layer", "rm", text(&expected["added"])]);
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    assert_eq!(node.status()["images"], 0);
    assert!(node.stop().success());
    // Nothing is upgraded twice.
    let again = Serve::start_in(dir.path(), &["--find-timeout", "1s"]);
    assert_eq!(pull(&again, "app", "latest").await, text(&expected["tags"]["app:latest"]));
    assert!(files_below(dir.path(), "blobs") > 0);
}

/// As after a downgrade: what refuses the directory changes nothing of it, so the newer program goes on with it.
async fn a_node_directory_of_a_newer_format_is_rejected_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::with_layer("of the newer program", noise(100_000));
    let node = Serve::start_in(dir.path(), &[]);
    push(&node, "app", "1", &image).await;
    assert!(node.stop().success());
    set_format(dir.path(), 4);
    for command in [["store", "stat"], ["store", "gc"], ["repo", "ls"]] {
        finish(ocipfs(dir.path()).args(command)).failed(1, &["format 4"]);
    }
    is_refused_by_serve(dir.path()).await;
    set_format(dir.path(), 3);
    let again = Serve::start_in(dir.path(), &[]);
    pulls(&again, "app", "1", &image).await;
    assert_eq!(again.command(&["store", "verify"]).code, Some(0));
}

fn set_format(dir: &Path, format: u64) {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::open(dir.join("index.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("format", format).unwrap();
    write.commit().unwrap();
}

/// Holds that a node does not start in a directory of format 4.
async fn is_refused_by_serve(dir: &Path) {
    let mut serve = ocipfs(dir);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"]);
    let said = blocking(move || finish(&mut serve)).await;
    said.failed(1, &["has format 4", "supports up to 3"]);
    assert!(said.stdout.is_empty(), "{said:?}");
}

/// The blocks of the section on downgrades, which a test runs.
fn documented() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/how-to/backup.md")).unwrap();
    let (_, section) = text.split_once("\n## Downgrade\n").expect("a section");
    let section = section.split("\n## ").next().expect("its text");
    let blocks = section.split("```sh no-run: a test runs it").skip(1);
    let block = |text: &str| text.split_once('\n').expect("lines").1.split("```").next().map(String::from);
    blocks.filter_map(block).collect()
}

/// Runs the lines of a block in a directory, as a person would.
fn run_block(block: &str, dir: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_ocipfs")).parent().unwrap().display();
    let mut shell = Command::new("sh");
    let inherited = std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("OCIPFS_"));
    for (key, _) in inherited {
        shell.env_remove(key);
    }
    shell.args(["-ec", block]).current_dir(dir).env("OCIPFS_BOOTSTRAP", "none");
    shell.env("PATH", format!("{program}:{}", search_path()));
    let said = finish(&mut shell);
    assert_eq!(said.code, Some(0), "{block}: {said:?}");
}

async fn after_a_downgrade_the_backup_and_the_bundle_of_the_documentation_have_everything() {
    let [before_stop, restore] = &documented()[..] else { panic!("{:?}", documented()) };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let [old, new] = ["old", "new"].map(|note| Image::with_layer(note, noise(100_000 + note.len())));
    let node = Serve::start_in(&data, &[]);
    push(&node, "team/app", "1", &old).await;
    assert!(node.stop().success());
    run_block("cp -a node backup", dir.path());
    // What the newer version adds.
    let node = Serve::start_in(&data, &[]);
    let peer = node.peer().to_string();
    push(&node, "team/app", "2", &new).await;
    run_block(before_stop, dir.path());
    assert!(node.stop().success());
    set_format(&data, 4);
    is_refused_by_serve(&data).await;
    run_block(restore, dir.path());
    let restored = Serve::start_in(&data, &[]);
    assert_eq!(restored.peer(), peer);
    pulls(&restored, "team/app", "1", &old).await;
    pulls(&restored, "team/app", "2", &new).await;
    assert_eq!(restored.command(&["store", "verify"]).code, Some(0));
}
