use proptest::prelude::*;

use super::*;
use crate::media_type;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn with(field: &str) -> String {
    format!(r#"{{"mediaType":"a/b","digest":"{DIGEST}",{field}}}"#)
}

fn read(json: &str) -> Result<Descriptor, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn a_plain_descriptor_has_three_fields() {
    let layer = MediaType::from_static(media_type::OCI_LAYER_TAR_GZIP);
    let descriptor = Descriptor::new(layer, Digest::sha256_of(b""), 168);
    assert_eq!(
        serde_json::to_string(&descriptor).unwrap(),
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":168}}"#
        )
    );
}

#[test]
fn a_full_descriptor_keeps_its_field_order() {
    let json = with(
        r#""size":3,"urls":["ipfs://bafy"],"annotations":{"a":"1","b":"2"},"data":"e30=","platform":{"architecture":"amd64","os":"linux"},"artifactType":"c/d""#,
    );
    let descriptor = read(&json).unwrap();
    assert_eq!(descriptor.annotation("b"), Some("2"));
    assert_eq!(descriptor.annotation("c"), None);
    assert_eq!(serde_json::to_string(&descriptor).unwrap(), json);
}

#[test]
fn null_empty_and_unknown_fields_are_ignored() {
    let odd = with(
        r#""size":0,"urls":null,"annotations":null,"data":null,"platform":null,"artifactType":"","newUnspecifiedField":{}"#,
    );
    assert_eq!(read(&odd).unwrap(), read(&with(r#""size":0"#)).unwrap());
}

#[test]
fn what_only_describes_a_blob_is_kept_as_it_is_stated() {
    for media_type in ["", "sbom", "text/plain; charset=utf-8", "a/b c"] {
        let json =
            format!(r#"{{"mediaType":"{media_type}","digest":"{DIGEST}","size":1,"artifactType":"x"}}"#);
        let descriptor = read(&json).unwrap();
        assert_eq!(descriptor.media_type, *media_type);
        assert_eq!(serde_json::to_string(&descriptor).unwrap(), json);
    }
    for json in
        [format!(r#"{{"digest":"{DIGEST}","size":1}}"#), with(r#""size":1"#).replace("\"a/b\"", "null")]
    {
        assert_eq!(read(&json).unwrap().media_type, *"", "{json}");
    }
    let partial = read(&with(r#""size":1,"platform":{"os":"linux"},"annotations":{"a":null}"#)).unwrap();
    assert_eq!(partial.platform, Some(Platform::new("linux", "")));
    assert_eq!(partial.annotation("a"), Some(""));
}

#[test]
fn an_invalid_descriptor_size_is_rejected() {
    for size in ["-1", "-9223372036854775808", "1.5", "1e30", "\"1\"", "null", "18446744073709551616"] {
        let message = read(&with(&format!(r#""size":{size}"#))).unwrap_err().to_string();
        assert!(message.contains("a whole number of bytes, not negative"), "{size}: {message}");
    }
    assert_eq!(read(&with(r#""size":18446744073709551615"#)).unwrap().size, u64::MAX);
}

#[test]
fn a_missing_or_invalid_descriptor_field_is_named_in_the_error() {
    let table = [
        (r#"{"digest":"","size":1}"#.to_owned(), "invalid digest"),
        (r#"{"mediaType":"a/b","size":1}"#.to_owned(), "missing field `digest`"),
        (with(r#""urls":[]"#), "missing field `size`"),
        (format!(r#"{{"mediaType":1,"digest":"{DIGEST}","size":1}}"#), "invalid type"),
    ];
    for (json, expected) in table {
        let message = read(&json).unwrap_err().to_string();
        assert!(message.contains(expected), "{json}: {message}");
    }
}

proptest! {
    #[test]
    fn descriptors_round_trip_through_json(
        size: u64,
        urls in prop::collection::vec("\\PC{0,9}", 0..3),
        annotations in prop::collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..4),
        data in prop::option::of("[a-z=]{0,9}"),
        variant in prop::option::of("[a-z0-9]{1,3}"),
    ) {
        let platform = Some(Platform { variant, ..Platform::default() });
        let plain = Descriptor::new(MediaType::from_static("a/b"), Digest::sha256_of(b""), size);
        let descriptor = Descriptor { urls, annotations, data, platform, ..plain };
        prop_assert_eq!(read(&serde_json::to_string(&descriptor).unwrap()).unwrap(), descriptor);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        let _ = read(&text);
        let _ = read(&with(&text));
    }
}

#[test]
fn nondistributable_layers_and_blobs_with_urls_are_foreign() {
    for (kind, urls, expected) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip", "[]", false),
        ("application/vnd.oci.image.layer.v1.tar+gzip", r#"["https://example.org/layer"]"#, true),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "null", true),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "[]", true),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "[]", true),
        ("application/vnd.foreign.language+json", "[]", false),
        ("", "[]", false),
    ] {
        let json = format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":1,"urls":{urls}}}"#);
        assert_eq!(read(&json).unwrap().is_foreign(), expected, "{kind} {urls}");
    }
}
