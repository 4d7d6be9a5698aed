//! cosign, oras and crane at a follower: what they add joins what is followed.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{
    follower, published, pulls, push,
    standby::current,
    union::{pair, tags},
};
use crate::{
    clients::{COSIGN, CRANE, Client, ORAS},
    harness::{Serve, blocking, trials},
    http::get,
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs COSIGN.available(); cosign_signs_a_followed_image_and_verifies_it_without_the_publisher],
        trials![needs ORAS.available(); oras_attaches_an_artifact_at_a_follower_and_lists_referrers_of_both_nodes],
        trials![needs CRANE.available(); crane_retags_and_copies_a_followed_image],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn reference(node: &Serve, image: &Image) -> String {
    format!("{}/app@{}", node.registry(), image.digest())
}

/// Signs an image with a key that is made for it.
fn sign(cosign: &Client, name: &str, image: &str) {
    let (prefix, key) = (cosign.path(name), cosign.path(&format!("{name}.key")));
    cosign.run(&["generate-key-pair", "--output-key-prefix", &prefix]).unwrap();
    let flags = ["--yes", "--tlog-upload=false", "--allow-http-registry", "--key", &key];
    cosign.run(&[&["sign"], &flags[..], &[image]].concat()).unwrap();
}

async fn cosign_signs_a_followed_image_and_verifies_it_without_the_publisher() {
    let image = Image::of("followed", 100_000);
    let publisher = Serve::start(&[]);
    push(&publisher, "app", "1", &image).await;
    let follower = follower(&[&publisher], &["--prefetch", "all"]);
    current(&follower, &publisher).await;
    let (at_publisher, at_follower) = (reference(&publisher, &image), reference(&follower, &image));
    let cosign = blocking(move || {
        let cosign = COSIGN.start().unwrap();
        sign(&cosign, "theirs", &at_publisher);
        cosign
    })
    .await;
    current(&follower, &publisher).await;
    // The signatures of an image are the layers of one tag: the second is pushed with the first, which is followed.
    let (cosign, at_follower) = blocking(move || {
        sign(&cosign, "ours", &at_follower);
        (cosign, at_follower)
    })
    .await;
    publisher.kill();
    blocking(move || {
        let verify = |key: &str| {
            let key = cosign.path(key);
            let verify =
                ["verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key", &key, &at_follower];
            cosign.run(&verify)
        };
        verify("ours.pub").unwrap();
        verify("theirs.pub").unwrap();
    })
    .await;
    pulls(&follower, "app", "1", &image).await;
}

async fn oras_attaches_an_artifact_at_a_follower_and_lists_referrers_of_both_nodes() {
    let image = Image::of("followed", 100_000);
    let (publisher, follower) = pair(&image).await;
    let (at_publisher, at_follower) = (reference(&publisher, &image), reference(&follower, &image));
    let (oras, at_follower) = blocking(move || {
        let oras = ORAS.start().unwrap();
        let file = oras.write("sbom.json", "{}").unwrap();
        for (kind, at) in [("application/vnd.theirs", &at_publisher), ("application/vnd.ours", &at_follower)]
        {
            let attach =
                ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", kind, at, &file];
            oras.run(&attach).unwrap();
        }
        (oras, at_follower)
    })
    .await;
    current(&follower, &publisher).await;
    let found =
        blocking(move || oras.run(&["discover", "--plain-http", "--format", "json", &at_follower]).unwrap())
            .await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let mut kinds: Vec<&str> = found["referrers"]
        .as_array()
        .or(found["manifests"].as_array())
        .unwrap()
        .iter()
        .map(|one| one["artifactType"].as_str().unwrap())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["application/vnd.ours", "application/vnd.theirs"]);
    pulls(&follower, "app", "1", &image).await;
}

async fn crane_retags_and_copies_a_followed_image() {
    let image = Image::of("followed", 100_000);
    let (_publisher, follower) = pair(&image).await;
    let registry = follower.registry().to_string();
    blocking(move || {
        let crane = CRANE.start().unwrap();
        let app = format!("{registry}/app:1");
        crane.run(&["tag", &app, "stable"]).unwrap();
        crane.run(&["copy", &app, &format!("{registry}/other:1")]).unwrap();
        crane.run(&["pull", "--format=oci", &format!("{registry}/other:1"), &crane.path("layout")]).unwrap();
    })
    .await;
    assert_eq!(tags(&follower, "app").await, json!(["1", "stable"]));
    pulls(&follower, "other", "1", &image).await;
    let root = published(&follower).await;
    let listed = get(&follower.url(&format!("/v2/ipfs/{root}/app/tags/list"))).await.json();
    assert_eq!(listed["tags"], json!(["stable"]), "only that was pushed here");
}
