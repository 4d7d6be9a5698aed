use ocipfs_oci::media_type;
use serde_json::{Value, json};

use super::*;

/// The example of the original ocipfs, byte for byte.
const EXAMPLE: &[u8] = include_bytes!("../../../example/layer.json");

fn broken(from: &str, to: &str) -> String {
    let text = String::from_utf8(EXAMPLE.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn the_original_example_round_trips_byte_for_byte() {
    let document = LayerDocument::parse(EXAMPLE).unwrap();
    let layer = &document.manifests()[0].layers[0];
    assert_eq!(layer.size, 168);
    assert_eq!(layer.file_name(), Some("foo-0.1.0.tar.gz"));
    assert_eq!(String::from_utf8(document.to_bytes()).unwrap().as_bytes(), EXAMPLE);
}

#[test]
fn platform_and_unknown_annotations_of_a_layer_manifest_round_trip() {
    let mut manifest = example();
    manifest.platform = Some("linux/arm64/v8".parse().unwrap());
    manifest.layers[0].annotations.insert("org.opencontainers.image.title".into(), "foo".into());
    let document = LayerDocument::Manifest(manifest);
    assert_eq!(LayerDocument::parse(&document.to_bytes()).unwrap(), document);
}

#[test]
fn a_document_that_is_not_a_layer_manifest_is_rejected() {
    let long = " ".repeat(MAX_BYTES as usize + 1);
    for text in ["", "{}", "[]", "hello", &broken("vnd.ocipfs.layer", "vnd.other.layer"), &long] {
        let error = LayerDocument::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Kind(_)), "{:.40}: {error}", text);
    }
}

#[test]
fn a_malformed_layer_manifest_is_rejected_with_the_reason() {
    for (from, to, reason) in [
        ("168", "-1", "size"),
        ("168", "1.5", "size"),
        ("\"size\": 168,", "", "size"),
        ("sha256:cfb9", "sha256:CFB9", "hex"),
        ("sha256:cfb9", "md5:cfb9", "md5"),
        ("image.layer.v1.tar+gzip", "image.config.v1+json", "mediaType"),
        ("io.ocipfs.layer.ipfs.cid", "io.other", "io.ocipfs.layer.ipfs.cid"),
        ("io.ocipfs.layer.fs.digest", "io.other", "io.ocipfs.layer.fs.digest"),
        ("QmbSCQ", "notacid", "CID"),
        ("/foo-0.1.0.tar.gz", "/../secret", "path"),
        ("sha256:e02e", "sha256:e0", "hex digits"),
    ] {
        let error = LayerDocument::parse(broken(from, to).as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{from} -> {to}: {error}");
        assert!(error.to_string().contains(reason), "{from} -> {to}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        let _ = LayerDocument::parse(&bytes);
    }
}

fn example() -> LayerManifest {
    LayerDocument::parse(EXAMPLE).unwrap().manifests()[0].clone()
}

/// Two layers, for another platform.
fn two() -> LayerManifest {
    let mut two = example();
    let mut upper = two.layers[0].clone();
    upper.at = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu/app.tar".parse().unwrap();
    upper.media_type = ocipfs_oci::MediaType::from_static(media_type::OCI_LAYER_TAR);
    (upper.digest, upper.size) = (upper.diff_id.clone(), 2048);
    two.layers.push(upper);
    two.platform = Some("linux/arm64/v8".parse().unwrap());
    two
}

fn index() -> LayerDocument {
    LayerDocument::index(vec![example(), two()]).unwrap()
}

#[test]
fn the_image_of_the_original_example_is_stable() {
    let image = Image::of(&example());
    assert_eq!(
        std::str::from_utf8(&image.config).unwrap(),
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6"]}}"#
    );
    assert_eq!(
        std::str::from_utf8(&image.manifest).unwrap(),
        concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:33feab50c2fa3b1dc84f3590f6d939766d1ef1b5198a87d12faf8c19e0e75983","size":151,"annotations":{}},"#,
            r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:cfb9359acc6d98d593d724bb9f0fd4b12dd12688eb44ee9ac391fb3fde6c0415","size":168,"#,
            r#""annotations":{"io.ocipfs.layer.ipfs.cid":"QmbSCQoNkbvuYXpjUsERkG13em9WXeSiw5m5omLUnrcTT4/foo-0.1.0.tar.gz","#,
            r#""io.ocipfs.layer.fs.digest":"sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6"}}]}"#
        )
    );
    assert_eq!(
        image.config_digest.to_string(),
        "sha256:33feab50c2fa3b1dc84f3590f6d939766d1ef1b5198a87d12faf8c19e0e75983"
    );
    assert_eq!(
        image.manifest_digest.to_string(),
        "sha256:b588c6d2f8ba7c4275aa80975b8eaf489ea6456c9ea44297960a34a07f7ab059"
    );
}

#[test]
fn the_platform_of_a_layer_manifest_is_in_the_config() {
    let layer = LayerManifest { platform: Some("linux/arm64/v8".parse().unwrap()), ..example() };
    let config: serde_json::Value = serde_json::from_slice(&Image::of(&layer).config).unwrap();
    assert_eq!(
        (&config["architecture"], &config["os"], &config["variant"]),
        (&"arm64".into(), &"linux".into(), &"v8".into())
    );
    assert_ne!(Image::of(&layer).manifest_digest, Image::of(&example()).manifest_digest);
}

#[test]
fn synthesised_layer_image_is_a_valid_oci_manifest() {
    let manifest = ocipfs_oci::Manifest::parse(&Image::of(&example()).manifest).unwrap();
    assert_eq!(manifest.config.digest, Image::of(&example()).config_digest);
    assert_eq!(manifest.layers[0].digest, example().layers[0].digest);
}

/// A change here gives what others pinned another name: it may not be.
#[test]
fn layer_lists_and_layer_indexes_and_their_images_are_stable() {
    let documents = [LayerDocument::Manifest(two()), index()];
    let examples =
        [include_str!("../../../docs/layer-list.json"), include_str!("../../../docs/layer-index.json")];
    for (document, example) in documents.iter().zip(examples) {
        assert_eq!(String::from_utf8(document.to_bytes()).unwrap(), example);
        assert_eq!(LayerDocument::parse(example.as_bytes()).unwrap(), *document);
    }
    let image = Image::of(&two());
    assert_eq!(
        std::str::from_utf8(&image.config).unwrap(),
        concat!(
            r#"{"architecture":"arm64","os":"linux","variant":"v8","rootfs":{"type":"layers","diff_ids":["#,
            r#""sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6","#,
            r#""sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6"]}}"#
        )
    );
    let index = ImageIndex::of(index().manifests());
    assert_eq!(
        std::str::from_utf8(&index.bytes).unwrap(),
        format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:b588c6d2f8ba7c4275aa80975b8eaf489ea6456c9ea44297960a34a07f7ab059","size":{},"#,
                r#""platform":{{"architecture":"amd64","os":"linux"}}}},"#,
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"#,
                r#""platform":{{"architecture":"arm64","os":"linux","variant":"v8"}}}}]}}"#
            ),
            Image::of(&example()).manifest.len(),
            image.manifest_digest,
            image.manifest.len(),
        )
    );
    let digests = [image.config_digest, image.manifest_digest, index.digest].map(|digest| digest.hex());
    assert_eq!(
        digests,
        [
            "58b5e1fe8ee5613da40efd21b097c4b74780ad64907058f8ad0253751beeffe2",
            "7c76ebab6c15388d9c9c2c8a53625ad0ba75c3d903342fa6de92339beaa0e678",
            "225cf1851802a49d795ef799675a4ed3b46c309823a4b657c01c28339fddb099",
        ]
    );
}

#[test]
fn invalid_layer_lists_and_layer_indexes_are_rejected_with_the_position() {
    let list: Value = serde_json::from_slice(&LayerDocument::Manifest(two()).to_bytes()).unwrap();
    let whole: Value = serde_json::from_slice(&index().to_bytes()).unwrap();
    let changed = |document: &Value, pointer: &str, value: Value| {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        document
    };
    let amd = json!({ "architecture": "amd64", "os": "linux" });
    let mut platform_within = list.clone();
    platform_within["layers"][1]["platform"] = amd.clone();
    for (document, reason) in [
        (changed(&list, "/layers", json!([])), "layers: expected at least one"),
        (changed(&list, "/layers", json!({})), "layers: not a list"),
        (changed(&list, "/layers/1/size", json!(-1)), "layers[1]: "),
        (changed(&list, "/layers/1/mediaType", json!("text/plain")), "layers[1].mediaType: "),
        (changed(&list, "/platform", json!(7)), "platform: "),
        (platform_within, "layers[1]: the platform belongs beside the list"),
        (changed(&whole, "/manifests", json!([])), "manifests: expected at least one"),
        (changed(&whole, "/manifests", json!("x")), "manifests: not a list"),
        (changed(&whole, "/manifests/1/platform", amd), "manifests[1]: duplicate platform linux/amd64"),
        (changed(&whole, "/manifests/1/layers/0/digest", json!("x")), "manifests[1].layers[0]: "),
        (changed(&whole, "/manifests/0", whole.clone()), "manifests[0]: unknown media type"),
        (changed(&whole, "/manifests/0", json!(1)), "manifests[0]: "),
    ] {
        let error = LayerDocument::parse(document.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_layer_list_of_one_layer_equals_the_single_layer_manifest() {
    let single: Value = serde_json::from_slice(EXAMPLE).unwrap();
    let list = json!({ "mediaType": media_type::OCIPFS_LAYER_LIST, "layers": [single["layer"]] });
    let document = LayerDocument::parse(list.to_string().as_bytes()).unwrap();
    assert_eq!(document, LayerDocument::Manifest(example()));
}

/// Returns the first violation of a schema by a value. Only the few keywords in use are supported.
fn complaint(schema: &Value, value: &Value, root: &Value) -> Option<String> {
    let words = schema.as_object().expect("a schema");
    words.iter().find_map(|(word, says)| {
        let below = |schema: &Value, value: &Value| complaint(schema, value, root);
        let items = value.as_array();
        let holds = match word.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = says.as_str().unwrap().trim_start_matches('#');
                return below(root.pointer(pointer).expect("what is referred to"), value);
            }
            "type" => match says.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                other => panic!("type {other}"),
            },
            "const" => says == value,
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= says.as_i64().unwrap()),
            "minItems" => items.is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap()),
            "pattern" => {
                let pattern = regex::Regex::new(says.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "required" => {
                says.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "properties" => {
                let properties = says.as_object().unwrap().iter();
                let mut given = properties.filter_map(|(key, schema)| Some((schema, value.get(key)?)));
                return given.find_map(|(schema, value)| below(schema, value));
            }
            "additionalProperties" => {
                let known = words.get("properties").and_then(Value::as_object);
                let is_other = |key: &String| known.is_none_or(|known| !known.contains_key(key));
                let mut others = value.as_object().into_iter().flatten().filter(|(key, _)| is_other(key));
                return others.find_map(|(_, value)| below(says, value));
            }
            "items" => return items.into_iter().flatten().find_map(|item| below(says, item)),
            "not" => below(says, value).is_some(),
            "oneOf" => {
                says.as_array().unwrap().iter().filter(|schema| below(schema, value).is_none()).count() == 1
            }
            other => panic!("the schema has {other:?}, which is not checked here"),
        };
        (!holds).then(|| format!("{word}: {says} does not hold for {value}"))
    })
}

#[test]
fn layer_manifest_schema_agrees_with_the_parser() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/layer-manifest.schema.json")).unwrap();
    let says = |value: &Value| complaint(&schema, value, &schema);
    let mut foreign: Value = serde_json::from_slice(EXAMPLE).unwrap();
    foreign["layer"]["annotations"]["org.example"] = "any".into();
    foreign["unknown"] = json!([1]);
    let arm = LayerManifest { platform: two().platform, ..example() };
    for document in [
        serde_json::from_slice(EXAMPLE).unwrap(),
        foreign,
        serde_json::from_slice(&LayerDocument::Manifest(arm).to_bytes()).unwrap(),
        serde_json::from_str(include_str!("../../../docs/layer-list.json")).unwrap(),
        serde_json::from_str(include_str!("../../../docs/layer-index.json")).unwrap(),
    ] {
        assert_eq!(says(&document), None, "{document}");
        LayerDocument::parse(document.to_string().as_bytes()).unwrap();
        // One thing less or other, everywhere where there is something.
        for pointer in [
            "/mediaType",
            "/layer",
            "/layers",
            "/manifests",
            "/layers/1/digest",
            "/manifests/1/layers/0/size",
        ] {
            let mut broken = document.clone();
            let Some(value) = broken.pointer_mut(pointer) else { continue };
            *value = "nonsense".into();
            assert!(says(&broken).is_some(), "{broken}");
            assert!(LayerDocument::parse(broken.to_string().as_bytes()).is_err(), "{broken}");
        }
    }
}
