use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use super::{
    Repository,
    client::{descriptor, manifest},
};
use crate::{
    clients::Skopeo,
    harness::{Serve, blocking, trials},
    http::get,
};

pub fn trials() -> Vec<Trial> {
    trials![
        catalog_and_tags_are_listed_with_pagination,
        the_default_page_of_catalog_and_tags_has_1000_entries_and_a_link_to_the_next,
        referrers_are_listed_and_filtered_by_artifact_type,
        referrers_of_the_tag_schema_fallback_are_listed,
        an_unknown_digest_in_a_local_repository_is_404_without_asking_peers,
    ]
}

async fn catalog_and_tags_are_listed_with_pagination() {
    let node = Serve::start(&[]);
    assert_eq!(get(&node.url("/v2/_catalog")).await.json(), json!({ "repositories": [] }));
    let names = ["a", "a/b", "ab", "b"];
    for name in names {
        let repository = Repository::new(&node, name);
        let digest = repository.push_image("1", b"layer").await;
        let image = manifest(b"{}", &[b"layer"]);
        assert_eq!(repository.put(&format!("{digest}?tag=2&tag=10"), &image).await.status, 201);
    }
    let pages = async |mut path: String, list: &str| {
        let mut all = Vec::new();
        loop {
            let answer = get(&node.url(&path)).await;
            all.push(answer.json()[list].clone());
            let Some((_, rest)) = answer.header("link").split_once('<') else { return all };
            path = rest.split_once(">; rel=\"next\"").expect("a link").0.into();
        }
    };
    assert_eq!(pages("/v2/a/b/tags/list".into(), "tags").await, [json!(["1", "10", "2"])]);
    assert_eq!(pages("/v2/a/b/tags/list?n=2".into(), "tags").await, [json!(["1", "10"]), json!(["2"])]);
    assert_eq!(pages("/v2/a/b/tags/list?last=1".into(), "tags").await, [json!(["10", "2"])]);
    assert_eq!(pages("/v2/_catalog".into(), "repositories").await, [json!(names)]);
    let paged = pages("/v2/_catalog?n=3".into(), "repositories").await;
    assert_eq!(paged, [json!(["a", "a/b", "ab"]), json!(["b"])]);
    get(&node.url("/v2/nobody/tags/list")).await.refused(404, "NAME_UNKNOWN", &["nobody"]);
}

async fn the_default_page_of_catalog_and_tags_has_1000_entries_and_a_link_to_the_next() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let digest = a.push_image("0000", b"layer").await;
    let tags: Vec<String> = (0..1_001).map(|n| format!("{n:04}")).collect();
    for lot in tags.chunks(90) {
        let query: Vec<String> = lot.iter().map(|tag| format!("tag={tag}")).collect();
        let image = manifest(b"{}", &[b"layer"]);
        let answer = a.put(&format!("{digest}?{}", query.join("&")), &image).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    for query in ["", "?n=5000", "?n=1000"] {
        let answer = a.get(&format!("tags/list{query}")).await;
        assert_eq!(answer.json()["tags"], json!(tags[..1_000]), "{query}");
        assert_eq!(answer.header("link"), "</v2/a/tags/list?n=1000&last=0999>; rel=\"next\"");
    }
    let rest = a.get("tags/list?n=1000&last=0999").await;
    assert_eq!((&rest.json()["tags"], rest.header("link")), (&json!(["1000"]), ""));
    let none = a.get("tags/list?n=0").await;
    assert_eq!((&none.json()["tags"], none.header("link")), (&json!([]), ""));
    if Skopeo::available().is_ok() {
        let repository = format!("{}/a", node.registry());
        let listed = blocking(move || Skopeo::new().unwrap().list_tags(&repository).unwrap()).await;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["Tags"], json!(tags), "it follows the link");
    }
}

/// An artifact of this kind that refers to a manifest.
fn artifact(kind: &str, subject: &Value) -> Value {
    let mut json = manifest(b"{}", &[]);
    json["artifactType"] = kind.into();
    json["subject"] = subject.clone();
    json["annotations"] = json!({ "note": kind });
    json
}

async fn referrers_are_listed_and_filtered_by_artifact_type() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push(b"{}").await;
    let image = manifest(b"{}", &[]);
    let subject = descriptor(media_type::OCI_MANIFEST, image.to_string().as_bytes());
    let of = subject["digest"].as_str().expect("a digest");
    let list = async |query: &str| {
        let answer = a.get(&format!("referrers/{of}{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type::OCI_INDEX));
        answer
    };
    assert_eq!(list("").await.json()["manifests"], json!([]), "the repository is not even there");
    let mut digests = Vec::new();
    for kind in ["application/vnd.sbom", "application/vnd.signature"] {
        let json = artifact(kind, &subject);
        let answer = a.put(Digest::sha256_of(json.to_string().as_bytes()).to_string().as_str(), &json).await;
        assert_eq!((answer.status, answer.header("oci-subject")), (201, of), "{answer:?}");
        digests.push(answer.header("docker-content-digest").to_string());
    }
    assert_eq!(list("").await.json()["manifests"].as_array().expect("a list").len(), 2);
    let answer = list("?artifactType=application/vnd.sbom").await;
    assert_eq!(answer.header("oci-filters-applied"), "artifactType");
    let json = artifact("application/vnd.sbom", &subject);
    let mut expected = descriptor(media_type::OCI_MANIFEST, json.to_string().as_bytes());
    expected["artifactType"] = "application/vnd.sbom".into();
    expected["annotations"] = json!({ "note": "application/vnd.sbom" });
    assert_eq!(answer.json()["manifests"], json!([expected]));
    let first = list("?n=1").await;
    let link = first.header("link").trim_start_matches('<').split_once('>').expect("a link").0.to_string();
    let second = get(&node.url(&link)).await;
    assert_ne!(first.json()["manifests"], second.json()["manifests"]);
    assert_eq!((second.json()["manifests"].as_array().map(Vec::len), second.header("link")), (Some(1), ""));
    assert_eq!(a.delete(&format!("manifests/{}", digests[0])).await.status, 202);
    assert_eq!(list("").await.json()["manifests"].as_array().expect("a list").len(), 1);
    a.get("referrers/sha256:00").await.refused(400, "DIGEST_INVALID", &[]);
}

async fn referrers_of_the_tag_schema_fallback_are_listed() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let subject = Digest::sha256_of(b"subject");
    let mut old = descriptor(media_type::OCI_MANIFEST, b"old");
    old["artifactType"] = "application/vnd.old".into();
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [old] });
    assert_eq!(a.put(&format!("sha256-{}", subject.hex()), &index).await.status, 201);
    assert_eq!(a.get(&format!("referrers/{subject}")).await.json()["manifests"], json!([old]));
    let filtered = a.get(&format!("referrers/{subject}?artifactType=application/vnd.other")).await;
    assert_eq!(filtered.json()["manifests"], json!([]));
}

async fn an_unknown_digest_in_a_local_repository_is_404_without_asking_peers() {
    // A peer has the blob, and is not asked for it.
    let source = Serve::start(&[]);
    let bytes = crate::harness::noise(100_000);
    let digest = Repository::new(&source, "a").push(&bytes).await;
    let node = Serve::start(&["--peer", source.address()]);
    let a = Repository::new(&node, "a");
    a.push_image("x", b"layer").await;
    node.until("they meet", |status| status["peers"] == 1).await;
    a.get(&format!("blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN", &[&digest]);
    a.get(&format!("manifests/{digest}")).await.refused(404, "MANIFEST_UNKNOWN", &[&digest]);
    assert_eq!(source.status()["sent_blocks"], 0);
}
