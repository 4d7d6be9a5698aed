//! `<ciq...|1220...>/<name>[:latest]`: the directories of image2ipfs.

use libtest_mimic::Trial;
use ocipfs::content::Profile::Legacy;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{
    Pair,
    folder::{self, Files, Shape},
    image::{Image, config, descriptor},
};
use crate::harness::{noise, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        a_dockerized_image_is_served_byte_for_byte_and_after_its_provider_is_gone,
        a_dockerized_image_of_docker_schema_1_is_rejected,
    ]
}

/// The CIDv0 in base32 and in hex.
pub fn hashes(cid: Cid) -> [String; 2] {
    let v0 = Cid::new_v0(*cid.hash()).unwrap().to_bytes();
    let bits: String = v0.iter().map(|byte| format!("{byte:08b}")).collect();
    let digit = |bits: &[u8]| {
        let bits = format!("{:0<5}", std::str::from_utf8(bits).unwrap());
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from_str_radix(&bits, 2).unwrap()])
    };
    [bits.as_bytes().chunks(5).map(digit).collect(), hex::encode(v0)]
}

/// An image of Docker's schema 2, written as no serialiser here would.
pub fn docker_image(layer: Vec<u8>) -> Image {
    let config = config(&layer, "docker");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
        "config": descriptor(media_type::DOCKER_CONFIG, &config),
        "layers": [descriptor(media_type::DOCKER_LAYER_TAR, &layer)],
    });
    let manifest = format!("\n{}  \n", serde_json::to_string_pretty(&manifest).unwrap()).into_bytes();
    Image { manifest, media_type: media_type::DOCKER_MANIFEST, config, layer }
}

pub fn directory(name: &str, image: &Image) -> Files {
    let mut files = Files::from([(format!("{name}/manifests/latest-v2"), image.manifest.clone())]);
    for blob in image.blobs() {
        files.insert(format!("{name}/blobs/{}", Digest::sha256_of(blob)), blob.to_vec());
    }
    files
}

async fn a_dockerized_image_is_served_byte_for_byte_and_after_its_provider_is_gone() {
    let image = docker_image(noise(3 << 20));
    let (mut pair, cid) = Pair::new(async |offline| {
        let mut files = directory("busybox", &image);
        files.extend(directory("library/busybox", &image));
        folder::put(offline, &files, Shape::Plain(Legacy)).await
    })
    .await;
    for round in 0..2 {
        for hash in hashes(cid) {
            for name in [format!("{hash}/busybox"), format!("{hash}/library/busybox")] {
                pair.pulls(&name, "latest", &image).await;
                pair.has_blob(&name, &image.digest(), &image.manifest).await;
                assert_eq!(pair.tags(&name).await, ["latest"]);
                let refused = pair.get(format!("{name}/manifests/1.0")).await;
                refused.refused(404, "MANIFEST_UNKNOWN", &["expected latest or sha256:"]);
                let unknown = Digest::sha256_of(b"unknown");
                let refused = pair.get(format!("{name}/blobs/{unknown}")).await;
                refused.refused(404, "BLOB_UNKNOWN", &["blob sha"]);
            }
        }
        if round == 0 {
            pair.end_source();
        }
    }
}

async fn a_dockerized_image_of_docker_schema_1_is_rejected() {
    let schema1 = json!({"schemaVersion": 1, "name": "busybox", "fsLayers": []}).to_string().into_bytes();
    let files = Files::from([
        ("old/manifests/latest".to_string(), schema1.clone()),
        ("mixed/manifests/latest-v2".to_string(), schema1),
        ("none/blobs/x".to_string(), b"x".to_vec()),
    ]);
    let (pair, cid) =
        Pair::new(async |offline| folder::put(offline, &files, Shape::Plain(Legacy)).await).await;
    let [hash, _] = hashes(cid);
    for name in ["old", "mixed"] {
        let refused = pair.get(format!("{hash}/{name}/manifests/latest")).await;
        refused.refused(404, "MANIFEST_UNKNOWN", &["Docker schema 1", "with a tool that writes schema 2"]);
    }
    for (name, told) in
        [("none", "no entry \"manifests\"; it has blobs"), ("other", "it has mixed, none, old")]
    {
        let refused = pair.get(format!("{hash}/{name}/manifests/latest")).await;
        refused.refused(404, "NAME_UNKNOWN", &[told]);
    }
}
