use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher, media_type};
use serde_json::{Value, json};

use super::{
    Repository,
    client::{descriptor, manifest},
};
use crate::{
    following::{current, name_of, standby::arguments},
    harness::{Serve, trials},
    http::{ask, get, raw, send},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_pushed_manifest_is_served_byte_for_byte_by_tag_and_digest,
        one_push_sets_several_tags,
        a_manifest_of_any_media_type_is_accepted,
        what_a_manifest_says_of_its_blobs_is_kept_as_it_is,
        a_manifest_with_missing_blobs_is_rejected,
        a_sparse_or_nested_index_is_accepted,
        a_manifest_with_missing_foreign_layers_is_accepted,
        an_image_without_some_of_its_blobs_is_accepted_and_published_with_sparse_images,
        a_manifest_larger_than_4_mib_is_rejected,
        invalid_manifests_are_rejected_with_the_reason,
    ]
}

async fn a_pushed_manifest_is_served_byte_for_byte_by_tag_and_digest() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "org/a");
    let [config, layer] = [b"{}".as_slice(), b"layer"];
    a.push(config).await;
    a.push(layer).await;
    let text = format!("{:#}\n \n", manifest(config, &[layer]));
    for (algorithm, tagged) in [(Algorithm::Sha256, true), (Algorithm::Sha512, false)] {
        let digest = Hasher::of(algorithm, text.as_bytes()).to_string();
        let reference = if tagged { "1.0" } else { &digest };
        let url = a.url(&format!("manifests/{reference}"));
        let answer = send("PUT", &url, &[("content-type", media_type::OCI_MANIFEST)], text.clone()).await;
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, &*digest), "{answer:?}");
        assert_eq!(answer.header("oci-tag"), "");
        for url in [url, a.at(&answer), a.url(&format!("manifests/{digest}"))] {
            let pulled = get(&url).await;
            assert_eq!((pulled.status, pulled.header("content-type")), (200, media_type::OCI_MANIFEST));
            assert_eq!(
                (pulled.header("docker-content-digest"), &pulled.body),
                (&*digest, &text.clone().into_bytes())
            );
            let head = ask("HEAD", &url, &[]).await;
            assert_eq!((head.status, head.header("content-length")), (200, &*text.len().to_string()));
        }
    }
    let other = manifest(b"{}", &[]);
    assert_eq!(a.put("1.0", &other).await.status, 201);
    assert_eq!(a.get("manifests/1.0").await.json(), other, "a tag moves");
}

async fn one_push_sets_several_tags() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    let json = manifest(b"{}", &[]);
    let digest = Digest::sha256_of(json.to_string().as_bytes());
    let answer = a.put(&format!("{digest}?tag=1&tag=1.0&tag=latest&tag=1"), &json).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let told: Vec<_> = answer.headers.get_all("oci-tag").iter().collect();
    assert_eq!(told, ["1", "1.0", "latest"]);
    for tag in ["1", "1.0", "latest"] {
        assert_eq!(a.get(&format!("manifests/{tag}")).await.json(), json);
    }
    a.put(&format!("{digest}?tag=-x"), &json).await.refused(400, "TAG_INVALID", &["-x"]);
    let many: Vec<String> = (0..101).map(|n| format!("tag=t{n}")).collect();
    a.put(&format!("{digest}?{}", many.join("&")), &json).await.refused(414, "TAG_INVALID", &["100"]);
}

async fn a_manifest_of_any_media_type_is_accepted() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let artifact = json!({ "mediaType": "application/vnd.mine+json", "blobs": [], "x": 1 }).to_string();
    for (kind, text) in [("application/vnd.mine+json", &*artifact), ("text/x-mine", "no JSON at all")] {
        let answer = send("PUT", &a.url("manifests/x"), &[("content-type", kind)], text.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let pulled = a.get("manifests/x").await;
        assert_eq!((pulled.header("content-type"), &*pulled.body), (kind, text.as_bytes()));
    }
}

async fn what_a_manifest_says_of_its_blobs_is_kept_as_it_is() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    a.push(b"layer").await;
    let subject = a.push_image("subject", b"layer").await;
    let mut odd = manifest(b"{}", &[b"layer", b"layer", b"layer"]);
    odd["artifactType"] = json!("sbom");
    odd["annotations"] = json!({ "a": null, "b": 1 });
    odd["layers"][0]["mediaType"] = json!("text/plain; charset=utf-8");
    odd["layers"][1]["mediaType"] = json!("");
    odd["layers"][2]["annotations"] = json!({ "a": null });
    odd["subject"] = json!({ "mediaType": "x", "digest": subject, "size": 1 });
    let of_partial_platform = {
        let mut entry = descriptor(media_type::OCI_MANIFEST, odd.to_string().as_bytes());
        entry["platform"] = json!({ "os": "linux" });
        index(&[entry])
    };
    for (tag, kind, json) in
        [("odd", media_type::OCI_MANIFEST, &odd), ("index", media_type::OCI_INDEX, &of_partial_platform)]
    {
        let url = a.url(&format!("manifests/{tag}"));
        let headers = [("content-type", &*format!("{kind}; charset=utf-8"))];
        let answer = send("PUT", &url, &headers, json.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let pulled = get(&url).await;
        assert_eq!((pulled.header("content-type"), &*pulled.body), (kind, json.to_string().as_bytes()));
    }
    let referrers = a.get(&format!("referrers/{subject}")).await.json();
    assert_eq!(referrers["manifests"][0]["artifactType"], "sbom", "{referrers}");
    for unsafe_size in [json!(-1), json!(0.5), json!("5")] {
        let mut json = manifest(b"{}", &[b"layer"]);
        json["layers"][0]["size"] = unsafe_size;
        a.put("x", &json).await.refused(400, "MANIFEST_INVALID", &["size"]);
    }
}

async fn a_manifest_with_missing_blobs_is_rejected() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    Repository::new(&node, "b").push(b"layer").await;
    a.push(b"{}").await;
    let json = manifest(b"{}", &[b"layer"]);
    let missing = Digest::sha256_of(b"layer").to_string();
    a.put("x", &json).await.refused(
        404,
        "MANIFEST_BLOB_UNKNOWN",
        &[&missing, "push the blobs of a manifest before the manifest"],
    );
    a.get("manifests/x").await.refused(404, "NAME_UNKNOWN", &[]);
    a.push(b"layer").await;
    assert_eq!(a.put("x", &json).await.status, 201);
    // One layer of two is not enough: an acknowledged image can be pulled.
    let elsewhere = Digest::sha256_of(b"elsewhere").to_string();
    let sparse = manifest(b"{}", &[b"layer", b"elsewhere"]);
    a.put("y", &sparse).await.refused(404, "MANIFEST_BLOB_UNKNOWN", &[&elsewhere]);
    a.get("manifests/y").await.refused(404, "MANIFEST_UNKNOWN", &[]);
    a.put("x", &manifest(b"none", &[b"layer"])).await.refused(404, "MANIFEST_BLOB_UNKNOWN", &[]);
}

fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests })
}

async fn a_sparse_or_nested_index_is_accepted() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let absent = descriptor(media_type::OCI_MANIFEST, b"somewhere else");
    let inner = index(&[absent]);
    assert_eq!(a.put("inner", &inner).await.status, 201);
    let outer = index(&[descriptor(media_type::OCI_INDEX, inner.to_string().as_bytes())]);
    assert_eq!(a.put("outer", &outer).await.status, 201);
    assert_eq!(a.get("manifests/outer").await.json(), outer);
    assert_eq!(a.put("none", &index(&[])).await.status, 201);
}

async fn a_manifest_with_missing_foreign_layers_is_accepted() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    let mut json = manifest(b"{}", &[]);
    json["layers"] = json!([
        descriptor(media_type::OCI_NONDISTRIBUTABLE_TAR_GZIP, b"1"),
        descriptor(media_type::DOCKER_FOREIGN_TAR_GZIP, b"2"),
    ]);
    assert_eq!(a.put("x", &json).await.status, 201);
}

async fn an_image_without_some_of_its_blobs_is_accepted_and_published_with_sparse_images() {
    let node = Serve::start(&["--sparse-images"]);
    let a = Repository::new(&node, "a");
    let [config, layer, missing] = [b"{}".as_slice(), b"layer", b"missing"];
    a.push(config).await;
    let there = a.push(layer).await;
    let json = manifest(config, &[layer, missing]);
    assert_eq!(a.put("x", &json).await.status, 201);
    let (name, address) = (name_of(&node), node.address().to_string());
    let follower = Serve::start(&arguments(&name, &address, "all"));
    current(&follower, &node).await;
    for copy in [a, Repository::new(&follower, "a")] {
        assert_eq!(copy.get("manifests/x").await.body, json.to_string().as_bytes());
        assert_eq!(copy.get(&format!("blobs/{there}")).await.body, layer);
        let answer = copy.get(&format!("blobs/{}", Digest::sha256_of(missing))).await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
}

async fn a_manifest_larger_than_4_mib_is_rejected() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    let of = |size: usize| {
        let mut json = manifest(b"{}", &[]);
        json["annotations"] = json!({ "x": "" });
        let rest = size - json.to_string().len();
        json["annotations"]["x"] = "y".repeat(rest).into();
        json
    };
    let most = of(4 << 20);
    assert_eq!(a.put("most", &most).await.status, 201);
    assert_eq!(a.get("manifests/most").await.body.len(), 4 << 20);
    let more = of((4 << 20) + 1).to_string();
    let url = a.url("manifests/more");
    // Refused before the body is read, and also where no length tells.
    for length in ["content-length: 4194305\r\n", "transfer-encoding: chunked\r\n"] {
        let path = url.trim_start_matches(&node.url(""));
        let kind = media_type::OCI_MANIFEST;
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n{length}\r\n"
        );
        let body =
            if length.starts_with('t') { format!("400001\r\n{more}\r\n0\r\n\r\n") } else { more.clone() };
        let answer = raw(node.registry(), &(head + &body));
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("SIZE_INVALID"), "{answer}");
    }
}

async fn invalid_manifests_are_rejected_with_the_reason() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    let json = manifest(b"{}", &[]);
    let put = |reference: &str, kind: &'static str, text: String| {
        let url = a.url(&format!("manifests/{reference}"));
        async move { send("PUT", &url, &[("content-type", kind)], text).await }
    };
    let kind = media_type::OCI_MANIFEST;
    put("x", kind, "{".into()).await.refused(400, "MANIFEST_INVALID", &["invalid image manifest"]);
    put("x", media_type::OCI_INDEX, json.to_string()).await.refused(
        400,
        "MANIFEST_INVALID",
        &["Content-Type"],
    );
    put("sha256:baddigest", kind, json.to_string()).await.refused(400, "DIGEST_INVALID", &[]);
    let other = Digest::sha256_of(b"other").to_string();
    put(&other, kind, json.to_string()).await.refused(400, "DIGEST_INVALID", &[&other]);
    put(&"x".repeat(129), kind, json.to_string()).await.refused(400, "TAG_INVALID", &["at most 127"]);
    let schema1 = json!({ "schemaVersion": 1, "name": "a", "tag": "x" }).to_string();
    let kind1 = "application/vnd.docker.distribution.manifest.v1+json";
    put("x", kind1, schema1).await.refused(400, "MANIFEST_INVALID", &["schema 1"]);
    a.get("manifests/x").await.refused(404, "NAME_UNKNOWN", &[]);
}
