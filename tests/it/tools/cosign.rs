//! cosign: signatures and attestations, as tags beside the image and as bundles that refer to it.

use libtest_mimic::Trial;

use super::{Nodes, referrers, whole};
use crate::{
    clients::{COSIGN, Client},
    harness::{Serve, blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![needs COSIGN.available();
        signatures_and_attestations_of_cosign_are_verified_at_a_follower,
        bundles_of_cosign_are_referrers_and_are_verified_at_a_follower,
        cosign_copies_saves_and_loads_a_signed_image,
    ]
}

/// A cosign that has a key.
pub fn keyed() -> Client {
    let cosign = COSIGN.start().unwrap();
    cosign.run(&["generate-key-pair", "--output-key-prefix", &cosign.path("cosign")]).unwrap();
    cosign.write("predicate.json", r#"{"made": "here"}"#).unwrap();
    cosign
}

/// Signs and attests an image without the public log of signatures.
pub fn sign(cosign: &Client, image: &str, more: &[&str]) {
    let (key, predicate) = (cosign.path("cosign.key"), cosign.path("predicate.json"));
    let flags = ["--yes", "--tlog-upload=false", "--allow-http-registry", "--key", &key];
    cosign.run(&[&["sign"], &flags[..], more, &[image]].concat()).unwrap();
    let attest = ["attest", "--type", "custom", "--predicate", &predicate];
    cosign.run(&[&attest, &flags[..], more, &[image]].concat()).unwrap();
}

/// Verifies what [`sign`] made.
pub fn verify(cosign: &Client, image: &str, more: &[&str]) -> Result<(), String> {
    let key = cosign.path("cosign.pub");
    let flags = ["--insecure-ignore-tlog", "--allow-http-registry", "--key", &key];
    cosign.run(&[&["verify"], &flags[..], more, &[image]].concat())?;
    let attested = ["verify-attestation", "--type", "custom"];
    cosign.run(&[&attested, &flags[..], more, &[image]].concat()).map(drop)
}

fn tags(node: &Serve, name: &str) -> Vec<String> {
    let listed = super::wait(crate::http::get(&node.url(&format!("/v2/{name}/tags/list")))).json();
    listed["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

async fn signatures_and_attestations_of_cosign_are_verified_at_a_follower() {
    blocking(|| {
        let (nodes, cosign) = (Nodes::start(), keyed());
        let digest = nodes.push("app", "1").digest();
        let at = |node: &Serve| format!("{}/app@{digest}", node.registry());
        verify(&cosign, &at(&nodes.publisher), &[]).unwrap_err();
        sign(&cosign, &at(&nodes.publisher), &[]);
        verify(&cosign, &at(&nodes.publisher), &[]).unwrap();
        let hex = digest.trim_start_matches("sha256:");
        assert_eq!(
            tags(&nodes.publisher, "app"),
            ["1".into(), format!("sha256-{hex}.att"), format!("sha256-{hex}.sig")]
        );
        let (follower, _dir) = nodes.orphan();
        verify(&cosign, &at(&follower), &[]).unwrap();
        let tree = cosign.run(&["tree", "--allow-http-registry", &at(&follower)]).unwrap();
        assert!(tree.contains("Signatures") && tree.contains("Attestations"), "{tree}");
    })
    .await;
}

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

async fn bundles_of_cosign_are_referrers_and_are_verified_at_a_follower() {
    blocking(|| {
        let (nodes, cosign) = (Nodes::start(), keyed());
        let digest = nodes.push("app", "1").digest();
        let at = |node: &Serve| format!("{}/app@{digest}", node.registry());
        sign(&cosign, &at(&nodes.publisher), &["--new-bundle-format"]);
        // Trusts only the key. Without this file cosign asks a server on the internet for the keys of public logs.
        let trusted = cosign.path("trusted.json");
        cosign.run(&["trusted-root", "create", "--out", &trusted]).unwrap();
        let bundles = ["--new-bundle-format", "--trusted-root", &trusted];
        assert_eq!(referrers(&nodes.publisher, "app", &digest), [BUNDLE; 2]);
        assert_eq!(tags(&nodes.publisher, "app"), ["1"]);
        verify(&cosign, &at(&nodes.publisher), &bundles).unwrap();
        let (follower, _dir) = nodes.orphan();
        assert_eq!(referrers(&follower, "app", &digest), [BUNDLE; 2]);
        verify(&cosign, &at(&follower), &bundles).unwrap();
    })
    .await;
}

async fn cosign_copies_saves_and_loads_a_signed_image() {
    blocking(|| {
        let (nodes, cosign) = (Nodes::start(), keyed());
        let digest = nodes.push("app", "1").digest();
        let at = |name: &str| format!("{}/{name}", nodes.publisher.registry());
        sign(&cosign, &at(&format!("app@{digest}")), &[]);
        cosign.run(&["copy", "--allow-http-registry", &at("app:1"), &at("copy:1")]).unwrap();
        let saved = nodes.path("saved");
        cosign.run(&["save", "--allow-http-registry", "--dir", &saved, &at("app:1")]).unwrap();
        cosign.run(&["load", "--allow-http-registry", "--dir", &saved, &at("loaded:1")]).unwrap();
        // The import has the tags that cosign looks for.
        let imported = nodes.import(&saved);
        assert_eq!((imported.len(), &imported[0].digest), (1, &digest));
        verify(&cosign, &imported[0].reference, &[]).unwrap();
        let (follower, _dir) = nodes.orphan();
        for name in ["copy", "loaded"] {
            assert_eq!(whole(&follower, name, "1"), digest);
            verify(&cosign, &format!("{}/{name}:1", follower.registry()), &[]).unwrap();
        }
    })
    .await;
}
