//! `ipfs/<cid>[/<dir>...][:tag]`: image layouts by their path.

use libtest_mimic::Trial;
use ocipfs::content::Profile;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use super::{
    Pair, folder,
    folder::{SHAPES, Shape},
    image::{Image, descriptor, index, layout, sha512, tagged, with},
    is_manifest,
};
use crate::harness::trials;

const PLAIN: Shape = Shape::Plain(Profile::UnixfsV1);

pub fn trials() -> Vec<Trial> {
    trials![
        an_image_layout_is_pulled_by_tag_and_after_its_provider_is_gone,
        a_tag_in_a_nested_index_is_found,
        a_single_untagged_image_of_a_layout_is_latest,
        a_config_or_layer_digest_is_not_a_manifest,
        what_a_layout_says_of_its_blobs_is_kept_as_it_is,
        blobs_and_manifests_are_pulled_by_sha512_digest,
        a_cached_index_of_ten_thousand_tags_is_not_read_again,
        images_pulled_concurrently_are_served_after_their_provider_is_gone,
    ]
}

async fn an_image_layout_is_pulled_by_tag_and_after_its_provider_is_gone() {
    let images = [Image::of("one", 3 << 20), Image::of("two", 1000).silent(), Image::of("none", 2000)];
    let [one, two, none] = &images;
    let entries = [
        tagged(one.descriptor(), "1.0"),
        tagged(two.descriptor(), "2.0"),
        none.descriptor(),
        tagged(two.descriptor(), "localhost/busybox:latest"),
    ];
    let (mut pair, cids) = Pair::new(async |offline| {
        let mut cids = Vec::new();
        for shape in SHAPES {
            let mut files = layout("", &entries, &[one, two, none], &[]);
            files.extend(layout("library/busybox/", &entries, &[one, two, none], &[]));
            cids.push(folder::put(offline, &files, shape).await);
        }
        cids
    })
    .await;
    for round in 0..2 {
        for cid in &cids {
            for name in [format!("ipfs/{cid}"), format!("ipfs/{cid}/library/busybox")] {
                pair.pulls(&name, "1.0", one).await;
                pair.pulls(&name, "2.0", two).await;
                pair.pulls(&name, "latest", two).await;
                pair.pulls(&name, &none.digest(), none).await;
                assert_eq!(pair.tags(&name).await, ["1.0", "2.0", "latest"]);
                let refused = pair.get(format!("{name}/manifests/3.0")).await;
                refused.refused(404, "MANIFEST_UNKNOWN", &["manifest 3.0 unknown to"]);
            }
        }
        if round == 0 {
            pair.end_source();
        }
    }
}

async fn a_tag_in_a_nested_index_is_found() {
    let images = [Image::of("top", 100), Image::of("within", 200), Image::of("deeper", 300)];
    let [top, within, deeper] = &images;
    let other = Image::of("other", 400);
    let inner = index(&[tagged(deeper.descriptor(), "deeper"), tagged(other.descriptor(), "top")]);
    let inner_descriptor = descriptor(media_type::OCI_INDEX, &inner);
    let outer = index(&[
        tagged(within.descriptor(), "within"),
        inner_descriptor.clone(),
        // Again, and one that is not there.
        inner_descriptor.clone(),
        descriptor(media_type::OCI_INDEX, b"nowhere"),
    ]);
    let outer_descriptor = descriptor(media_type::OCI_INDEX, &outer);
    let entries = [tagged(top.descriptor(), "top"), tagged(outer_descriptor.clone(), "multi")];
    let files = layout("", &entries, &[top, within, deeper, &other], &[&inner, &outer]);
    let (pair, cid) = Pair::new(async |offline| folder::put(offline, &files, PLAIN).await).await;
    let name = format!("ipfs/{cid}");
    pair.pulls(&name, "top", top).await;
    pair.pulls(&name, "within", within).await;
    pair.pulls(&name, "deeper", deeper).await;
    for (reference, bytes) in [
        ("multi", &outer),
        (outer_descriptor["digest"].as_str().unwrap(), &outer),
        (inner_descriptor["digest"].as_str().unwrap(), &inner),
    ] {
        let answer = pair.found(format!("{name}/manifests/{reference}")).await;
        is_manifest(&answer, bytes, media_type::OCI_INDEX);
    }
    assert_eq!(pair.tags(&name).await, ["deeper", "multi", "top", "within"]);
}

async fn a_single_untagged_image_of_a_layout_is_latest() {
    let (alone, other) = (Image::of("alone", 100), Image::of("other", 200));
    let multi = index(&[alone.descriptor(), other.descriptor()]);
    let within = index(&[tagged(other.descriptor(), "within")]);
    let index_of = |bytes: &[u8]| descriptor(media_type::OCI_INDEX, bytes);
    let (pair, cids) = Pair::new(async |offline| {
        let mut cids = Vec::new();
        for entries in [
            vec![alone.descriptor()],
            vec![index_of(&multi)],
            vec![index_of(&within)],
            vec![alone.descriptor(), other.descriptor()],
            vec![tagged(alone.descriptor(), "1.0")],
        ] {
            let files = layout("", &entries, &[&alone, &other], &[&multi, &within]);
            cids.push(folder::put(offline, &files, PLAIN).await);
        }
        cids
    })
    .await;
    pair.pulls(&format!("ipfs/{}", cids[0]), "latest", &alone).await;
    let answer = pair.found(format!("ipfs/{}/manifests/latest", cids[1])).await;
    is_manifest(&answer, &multi, media_type::OCI_INDEX);
    for (cid, tags) in cids.iter().zip([&["latest"][..], &["latest"], &["within"], &[], &["1.0"]]) {
        assert_eq!(pair.tags(&format!("ipfs/{cid}")).await, tags, "{cid}");
    }
    for (cid, told) in [(cids[2], "expected within"), (cids[3], "no tags"), (cids[4], "expected 1.0")] {
        pair.get(format!("ipfs/{cid}/manifests/latest")).await.refused(404, "MANIFEST_UNKNOWN", &[told]);
    }
}

async fn a_config_or_layer_digest_is_not_a_manifest() {
    let image = Image::of("image", 2000);
    let files = layout("", &[tagged(image.descriptor(), "1.0")], &[&image], &[b"{}"]);
    let (pair, cid) = Pair::new(async |offline| folder::put(offline, &files, PLAIN).await).await;
    let name = format!("ipfs/{cid}");
    for blob in [&image.config, &image.layer, &b"{}".to_vec()] {
        let digest = Digest::sha256_of(blob).to_string();
        let refused = pair.get(format!("{name}/manifests/{digest}")).await;
        refused.refused(404, "MANIFEST_UNKNOWN", &[&digest, "expected 1.0"]);
        pair.has_blob(&name, &digest, blob).await;
    }
    pair.pulls(&name, "1.0", &image).await;
}

async fn what_a_layout_says_of_its_blobs_is_kept_as_it_is() {
    let image = Image::of("image", 2000);
    let mut odd: Value = serde_json::from_slice(&image.manifest).unwrap();
    odd["artifactType"] = json!("sbom");
    odd["annotations"] = json!({"a": null});
    odd["layers"][0]["mediaType"] = json!("text/plain; charset=utf-8");
    let odd = odd.to_string().into_bytes();
    let entry = with(descriptor(media_type::OCI_MANIFEST, &odd), "platform", json!({"os": "linux"}));
    let (text, untyped) = (b"no JSON".as_slice(), br#"{"config":{"Env":[]}}"#.as_slice());
    let entries = [
        tagged(entry, "odd"),
        tagged(descriptor("text/x-mine", text), "text"),
        tagged(descriptor(media_type::OCI_MANIFEST, untyped), "untyped"),
    ];
    let files = layout("", &entries, &[&image], &[&odd, text, untyped]);
    let (pair, cid) = Pair::new(async |offline| folder::put(offline, &files, PLAIN).await).await;
    let name = format!("ipfs/{cid}");
    for (tag, bytes, kind) in [("odd", &odd[..], media_type::OCI_MANIFEST), ("text", text, "text/x-mine")] {
        for reference in [tag, &Digest::sha256_of(bytes).to_string()] {
            is_manifest(&pair.found(format!("{name}/manifests/{reference}")).await, bytes, kind);
        }
    }
    // What says that it is an image, and is none, is an error of the layout.
    pair.get(format!("{name}/manifests/untyped")).await.refused(502, "MANIFEST_INVALID", &[]);
}

async fn blobs_and_manifests_are_pulled_by_sha512_digest() {
    let image = Image::of("image", 3 << 20);
    let digest = |bytes: &[u8]| format!("sha512:{}", sha512(bytes));
    let entry = tagged(with(image.descriptor(), "digest", digest(&image.manifest)), "1.0");
    let mut files = layout("", &[entry], &[], &[]);
    for blob in [&image.manifest, &image.config, &image.layer] {
        files.insert(format!("blobs/sha512/{}", sha512(blob)), blob.clone());
    }
    // Right by one algorithm and wrong by the other.
    let wrong = digest(b"something else");
    files.insert(format!("blobs/{}", wrong.replace(':', "/")), image.layer.clone());
    let (pair, cid) = Pair::new(async |offline| folder::put(offline, &files, PLAIN).await).await;
    let name = format!("ipfs/{cid}");
    for reference in ["1.0", &digest(&image.manifest)] {
        let answer = pair.found(format!("{name}/manifests/{reference}")).await;
        is_manifest(&answer, &image.manifest, image.media_type);
        assert_eq!(answer.header("docker-content-digest"), digest(&image.manifest));
    }
    for blob in image.blobs() {
        pair.has_blob(&name, &digest(blob), blob).await;
        pair.has_blob(&name, &digest(blob), blob).await;
    }
    pair.get(format!("{name}/blobs/{wrong}")).await.refused(502, "PEER_DATA_INVALID", &["digest"]);
}

async fn a_cached_index_of_ten_thousand_tags_is_not_read_again() {
    let image = Image::of("image", 100);
    let other = |n: usize| descriptor(media_type::OCI_MANIFEST, &n.to_le_bytes());
    let mut entries: Vec<_> = (0..10_000).map(|n| tagged(other(n), &format!("v{n}"))).collect();
    entries[9_990] = tagged(image.descriptor(), "wanted");
    let files = layout("", &entries, &[&image], &[]);
    let (pair, cid) = Pair::new(async |offline| folder::put(offline, &files, PLAIN).await).await;
    let name = format!("ipfs/{cid}");
    pair.pulls(&name, "wanted", &image).await;
    // The index is remembered: its file is not opened any more.
    let index = pair.reader.status()["received_blocks"].clone();
    for _ in 0..20 {
        assert_eq!(pair.get(format!("{name}/manifests/wanted")).await.status, 200);
    }
    assert_eq!(pair.reader.status()["received_blocks"], index);
    let refused = pair.get(format!("{name}/manifests/missing")).await;
    refused.refused(404, "MANIFEST_UNKNOWN", &["v0 or v1 or", "one of"]);
    let page = pair.get(format!("{name}/tags/list?n=1&last=v9999")).await.json();
    assert_eq!(page["tags"], json!(["wanted"]));
}

async fn images_pulled_concurrently_are_served_after_their_provider_is_gone() {
    let images: Vec<Image> = (0..24).map(|n| Image::of(&format!("{n}"), 50_000 * n)).collect();
    let entries: Vec<_> =
        images.iter().enumerate().map(|(n, image)| tagged(image.descriptor(), &format!("v{n}"))).collect();
    let files = layout("", &entries, &images.iter().collect::<Vec<_>>(), &[]);
    let (mut pair, cid) = Pair::new(async |offline| folder::put(offline, &files, Shape::Sharded).await).await;
    let name = format!("ipfs/{cid}");
    for round in 0..2 {
        let pulls = images.iter().enumerate().map(|(n, image)| {
            let (name, pair) = (&name, &pair);
            async move { pair.pulls(name, &format!("v{n}"), image).await }
        });
        futures::future::join_all(pulls).await;
        if round == 0 {
            pair.end_source();
        }
    }
}
