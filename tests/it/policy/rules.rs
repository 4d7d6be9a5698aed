//! What is served, and to whom.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{Key, Policed, sign};
use crate::{
    harness::{finish, ocipfs, trials, until},
    push::{descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        an_unsigned_image_is_served_only_to_those_who_may_sign_it_until_it_is_signed,
        children_of_a_signed_index_are_served_and_others_are_not,
        a_signature_by_another_key_or_of_another_image_changes_nothing,
        what_only_calls_itself_a_signature_is_not_served,
        a_deleted_signature_withholds_the_image_again,
        policies_are_reloaded_and_a_broken_file_keeps_the_previous_ones,
        repo_inspect_says_why_an_image_is_withheld,
        a_policy_without_users_serves_unsigned_images_to_no_client,
        a_policy_file_with_an_unknown_key_is_refused_at_the_start,
    ]
}

async fn an_unsigned_image_is_served_only_to_those_who_may_sign_it_until_it_is_signed() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    let layer = Digest::sha256_of(b"a layer");
    let paths = ["manifests/1".into(), format!("manifests/{image}"), format!("blobs/{layer}")]
        .map(|path: String| format!("/v2/team/app/{path}"));
    for path in &paths {
        assert_eq!(node.statuses(path).await, [401, 403, 200], "{path}");
        // One who pushes learns that it is here.
        for (user, status) in [("anonymous", 401), ("alice", 200), ("carol", 200)] {
            assert_eq!(node.of(user).ask("HEAD", path).await.status, status, "{user} {path}");
        }
    }
    // Without a login, one may help.
    node.of("anonymous").get(&paths[0]).await.refused(401, "UNAUTHORIZED", &[&image, "policy 1"]);
    let refused = node.of("alice").get(&paths[0]).await;
    refused.refused(403, "DENIED", &[&image, "policy 1", "\"release\"", "cosign sign"]);
    // Names are not content.
    assert_eq!(node.statuses("/v2/team/app/tags/list").await, [200; 3]);
    node.sign("carol", "team/app", &image).await;
    for path in &paths {
        assert_eq!(node.statuses(path).await, [200; 3], "{path}");
    }
    let signature = format!("/v2/team/app/manifests/{}.sig", image.replace(':', "-"));
    let signed = node.of("anonymous").get(&signature).await.json();
    for blob in [&signed["config"], &signed["layers"][0]] {
        let path = format!("/v2/team/app/blobs/{}", blob["digest"].as_str().unwrap());
        assert_eq!(node.statuses(&path).await, [200; 3], "{path}");
    }
    // Another image of the repository is not signed by that.
    node.of("alice").push("team/app", "2", b"another layer").await;
    assert_eq!(node.statuses("/v2/team/app/manifests/2").await, [401, 403, 200]);
    assert_eq!(node.statuses(&paths[2]).await, [200; 3]);
    // No policy is about other repositories.
    node.of("alice").push("other/app", "1", b"third layer").await;
    assert_eq!(node.statuses("/v2/other/app/manifests/1").await, [200; 3]);
}

async fn children_of_a_signed_index_are_served_and_others_are_not() {
    let node = Policed::start(&[]);
    let alice = node.of("alice");
    let [child, stranger] =
        [alice.push("team/app", "child", b"one").await, alice.push("team/app", "stranger", b"two").await];
    let bytes = node.of("carol").get(&format!("/v2/team/app/manifests/{child}")).await.body;
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [descriptor(media_type::OCI_MANIFEST, &bytes)] });
    let put = alice.put("team/app", "1", &index).await;
    let index = put.header("docker-content-digest").to_string();
    assert_eq!(node.statuses("/v2/team/app/manifests/child").await, [401, 403, 200]);
    node.sign("carol", "team/app", &index).await;
    for path in [
        format!("manifests/{index}"),
        format!("manifests/{child}"),
        format!("blobs/{}", Digest::sha256_of(b"one")),
    ] {
        assert_eq!(node.statuses(&format!("/v2/team/app/{path}")).await, [200; 3], "{path}");
    }
    assert_eq!(node.statuses(&format!("/v2/team/app/manifests/{stranger}")).await, [401, 403, 200]);
}

async fn a_signature_by_another_key_or_of_another_image_changes_nothing() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    let other = node.of("alice").push("team/app", "2", b"another layer").await;
    sign(&node.of("carol"), &Key::make(), "team/app", &image).await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
    // The right key signed another image, and the signature is under the tag of this one.
    let (payload, signature) = node.key.sign(&other);
    assert_eq!(node.of("carol").upload("team/app", &payload).await.status, 201);
    let mut signed = manifest(b"{}", &[&payload]);
    signed["layers"][0]["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
    signed["layers"][0]["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    let tag = format!("{}.sig", image.replace(':', "-"));
    // With `sign` alone it would have to keep the signature that is there.
    node.of("carol").put("team/app", &tag, &signed).await.refused(403, "DENIED", &[&tag, "push"]);
    assert_eq!(node.of("alice").put("team/app", &tag, &signed).await.status, 201);
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
    // A signature in another repository is not one in this.
    node.of("alice").push("other/app", "1", b"a layer").await;
    node.sign("alice", "other/app", &image).await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
}

async fn what_only_calls_itself_a_signature_is_not_served() {
    let node = Policed::start(&[]);
    let (alice, image) = (node.of("alice"), Digest::sha256_of(b"image").to_string());
    let layer = b"#!/bin/sh";
    for blob in [b"{}".as_slice(), layer] {
        assert_eq!(alice.upload("team/app", blob).await.status, 201);
    }
    let subject = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": image, "size": 5 });
    for (layer_type, artifact_type) in [
        (media_type::OCI_LAYER_TAR, "application/vnd.cncf.notary.signature"),
        ("application/jose+json", "application/vnd.cncf.notary.signature"),
        (
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.dev.cosign.artifact.sig.v1+json",
        ),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("application/cose", "application/vnd.cncf.notary.signature"),
    ] {
        let mut fake = manifest(b"{}", &[layer]);
        (fake["artifactType"], fake["subject"]) = (json!(artifact_type), subject.clone());
        fake["layers"][0]["mediaType"] = json!(layer_type);
        let tag = format!("{}.sig", image.replace(':', "-"));
        let put = alice.put("team/app", &tag, &fake).await;
        assert_eq!(put.status, 201, "{put:?}");
        let digest = put.header("docker-content-digest").to_string();
        for path in [
            format!("manifests/{digest}"),
            format!("manifests/{tag}"),
            format!("blobs/{}", Digest::sha256_of(layer)),
        ] {
            assert_eq!(
                node.statuses(&format!("/v2/team/app/{path}")).await,
                [401, 403, 200],
                "{layer_type} {path}"
            );
        }
    }
}

async fn a_deleted_signature_withholds_the_image_again() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    node.sign("carol", "team/app", &image).await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [200; 3]);
    let tag = format!("/v2/team/app/manifests/{}.sig", image.replace(':', "-"));
    assert_eq!(node.of("root").ask("DELETE", &tag).await.status, 202);
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
}

async fn policies_are_reloaded_and_a_broken_file_keeps_the_previous_ones() {
    let node = Policed::start(&[]);
    node.of("alice").push("team/app", "1", b"a layer").await;
    node.of("alice").push("other/app", "1", b"a layer").await;
    let path = node.dir.path().join("policy.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, "[[policy]]\nrepositories = 1").unwrap();
    node.ruled.node.signal("HUP");
    until("the broken file is seen", || {
        node.ruled.node.log().contains("cannot reload the signature policies")
    })
    .await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
    fs::write(&path, text.replace("team/*", "other/*")).unwrap();
    node.ruled.node.signal("HUP");
    until("the policies are reloaded", || node.ruled.node.log().contains("reloaded the signature policies"))
        .await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [200; 3]);
    // Only root signs there.
    assert_eq!(node.statuses("/v2/other/app/manifests/1").await, [401, 403, 403]);
    assert_eq!(node.of("root").get("/v2/other/app/manifests/1").await.status, 200);
}

async fn repo_inspect_says_why_an_image_is_withheld() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    let withheld =
        || node.ruled.node.json(&["repo", "inspect", "team/app"])["manifest_list"][0]["withheld"].clone();
    let why = withheld();
    assert!(why.as_str().is_some_and(|why| why.contains("\"release\"")), "{why}");
    assert!(node.ruled.node.ask(&["repo", "inspect", "team/app"]).contains(&format!("withheld    {image}")));
    node.sign("carol", "team/app", &image).await;
    assert!(!node.ruled.node.ask(&["repo", "inspect", "team/app"]).contains("withheld"));
}

async fn a_policy_without_users_serves_unsigned_images_to_no_client() {
    use crate::{harness::Serve, http::get, push::Repository};

    let (key, dir) = (Key::make(), tempfile::tempdir().unwrap());
    let path = dir.path().join("policy.toml");
    let text = format!(
        "[keys.release]\ncosign = '''{}'''\n[[policy]]\nrepositories = ['*']\nkeys = ['release']\n",
        key.pem()
    );
    fs::write(&path, text).unwrap();
    let node = Serve::start(&["--policy", path.to_str().unwrap()]);
    let repository = Repository::new(&node, "app");
    repository.push_image("1", b"a layer").await;
    get(&node.url("/v2/app/manifests/1")).await.refused(403, "DENIED", &["\"release\""]);
    // Pushing it again works: a client asks what is there.
    repository.push_image("1", b"a layer").await;
}

async fn a_policy_file_with_an_unknown_key_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    fs::write(&path, "[[policy]]\nrepositories = ['a']\nkeys = ['release']\n").unwrap();
    let said = finish(ocipfs(dir.path()).args(["serve", "--policy", path.to_str().unwrap()]));
    said.failed(2, &["unknown key \"release\"", "hint"]);
}
