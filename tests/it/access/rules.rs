//! What rules say, the registry does.

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{RULES, Ruled, files};
use crate::{
    harness::{finish, ocipfs, trials, until},
    push::{descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        access_rules_decide_who_pulls_pushes_and_deletes,
        the_catalog_lists_only_repositories_that_the_user_may_pull,
        access_rules_are_reloaded_on_change_and_on_sighup,
        a_typo_in_access_rules_is_refused_with_line_and_nearest_key,
        users_of_access_rules_that_htpasswd_does_not_have_are_a_warning,
        immutable_tags_are_neither_moved_nor_deleted_but_by_admin,
        the_sign_action_pushes_signatures_and_no_images,
        rate_limits_answer_429_with_retry_after,
    ]
}

async fn access_rules_decide_who_pulls_pushes_and_deletes() {
    let ruled = Ruled::start(&[]);
    for (user, name) in [("alice", "team/app"), ("alice", "public/app"), ("bob", "bob/app")] {
        ruled.of(user).push(name, "1", b"layer").await;
    }
    let blob = Digest::sha256_of(b"layer");
    for (user, name, pull, push, delete) in [
        ("anonymous", "public/app", 200, 401, 401),
        ("anonymous", "team/app", 401, 401, 401),
        ("alice", "team/app", 200, 202, 403),
        ("alice", "bob/app", 403, 403, 403),
        ("bob", "team/app", 403, 403, 403),
        ("bob", "public/app", 200, 403, 403),
        ("bob", "bob/app", 200, 202, 202),
        ("carol", "team/app", 200, 202, 403),
        ("root", "team/app", 200, 202, 202),
    ] {
        let client = ruled.of(user);
        for path in ["manifests/1", "tags/list", &format!("blobs/{blob}"), &format!("referrers/{blob}")] {
            for method in ["GET", "HEAD"] {
                let answer = client.ask(method, &format!("/v2/{name}/{path}")).await;
                assert_eq!(answer.status, pull, "{user} {method} {name} {path}: {answer:?}");
            }
        }
        let begun = client.ask("POST", &format!("/v2/{name}/blobs/uploads/")).await;
        assert_eq!(begun.status, push, "{user} {name}: {begun:?}");
        let deleted = client.ask("DELETE", &format!("/v2/{name}/manifests/1")).await;
        assert_eq!(deleted.status, delete, "{user} {name}: {deleted:?}");
    }
    // A name that does not exist says no more than one that does.
    ruled.of("bob").get("/v2/team/none/manifests/1").await.refused(403, "DENIED", &["bob", "pull team/none"]);
    // An upload is of those who may push.
    let begun = ruled.of("alice").ask("POST", "/v2/team/app/blobs/uploads/").await;
    let at = begun.header("location");
    assert_eq!(ruled.of("alice").get(at).await.status, 204);
    assert_eq!(ruled.of("bob").get(at).await.status, 403);
    assert_eq!(ruled.of("anonymous").get(at).await.status, 401);
    // Wrong credentials are not taken for none.
    let wrong = super::Sender { node: &ruled.node, authorization: Some(super::basic("alice", "wrong")) };
    assert_eq!(wrong.get("/v2/public/app/manifests/1").await.status, 401);
}

async fn the_catalog_lists_only_repositories_that_the_user_may_pull() {
    let ruled = Ruled::start(&[]);
    for name in ["bob/a", "public/a", "public/b", "team/a", "team/b", "zoo"] {
        ruled.of("root").push(name, "1", b"layer").await;
    }
    for (user, names) in [
        ("anonymous", &["public/a", "public/b"][..]),
        ("alice", &["public/a", "public/b", "team/a", "team/b"]),
        ("bob", &["bob/a", "public/a", "public/b"]),
        ("root", &["bob/a", "public/a", "public/b", "team/a", "team/b", "zoo"]),
    ] {
        let (client, mut listed) = (ruled.of(user), Vec::new());
        let mut next = Some("/v2/_catalog?n=1".to_string());
        while let Some(path) = next {
            let page = client.get(&path).await;
            assert_eq!(page.status, 200, "{page:?}");
            listed.extend(page.json()["repositories"].as_array().unwrap().clone());
            let link = page.header("link");
            next = link.split_once('>').map(|(url, _)| url.trim_start_matches('<').to_string());
        }
        assert_eq!(listed, names.iter().map(|name| json!(name)).collect::<Vec<_>>(), "{user}");
    }
}

async fn access_rules_are_reloaded_on_change_and_on_sighup() {
    let ruled = Ruled::start(&[]);
    ruled.of("alice").push("team/app", "1", b"layer").await;
    assert_eq!(ruled.of("bob").get("/v2/team/app/manifests/1").await.status, 403);
    let more = "\n[[rule]]\nusers = ['bob']\nrepositories = ['team/app']\nactions = ['pull']\n";
    ruled.write(&format!("{RULES}{more}"));
    until("the rules are reloaded", || ruled.node.log().contains("reloaded the access rules")).await;
    assert_eq!(ruled.of("bob").get("/v2/team/app/manifests/1").await.status, 200);
    // A broken file changes nothing, and is told.
    ruled.write("[[rule]]\nuser = ['bob']\n");
    ruled.node.signal("HUP");
    until("the typo is told", || ruled.node.log().contains("did you mean `users`?")).await;
    assert_eq!(ruled.of("bob").get("/v2/team/app/manifests/1").await.status, 200);
    ruled.write(RULES);
    ruled.node.signal("HUP");
    until("the rules are reloaded again", || {
        ruled.node.log().matches("reloaded the access rules").count() >= 2
    })
    .await;
    assert_eq!(ruled.of("bob").get("/v2/team/app/manifests/1").await.status, 403);
}

async fn a_typo_in_access_rules_is_refused_with_line_and_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |rules: &str| {
        let [users, rules] = files(dir.path(), rules);
        let node = dir.path().join("node");
        finish(ocipfs(&node).args(["serve", "--htpasswd", &users, "--access-rules", &rules]))
    };
    serve("\n[[rule]]\nrepository = ['a']\n")
        .failed(2, &["line 3", "did you mean `repositories`?", "hint: "]);
    serve("[[rule]]\nrepositories = ['a']\nactions = ['pulll']\n")
        .failed(2, &["line 3", "did you mean `pull`?"]);
    let node = dir.path().join("node");
    finish(ocipfs(&node).args(["serve", "--access-rules", "/nowhere"])).failed(2, &["/nowhere", "hint: "]);
    finish(ocipfs(&node).args(["serve", "--share-restricted", "private-swarm"]))
        .failed(2, &["--share-restricted needs access rules", "--access-rules"]);
}

async fn users_of_access_rules_that_htpasswd_does_not_have_are_a_warning() {
    let more = "\n[[rule]]\nusers = ['alicia', 'anonymous', 'authenticated']\nrepositories = ['x']\nactions = ['pull']\n";
    let ruled = Ruled::with(&format!("{RULES}{more}"), &[]);
    let log = ruled.node.log();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("does not have")).collect();
    assert!(warned.len() == 1 && warned[0].contains("alicia"), "{log}");
}

async fn immutable_tags_are_neither_moved_nor_deleted_but_by_admin() {
    let ruled = Ruled::start(&[]);
    let root = ruled.of("root");
    let first = root.push("team/app", "v1", b"first").await;
    // The same again changes nothing.
    assert_eq!(root.push("team/app", "v1", b"first").await, first);
    let second = root.push("team/app", "latest", b"second").await;
    let other = manifest(b"{}", &[b"second"]);
    for user in ["alice", "root"] {
        let moved = ruled.of(user).put("team/app", "v1", &other).await;
        moved.refused(403, "DENIED", &["v1", "immutable"]);
        let by_digest = ruled.of(user).put("team/app", &format!("{second}?tag=v1"), &other).await;
        by_digest.refused(403, "DENIED", &["v1", "immutable"]);
    }
    assert_eq!(root.get("/v2/team/app/manifests/v1").await.header("docker-content-digest"), first);
    root.push("team/app", "latest", b"first").await;

    let rules = format!("{RULES}\n[[rule]]\nusers = ['alice']\nrepositories = ['*']\nactions = ['delete']\n");
    ruled.write(&rules);
    ruled.node.signal("HUP");
    until("the rules are reloaded", || ruled.node.log().contains("reloaded the access rules")).await;
    let blob = Digest::sha256_of(b"first");
    for path in ["manifests/v1", &format!("manifests/{first}"), &format!("blobs/{blob}")] {
        let deleted = ruled.of("alice").ask("DELETE", &format!("/v2/team/app/{path}")).await;
        deleted.refused(403, "DENIED", &["v1", "immutable", "admin"]);
    }
    // A manifest below an index that has such a tag is part of it.
    let entry = descriptor(media_type::OCI_MANIFEST, other.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry] });
    assert_eq!(root.put("team/app", "v2", &index).await.status, 201);
    let path = format!("/v2/team/app/manifests/{second}");
    ruled.of("alice").ask("DELETE", &path).await.refused(403, "DENIED", &["v2", "immutable"]);
    for path in ["/v2/team/app/manifests/latest", "/v2/team/app/manifests/v1"] {
        let user = if path.ends_with("v1") { "root" } else { "alice" };
        assert_eq!(ruled.of(user).ask("DELETE", path).await.status, 202, "{path}");
    }
}

async fn the_sign_action_pushes_signatures_and_no_images() {
    let ruled = Ruled::start(&[]);
    let image = ruled.of("alice").push("team/app", "1", b"layer").await;
    let carol = ruled.of("carol");
    for blob in [b"{}".as_slice(), b"signature"] {
        assert_eq!(carol.upload("team/app", blob).await.status, 201);
    }
    let own = manifest(b"{}", &[b"signature"]);
    carol.put("team/app", "1", &own).await.refused(403, "DENIED", &["push", "sign"]);
    let digest = Digest::sha256_of(own.to_string().as_bytes());
    carol.put("team/app", &digest.to_string(), &own).await.refused(403, "DENIED", &["subject"]);
    let tag = format!("{}.sig", image.replace(':', "-"));
    carol.put("team/app", &tag, &own).await.refused(403, "DENIED", &["push", "layers of a signature"]);
    // As cosign does it: each signature is a layer, and later ones are added.
    let signed = |signatures: &[&str]| {
        let layer = |signature: &&str| {
            let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", b"signature");
            layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
            layer
        };
        let mut signed = own.clone();
        signed["layers"] = signatures.iter().map(layer).collect();
        signed
    };
    for (signatures, status) in [(&["one"][..], 201), (&["one", "two"][..], 201), (&["two"][..], 403)] {
        let put = carol.put("team/app", &tag, &signed(signatures)).await;
        assert_eq!(put.status, status, "{signatures:?} {put:?}");
    }
    assert_eq!(ruled.of("alice").put("team/app", &tag, &signed(&["two"])).await.status, 201);
    let mut referring = own.clone();
    referring["subject"] =
        descriptor(media_type::OCI_MANIFEST, manifest(b"{}", &[b"layer"]).to_string().as_bytes());
    let digest = Digest::sha256_of(referring.to_string().as_bytes());
    carol.put("team/app", &digest.to_string(), &referring).await.refused(403, "DENIED", &["configuration"]);
    referring["config"]["mediaType"] = json!(media_type::OCI_EMPTY);
    let digest = Digest::sha256_of(referring.to_string().as_bytes());
    carol.put("team/app", "2", &referring).await.refused(403, "DENIED", &["push"]);
    assert_eq!(carol.put("team/app", &digest.to_string(), &referring).await.status, 201);
    let listed = carol.get(&format!("/v2/team/app/referrers/{image}")).await.json();
    assert_eq!(listed["manifests"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(carol.upload("public/app", b"{}").await.status, 403);
}

async fn rate_limits_answer_429_with_retry_after() {
    let limits = "\n[limits]\nper-user = '20/1h'\nper-address = '60/1h'\n";
    let ruled = Ruled::with(&format!("{RULES}{limits}"), &[]);
    let until_limited = async |user: &str| {
        for count in 0..100 {
            let answer = ruled.of(user).get("/v2/public/app/tags/list").await;
            if answer.status == 429 {
                answer.refused(429, "TOOMANYREQUESTS", &["try again in"]);
                assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
                return count;
            }
        }
        panic!("{user} is not limited");
    };
    assert_eq!(until_limited("alice").await, 20);
    assert_eq!(until_limited("bob").await, 20);
    // All of them come from one address.
    assert_eq!(until_limited("anonymous").await, 60 - 2 * 21);
    assert_eq!(ruled.of("root").get("/v2/").await.status, 429);
}
