//! Content that is not a valid image, and the error that each gives.

use libtest_mimic::Trial;
use ocipfs::content::Profile::UnixfsV1;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{
    Pair,
    folder::{self, Files, SHAPES, Shape},
    image::{Image, descriptor, index, layout, tagged, with},
};
use crate::harness::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        invalid_ipfs_names_are_rejected_with_the_expected_form,
        a_directory_without_an_image_layout_is_404_with_its_entries,
        an_invalid_image_layout_is_rejected_with_the_reason,
        the_search_of_nested_indexes_is_bounded,
    ]
}

const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";
const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";

async fn invalid_ipfs_names_are_rejected_with_the_expected_form() {
    let (pair, ()) = Pair::new(async |_| ()).await;
    for (name, status, code, told) in [
        (format!("ipfs/{V0}"), 400, "NAME_INVALID", V1),
        (format!("ipfs/{V0}/library/busybox"), 400, "NAME_INVALID", V1),
        (format!("ipfs/{}", V1.to_uppercase()), 400, "NAME_INVALID", V1),
        (format!("ipfs/{V1}/Busybox"), 400, "NAME_INVALID", "\"Busybox\""),
        ("ipfs/nonsense".into(), 400, "NAME_INVALID", "invalid CID \"nonsense\" in ipfs/nonsense"),
        ("ipfs".into(), 404, "NAME_UNKNOWN", "expected ipfs/<cid>[/<dir>...]"),
        (format!("1220{}/busybox", "0".repeat(60)), 400, "NAME_INVALID", "68 characters"),
        ("library/busybox".into(), 404, "NAME_UNKNOWN", "layer/<cid>, ipfs/<cid>"),
        (format!("ipfs/{V1}"), 404, "MANIFEST_UNKNOWN", "no provider found for"),
    ] {
        for rest in ["manifests/latest", "tags/list"] {
            pair.get(format!("{name}/{rest}")).await.refused(status, code, &[told]);
        }
    }
}

async fn a_directory_without_an_image_layout_is_404_with_its_entries() {
    let image = Image::of("image", 100);
    let mut files = layout("library/busybox/", &[image.descriptor()], &[&image], &[]);
    files.insert("library/README.md".into(), b"no image".to_vec());
    let (pair, cids) = Pair::new(async |offline| {
        let mut cids = Vec::new();
        for shape in SHAPES {
            cids.push(folder::put(offline, &files, shape).await);
        }
        cids
    })
    .await;
    for cid in cids {
        for (path, told) in [
            ("", "is not an OCI image layout: the directory has no file oci-layout; it has library"),
            ("/library", "is not an OCI image layout: the directory has no file oci-layout; it has busybox"),
            ("/library/alpine", "has no entry \"alpine\"; it has busybox"),
            ("/other/busybox", "has no entry \"other\"; it has library"),
            ("/library/busybox/index.json/x", "has no entry \"x\""),
        ] {
            for rest in ["manifests/latest", "tags/list"] {
                let refused = pair.get(format!("ipfs/{cid}{path}/{rest}")).await;
                refused.refused(404, "NAME_UNKNOWN", &[told]);
            }
        }
    }
}

async fn an_invalid_image_layout_is_rejected_with_the_reason() {
    let image = Image::of("image", 100);
    let good = || layout("", &[tagged(image.descriptor(), "latest")], &[&image], &[]);
    let replaced = |path: &str, bytes: &[u8]| {
        let mut files = good();
        files.insert(path.into(), bytes.to_vec());
        files
    };
    let of = |entry| layout("", &[tagged(entry, "latest")], &[&image], &[b"{}"]);
    let manifest = format!("blobs/sha256/{}", Digest::sha256_of(&image.manifest).hex());
    let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
    let without = |path: &str| {
        let mut files = good();
        files.remove(path);
        files
    };
    let lying = index(&[tagged(image.descriptor(), "inner")]);
    let nested = || with(descriptor(media_type::OCI_INDEX, &lying), "digest", json!(image.digest()));
    let cases: Vec<(Files, u16, &str, &str)> = vec![
        (replaced("oci-layout", b"1.0.0"), 502, "MANIFEST_INVALID", "invalid oci-layout"),
        (
            replaced("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
            502,
            "MANIFEST_INVALID",
            "expected 1.x",
        ),
        (replaced("index.json", b"{}"), 502, "MANIFEST_INVALID", "invalid image index"),
        (replaced("index.json", &vec![b'['; 1 << 20]), 502, "MANIFEST_INVALID", "invalid image index"),
        (without("index.json"), 404, "MANIFEST_UNKNOWN", "\"index.json\""),
        (without(&manifest), 404, "MANIFEST_UNKNOWN", "no entry"),
        (replaced(&manifest, &vec![b' '; image.manifest.len()]), 502, "PEER_DATA_INVALID", "digest is"),
        (of(with(image.descriptor(), "size", 7)), 502, "PEER_DATA_INVALID", "bytes, expected 7"),
        (
            of(with(image.descriptor(), "mediaType", media_type::OCI_INDEX)),
            502,
            "MANIFEST_INVALID",
            "declares",
        ),
        (of(descriptor(media_type::OCI_MANIFEST, b"{}")), 502, "MANIFEST_INVALID", "not a manifest or index"),
        (of(with(image.descriptor(), "size", 5 << 20)), 404, "MANIFEST_UNKNOWN", "limit 4194304"),
        (
            layout("", &[tagged(descriptor("application/vnd.x", schema1), "latest")], &[], &[schema1]),
            404,
            "MANIFEST_UNKNOWN",
            "Docker schema 1",
        ),
        (layout("", &[nested()], &[&image], &[]), 502, "PEER_DATA_INVALID", "bytes, expected"),
    ];
    let (pair, cases) = Pair::new(async |offline| {
        let mut stored = Vec::new();
        for (files, status, code, told) in cases {
            stored.push((folder::put(offline, &files, Shape::Plain(UnixfsV1)).await, status, code, told));
        }
        stored
    })
    .await;
    for (cid, status, code, told) in cases {
        pair.get(format!("ipfs/{cid}/manifests/latest")).await.refused(status, code, &[told]);
    }
    assert!(!pair.reader.log().contains("panicked"), "{}", pair.reader.log());
}

async fn the_search_of_nested_indexes_is_bounded() {
    let image = Image::of("image", 100);
    // Each holds the one before, and a tag that tells how far from the innermost it is.
    let mut indexes: Vec<Vec<u8>> = Vec::new();
    for n in 0..40 {
        let mut entries = vec![tagged(image.descriptor(), &format!("v{n}"))];
        entries.extend(indexes.last().map(|inner| descriptor(media_type::OCI_INDEX, inner)));
        indexes.push(index(&entries));
    }
    let blobs: Vec<&[u8]> = indexes.iter().map(Vec::as_slice).collect();
    let outermost = descriptor(media_type::OCI_INDEX, indexes.last().unwrap());
    let files = layout("", &[outermost], &[&image], &blobs);
    let (pair, cid) =
        Pair::new(async |offline| folder::put(offline, &files, Shape::Plain(UnixfsV1)).await).await;
    let name = format!("ipfs/{cid}");
    pair.pulls(&name, "v39", &image).await;
    pair.pulls(&name, "v32", &image).await;
    let refused = pair.get(format!("{name}/manifests/v31")).await;
    refused.refused(404, "MANIFEST_UNKNOWN", &["v32 or v33 or v34"]);
    // By its digest each is served.
    let innermost = Digest::sha256_of(&indexes[0]);
    assert_eq!(pair.found(format!("{name}/manifests/{innermost}")).await.status, 200);
}
