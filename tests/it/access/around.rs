//! Ways around the rules: content of a repository that a user may not pull is not to be had under another name.

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use reqwest::Client;
use serde_json::json;

use super::{Ruled, Sender, cid_of};
use crate::{
    following::push,
    harness::{Serve, noise, trials, until},
    names::image::Image,
    push::manifest,
};

pub fn trials() -> Vec<Trial> {
    trials![
        restricted_blobs_are_not_found_under_another_repository_name,
        restricted_referrers_are_not_found_under_another_repository_name,
        a_digest_is_searched_among_peers_only_under_names_that_a_user_may_pull,
        restricted_blobs_cannot_be_mounted_without_the_right_to_pull_them,
        restricted_content_is_not_served_below_ipfs_and_layer_names,
        restricted_content_is_not_served_by_the_gateway,
        restricted_content_is_not_served_by_the_rpc,
        restricted_content_stays_restricted_after_its_repository_is_deleted,
    ]
}

/// A large secret is a file, a small one a row of the index.
fn secrets() -> [Vec<u8>; 2] {
    [b"a secret layer".to_vec(), noise(3 << 20)]
}

async fn restricted_blobs_are_not_found_under_another_repository_name() {
    let ruled = Ruled::start(&[]);
    ruled.of("bob").push("bob/app", "1", b"own layer").await;
    for secret in secrets() {
        let image = ruled.of("alice").push("team/app", "1", &secret).await;
        let digest = Digest::sha256_of(&secret);
        let bob = ruled.of("bob");
        for path in [format!("blobs/{digest}"), format!("blobs/{image}"), format!("manifests/{image}")] {
            for (name, method) in [("app", "GET"), ("app", "HEAD"), ("none", "GET"), ("none", "HEAD")] {
                // Of the second name there is no repository, so a digest is searched.
                let answer = bob.ask(method, &format!("/v2/bob/{name}/{path}")).await;
                assert_eq!(answer.status, 404, "{method} bob/{name} {path}");
            }
        }
        // A manifest does not bring along what it names.
        let stolen = bob.put("bob/app", "2", &manifest(b"{}", &[&secret])).await;
        stolen.refused(404, "MANIFEST_BLOB_UNKNOWN", &[&digest.to_string()]);
        // Who has the bytes may push them as well, and has them under the own name then.
        assert_eq!(bob.upload("bob/app", &secret).await.status, 201);
        assert_eq!(bob.get(&format!("/v2/bob/app/blobs/{digest}")).await.body, secret);
        assert_eq!(bob.ask("DELETE", &format!("/v2/bob/app/blobs/{digest}")).await.status, 202);
    }
}

async fn restricted_referrers_are_not_found_under_another_repository_name() {
    let ruled = Ruled::start(&[]);
    let (alice, bob) = (ruled.of("alice"), ruled.of("bob"));
    let image = alice.push("team/app", "1", b"a secret layer").await;
    let size = alice.get("/v2/team/app/manifests/1").await.body.len();
    bob.push("bob/app", "1", b"own layer").await;
    let refer = async |client: &Sender<'_>, name: &str, note: &[u8]| {
        let mut sbom = manifest(b"{}", &[note]);
        sbom["artifactType"] = json!("application/spdx+json");
        sbom["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": image, "size": size });
        assert_eq!(client.upload(name, note).await.status, 201);
        let put = client.put(name, "sbom", &sbom).await;
        assert_eq!(put.status, 201, "{put:?}");
        put.header("docker-content-digest").to_owned()
    };
    let listed = async |client: &Sender<'_>, name: &str| {
        let answer = client.get(&format!("/v2/{name}/referrers/{image}")).await.json();
        let digests = answer["manifests"].as_array().expect("a list").iter();
        digests.map(|one| one["digest"].as_str().expect("a digest").to_owned()).collect::<Vec<_>>()
    };
    let secret = refer(&alice, "team/app", b"a secret sbom").await;
    assert_eq!(listed(&alice, "team/app").await, std::slice::from_ref(&secret));
    assert_eq!(bob.get(&format!("/v2/team/app/referrers/{image}")).await.status, 403);
    assert_eq!(listed(&bob, "bob/app").await, [""; 0]);
    let none = bob.get(&format!("/v2/bob/none/referrers/{image}")).await;
    assert!(!String::from_utf8_lossy(&none.body).contains(&secret), "{none:?}");
    let bill = Digest::sha256_of(b"a secret sbom");
    for path in [format!("manifests/{secret}"), format!("blobs/{bill}")] {
        assert_eq!(alice.get(&format!("/v2/team/app/{path}")).await.status, 200, "{path}");
        for name in ["bob/app", "bob/none"] {
            assert_eq!(bob.get(&format!("/v2/{name}/{path}")).await.status, 404, "{name} {path}");
        }
    }
    // A referrer of the same image in another repository is the only one there, and adds none to the first.
    let own = refer(&bob, "bob/app", b"own sbom").await;
    assert_eq!(listed(&bob, "bob/app").await, [own]);
    assert_eq!(listed(&alice, "team/app").await, [secret]);
}

async fn a_digest_is_searched_among_peers_only_under_names_that_a_user_may_pull() {
    let source = Serve::start(&[]);
    let image = Image::of("at a peer", 1000);
    push(&source, "shared/app", "1", &image).await;
    let ruled = Ruled::start(&["--peer", source.address(), "--digest-timeout", "20s"]);
    ruled.node.until("a peer is connected", |status| status["peers"] != 0).await;
    // No repository here has these names.
    let paths = |name: &str| {
        let layer = Digest::sha256_of(&image.layer);
        [format!("/v2/{name}/manifests/{}", image.digest()), format!("/v2/{name}/blobs/{layer}")]
    };
    let refused = async || {
        for (user, name, status) in
            [("anonymous", "team/none", 401), ("bob", "team/none", 403), ("carol", "bob/none", 403)]
        {
            for path in paths(name) {
                for method in ["GET", "HEAD"] {
                    let answer = ruled.of(user).ask(method, &path).await;
                    assert_eq!(answer.status, status, "{user} {method} {path}");
                }
            }
        }
    };
    refused().await;
    assert_eq!(ruled.node.status()["received_blocks"], 0, "nothing is fetched for those who may not pull it");
    for path in paths("team/none") {
        assert_eq!(ruled.of("alice").get(&path).await.status, 200, "{path}");
    }
    assert_ne!(ruled.node.status()["received_blocks"], 0);
    // It is here now, and the names decide as before.
    refused().await;
}

async fn restricted_blobs_cannot_be_mounted_without_the_right_to_pull_them() {
    let ruled = Ruled::start(&[]);
    ruled.of("bob").push("bob/app", "1", b"own layer").await;
    ruled.of("alice").push("public/app", "1", b"public layer").await;
    for secret in secrets() {
        ruled.of("alice").push("team/app", "1", &secret).await;
        let digest = Digest::sha256_of(&secret);
        let mount = |from: &str| format!("/v2/bob/app/blobs/uploads/?mount={digest}{from}");
        let cid = cid_of(&secret);
        for from in ["&from=team/app", "", "&from=ipfs/bafkqaaa", &format!("&from=layer/{cid}")] {
            let answer = ruled.of("bob").ask("POST", &mount(from)).await;
            assert_eq!(answer.status, 202, "{from}: {answer:?}");
        }
        assert_eq!(ruled.of("root").ask("POST", &mount("&from=team/app")).await.status, 201);
        assert_eq!(ruled.of("bob").ask("DELETE", &format!("/v2/bob/app/blobs/{digest}")).await.status, 202);
    }
    let public = Digest::sha256_of(b"public layer");
    for from in ["&from=public/app", ""] {
        let path = format!("/v2/bob/app/blobs/uploads/?mount={public}{from}");
        assert_eq!(ruled.of("bob").ask("POST", &path).await.status, 201, "{from}");
    }
}

/// Documents that bob pushes as blobs, and that lead to the secret by its CID.
async fn restricted_content_is_not_served_below_ipfs_and_layer_names() {
    let ruled = Ruled::start(&["--find-timeout", "1s"]);
    let (alice, bob, secret) = (ruled.of("alice"), ruled.of("bob"), b"a secret layer");
    let image = alice.push("team/app", "1", secret).await;
    let digest = Digest::sha256_of(secret).to_string();
    let layer = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.ocipfs.layer.manifest.v1+json",
        "layer": {
            "mediaType": media_type::OCI_LAYER_TAR_GZIP, "digest": digest, "size": secret.len(),
            "annotations": {
                "io.ocipfs.layer.ipfs.cid": cid_of(secret), "io.ocipfs.layer.fs.digest": digest,
            },
        },
    });
    let (layer, document) = (layer.to_string(), alice.get("/v2/team/app/manifests/1").await.body);
    let descriptor = json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": image, "size": document.len(),
        "urls": [format!("ipfs://{}", cid_of(&document))],
    })
    .to_string();
    for document in [&layer, &descriptor] {
        assert_eq!(bob.upload("public/app", document.as_bytes()).await.status, 403);
        assert_eq!(bob.upload("bob/app", document.as_bytes()).await.status, 201);
        assert_eq!(alice.upload("team/app", document.as_bytes()).await.status, 201);
    }
    let layer = format!("/v2/layer/{}", cid_of(layer.as_bytes()));
    let descriptor = format!("/v2/ipfs/{}", cid_of(descriptor.as_bytes()));
    let blob = format!("{layer}/blobs/{digest}");
    let served = async |client: &Sender<'_>, path: &str| client.get(path).await.status;
    for path in [&blob, &format!("{descriptor}/manifests/latest"), &format!("{descriptor}/manifests/{image}")]
    {
        assert_eq!(served(&alice, path).await, 200, "{path}");
        for user in ["bob", "anonymous"] {
            assert_eq!(served(&ruled.of(user), path).await, 404, "{user} {path}");
        }
    }
    assert_eq!(ruled.of("bob").ask("HEAD", &blob).await.status, 404);
    // The document itself is of bob's repository: others do not even read that.
    assert_eq!(served(&ruled.of("bob"), &format!("{layer}/manifests/latest")).await, 200);
    assert_eq!(served(&ruled.of("anonymous"), &format!("{layer}/manifests/latest")).await, 404);
    // What alice read by its CID did not become public by that.
    assert_eq!(served(&ruled.of("bob"), &blob).await, 404);
}

async fn restricted_content_is_not_served_by_the_gateway() {
    let ruled = Ruled::start(&["--gateway"]);
    ruled.of("alice").push("public/app", "1", b"public layer").await;
    for secret in secrets() {
        ruled.of("alice").push("team/app", "1", &secret).await;
        // The first block of a file of several, or the only one.
        let first = cid_of(&secret[..secret.len().min(1 << 20)]);
        for query in ["format=raw", "format=car"] {
            let path = format!("/ipfs/{first}?{query}");
            for user in ["anonymous", "bob"] {
                assert_eq!(ruled.of(user).get(&path).await.status, 404, "{user} {query}");
            }
        }
    }
    let public = format!("/ipfs/{}?format=raw", cid_of(b"public layer"));
    let answer = ruled.of("anonymous").get(&public).await;
    assert_eq!(answer.body, b"public layer");
    assert!(answer.header("cache-control").starts_with("private"), "{answer:?}");
    // The name of the gateway's repository is needed, too.
    ruled.write(&super::RULES.replace("\"ipfs/*\", ", ""));
    ruled.node.signal("HUP");
    until("the rules are reloaded", || ruled.node.log().contains("reloaded the access rules")).await;
    assert_eq!(ruled.of("anonymous").get(&public).await.status, 401);
}

/// The URL of the RPC of a node.
fn rpc_url(node: &Serve) -> String {
    let api = std::fs::read_to_string(node.data_dir().join("api")).unwrap();
    let parts: Vec<&str> = api.split('/').collect();
    format!("http://{}:{}/api/v0", parts[2], parts[4])
}

async fn restricted_content_is_not_served_by_the_rpc() {
    let dir = tempfile::tempdir().unwrap();
    let [users, _] = super::files(dir.path(), super::RULES);
    let arguments = ["--rpc-listen", "127.0.0.1:0", "--rpc-htpasswd", &users, "--find-timeout", "1s"];
    let ruled = Ruled::start(&arguments);
    let url = rpc_url(&ruled.node);
    let post = async |user: &str, command: &str| {
        let request = Client::new().post(format!("{url}/{command}"));
        let answer = request.basic_auth(user, Some(user)).send().await.unwrap();
        let status = answer.status().as_u16();
        // An error after the first bytes breaks the answer off.
        (status, answer.bytes().await.map(Vec::from).unwrap_or_default())
    };
    for secret in secrets() {
        ruled.of("alice").push("team/app", "1", &secret).await;
        let block = &secret[..secret.len().min(1 << 20)];
        let cid = cid_of(block);
        for command in ["cat", "block/get", "dag/export", "get", "block/stat", "ls", "dag/get", "pin/add"] {
            let (status, bytes) = post("bob", &format!("{command}?arg={cid}")).await;
            let leaks = bytes.windows(12).any(|window| window == &block[..12]);
            assert!(!leaks && (status == 500 || bytes.is_empty()), "{command}: {status}");
        }
        for command in ["cat", "block/get"] {
            assert_eq!(
                post("alice", &format!("{command}?arg={cid}")).await,
                (200, block.to_vec()),
                "{command}"
            );
        }
        // A pin of alice does not make it public.
        assert_eq!(post("alice", &format!("pin/add?arg={cid}")).await.0, 200);
        assert_eq!(post("bob", &format!("block/get?arg={cid}")).await.0, 500);
    }
}

async fn restricted_content_stays_restricted_after_its_repository_is_deleted() {
    let ruled = Ruled::start(&["--gateway", "--upload-grace", "1h"]);
    let secret = b"a secret layer";
    let image = ruled.of("root").push("team/app", "1", secret).await;
    assert_eq!(ruled.of("root").ask("DELETE", &format!("/v2/team/app/manifests/{image}")).await.status, 202);
    let path = format!("/ipfs/{}?format=raw", cid_of(secret));
    for user in ["anonymous", "bob"] {
        assert_eq!(ruled.of(user).get(&path).await.status, 404, "{user}");
    }
}
