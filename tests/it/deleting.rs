//! Deletion frees space: in the background, by command, under a limit, and for peers too.

use std::{path::Path, sync::Arc, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::{
    clients::{CRANE, ORAS, REGCTL, Skopeo, Tool},
    harness::{Serve, blocking, files_below, finish, noise, ocipfs, trial_within, trials, until},
    http::{ask, get, get_found},
    push::{Repository, descriptor, manifest},
    tools::regctl,
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        a_deleted_image_is_removed_from_disk_catalog_and_published_root,
        an_untagged_manifest_is_pulled_by_digest_until_garbage_collection,
        an_unreferenced_blob_is_deleted_after_the_upload_grace_period,
        a_head_request_for_a_blob_renews_its_upload_grace_period,
        repo_gc_dry_run_lists_what_repo_gc_removes,
        store_gc_includes_repo_gc,
        repositories_are_listed_inspected_and_removed_by_command,
        a_retention_rule_keeps_the_newest_tags_of_matching_repositories,
        deleted_content_is_not_served_to_peers,
        referrers_are_deleted_with_their_subject,
        content_deleted_before_a_kill_is_garbage_collected_after_the_restart,
    ];
    all.extend(trials![needs CRANE.available(); crane_delete_frees_the_space_of_an_image]);
    all.extend(trials![needs ORAS.available(); oras_manifest_delete_frees_the_space_of_an_image]);
    all.extend(trials![needs REGCTL.available(); regctl_manifest_rm_frees_the_space_of_an_image]);
    all.extend(trials![needs Skopeo::available(); skopeo_delete_frees_the_space_of_an_image]);
    let name = "it::deleting::daily_pushes_of_one_tag_stay_below_the_max_size_quota";
    let limit = Duration::from_secs(if is_full_size() { 1800 } else { 180 });
    all.push(trial_within(name, limit, daily_pushes_of_one_tag_stay_below_the_max_size_quota));
    all
}

/// Whether layers have the size of real ones, which takes minutes.
fn is_full_size() -> bool {
    std::env::var_os("OCIPFS_TEST_FULL_SIZE").is_some_and(|value| value == "1")
}

/// Larger than what is kept in the index, so that each is a file.
const LAYER: usize = 100_000;

/// A layer that has nothing in common with others.
fn layer(n: usize, size: usize) -> Vec<u8> {
    noise(size + 4096)[n + 1..][..size].to_vec()
}

fn files(node: &Serve) -> usize {
    files_below(node.data_dir(), "blobs")
}

async fn catalog(node: &Serve) -> Value {
    get(&node.url("/v2/_catalog")).await.json()["repositories"].clone()
}

async fn a_deleted_image_is_removed_from_disk_catalog_and_published_root() {
    let node = Serve::start(&[]);
    let (app, other) = (Repository::new(&node, "app"), Repository::new(&node, "other"));
    other.push_image("1", &layer(1, LAYER)).await;
    let published = |node: &Serve| node.status()["published"]["root"].clone();
    node.until("it is published", |status| status["published"]["behind"] == 0).await;
    let before = published(&node);
    let digest = app.push_image("1", &layer(2, LAYER)).await;
    // One that no manifest references does not keep the repository.
    app.push(b"waiting").await;
    assert_eq!((files(&node), catalog(&node).await), (2, json!(["app", "other"])));
    assert_eq!(app.delete(&format!("manifests/{digest}")).await.status, 202);
    assert_eq!(catalog(&node).await, json!(["other"]));
    app.get("tags/list").await.refused(404, "NAME_UNKNOWN", &[]);
    let blob = format!("blobs/{}", Digest::sha256_of(&layer(2, LAYER)));
    app.get(&blob).await.refused(404, "NAME_UNKNOWN", &[]);
    until("its file is gone", || files(&node) == 1).await;
    until("the root is as before", || published(&node) == before).await;
    other.has(&layer(1, LAYER)).await;
    // It can be pushed again, and a tag alone can be deleted: the image is untagged then.
    app.push_image("1", &layer(2, LAYER)).await;
    assert_eq!(app.delete("manifests/1").await.status, 202);
    assert_eq!(app.get(&format!("manifests/{digest}")).await.status, 200);
    node.ask(&["repo", "gc", "--untagged"]);
    assert_eq!(files(&node), 1);
}

async fn crane_delete_frees_the_space_of_an_image() {
    client_deletes(&CRANE, &["delete"]).await;
}

async fn oras_manifest_delete_frees_the_space_of_an_image() {
    client_deletes(&ORAS, &["manifest", "delete", "--plain-http", "--force"]).await;
}

async fn regctl_manifest_rm_frees_the_space_of_an_image() {
    let remove = |node: &Serve, image: &str| regctl::speaking_to(&[node]).run(&["manifest", "rm", image]);
    deletion_frees_space(remove).await;
}

async fn skopeo_delete_frees_the_space_of_an_image() {
    deletion_frees_space(|_: &Serve, image: &str| Skopeo::new()?.delete(image)).await;
}

async fn client_deletes(client: &'static Tool, command: &'static [&'static str]) {
    deletion_frees_space(move |_: &Serve, image: &str| client.start()?.run(&[command, &[image]].concat()))
        .await;
}

/// Holds that the space of an image is free once a client has deleted the image, by its digest.
async fn deletion_frees_space(delete: impl FnOnce(&Serve, &str) -> Result<String, String> + Send + 'static) {
    let node = Arc::new(Serve::start(&[]));
    let app = Repository::new(&node, "app");
    app.push_image("kept", &layer(1, LAYER)).await;
    let digest = app.push_image("1", &layer(2, LAYER)).await;
    assert_eq!(files(&node), 2);
    let (at, image) = (node.clone(), format!("{}/app@{digest}", node.registry()));
    blocking(move || delete(&at, &image).unwrap()).await;
    until("its file is gone", || files(&node) == 1).await;
    assert_eq!(app.get("tags/list").await.json()["tags"], json!(["kept"]));
    app.has(&layer(1, LAYER)).await;
}

async fn an_untagged_manifest_is_pulled_by_digest_until_garbage_collection() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let app = Repository::new(&node, "app");
    let old = app.push_image("latest", &layer(1, LAYER)).await;
    app.push_image("latest", &layer(2, LAYER)).await;
    node.ask(&["repo", "gc"]);
    assert_eq!(app.get(&format!("manifests/{old}")).await.status, 200);
    app.has(&layer(1, LAYER)).await;
    assert!(node.stop().success());
    let node = Serve::start_in(dir.path(), &["--keep-untagged", "1s", "--upload-grace", "1s"]);
    until("the old image is gone by itself", || files(&node) == 1).await;
    let app = Repository::new(&node, "app");
    app.get(&format!("manifests/{old}")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    app.has(&layer(2, LAYER)).await;
}

async fn an_unreferenced_blob_is_deleted_after_the_upload_grace_period() {
    let node = Serve::start(&["--upload-grace", "5s"]);
    let app = Repository::new(&node, "app");
    let kept = app.push_image("1", &layer(2, LAYER)).await;
    let digest = app.push(&layer(1, LAYER)).await;
    assert_eq!(ask("HEAD", &app.url(&format!("blobs/{digest}")), &[]).await.status, 200);
    until("the blob is gone", || files(&node) == 1).await;
    assert_eq!(ask("HEAD", &app.url(&format!("blobs/{digest}")), &[]).await.status, 404);
    assert_eq!(app.get(&format!("manifests/{kept}")).await.status, 200);
}

async fn a_head_request_for_a_blob_renews_its_upload_grace_period() {
    let node = Serve::start(&["--upload-grace", "12s"]);
    let app = Repository::new(&node, "app");
    app.push_image("1", &layer(1, LAYER)).await;
    let renewed = app.push(&layer(2, LAYER)).await;
    let forgotten = app.push(&layer(3, LAYER)).await;
    let head = async |digest: &str| ask("HEAD", &app.url(&format!("blobs/{digest}")), &[]).await.status;
    // What a client was told to be there stays long enough for its manifest, and the other one does not.
    while files(&node) == 3 {
        assert_eq!(head(&renewed).await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((files(&node), head(&renewed).await, head(&forgotten).await), (2, 200, 404));
    app.has(&layer(2, LAYER)).await;
}

fn removed(node: &Serve, command: &[&str]) -> Value {
    node.json(command)["removed"].clone()
}

async fn repo_gc_dry_run_lists_what_repo_gc_removes() {
    let node = Serve::start(&[]);
    let (app, other) = (Repository::new(&node, "app"), Repository::new(&node, "other"));
    for n in 0..4 {
        app.push_image("latest", &layer(n, LAYER)).await;
    }
    other.push_image("latest", &layer(9, LAYER)).await;
    let untagged = other.push_image(&other_digest(&layer(0, LAYER)), &layer(0, LAYER)).await;
    assert_eq!(removed(&node, &["repo", "gc", "--dry-run"]), json!([]));
    let dry = removed(&node, &["repo", "gc", "app", "--untagged", "--dry-run"]);
    assert_eq!((dry.as_array().unwrap().len(), files(&node)), (6, 5));
    let real = node.json(&["repo", "gc", "app", "--untagged"]);
    assert_eq!(real["removed"], dry);
    // The other repository has one of the layers.
    assert_eq!(files(&node), 3);
    assert!(real["bytes"].as_u64().unwrap() < 3 * LAYER as u64, "{real}");
    node.ask(&["repo", "gc", "--untagged"]);
    assert_eq!(files(&node), 2);
    other.get(&format!("manifests/{untagged}")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    node.command(&["repo", "gc", "none"]).failed(1, &["not found among the pushed repositories", "repo ls"]);
}

/// Returns the digest of the image of this layer.
fn other_digest(layer: &[u8]) -> String {
    Digest::sha256_of(manifest(b"{}", &[layer]).to_string().as_bytes()).to_string()
}

async fn store_gc_includes_repo_gc() {
    let node = Serve::start(&["--keep-untagged", "0s", "--upload-grace", "1h", "--retention", "app=1"]);
    let app = Repository::new(&node, "app");
    for tag in ["1", "2"] {
        app.push_image(tag, &layer(tag.len() + tag.as_bytes()[0] as usize, LAYER)).await;
    }
    let dry = node.json(&["store", "gc", "--dry-run"]);
    assert!(dry["bytes"].as_u64().unwrap() >= LAYER as u64, "{dry}");
    node.ask(&["store", "gc"]);
    assert_eq!(files(&node), 1);
    app.get("manifests/1").await.refused(404, "MANIFEST_UNKNOWN", &[]);
}

async fn repositories_are_listed_inspected_and_removed_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let app = Repository::new(&node, "team/app");
    let digest = app.push_image("1", &layer(1, LAYER)).await;
    app.push_image("2", &layer(2, LAYER)).await;
    Repository::new(&node, "other").push_image("1", &layer(3, LAYER)).await;
    let listed = node.json(&["repo", "ls"]);
    assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&json!("other"), &json!("team/app")));
    assert_eq!((&listed[1]["tags"], &listed[1]["blobs"]), (&json!(2), &json!(3)));
    assert!(listed[1]["bytes"].as_u64().unwrap() > 2 * LAYER as u64, "{listed}");
    assert!(listed[1]["last_push"].as_u64().unwrap() > 1_600_000_000, "{listed}");
    assert_eq!(node.ask(&["-q", "repo", "ls"]), "team/app");
    let contents = node.json(&["repo", "inspect", "team/app"]);
    assert_eq!(contents["tag_list"][0]["digest"], json!(digest));
    assert_eq!(contents["manifest_list"].as_array().unwrap().len(), 2);
    node.ask(&["repo", "rm", &format!("{}/team/app:1", node.registry())]);
    assert_eq!(files(&node), 2, "the files are gone when the command returns");
    app.get(&format!("manifests/{digest}")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    node.command(&["repo", "rm", "team/app:1"])
        .failed(1, &["not found among the pushed repositories", "repo ls"]);
    node.command(&["repo", "inspect", "none"]).failed(1, &["not found among the pushed repositories"]);
    node.command(&["repo", "rm", "No:1"]).failed(1, &["invalid repository name"]);
    assert!(node.stop().success());
    offline(dir.path());
}

/// Runs the same commands without a running `serve`.
fn offline(dir: &Path) {
    let run = |arguments: &[&str]| finish(ocipfs(dir).args(arguments));
    let said = run(&["repo", "ls"]);
    assert!(
        said.code == Some(0) && said.stdout.contains("team/app") && said.stdout.contains("pushed 2"),
        "{said:?}"
    );
    let said = run(&["repo", "inspect", "team/app"]);
    assert!(said.stdout.contains("tag         2") && said.stdout.contains("last push"), "{said:?}");
    let said = run(&["repo", "rm", "team/app"]);
    assert!(
        said.code == Some(0) && said.last_line().contains("1 tags, 1 manifests and 2 blobs removed"),
        "{said:?}"
    );
    assert_eq!(files_below(dir, "blobs"), 1);
    assert_eq!(run(&["-q", "repo", "ls"]).last_line(), "other");
}

async fn a_retention_rule_keeps_the_newest_tags_of_matching_repositories() {
    let node = Serve::start(&["--retention", "team/*=2", "--keep-untagged", "1h"]);
    let (app, other) = (Repository::new(&node, "team/app"), Repository::new(&node, "other"));
    for n in 0..4 {
        app.push_image(&format!("v{n}"), &layer(n, LAYER)).await;
        other.push_image(&format!("v{n}"), &layer(n, LAYER)).await;
    }
    let dry = removed(&node, &["repo", "gc", "--dry-run"]);
    assert_eq!(removed(&node, &["repo", "gc"]), dry);
    let tags = |of: &Value| of.as_array().unwrap().iter().map(|one| one["tag"].clone()).collect::<Vec<_>>();
    assert_eq!(tags(&dry), ["v1", "v0"]);
    assert_eq!(app.get("tags/list").await.json()["tags"], json!(["v2", "v3"]));
    assert_eq!(other.get("tags/list").await.json()["tags"].as_array().unwrap().len(), 4);
    let said = finish(ocipfs(node.data_dir()).args(["serve", "--retention", "team/*"]));
    said.failed(2, &["--retention", "expected PATTERN=TAGS"]);
}

/// Of 20 MB where `OCIPFS_TEST_FULL_SIZE=1`, else of a tenth.
async fn daily_pushes_of_one_tag_stay_below_the_max_size_quota() {
    let size = if is_full_size() { 20_000_000 } else { 2_000_000 };
    let limit = 5 * size as u64;
    let node = Serve::start(&["--max-size", &limit.to_string()]);
    let app = Repository::new(&node, "app");
    let mut digests = Vec::new();
    for n in 0..100 {
        digests.push(app.push_image("latest", &layer(n, size)).await);
        let used = node.stored("used_bytes");
        assert!(used <= limit, "{used} after {n}");
    }
    app.has(&layer(99, size)).await;
    assert_eq!(app.get("manifests/latest").await.header("docker-content-digest"), digests[99]);
    assert_eq!(
        app.get(&format!("manifests/{}", digests[98])).await.status,
        200,
        "the newest of the old stay"
    );
    app.get(&format!("manifests/{}", digests[0])).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    // What a tag points at is not given up.
    let (at, too_much) = (app.begin().await, layer(7, 5 * size));
    let end = app.end(&at, &Digest::sha256_of(&too_much).to_string(), &too_much).await;
    end.refused(403, "DENIED", &["--max-size", "ocipfs repo rm", "ocipfs repo gc"]);
    app.has(&layer(99, size)).await;
}

async fn deleted_content_is_not_served_to_peers() {
    let node = Serve::start(&[]);
    let (app, other) = (Repository::new(&node, "app"), Repository::new(&node, "other"));
    let digest = app.push_image("1", &layer(1, LAYER)).await;
    app.push_image("2", &layer(2, LAYER)).await;
    other.push_image("1", &layer(2, LAYER)).await;
    node.until("it is published", |status| status["published"]["behind"] == 0).await;
    let root = node.status()["published"]["root"].as_str().unwrap().to_string();
    let reader = Serve::start(&["--peer", node.address(), "--find-timeout", "3s"]);
    let blob = |n: usize| {
        let path = format!("/v2/ipfs/{root}/app/blobs/{}", Digest::sha256_of(&layer(n, LAYER)));
        reader.url(&path)
    };
    // The directories of the root are read while they are there.
    assert_eq!(get_found(&reader.url(&format!("/v2/ipfs/{root}/app/tags/list"))).await.status, 200);
    assert_eq!(app.delete(&format!("manifests/{digest}")).await.status, 202);
    app.delete("manifests/2").await;
    node.ask(&["repo", "gc", "--untagged"]);
    assert_eq!(files(&node), 1);
    let answer = get(&blob(1)).await;
    assert!([404, 504].contains(&answer.status), "{answer:?}");
    let answer = get_found(&blob(2)).await;
    assert!(answer.status == 200 && answer.body == layer(2, LAYER), "another repository has it: {answer:?}");
}

async fn referrers_are_deleted_with_their_subject() {
    let node = Serve::start(&[]);
    let app = Repository::new(&node, "app");
    let image = app.push_image("1", &layer(1, LAYER)).await;
    let subject = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": image,
        "size": manifest(b"{}", &[&layer(1, LAYER)]).to_string().len() });
    app.push(&layer(2, LAYER)).await;
    let mut signature = manifest(b"{}", &[&layer(2, LAYER)]);
    signature["subject"] = subject;
    let digest = Digest::sha256_of(signature.to_string().as_bytes()).to_string();
    assert_eq!(app.put(&digest, &signature).await.status, 201);
    assert_eq!(removed(&node, &["repo", "gc", "--untagged"]), json!([]), "its subject keeps it");
    assert_eq!(app.delete(&format!("manifests/{image}")).await.status, 202);
    app.get(&format!("manifests/{digest}")).await.refused(404, "NAME_UNKNOWN", &[]);
    until("both layers are gone", || files(&node) == 0).await;
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [descriptor(media_type::OCI_MANIFEST, manifest(b"{}", &[&layer(1, LAYER)]).to_string().as_bytes())] });
    // An index keeps its manifests, though no tag points at them.
    app.push_image(&image, &layer(1, LAYER)).await;
    assert_eq!(app.put("all", &index).await.status, 201);
    assert_eq!(removed(&node, &["repo", "gc", "--untagged"]), json!([]));
    node.ask(&["repo", "rm", "app:all"]);
    assert_eq!((files(&node), catalog(&node).await), (0, json!([])));
}

async fn content_deleted_before_a_kill_is_garbage_collected_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let app = Repository::new(&node, "app");
    let deleted = app.push_image("1", &layer(1, LAYER)).await;
    app.push_image("2", &layer(2, LAYER)).await;
    assert_eq!(app.delete(&format!("manifests/{deleted}")).await.status, 202);
    node.kill();
    let node = Serve::start_in(dir.path(), &[]);
    until("its file is gone", || files(&node) == 1).await;
    Repository::new(&node, "app").has(&layer(2, LAYER)).await;
}
