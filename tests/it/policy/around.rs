//! Ways around the policies: unsigned content of a repository is not to be had by another way.

use std::{fs, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use reqwest::Client;
use serde_json::json;

use super::{Policed, signing::Key};
use crate::{
    access::cid_of,
    exposed,
    harness::{Serve, noise, trials, within},
    push::{Repository, descriptor, manifest},
};

const FETCHED_WITHIN: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    trials![
        unsigned_content_is_not_found_under_another_repository_name_or_by_a_digest_search,
        unsigned_blobs_cannot_be_mounted_into_another_repository,
        unsigned_referrers_are_listed_and_not_served,
        unsigned_content_is_not_served_below_layer_names,
        unsigned_content_is_not_served_by_the_gateway,
        unsigned_content_is_not_served_by_the_rpc,
        unsigned_content_is_not_given_to_peers_by_bitswap,
        a_bundle_does_not_bring_unsigned_content_past_the_policy,
        unsigned_content_stays_withheld_after_its_repository_is_deleted,
        an_image_that_has_the_form_of_a_signature_is_not_served,
        a_policy_about_a_cid_holds_for_all_its_spellings,
    ]
}

/// A large layer is a file, a small one a row of the index.
fn layers() -> [Vec<u8>; 2] {
    [b"an unsigned layer".to_vec(), noise(3 << 20)]
}

/// The CID of the first block of a file of several, or of the only one.
fn first(layer: &[u8]) -> String {
    cid_of(&layer[..layer.len().min(1 << 20)])
}

async fn unsigned_content_is_not_found_under_another_repository_name_or_by_a_digest_search() {
    let node = Policed::start(&[]);
    node.of("bob").push("other/app", "1", b"own layer").await;
    for layer in layers() {
        let image = node.of("alice").push("team/app", "1", &layer).await;
        let digest = Digest::sha256_of(&layer);
        for name in ["other/app", "nothing/here"] {
            for path in [format!("blobs/{digest}"), format!("blobs/{image}"), format!("manifests/{image}")] {
                for method in ["GET", "HEAD"] {
                    let answer = node.of("bob").ask(method, &format!("/v2/{name}/{path}")).await;
                    assert_eq!(answer.status, 404, "{name} {path}");
                }
            }
        }
        // A manifest does not bring along what it names.
        let stolen = node.of("bob").put("other/app", "2", &manifest(b"{}", &[&layer])).await;
        stolen.refused(404, "MANIFEST_BLOB_UNKNOWN", &[&digest.to_string()]);
    }
}

async fn unsigned_blobs_cannot_be_mounted_into_another_repository() {
    let node = Policed::start(&[]);
    for layer in layers() {
        let image = node.of("alice").push("team/app", "1", &layer).await;
        let digest = Digest::sha256_of(&layer);
        let mount = |from: &str| format!("/v2/other/app/blobs/uploads/?mount={digest}{from}");
        for from in ["&from=team/app", "", "&from=ipfs/bafkqaaa"] {
            assert_eq!(node.of("bob").ask("POST", &mount(from)).await.status, 202, "{from}");
        }
        node.sign("carol", "team/app", &image).await;
        assert_eq!(node.of("bob").ask("POST", &mount("&from=team/app")).await.status, 201);
    }
}

async fn unsigned_referrers_are_listed_and_not_served() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    node.sign("carol", "team/app", &image).await;
    let size = node.of("anonymous").get("/v2/team/app/manifests/1").await.body.len();
    let mut sbom = manifest(b"{}", &[b"an sbom"]);
    sbom["artifactType"] = json!("application/spdx+json");
    sbom["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": image, "size": size });
    assert_eq!(node.of("alice").upload("team/app", b"an sbom").await.status, 201);
    let put = node.of("alice").put("team/app", "sbom", &sbom).await;
    assert_eq!(put.status, 201, "{put:?}");
    let digest = put.header("docker-content-digest").to_string();
    let listed = node.of("anonymous").get(&format!("/v2/team/app/referrers/{image}")).await.json();
    assert_eq!(listed["manifests"][0]["digest"], json!(digest));
    // The image is signed, and not what refers to it.
    for path in [format!("manifests/{digest}"), format!("blobs/{}", Digest::sha256_of(b"an sbom"))] {
        assert_eq!(node.statuses(&format!("/v2/team/app/{path}")).await, [401, 403, 200], "{path}");
    }
    // Nor is an image signed by the signature of what refers to it.
    let other = node.of("alice").push("team/app", "2", b"another layer").await;
    sbom["subject"]["digest"] = json!(other);
    let put = node.of("alice").put("team/app", "sbom", &sbom).await;
    node.sign("carol", "team/app", put.header("docker-content-digest")).await;
    assert_eq!(node.statuses("/v2/team/app/manifests/sbom").await, [200; 3]);
    assert_eq!(node.statuses("/v2/team/app/manifests/2").await, [401, 403, 200]);
}

async fn unsigned_content_is_not_served_below_layer_names() {
    let node = Policed::start(&["--find-timeout", "1s"]);
    let layer = b"an unsigned layer";
    let image = node.of("alice").push("team/app", "1", layer).await;
    let digest = Digest::sha256_of(layer).to_string();
    let mut described = descriptor(media_type::OCI_LAYER_TAR_GZIP, layer);
    described["annotations"] =
        json!({ "io.ocipfs.layer.ipfs.cid": cid_of(layer), "io.ocipfs.layer.fs.digest": digest });
    let document = json!({ "schemaVersion": 2, "mediaType": "application/vnd.ocipfs.layer.manifest.v1+json",
        "layer": described })
    .to_string();
    assert_eq!(node.of("bob").upload("other/app", document.as_bytes()).await.status, 201);
    let path = format!("/v2/layer/{}/blobs/{digest}", cid_of(document.as_bytes()));
    assert_eq!(node.statuses(&path).await, [404, 404, 200]);
    node.sign("carol", "team/app", &image).await;
    assert_eq!(node.statuses(&path).await, [200; 3]);
}

async fn unsigned_content_is_not_served_by_the_gateway() {
    let node = Policed::start(&["--gateway"]);
    for layer in layers() {
        let image = node.of("alice").push("team/app", "1", &layer).await;
        let paths = ["format=raw", "format=car"].map(|query| format!("/ipfs/{}?{query}", first(&layer)));
        for path in &paths {
            assert_eq!(node.of("anonymous").get(path).await.status, 404, "{path}");
        }
        node.sign("carol", "team/app", &image).await;
        for path in &paths {
            assert_eq!(node.of("anonymous").get(path).await.status, 200, "{path}");
        }
    }
}

/// The URL of the RPC of a node.
fn rpc_url(node: &Serve) -> String {
    let api = fs::read_to_string(node.data_dir().join("api")).unwrap();
    let parts: Vec<&str> = api.split('/').collect();
    format!("http://{}:{}/api/v0", parts[2], parts[4])
}

async fn unsigned_content_is_not_served_by_the_rpc() {
    let dir = tempfile::tempdir().unwrap();
    let users = exposed::users(&dir.path().join("users"), &[("bob", "bob"), ("carol", "carol")]);
    let arguments = ["--rpc-listen", "127.0.0.1:0", "--rpc-htpasswd", &users, "--find-timeout", "1s"];
    let node = Policed::start(&arguments);
    let url = rpc_url(&node.ruled.node);
    let post = async |user: &str, command: &str| {
        let request = Client::new().post(format!("{url}/{command}"));
        let answer = request.basic_auth(user, Some(user)).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.map(Vec::from).unwrap_or_default())
    };
    for layer in layers() {
        let image = node.of("alice").push("team/app", "1", &layer).await;
        let (cid, block) = (first(&layer), &layer[..layer.len().min(1 << 20)]);
        for command in ["cat", "block/get", "dag/export", "get", "block/stat", "ls", "dag/get", "pin/add"] {
            let (status, bytes) = post("bob", &format!("{command}?arg={cid}")).await;
            let leaks = bytes.windows(12).any(|window| window == &block[..12]);
            assert!(!leaks && (status == 500 || bytes.is_empty()), "{command}: {status}");
        }
        let get = format!("block/get?arg={cid}");
        assert_eq!(post("carol", &get).await, (200, block.to_vec()));
        node.sign("carol", "team/app", &image).await;
        assert_eq!(post("bob", &get).await, (200, block.to_vec()));
    }
}

/// Asks a node for a block, which it fetches from its peers.
async fn fetched(node: &Serve, cid: &str) -> bool {
    let url = format!("{}/block/get?arg={cid}", rpc_url(node));
    Client::new().post(url).send().await.unwrap().status().is_success()
}

/// Asks until the block comes: a peer on a busy machine may take longer to answer than the node searches.
async fn until_fetched(node: &Serve, cid: &str) {
    while !fetched(node, cid).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn reader(of: &Serve) -> Serve {
    Serve::start(&["--peer", of.address(), "--find-timeout", "2s", "--rpc-listen", "127.0.0.1:0"])
}

async fn unsigned_content_is_not_given_to_peers_by_bitswap() {
    let node = Policed::start(&["--share", "all"]);
    let peer = reader(&node.ruled.node);
    for layer in layers() {
        let image = node.of("alice").push("team/app", "1", &layer).await;
        assert!(!fetched(&peer, &first(&layer)).await);
        // As one block, or by its root.
        assert!(!fetched(&peer, &cid_of(&layer)).await);
        node.sign("carol", "team/app", &image).await;
        within(FETCHED_WITHIN, until_fetched(&peer, &first(&layer))).await;
    }
}

async fn a_bundle_does_not_bring_unsigned_content_past_the_policy() {
    let source = Serve::start(&[]);
    let large = noise(3 << 20);
    Repository::new(&source, "team/app").push_image("1", b"an unsigned layer").await;
    Repository::new(&source, "team/app").push_image("2", &large).await;
    let bundle = source.data_dir().join("team.car");
    let path = bundle.to_str().unwrap();
    assert_eq!(source.command(&["bundle", "export", path, "team/app:1", "team/app:2"]).code, Some(0));
    let node = Policed::start(&["--share", "all", "--gateway"]);
    let said = node.ruled.node.command(&["bundle", "import", path]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("team/app:1 is not served"), "{said:?}");
    let peer = reader(&node.ruled.node);
    for (tag, block) in [("1", b"an unsigned layer".as_slice()), ("2", &large[..1 << 20])] {
        let manifest = format!("/v2/team/app/manifests/{tag}");
        assert_eq!(node.statuses(&manifest).await, [401, 403, 200]);
        let cid = cid_of(block);
        assert!(!fetched(&peer, &cid).await);
        assert_eq!(node.of("bob").get(&format!("/ipfs/{cid}?format=raw")).await.status, 404);
        let image = node.of("carol").get(&manifest).await.header("docker-content-digest").to_string();
        node.sign("carol", "team/app", &image).await;
        assert_eq!(node.statuses(&manifest).await, [200; 3]);
    }
}

async fn unsigned_content_stays_withheld_after_its_repository_is_deleted() {
    let node = Policed::start(&["--gateway", "--upload-grace", "1h"]);
    let image = node.of("alice").push("team/app", "1", b"an unsigned layer").await;
    assert_eq!(node.of("root").ask("DELETE", &format!("/v2/team/app/manifests/{image}")).await.status, 202);
    let path = format!("/ipfs/{}?format=raw", cid_of(b"an unsigned layer"));
    for user in ["anonymous", "bob"] {
        assert_eq!(node.of(user).get(&path).await.status, 404, "{user}");
    }
}

async fn an_image_that_has_the_form_of_a_signature_is_not_served() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    // Anyone may sign with a key of their own.
    let (payload, signature) = Key::make().sign(&image);
    let config = br#"{"config":{"Entrypoint":["/bin/sh"]}}"#;
    for blob in [payload.as_slice(), config] {
        assert_eq!(node.of("alice").upload("team/app", blob).await.status, 201);
    }
    let of = |config: &[u8]| {
        let mut signed = manifest(config, &[&payload]);
        signed["layers"][0]["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
        signed["layers"][0]["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
        signed
    };
    let put = node.of("alice").put("team/app", "signature", &of(b"{}")).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(node.statuses("/v2/team/app/manifests/signature").await, [200; 3]);
    // Clients in Go read both as `layers`, and the last one counts.
    let layer = descriptor(media_type::OCI_LAYER_TAR_GZIP, b"a layer");
    for key in ["Layers", "LAYERS", "layer\u{17f}"] {
        let mut evil = of(b"{}");
        evil[key] = json!([layer]);
        let put = node.of("alice").put("team/app", "evil", &evil).await;
        assert_eq!(
            (put.status, &put.json()["errors"][0]["code"]),
            (400, &json!("MANIFEST_INVALID")),
            "{key}"
        );
    }
    // What is stored, and has more than a signature has.
    let (mut other, mut urls) = (of(b"{}"), of(b"{}"));
    other["other"] = json!([layer]);
    urls["layers"][0]["urls"] = json!(["https://example.org/layer"]);
    for (tag, json) in [("other", other), ("urls", urls), ("runs", of(config))] {
        let put = node.of("alice").put("team/app", tag, &json).await;
        assert_eq!(put.status, 201, "{put:?}");
        assert_eq!(node.statuses(&format!("/v2/team/app/manifests/{tag}")).await, [401, 403, 200], "{tag}");
    }
    let path = format!("/v2/team/app/blobs/{}", Digest::sha256_of(config));
    assert_eq!(node.statuses(&path).await, [401, 403, 200]);
}

async fn a_policy_about_a_cid_holds_for_all_its_spellings() {
    let (key, dir) = (Key::make(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("release.pub"), key.pem()).unwrap();
    let cid = cid_of(b"a layer");
    let text = format!(
        "[keys.release]\ncosign = \"release.pub\"\n\n[[policy]]\nrepositories = [\"ipfs/{cid}\"]\nkeys = [\"release\"]\n"
    );
    let node = Policed::with(key, dir, &text, &["--gateway"]);
    for layer in [b"a layer".as_slice(), b"another layer"] {
        node.of("alice").push("other/app", "1", layer).await;
    }
    let get = async |cid: &str| node.of("anonymous").get(&format!("/ipfs/{cid}?format=raw")).await.status;
    for spelled in [cid.clone(), cid.to_uppercase(), format!("%66{}", &cid[1..])] {
        assert_eq!(get(&spelled).await, 403, "{spelled}");
    }
    assert_eq!(get(&cid_of(b"another layer")).await, 200);
}
