//! Pushed and followed content of a follower form one repository.

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{follower, known, name_of, published, pulls, push, standby::current};
use crate::{
    clients::{Docker, Skopeo},
    harness::{Serve, blocking, trials},
    http::get,
    names::image::{Image, descriptor, index, with},
    push::{self as pushing, Repository, program},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![
            a_push_to_a_followed_repository_does_not_hide_followed_tags,
            a_pushed_tag_wins_over_a_followed_one_until_it_is_deleted,
            a_pushed_manifest_may_reference_blobs_of_the_followed_repository,
            a_pushed_index_keeps_manifests_of_the_followed_repository,
            a_blob_is_mounted_from_a_followed_repository,
            a_delete_of_followed_content_is_denied,
            referrers_of_pushed_and_followed_repositories_are_listed_together,
            a_signature_of_a_followed_image_is_not_garbage_collected,
            catalog_and_tag_pagination_covers_pushed_and_followed_repositories,
            a_follower_has_the_tags_of_its_publisher_and_no_others,
        ],
        trials![needs Skopeo::available(); skopeo_retags_a_followed_image],
        trials![needs Docker::available(); docker_pushes_a_followed_image_under_another_tag],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A publisher with `app:1`, and a follower that knows it.
pub async fn pair(image: &Image) -> (Serve, Serve) {
    let publisher = Serve::start(&[]);
    push(&publisher, "app", "1", image).await;
    let follower = follower(&[&publisher], &[]);
    current(&follower, &publisher).await;
    (publisher, follower)
}

pub async fn tags(node: &Serve, name: &str) -> serde_json::Value {
    get(&node.url(&format!("/v2/{name}/tags/list"))).await.json()["tags"].clone()
}

async fn a_push_to_a_followed_repository_does_not_hide_followed_tags() {
    let (image, own) = (Image::of("followed", 10_000), Image::of("own", 20_000));
    let (publisher, follower) = pair(&image).await;
    // One blob of a push that is broken off.
    Repository::new(&follower, "app").push(b"alone").await;
    assert_eq!(tags(&follower, "app").await, json!(["1"]));
    pulls(&follower, "app", "1", &image).await;
    push(&follower, "app", "2", &own).await;
    assert_eq!(tags(&follower, "app").await, json!(["1", "2"]));
    pulls(&follower, "app", "1", &image).await;
    pulls(&follower, "app", "2", &own).await;
    // Only content pushed here is published here.
    let root = published(&follower).await;
    let at = format!("/v2/ipfs/{root}/app");
    let listed = get(&follower.url(&format!("{at}/tags/list"))).await.json();
    assert_eq!(listed["tags"], json!(["2"]));
    get(&follower.url("/v2/app/manifests/3")).await.refused(404, "MANIFEST_UNKNOWN", &["1 or 2"]);
    drop(publisher);
}

async fn a_pushed_tag_wins_over_a_followed_one_until_it_is_deleted() {
    let (image, own) = (Image::of("followed", 10_000), Image::of("own", 20_000));
    let (_publisher, follower) = pair(&image).await;
    push(&follower, "app", "1", &own).await;
    known(&follower, "app", "1", &own).await;
    let repository = &follower.status()["followed"][0]["repositories"][0];
    assert_eq!((&repository["name"], &repository["shadowed"]), (&json!("app"), &json!(["1"])));
    let client = reqwest::Client::new();
    let deleted = client.delete(follower.url("/v2/app/manifests/1")).send().await.unwrap();
    assert_eq!(deleted.status(), 202);
    pulls(&follower, "app", "1", &image).await;
    assert_eq!(follower.status()["followed"][0]["repositories"][0]["shadowed"], json!([]));
}

async fn a_pushed_manifest_may_reference_blobs_of_the_followed_repository() {
    let image = Image::of("followed", 2 << 20);
    let (publisher, follower) = pair(&image).await;
    // Nothing of it is pushed, as a client that found its blobs here does not.
    let put = |node: &Serve, tag: &str| {
        let client = reqwest::Client::new();
        let url = node.url(&format!("/v2/app/manifests/{tag}"));
        client.put(url).header("content-type", image.media_type).body(image.manifest.clone()).send()
    };
    assert_eq!(put(&follower, "stable").await.unwrap().status(), 201);
    pulls(&follower, "app", "stable", &image).await;
    // It is owned from then on: published under the own name, and here when the followed name is not.
    let root = published(&follower).await;
    pulls(&follower, &format!("ipfs/{root}/app"), "stable", &image).await;
    publisher.kill();
    follower.ask(&["store", "gc"]);
    pulls(&follower, "app", "stable", &image).await;
}

async fn a_pushed_index_keeps_manifests_of_the_followed_repository() {
    let image = Image::of("followed", 100_000);
    let (publisher, follower) = pair(&image).await;
    let list = index(&[image.descriptor()]);
    let client = reqwest::Client::new();
    let put = client.put(follower.url("/v2/app/manifests/all")).header("content-type", media_type::OCI_INDEX);
    assert_eq!(put.body(list).send().await.unwrap().status(), 201);
    let root = published(&follower).await;
    publisher.kill();
    let at = format!("ipfs/{root}/app");
    pulls(&follower, &at, &image.digest(), &image).await;
    get(&follower.url(&format!("/v2/{at}/manifests/1"))).await.refused(404, "MANIFEST_UNKNOWN", &["all"]);
}

async fn a_blob_is_mounted_from_a_followed_repository() {
    let image = Image::of("followed", 2 << 20);
    let (_publisher, follower) = pair(&image).await;
    let client = reqwest::Client::new();
    let digest = Digest::sha256_of(&image.layer);
    let mount = |from: &str| {
        let url = follower.url(&format!("/v2/other/blobs/uploads/?mount={digest}&from={from}"));
        client.post(url).send()
    };
    assert_eq!(mount("nothing").await.unwrap().status(), 202);
    assert_eq!(mount("app").await.unwrap().status(), 201);
    let answer = get(&follower.url(&format!("/v2/other/blobs/{digest}"))).await;
    assert!(answer.status == 200 && answer.body == image.layer);
}

async fn a_delete_of_followed_content_is_denied() {
    let image = Image::of("followed", 1000);
    let (publisher, follower) = pair(&image).await;
    let client = reqwest::Client::new();
    let blob = Digest::sha256_of(&image.layer);
    for path in ["manifests/1".to_string(), format!("manifests/{}", image.digest()), format!("blobs/{blob}")]
    {
        let answer = client.delete(follower.url(&format!("/v2/app/{path}"))).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 403, "{path}: {text}");
        assert!(text.contains("DENIED") && text.contains(&name_of(&publisher)), "{text}");
    }
    let answer = client.delete(follower.url("/v2/app/manifests/2")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    pulls(&follower, "app", "1", &image).await;
}

async fn referrers_of_pushed_and_followed_repositories_are_listed_together() {
    let image = Image::of("signed", 1000);
    let (publisher, follower) = pair(&image).await;
    let subject = descriptor(image.media_type, &image.manifest);
    for (node, kind) in [(&publisher, "application/vnd.sbom"), (&follower, "application/vnd.signature")] {
        let app = Repository::new(node, "app");
        app.push(b"{}").await;
        let artifact = pushing::manifest(b"{}", &[]);
        let artifact = with(with(artifact, "artifactType", kind), "subject", subject.clone());
        let digest = Digest::sha256_of(artifact.to_string().as_bytes()).to_string();
        assert_eq!(app.put(&digest, &artifact).await.status, 201);
    }
    current(&follower, &publisher).await;
    let path = format!("/v2/app/referrers/{}", image.digest());
    let kinds = |listed: &serde_json::Value| {
        let all = listed["manifests"].as_array().unwrap().iter();
        let mut kinds: Vec<String> = all.map(|one| one["artifactType"].as_str().unwrap().into()).collect();
        kinds.sort();
        kinds
    };
    let both = ["application/vnd.sbom", "application/vnd.signature"];
    assert_eq!(kinds(&get(&follower.url(&path)).await.json()), both);
    let page = get(&follower.url(&format!("{path}?n=1"))).await;
    let link = page.header("link");
    let next = link.split('<').nth(1).and_then(|link| link.split('>').next()).expect("a next page");
    let (one, other) = (kinds(&page.json()), kinds(&get(&follower.url(next)).await.json()));
    let mut paged = [one, other].concat();
    paged.sort();
    assert_eq!(paged, both);
    assert_eq!(kinds(&get(&publisher.url(&path)).await.json()), both[..1]);
}

async fn a_signature_of_a_followed_image_is_not_garbage_collected() {
    let image = Image::of("signed", 1000);
    let publisher = Serve::start(&[]);
    push(&publisher, "app", "1", &image).await;
    let name = name_of(&publisher);
    let follower = Serve::start(&["--peer", publisher.address(), "--follow", &name, "--keep-untagged", "0s"]);
    current(&follower, &publisher).await;
    let app = Repository::new(&follower, "app");
    app.push(b"{}").await;
    let referrer = |subject: serde_json::Value| {
        let artifact = pushing::manifest(b"{}", &[]);
        with(with(artifact, "artifactType", "application/vnd.signature"), "subject", subject)
    };
    let none = descriptor(image.media_type, b"nothing has this");
    let (kept, other) = (referrer(descriptor(image.media_type, &image.manifest)), referrer(none));
    let digest_of =
        |artifact: &serde_json::Value| Digest::sha256_of(artifact.to_string().as_bytes()).to_string();
    for artifact in [&kept, &other] {
        assert_eq!(app.put(&digest_of(artifact), artifact).await.status, 201);
    }
    follower.ask(&["repo", "gc", "--untagged"]);
    let status = async |artifact| app.get(&format!("manifests/{}", digest_of(artifact))).await.status;
    assert_eq!((status(&kept).await, status(&other).await), (200, 404));
}

async fn catalog_and_tag_pagination_covers_pushed_and_followed_repositories() {
    let image = Image::of("followed", 1000);
    let (publisher, follower) = pair(&image).await;
    push(&publisher, "c", "1", &image).await;
    current(&follower, &publisher).await;
    push(&follower, "b", "1", &image).await;
    push(&follower, "app", "0", &image).await;
    push(&follower, "app", "2", &image).await;
    for (path, key, all) in
        [("/v2/_catalog", "repositories", ["app", "b", "c"]), ("/v2/app/tags/list", "tags", ["0", "1", "2"])]
    {
        assert_eq!(get(&follower.url(path)).await.json()[key], json!(all));
        let (mut next, mut found) = (format!("{path}?n=1"), Vec::new());
        while !next.is_empty() {
            let page = get(&follower.url(&next)).await;
            found.extend(page.json()[key].as_array().unwrap().clone());
            let link = page.header("link").to_string();
            next = link.split('<').nth(1).and_then(|link| link.split('>').next()).unwrap_or_default().into();
        }
        assert_eq!(json!(found), json!(all));
    }
}

async fn skopeo_retags_a_followed_image() {
    let image = Image::of("followed", 100_000);
    let (_publisher, follower) = pair(&image).await;
    let reference = |tag: &str| format!("{}/app:{tag}", follower.registry());
    let skopeo = Skopeo::new().unwrap();
    let source = format!("docker://{}", reference("1"));
    skopeo.push(&source, &reference("stable")).unwrap();
    pulls(&follower, "app", "stable", &image).await;
}

async fn docker_pushes_a_followed_image_under_another_tag() {
    let publisher = Serve::start(&[]);
    let follower = follower(&[&publisher], &[]);
    let (published, followed) = (publisher.registry().to_string(), follower.registry().to_string());
    let docker = blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path());
        let docker = Docker::start().unwrap();
        docker.build(dir.path(), &format!("{published}/app:1"), false).unwrap();
        docker.push(&format!("{published}/app:1")).unwrap();
        docker.forget_images().unwrap();
        docker
    })
    .await;
    current(&follower, &publisher).await;
    blocking(move || {
        let reference = |tag: &str| format!("{followed}/app:{tag}");
        docker.pull(&reference("1")).unwrap();
        docker.tag(&reference("1"), &reference("stable")).unwrap();
        docker.push(&reference("stable")).unwrap();
    })
    .await;
    assert_eq!(tags(&follower, "app").await, json!(["1", "stable"]));
}

async fn a_follower_has_the_tags_of_its_publisher_and_no_others() {
    let image = Image::of("followed", 10_000);
    let (publisher, follower) = pair(&image).await;
    // What an entry of a pushed index is called is not a tag.
    push(&publisher, "named", "inner", &image).await;
    let named = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [with(image.descriptor(), "annotations", json!({ "org.opencontainers.image.ref.name": "other" }))] });
    assert_eq!(Repository::new(&publisher, "named").put("all", &named).await.status, 201);
    for (name, tag) in [("app", "1"), ("named", "inner")] {
        let deleted = Repository::new(&publisher, name).delete(&format!("manifests/{tag}")).await;
        assert_eq!(deleted.status, 202, "{deleted:?}");
    }
    current(&follower, &publisher).await;
    for node in [&publisher, &follower] {
        let app = Repository::new(node, "app");
        // Alone in its repository, and without a tag.
        assert_eq!(tags(node, "app").await, json!([]));
        app.get("manifests/latest").await.refused(404, "MANIFEST_UNKNOWN", &["latest"]);
        let by_digest = app.get(&format!("manifests/{}", image.digest())).await;
        assert_eq!((by_digest.status, by_digest.body), (200, image.manifest.clone()));
        assert_eq!(tags(node, "named").await, json!(["all"]));
        Repository::new(node, "named").get("manifests/other").await.refused(
            404,
            "MANIFEST_UNKNOWN",
            &["other"],
        );
    }
}
