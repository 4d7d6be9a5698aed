use proptest::prelude::*;

use super::*;

const LAYERS: [&str; 9] = [
    OCI_LAYER_TAR,
    OCI_LAYER_TAR_GZIP,
    OCI_LAYER_TAR_ZSTD,
    OCI_NONDISTRIBUTABLE_TAR,
    OCI_NONDISTRIBUTABLE_TAR_GZIP,
    OCI_NONDISTRIBUTABLE_TAR_ZSTD,
    DOCKER_LAYER_TAR,
    DOCKER_LAYER_TAR_GZIP,
    DOCKER_FOREIGN_TAR_GZIP,
];
const INDEXES: [&str; 2] = [OCI_INDEX, DOCKER_MANIFEST_LIST];
const MANIFESTS: [&str; 2] = [OCI_MANIFEST, DOCKER_MANIFEST];
const OTHERS: [&str; 4] = [OCI_CONFIG, OCI_EMPTY, DOCKER_CONFIG, OCIPFS_LAYER_MANIFEST];

#[test]
fn every_known_type_is_of_one_kind() {
    let kinds = [
        (&LAYERS[..], [true, false, false]),
        (&INDEXES, [false, true, false]),
        (&MANIFESTS, [false, false, true]),
    ];
    for (texts, expected) in kinds.into_iter().chain([(&OTHERS[..], [false; 3])]) {
        for text in texts {
            let media_type: MediaType = text.parse().unwrap();
            let found = [media_type.is_layer(), media_type.is_index(), media_type.is_manifest()];
            assert_eq!(found, expected, "{text}");
        }
    }
}

#[test]
fn an_encrypted_layer_is_a_layer() {
    let encrypted: MediaType = format!("{OCI_LAYER_TAR_GZIP}+encrypted").parse().unwrap();
    assert!(encrypted.is_layer());
}

#[test]
fn a_media_type_compares_with_text() {
    const MANIFEST: MediaType = MediaType::from_static(OCI_MANIFEST);
    assert_eq!(MANIFEST, OCI_MANIFEST);
    assert_eq!(OCI_MANIFEST, MANIFEST);
    assert_eq!(MANIFEST, *OCI_MANIFEST);
    assert_eq!(*OCI_MANIFEST, MANIFEST);
    assert_ne!(MANIFEST, OCI_INDEX);
    assert_eq!(OCI_MANIFEST.parse(), Ok(MANIFEST));
}

#[test]
fn the_longest_media_type_is_parsed() {
    let name = "a".repeat(127);
    assert!(format!("{name}/{name}").parse::<MediaType>().is_ok());
    assert!(format!("{name}a/{name}").parse::<MediaType>().is_err());
    assert!(format!("{name}/{name}a").parse::<MediaType>().is_err());
}

#[test]
fn an_invalid_media_type_is_rejected() {
    for text in [
        "", "/", "a", "a/", "/a", "a/b/c", "a/b;c=d", "a/b c", " a/b", "a/b\n", "*/*", "text/*", "a/.b",
        "+a/b", "é/a",
    ] {
        let message = text.parse::<MediaType>().unwrap_err().to_string();
        assert!(message.contains("invalid media type"), "{message}");
    }
}

#[test]
fn a_media_type_in_json_is_kept_as_it_is_stated() {
    for json in [r#""a/b""#, r#""text/plain; charset=utf-8""#, r#""sbom""#, r#""""#, r#""é \n""#] {
        let media_type: MediaType = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&media_type).unwrap(), json);
    }
    assert!(serde_json::from_str::<MediaType>("1").is_err());
}

#[test]
fn parameters_do_not_change_the_kind_of_a_media_type() {
    for parameters in [";charset=utf-8", " ; a=b; c=d", ";", "; profile=\"x;y\""] {
        let of = |text: &str| MediaType::stated(format!("{text}{parameters}"));
        assert!(of(OCI_INDEX).is_index() && of(OCI_MANIFEST).is_manifest() && of(OCI_LAYER_TAR).is_layer());
        assert_eq!(of(OCI_MANIFEST).essence(), OCI_MANIFEST);
        assert_ne!(of(OCI_MANIFEST), OCI_MANIFEST, "it is kept as it was written");
    }
}

proptest! {
    #[test]
    fn media_types_round_trip_through_text(text in "[a-zA-Z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-z0-9!#$&^_.+-]{0,126}") {
        prop_assert_eq!(text.parse::<MediaType>().unwrap().to_string(), text);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        if let Ok(media_type) = text.parse::<MediaType>() {
            prop_assert!(media_type.as_str().len() <= 255);
        }
    }
}
