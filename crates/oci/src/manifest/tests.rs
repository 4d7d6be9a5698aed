use proptest::prelude::*;

use super::*;
use crate::Digest;

fn descriptor(media_type: &'static str, content: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::from_static(media_type), Digest::sha256_of(content), content.len() as u64)
}

fn image() -> Manifest {
    let layers =
        vec![descriptor(media_type::OCI_LAYER_TAR, b"one"), descriptor(media_type::OCI_LAYER_TAR, b"two")];
    Manifest::new(descriptor(media_type::OCI_CONFIG, b"{}"), layers)
}

const D: &str = r#"{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

#[test]
fn the_bytes_of_a_serialized_manifest_are_stable() {
    let json = serde_json::to_vec(&image()).unwrap();
    assert_eq!(
        Digest::sha256_of(&json).to_string(),
        "sha256:08a5d3f7e18a863fb6ce2459252b4390bb2d201d2c5772038887b493c7f553ac",
        "{}",
        String::from_utf8_lossy(&json)
    );
}

#[test]
fn a_full_manifest_keeps_its_field_order() {
    let json = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"c/d","config":{D},"layers":[{D}],"subject":{D},"annotations":{{"a":"1","b":"2"}}}}"#
    );
    assert_eq!(serde_json::to_string(&Manifest::parse(json.as_bytes()).unwrap()).unwrap(), json);
}

#[test]
fn a_full_index_keeps_its_field_order() {
    let json = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"c/d","manifests":[{D}],"subject":{D},"annotations":{{"a":"1"}}}}"#
    );
    assert_eq!(serde_json::to_string(&Index::parse(json.as_bytes()).unwrap()).unwrap(), json);
}

#[test]
fn an_old_or_unusual_manifest_is_parsed() {
    let table = [
        format!(r#"{{"schemaVersion":2,"config":{D},"layers":[]}}"#),
        format!(r#"{{"layers":null,"annotations":null,"subject":null,"config":{D},"schemaVersion":2}}"#),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"","artifactType":"","config":{D},"layers":[],"x":[{{}}]}}"#
        ),
    ];
    for json in table {
        let manifest = Manifest::parse(json.as_bytes()).unwrap();
        assert_eq!((manifest.media_type, manifest.layers, manifest.subject), (None, vec![], None), "{json}");
    }
}

#[test]
fn an_invalid_manifest_is_rejected_with_a_reason() {
    let table = [
        ("".to_owned(), "EOF"),
        ("[]".to_owned(), "invalid image manifest"),
        (format!(r#"{{"config":{D},"layers":[]}}"#), "missing field `schemaVersion`"),
        (format!(r#"{{"schemaVersion":1,"config":{D},"layers":[]}}"#), "schemaVersion 1 is not supported"),
        (format!(r#"{{"schemaVersion":"2","config":{D},"layers":[]}}"#), "invalid type"),
        (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "missing field `config`"),
        (format!(r#"{{"schemaVersion":2,"config":{D}}}"#), "missing field `layers`"),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{D},"layers":[]}}"#,
                media_type::OCI_INDEX
            ),
            "is that of an index",
        ),
        (format!(r#"{{"schemaVersion":2,"config":{D},"layers":[]}}x"#), "trailing"),
    ];
    for (json, expected) in table {
        let message = Manifest::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn an_invalid_index_is_rejected_with_a_reason() {
    let table = [
        (serde_json::to_string(&image()).unwrap(), "is that of an image manifest"),
        (format!(r#"{{"schemaVersion":2,"config":{D},"layers":[]}}"#), "missing field `manifests`"),
        (r#"{"schemaVersion":3,"manifests":[]}"#.to_owned(), "schemaVersion 3 is not supported"),
    ];
    for (json, expected) in table {
        let message = Index::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn an_index_without_manifests_is_empty() {
    let index = Index::parse(br#"{"schemaVersion":2,"manifests":null}"#).unwrap();
    assert_eq!(index.manifests, []);
    assert_eq!(
        Index { media_type: Some(MediaType::from_static(media_type::OCI_INDEX)), ..index },
        Index::new(vec![])
    );
}

#[test]
fn the_blobs_of_an_image_are_its_config_and_layers() {
    let image = image();
    let sizes: Vec<u64> = image.blobs().map(|blob| blob.size).collect();
    assert_eq!(sizes, [2, 3, 3]);
}

proptest! {
    #[test]
    fn manifests_round_trip_through_json(
        contents in prop::collection::vec(any::<[u8; 4]>(), 0..5),
        annotations in prop::collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..4),
    ) {
        let layers = contents.iter().map(|content| descriptor(media_type::OCI_LAYER_TAR, content)).collect();
        let manifest = Manifest { annotations, ..Manifest::new(descriptor(media_type::OCI_EMPTY, b"{}"), layers) };
        prop_assert_eq!(Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(), manifest);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>, cut: prop::sample::Index) {
        let _ = (Manifest::parse(&bytes), Index::parse(&bytes));
        let whole = serde_json::to_vec(&image()).unwrap();
        prop_assert!(Manifest::parse(&whole[..cut.index(whole.len())]).is_err());
    }
}
