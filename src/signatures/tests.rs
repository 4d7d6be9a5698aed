//! Signatures as cosign 2.6 and notation 1.3 made them, and generated ones that are right or wrong.

mod generated;

use std::sync::Arc;

use ocipfs_oci::Digest;

use super::*;

/// When the signatures were made, in seconds since 1970; the certificate was valid for a day.
const SIGNED_AT: u64 = 1_795_959_914;
const DAY: u64 = 24 * 60 * 60;

fn load(file: &str) -> Result<Vec<u8>, String> {
    Ok(match file {
        "cosign.pub" => include_bytes!("fixtures/cosign.pub").to_vec(),
        "notation.crt" => include_bytes!("fixtures/notation.crt").to_vec(),
        _ => return Err("no such file".into()),
    })
}

const POLICY: &str = r#"
[keys.release]
cosign = "cosign.pub"

[keys.acme]
notation = ["notation.crt"]

[[policy]]
repositories = ["cosign/*", "both/*"]
keys = ["release"]

[[policy]]
repositories = ["notation/*", "both/*"]
keys = ["acme"]

[[policy]]
repositories = ["any"]
keys = ["acme", "release"]
require = "any"
"#;

fn policies() -> Policies {
    Policies::parse(POLICY, load).unwrap()
}

fn image() -> Digest {
    Digest::sha256_of(include_bytes!("fixtures/image.json"))
}

/// The signatures that clients made: a manifest, and its layer.
fn made() -> [(&'static str, &'static [u8], &'static [u8]); 6] {
    [
        (
            "cosign",
            include_bytes!("fixtures/cosign.manifest.json"),
            include_bytes!("fixtures/cosign.layer.json"),
        ),
        (
            "bundle",
            include_bytes!("fixtures/bundle.manifest.json"),
            include_bytes!("fixtures/bundle.layer.json"),
        ),
        ("jws", include_bytes!("fixtures/jws.manifest.json"), include_bytes!("fixtures/jws.layer.json")),
        ("cose", include_bytes!("fixtures/cose.manifest.json"), include_bytes!("fixtures/cose.layer")),
        (
            "attested",
            include_bytes!("fixtures/attested.manifest.json"),
            include_bytes!("fixtures/attested.layer.json"),
        ),
        (
            "attested bundle",
            include_bytes!("fixtures/attested-bundle.manifest.json"),
            include_bytes!("fixtures/attested-bundle.layer.json"),
        ),
    ]
}

fn check(policies: &Policies, manifest: &[u8], layer: &[u8], now: u64) -> Option<Checked> {
    SignatureManifest::parse(manifest)?.check(policies.keys(), b"{}", &[layer.to_vec()], now)
}

/// Whether what these keys signed is served from each of some repositories.
fn served(policies: &Policies, signers: &[Signer], now: u64) -> [bool; 5] {
    ["cosign/a", "notation/a", "both/a", "any", "other"]
        .map(|name| policies.judge(name, signers, now).is_passed())
}

#[test]
fn signatures_of_cosign_and_notation_are_verified_offline_by_their_keys() {
    let policies = policies();
    let mut all = Vec::new();
    for (what, manifest, layer) in made() {
        let checked = check(&policies, manifest, layer, SIGNED_AT).unwrap();
        assert_eq!(checked.subject, image(), "{what}");
        let expected = match what {
            "cosign" | "bundle" => [true, false, false, true, true],
            "jws" | "cose" => [false, true, false, true, true],
            // An attestation is not a signature.
            _ => [false, false, false, false, true],
        };
        assert_eq!(served(&policies, &checked.signers, SIGNED_AT), expected, "{what}");
        all.extend(checked.signers);
    }
    assert_eq!(served(&policies, &all, SIGNED_AT), [true; 5]);
    // Certificates are valid for a time, keys are not.
    assert_eq!(served(&policies, &all, SIGNED_AT + DAY), [true, false, false, true, true]);
    let Verdict::Withheld(why) = policies.judge("both/a", &all, SIGNED_AT + DAY) else { panic!() };
    assert!(why.expired && why.policy == 2 && why.keys == ["acme"], "{why}");
    assert_eq!(served(&policies, &[], SIGNED_AT), [false, false, false, false, true]);
}

#[test]
fn a_signature_before_or_after_the_time_of_its_certificate_is_not_valid() {
    let policies = policies();
    let (_, manifest, layer) = made()[2];
    for now in [SIGNED_AT - DAY, SIGNED_AT + DAY, 0] {
        assert!(check(&policies, manifest, layer, now).unwrap().signers.is_empty(), "{now}");
    }
}

#[test]
fn a_trusted_signer_has_all_attributes_of_an_identity() {
    for (identity, signs) in [
        ("x509.subject: C=US, ST=WA, O=Notary", true),
        ("C=US, L=Seattle, CN=test", true),
        ("x509.subject: C=US, O=Other", false),
        ("CN=tes", false),
    ] {
        let text = POLICY.replace(
            r#"notation = ["notation.crt"]"#,
            &format!("notation = [\"notation.crt\"]\nidentities = [\"{identity}\"]"),
        );
        let policies = Policies::parse(&text, load).unwrap();
        let (_, manifest, layer) = made()[3];
        let checked = check(&policies, manifest, layer, SIGNED_AT).unwrap();
        assert_eq!(!checked.signers.is_empty(), signs, "{identity}");
    }
}

#[test]
fn a_manifest_that_calls_itself_a_signature_and_is_none_is_not_taken_for_one() {
    let policies = policies();
    let [(_, cosign, payload), _, (_, jws, envelope), ..] = made();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let other = format!(r#"{{"subject":{{"digest":"{}"}},"layers""#, Digest::sha256_of(b"other"));
    for (manifest, layer) in [
        // A layer of another kind, none, and a large one.
        (text(cosign).replace("vnd.dev.cosign.simplesigning.v1+json", "vnd.oci.image.layer.v1.tar"), payload),
        (r#"{"schemaVersion":2,"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"mediaType":"a/b"},"layers":[]}"#.into(), payload),
        (text(cosign).replace(r#""size":234"#, r#""size":99999999"#), payload),
        // A layer that is of something else.
        (text(cosign), &b"#!/bin/sh"[..]),
        (text(cosign), &include_bytes!("fixtures/image.json")[..]),
        (text(jws), payload),
        (text(cosign), envelope),
        // About another image than its layer.
        (
            text(jws).replace(&image().to_string(), &Digest::sha256_of(b"other").to_string()),
            envelope,
        ),
        (text(cosign).replacen(r#""layers""#, &other[1..], 1), payload),
    ] {
        assert_eq!(check(&policies, manifest.as_bytes(), layer, SIGNED_AT), None, "{manifest}");
    }
    // An image with what makes a payload of cosign beside its layers.
    let mut image: serde_json::Value = serde_json::from_slice(include_bytes!("fixtures/image.json")).unwrap();
    let signed: serde_json::Value = serde_json::from_slice(payload).unwrap();
    image["critical"] = signed["critical"].clone();
    assert_eq!(check(&policies, cosign, image.to_string().as_bytes(), SIGNED_AT), None);
}

#[test]
fn a_manifest_with_a_key_that_a_signature_has_not_is_none() {
    let (_, cosign, _) = made()[0];
    let cosign = String::from_utf8(cosign.to_vec()).unwrap();
    assert!(SignatureManifest::parse(cosign.as_bytes()).is_some());
    for (own, other) in [
        (r#""layers""#, r#""Layers":[],"layers""#),
        (r#""layers""#, r#""layer\u017f":[],"layers""#),
        (r#""layers""#, r#""manifests":[],"layers""#),
        (r#""config""#, r#""Config":{},"config""#),
        (r#""config""#, r#""other":1,"config""#),
        (r#""size":234"#, r#""size":234,"data":"e30=""#),
        (r#""size":234"#, r#""size":234,"urls":["https://example.org"]"#),
        (r#""size":234"#, r#""Digest":"x","size":234"#),
    ] {
        let manifest = cosign.replacen(own, other, 1);
        assert_ne!(manifest, cosign);
        assert_eq!(SignatureManifest::parse(manifest.as_bytes()), None, "{manifest}");
    }
}

#[test]
fn a_signature_is_small_and_has_each_layer_once() {
    let layers = |manifest: &[u8], change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        change(manifest["layers"].as_array_mut().unwrap());
        SignatureManifest::parse(manifest.to_string().as_bytes())
    };
    let twice = |layers: &mut Vec<serde_json::Value>| layers.push(layers[0].clone());
    let sized = |size: u64, count: usize| {
        move |layers: &mut Vec<serde_json::Value>| {
            let mut layer = layers.remove(0);
            layer["size"] = size.into();
            for number in 0..count {
                layer["digest"] = Digest::sha256_of(&number.to_be_bytes()).to_string().into();
                layers.push(layer.clone());
            }
        }
    };
    let [(_, cosign, _), (_, bundle, _), (_, jws, _), (_, cose, _), ..] = made();
    // Two keys sign the same payload.
    assert_eq!(layers(cosign, &twice).unwrap().parts.len(), 2);
    for (manifest, most) in
        [(cosign, 64 << 10), (jws, 256 << 10), (cose, 256 << 10), (bundle, MAX_PART_BYTES)]
    {
        assert!(
            layers(manifest, &sized(most, 1)).is_some() && layers(manifest, &sized(most + 1, 1)).is_none()
        );
        assert_eq!(layers(manifest, &twice).is_none(), manifest != cosign);
    }
    assert!(layers(bundle, &sized(4 << 20, 2)).is_some() && layers(bundle, &sized(3 << 20, 3)).is_none());
    assert!(
        layers(cosign, &sized(1, MAX_PARTS)).is_some() && layers(cosign, &sized(1, MAX_PARTS + 1)).is_none()
    );
}

#[test]
fn an_envelope_with_too_many_certificates_is_none() {
    use ciborium::Value;
    let [_, _, (_, jws, jws_envelope), (_, cose, cose_envelope), ..] = made();
    let mut envelope: serde_json::Value = serde_json::from_slice(jws_envelope).unwrap();
    let one = envelope["header"]["x5c"][0].clone();
    envelope["header"]["x5c"] = vec![one; 11].into();
    assert_eq!(check(&policies(), jws, envelope.to_string().as_bytes(), SIGNED_AT), None);
    let mut envelope: Value = ciborium::from_reader(cose_envelope).unwrap();
    let Value::Tag(_, parts) = &mut envelope else { panic!() };
    for (key, chain) in parts.as_array_mut().unwrap()[1].as_map_mut().unwrap().iter_mut() {
        if key.as_integer() == Some(33.into()) {
            let one = chain.as_array().map_or_else(|| chain.clone(), |all| all[0].clone());
            *chain = Value::Array(vec![one; 11]);
        }
    }
    let mut written = Vec::new();
    ciborium::into_writer(&envelope, &mut written).unwrap();
    assert_ne!(written, cose_envelope);
    assert_eq!(check(&policies(), cose, &written, SIGNED_AT), None);
}

#[test]
fn signatures_are_read_if_there_is_a_key_of_their_kind_and_attestations_always() {
    let text = POLICY.split("[[policy]]").next().unwrap();
    let (cosign, notation) = text.split_once("[keys.acme]").unwrap();
    let only = |keys: &str| Policies::parse(keys, load).unwrap();
    let (cosign, notation) = (only(cosign), only(&format!("[keys.acme]{notation}")));
    for (what, manifest, layer) in made() {
        let is_read = |policies| check(policies, manifest, layer, SIGNED_AT).is_some();
        let expected = match what {
            "cosign" => [true, false],
            "jws" | "cose" => [false, true],
            _ => [true, true],
        };
        assert_eq!([is_read(&cosign), is_read(&notation)], expected, "{what}");
    }
}

#[test]
fn a_policy_is_about_all_spellings_of_a_cid() {
    let hex = format!("f01551220{}", "0a".repeat(32));
    let text =
        format!("[keys.x]\ncosign = 'cosign.pub'\n[[policy]]\nrepositories = ['ipfs/{hex}/*']\nkeys = ['x']");
    let policies = Policies::parse(&text, load).unwrap();
    for (name, is_covered) in [
        (format!("ipfs/{hex}/app"), true),
        (format!("ipfs/{}/app", hex.to_uppercase()), true),
        (spelling::canonical(&format!("ipfs/{hex}/app")).into_owned(), true),
        (format!("ipfs/{}/app", hex.replace("0a", "0b")), false),
    ] {
        assert_eq!(policies.covers(&name), is_covered, "{name}");
        assert_eq!(policies.judge(&name, &[], 0).is_passed(), !is_covered, "{name}");
    }
}

#[test]
fn a_file_of_policies_is_refused_with_what_is_wrong_in_it() {
    for (text, told) in [
        ("[[policy]]\nrepository = []", "line 2"),
        ("[[policy]]\nrepositories = ['a']\nkeys = ['x']", "unknown key \"x\""),
        ("[[policy]]\nrepositories = ['a']\nkeys = []", "policy 1 needs"),
        ("[keys.x]\n", "either `cosign`"),
        ("[keys.x]\ncosign = 'cosign.pub'\nnotation = ['notation.crt']", "either `cosign`"),
        ("[keys.x]\ncosign = 'none.pub'", "no such file"),
        ("[keys.x]\ncosign = 'notation.crt'", "no public key"),
        ("[keys.x]\nnotation = ['cosign.pub']", "0 certificates"),
        ("[keys.x]\nnotation = ['notation.crt']\nidentities = ['acme']", "invalid identity"),
        ("[[policy]]\nrepositories = ['a b']\nkeys = []", "invalid pattern"),
    ] {
        let error = Policies::parse(text, load).err().unwrap().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
    let inline = format!("[keys.x]\ncosign = '''{}'''", include_str!("fixtures/cosign.pub"));
    assert!(Policies::parse(&inline, load).is_ok());
}

#[test]
fn other_keys_make_other_policies_and_the_same_files_the_same() {
    let changed = |file: &str| match file {
        "cosign.pub" => Ok(format!("\n{}", include_str!("fixtures/cosign.pub")).into_bytes()),
        file => load(file),
    };
    assert!(policies() == policies() && policies() != Policies::parse(POLICY, changed).unwrap());
    let none = PolicySource::default();
    assert!(none.current().is_none() && none.of("a").is_none());
    let all = Arc::new(policies());
    let source = PolicySource::new(move || all.clone());
    assert!(source.of("cosign/a").is_some() && source.of("other").is_none() && source.is_set());
}

#[test]
fn tags_of_signatures_are_made_of_the_digest_of_the_image() {
    let tags = tags_of(&image());
    assert_eq!(tags.len(), 2);
    for tag in tags {
        assert_eq!(signed_by_tag(&tag), Some(image()));
    }
    assert_eq!(signed_by_tag(&"v1.0".parse().unwrap()), None);
}
