use std::sync::Arc;

use bytes::Bytes;
use ocipfs_oci::Tag;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    content::{BlobWriter, Profile},
    images::repository::inspect,
};

const IMAGE: &[u8] = include_bytes!("../../signatures/fixtures/image.json");
const SIGNATURE: &[u8] = include_bytes!("../../signatures/fixtures/cosign.manifest.json");
const PAYLOAD: &[u8] = include_bytes!("../../signatures/fixtures/cosign.layer.json");
const BUNDLE: &[u8] = include_bytes!("../../signatures/fixtures/bundle.manifest.json");
const BUNDLE_LAYER: &[u8] = include_bytes!("../../signatures/fixtures/bundle.layer.json");
/// The configuration of the signature.
const CONFIG: &[u8] = br#"{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["sha256:8090af102cb816c4230de3369a5f61edf7787fc7c0ecefdaa38151eea525b9f2"]},"config":{}}"#;

struct Pushed {
    _dir: TempDir,
    store: Store,
    repositories: Repositories,
    signed: SignedRepositories,
}

fn pushed() -> Pushed {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let repositories = Repositories::new(store.database());
    let key = include_str!("../../signatures/fixtures/cosign.pub");
    let text = format!(
        "[keys.release]\ncosign = '''{key}'''\n[[policy]]\nrepositories = ['team/*']\nkeys = ['release']\n"
    );
    let policies = Arc::new(Policies::parse(&text, |_| Err("no file".into())).unwrap());
    let source = PolicySource::new(move || policies.clone());
    let signed = SignedRepositories::new(repositories.clone(), source);
    Pushed { _dir: dir, store, repositories, signed }
}

impl Pushed {
    fn store(&self, bytes: &[u8]) -> RepositoryBlob {
        let mut writer = BlobWriter::new(&self.store, Profile::UnixfsV1).unwrap();
        writer.write(Bytes::copy_from_slice(bytes)).unwrap();
        let (stored, _) = writer.store().unwrap();
        RepositoryBlob { digest: stored.digest, size: stored.size, root: stored.root }
    }

    fn blob(&self, name: &str, bytes: &[u8]) {
        let (name, blob) = (name.parse::<Name>().unwrap(), self.store(bytes));
        self.repositories.edit(move |edit| edit.add_blob(&name, &blob)).unwrap();
    }

    fn manifest(&self, name: &str, bytes: &[u8], tags: &[&str]) -> Digest {
        self.manifest_at(name, self.store(bytes), bytes, tags)
    }

    /// The same, where its bytes are elsewhere.
    fn manifest_at(&self, name: &str, blob: RepositoryBlob, bytes: &[u8], tags: &[&str]) -> Digest {
        let name = name.parse::<Name>().unwrap();
        let digest = blob.digest.clone();
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let inspected = inspect(bytes, &digest, Some(ocipfs_oci::media_type::OCI_MANIFEST)).unwrap();
        let row = inspected.pushed(blob, 7);
        let put = move |edit: &crate::images::repository::Edit| {
            edit.put_manifest(&name, &row, &tags, Some(&inspected.referrer), &inspected.references)
        };
        self.repositories.edit(put).unwrap();
        digest
    }

    fn passes(&self, name: &str, digest: &Digest) -> bool {
        self.signed.passes(&self.store, name, digest).unwrap()
    }

    /// Pushes the signature of cosign.
    fn sign(&self, name: &str) -> Digest {
        self.blob(name, CONFIG);
        self.blob(name, PAYLOAD);
        self.manifest(name, SIGNATURE, &[&tag_of_signature()])
    }
}

fn tag_of_signature() -> String {
    format!("{}.sig", Digest::sha256_of(IMAGE).to_string().replace(':', "-"))
}

#[test]
fn a_signature_that_cannot_be_read_is_looked_at_again() {
    let pushed = pushed();
    let image = pushed.manifest("team/app", IMAGE, &["1"]);
    let damaged = RepositoryBlob { digest: Digest::sha256_of(SIGNATURE), ..pushed.store(b"damaged") };
    pushed.manifest_at("team/app", damaged, SIGNATURE, &[&tag_of_signature()]);
    assert!(!pushed.passes("team/app", &image));
    pushed.sign("team/app");
    assert!(pushed.passes("team/app", &image));
}

#[test]
fn many_referrers_that_only_call_themselves_signatures_do_not_hide_a_signature() {
    let pushed = pushed();
    let image = pushed.manifest("team/app", IMAGE, &["1"]);
    let mut other: Value = serde_json::from_slice(BUNDLE).unwrap();
    for number in 0..MAX_SIGNATURES + 50 {
        other["layers"] = json!([]);
        other["annotations"] = json!({ "number": number.to_string() });
        pushed.manifest("team/app", other.to_string().as_bytes(), &[]);
    }
    pushed.manifest("team/app", BUNDLE, &[]);
    pushed.blob("team/app", b"{}");
    pushed.blob("team/app", BUNDLE_LAYER);
    assert!(pushed.passes("team/app", &image));
}

#[test]
fn a_signed_image_passes_with_what_it_references_and_with_its_signature() {
    let pushed = pushed();
    let (layer, other) = (Digest::sha256_of(b"layer"), Digest::sha256_of(b"other"));
    let image = pushed.manifest("team/app", IMAGE, &["1"]);
    for blob in [b"layer".as_slice(), b"{}", b"other"] {
        pushed.blob("team/app", blob);
    }
    assert!(!pushed.passes("team/app", &image) && !pushed.passes("team/app", &layer));
    let signature = pushed.sign("team/app");
    for digest in [&image, &layer, &signature, &Digest::sha256_of(PAYLOAD), &Digest::sha256_of(CONFIG)] {
        assert!(pushed.passes("team/app", digest), "{digest}");
    }
    assert!(!pushed.passes("team/app", &other), "no manifest references it");
    // What is signed in one repository is not signed in another.
    pushed.manifest("team/other", IMAGE, &["1"]);
    assert!(!pushed.passes("team/other", &image) && pushed.passes("other", &image));
}

#[test]
fn a_bundle_signs_as_a_referrer_once_its_layer_is_here() {
    let pushed = pushed();
    let image = pushed.manifest("team/app", IMAGE, &["1"]);
    pushed.manifest("team/app", BUNDLE, &[]);
    assert!(!pushed.passes("team/app", &image));
    pushed.blob("team/app", b"{}");
    pushed.blob("team/app", BUNDLE_LAYER);
    assert!(pushed.passes("team/app", &image));
}

#[test]
fn an_image_within_a_signature_does_not_pass_by_that() {
    let pushed = pushed();
    pushed.sign("team/app");
    // An image that is a payload of cosign as well, under the layer of something that has the form of a signature.
    let mut image: Value = serde_json::from_slice(IMAGE).unwrap();
    image["critical"] = serde_json::from_slice::<Value>(PAYLOAD).unwrap()["critical"].clone();
    let image = image.to_string();
    let evil = pushed.manifest("team/app", image.as_bytes(), &["evil"]);
    let mut outer: Value = serde_json::from_slice(SIGNATURE).unwrap();
    outer["layers"][0]["digest"] = json!(evil.to_string());
    outer["layers"][0]["size"] = json!(image.len());
    let outer = pushed.manifest("team/app", outer.to_string().as_bytes(), &["outer"]);
    for digest in [&evil, &outer, &Digest::sha256_of(b"layer")] {
        assert!(!pushed.passes("team/app", digest), "{digest}");
    }
}
