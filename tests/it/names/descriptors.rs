//! `ipfs/<cid>[:latest]` of a file: images as nerdctl and stargz make them.

use libtest_mimic::Trial;
use ocipfs::content::Profile::{self, Legacy, UnixfsV1};
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use super::{
    Pair,
    folder::{self, Files, Shape},
    image::{Image, config, descriptor, index, with},
    is_manifest,
};
use crate::{
    harness::{noise, trials},
    offline::{Offline, layer_manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_descriptor_image_is_pulled_and_served_after_its_provider_is_gone,
        a_blob_of_a_descriptor_image_is_pulled_before_its_manifest,
        a_foreign_layer_of_a_descriptor_image_is_404_and_an_encrypted_layer_is_served,
        a_descriptor_with_a_wrong_digest_size_or_media_type_is_rejected,
        a_file_that_is_not_a_descriptor_is_rejected_with_its_kind,
    ]
}

const ENCRYPTED: &str = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";

/// Stores bytes and says of them what `of` says, with the url that leads to them.
async fn linked(offline: &Offline, media_type: &str, bytes: &[u8], profile: Profile) -> Value {
    let cid = offline.put(bytes, profile).await;
    with(descriptor(media_type, bytes), "urls", json!([format!("ipfs://{cid}")]))
}

/// An image whose every descriptor has a url.
async fn put_image(
    offline: &Offline,
    note: &str,
    layers: &[(&str, Vec<u8>)],
    more: &[Value],
    profile: Profile,
) -> (Image, Value) {
    let layer = layers[0].1.clone();
    let config = config(&layer, note);
    let mut descriptors = Vec::new();
    for (media_type, bytes) in layers {
        descriptors.push(linked(offline, media_type, bytes, profile).await);
    }
    descriptors.extend(more.iter().cloned());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": linked(offline, media_type::OCI_CONFIG, &config, profile).await,
        "layers": descriptors,
    })
    .to_string()
    .into_bytes();
    let descriptor = linked(offline, media_type::OCI_MANIFEST, &manifest, profile).await;
    (Image { manifest, media_type: media_type::OCI_MANIFEST, config, layer }, descriptor)
}

async fn put_descriptor(offline: &Offline, descriptor: &Value, profile: Profile) -> String {
    let cid = offline.put(descriptor.to_string(), profile).await;
    format!("ipfs/{}", Cid::new_v1(cid.codec(), *cid.hash()))
}

/// Two images of an index, and the name of the descriptor of that.
struct Made {
    name: String,
    index: Vec<u8>,
    images: [Image; 2],
}

async fn made(offline: &Offline, profile: Profile) -> Made {
    let layer = |size| [(media_type::OCI_LAYER_TAR, noise(size))];
    let (one, first) = put_image(offline, "one", &layer(3 << 20), &[], profile).await;
    let (two, second) = put_image(offline, "two", &layer(1000), &[], profile).await;
    let index = index(&[first, second]);
    let top = linked(offline, media_type::OCI_INDEX, &index, profile).await;
    Made { name: put_descriptor(offline, &top, profile).await, index, images: [one, two] }
}

async fn a_descriptor_image_is_pulled_and_served_after_its_provider_is_gone() {
    let (mut pair, all) =
        Pair::new(async |offline| [made(offline, UnixfsV1).await, made(offline, Legacy).await]).await;
    for round in 0..2 {
        for Made { name, index, images } in &all {
            let digest = Digest::sha256_of(index).to_string();
            for reference in ["latest", &digest] {
                let answer = pair.found(format!("{name}/manifests/{reference}")).await;
                is_manifest(&answer, index, media_type::OCI_INDEX);
            }
            for image in images {
                pair.pulls(name, &image.digest(), image).await;
            }
            assert_eq!(pair.tags(name).await, ["latest"]);
            let refused = pair.get(format!("{name}/manifests/1.0")).await;
            refused.refused(404, "MANIFEST_UNKNOWN", &["expected latest or sha256:"]);
        }
        if round == 0 {
            pair.end_source();
        }
    }
}

async fn a_blob_of_a_descriptor_image_is_pulled_before_its_manifest() {
    let (pair, Made { name, images, .. }) = Pair::new(async |offline| made(offline, UnixfsV1).await).await;
    for image in images.iter().rev() {
        for blob in image.blobs() {
            pair.has_blob(&name, &Digest::sha256_of(blob).to_string(), blob).await;
        }
    }
    let unknown = Digest::sha256_of(b"unknown");
    pair.get(format!("{name}/blobs/{unknown}")).await.refused(404, "BLOB_UNKNOWN", &["blob sha"]);
    pair.get(format!("{name}/manifests/{unknown}")).await.refused(404, "MANIFEST_UNKNOWN", &["latest or"]);
    // A layer is not a manifest.
    let layer = Digest::sha256_of(&images[1].layer);
    pair.get(format!("{name}/manifests/{layer}")).await.refused(404, "MANIFEST_UNKNOWN", &["latest or"]);
}

async fn a_foreign_layer_of_a_descriptor_image_is_404_and_an_encrypted_layer_is_served() {
    let foreign = descriptor(media_type::DOCKER_FOREIGN_TAR_GZIP, b"foreign");
    let foreign = with(foreign, "urls", json!(["https://example.org/layer"]));
    let bare = descriptor(media_type::OCI_LAYER_TAR, b"bare");
    let (pair, (name, image)) = Pair::new(async |offline| {
        let layers = [(ENCRYPTED, noise(5000))];
        let more = [foreign.clone(), bare.clone()];
        let (image, top) = put_image(offline, "image", &layers, &more, UnixfsV1).await;
        (put_descriptor(offline, &top, UnixfsV1).await, image)
    })
    .await;
    pair.pulls(&name, "latest", &image).await;
    for (blob, told) in [(&foreign, "https://example.org/layer"), (&bare, "no ipfs:// url")] {
        let digest = blob["digest"].as_str().unwrap();
        let kind = blob["mediaType"].as_str().unwrap();
        let refused = pair.get(format!("{name}/blobs/{digest}")).await;
        refused.refused(404, "BLOB_UNKNOWN", &["is not in IPFS", told, kind]);
    }
}

async fn a_descriptor_with_a_wrong_digest_size_or_media_type_is_rejected() {
    let (pair, names) = Pair::new(async |offline| {
        let (_, top) =
            put_image(offline, "image", &[(media_type::OCI_LAYER_TAR, noise(100))], &[], UnixfsV1).await;
        let mut names = Vec::new();
        for (key, value, code, told) in [
            ("digest", json!(Digest::sha256_of(b"other").to_string()), "PEER_DATA_INVALID", "digest is"),
            ("size", json!(7), "PEER_DATA_INVALID", "bytes, expected 7"),
            ("mediaType", json!(media_type::DOCKER_MANIFEST), "MANIFEST_INVALID", "its descriptor declares"),
        ] {
            let wrong = with(top.clone(), key, value);
            names.push((put_descriptor(offline, &wrong, UnixfsV1).await, code, told));
        }
        names
    })
    .await;
    for (name, code, told) in names {
        pair.get(format!("{name}/manifests/latest")).await.refused(502, code, &[told]);
    }
}

async fn a_file_that_is_not_a_descriptor_is_rejected_with_its_kind() {
    let bytes = noise(100);
    let (pair, cases) = Pair::new(async |offline| {
        let layer = offline.put(&bytes, UnixfsV1).await;
        let mut cases = Vec::new();
        for (document, told) in [
            (bytes.clone(), "invalid JSON".to_string()),
            (Vec::new(), "invalid JSON".into()),
            (
                layer_manifest(&bytes, layer).to_string().into(),
                "it is a layer manifest: pull layer/bafk".into(),
            ),
            (Image::of("image", 100).manifest, "digest".into()),
            (
                descriptor(media_type::OCI_MANIFEST, b"x").to_string().into(),
                "no url of the form ipfs://<cid>".into(),
            ),
            (noise(5 << 20), "limit 65536".into()),
        ] {
            cases.push((offline.put(document, UnixfsV1).await, told));
        }
        let files = Files::from([("a/file".to_string(), bytes.clone())]);
        let folder = folder::put(offline, &files, Shape::Plain(UnixfsV1)).await;
        (cases, folder)
    })
    .await;
    let (cases, folder) = cases;
    for (name, told) in cases.iter().map(|(cid, told)| (cid.to_string(), told)) {
        for rest in ["manifests/latest", "tags/list"] {
            pair.get(format!("ipfs/{name}/{rest}")).await.refused(
                404,
                "NAME_UNKNOWN",
                &["is not an image descriptor", told],
            );
        }
    }
    let below = pair.get(format!("ipfs/{folder}/a/file/manifests/latest")).await;
    below.refused(404, "NAME_UNKNOWN", &["is not an image descriptor"]);
}
