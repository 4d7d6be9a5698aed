//! Manifests that clients may push that may sign, and not push: those that refer to another. None of them is an image, and
//! none takes away what others signed.

use std::collections::HashSet;

use ocipfs_oci::{Descriptor, Index, Manifest, Tag, media_type};

use super::SignatureManifest;

/// The media types of SBOMs that cosign attaches begin like this.
const SBOM_TYPES: [&str; 3] = ["application/vnd.cyclonedx", "application/vnd.syft", "text/spdx"];

/// What is expected under a tag that is made of the digest of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// A manifest to which cosign adds a layer with each signature or attestation.
    Signatures,
    /// A manifest with an SBOM.
    Sbom,
    /// The list of the referrers tag schema.
    Referrers,
}

impl Form {
    fn of(tag: &Tag) -> Option<Self> {
        let (algorithm, rest) = tag.as_str().split_once('-')?;
        let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(hex, suffix)| (hex, Some(suffix)));
        let is_hex = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || !matches!(algorithm, "sha256" | "sha512") {
            return None;
        }
        match suffix {
            Some("sig" | "att") => Some(Self::Signatures),
            Some("sbom") => Some(Self::Sbom),
            Some(_) => None,
            None => Some(Self::Referrers),
        }
    }

    fn fits(self, bytes: &[u8]) -> bool {
        let is_sbom = |layer: &Descriptor| {
            let kind = layer.media_type.essence();
            SBOM_TYPES.iter().any(|known| kind.starts_with(known))
        };
        match self {
            Self::Signatures => SignatureManifest::parse(bytes).is_some(),
            Self::Sbom => Manifest::parse(bytes)
                .is_ok_and(|manifest| !manifest.layers.is_empty() && manifest.layers.iter().all(is_sbom)),
            Self::Referrers => Index::parse(bytes).is_ok(),
        }
    }
}

/// Whether a manifest, and the tags under which it is pushed, have the form of a signature or another referrer.
pub fn is_attached(bytes: &[u8], tags: &[Tag]) -> bool {
    let forms: Option<HashSet<Form>> = tags.iter().map(Form::of).collect();
    match forms {
        Some(forms) if forms.is_empty() => is_referrer(bytes),
        Some(forms) => forms.into_iter().all(|form| form.fits(bytes)),
        None => false,
    }
}

/// Whether the manifest of a tag collects signatures: each is pushed with all that are there already.
pub fn collects_signatures(tag: &Tag) -> bool {
    Form::of(tag) == Some(Form::Signatures)
}

/// Whether a manifest has all layers of an earlier one. Layers with the same payload are told apart by the signature in their
/// annotations.
pub fn keeps_layers(bytes: &[u8], earlier: &[u8]) -> bool {
    let layers = Manifest::parse(bytes).map(|manifest| manifest.layers).unwrap_or_default();
    let is_same = |one: &Descriptor, other: &Descriptor| {
        one.digest == other.digest
            && one.media_type == other.media_type
            && one.annotations == other.annotations
    };
    let is_kept = |layer: &Descriptor| layers.iter().any(|kept| is_same(kept, layer));
    Manifest::parse(earlier).is_ok_and(|earlier| earlier.layers.iter().all(is_kept))
}

/// Whether a manifest refers to another and is not an image itself.
fn is_referrer(bytes: &[u8]) -> bool {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let config = manifest.config.media_type.essence();
        let is_image = matches!(config, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        return manifest.subject.is_some() && !is_image;
    }
    Index::parse(bytes).is_ok_and(|index| index.subject.is_some() && index.artifact_type.is_some())
}

#[cfg(test)]
mod tests {
    use ocipfs_oci::Digest;
    use serde_json::{Value, json};

    use super::*;

    const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

    fn descriptor(kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": Digest::sha256_of(kind.as_bytes()), "size": 7 })
    }

    fn manifest(config: &str, layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|kind| descriptor(kind)).collect();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(config), "layers": layers })
    }

    fn with(mut manifest: Value, field: &str, value: Value) -> Value {
        manifest[field] = value;
        manifest
    }

    #[test]
    fn with_the_action_sign_only_signatures_and_other_referrers_are_pushed() {
        let hex = Digest::sha256_of(b"image").hex();
        let tag = |suffix: &str| vec![format!("sha256-{hex}{suffix}").parse::<Tag>().unwrap()];
        let subject = || descriptor(media_type::OCI_MANIFEST);
        let referring = |config: &str| with(manifest(config, &["text/plain"]), "subject", subject());
        let index = || json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
        let image = || manifest(media_type::OCI_CONFIG, &[media_type::OCI_LAYER_TAR_GZIP]);
        let signature = || manifest(media_type::OCI_CONFIG, &[SIGNATURE]);
        let mixed = || manifest(media_type::OCI_CONFIG, &[SIGNATURE, media_type::OCI_LAYER_TAR]);
        let of = |layer: &str| manifest(media_type::OCI_CONFIG, &[layer]);
        let latest = || vec!["latest".parse::<Tag>().unwrap()];
        for (json, tags, passes) in [
            (referring(media_type::OCI_EMPTY), vec![], true),
            (referring("application/vnd.cncf.notary.signature"), vec![], true),
            (referring(media_type::OCI_EMPTY), latest(), false),
            (referring(media_type::OCI_CONFIG), vec![], false),
            (referring(media_type::DOCKER_CONFIG), vec![], false),
            (with(referring(media_type::OCI_CONFIG), "artifactType", json!("text/x")), vec![], false),
            (manifest(media_type::OCI_EMPTY, &["text/plain"]), vec![], false),
            (image(), vec![], false),
            (json!({}), vec![], false),
            (with(index(), "subject", subject()), vec![], false),
            (with(with(index(), "subject", subject()), "artifactType", json!("text/x")), vec![], true),
            (signature(), tag(".sig"), true),
            (signature(), [tag(".sig"), latest()].concat(), false),
            (signature(), tag(".sbom"), false),
            (signature(), tag(""), false),
            (of("application/vnd.dsse.envelope.v1+json"), tag(".att"), true),
            (of("text/spdx+json"), tag(".sbom"), true),
            (index(), tag(""), true),
            (index(), tag(".sig"), false),
            (image(), tag(".sig"), false),
            (image(), tag(".att"), false),
            (image(), tag(".sbom"), false),
            (image(), tag(""), false),
            (mixed(), tag(".sig"), false),
            (manifest(media_type::OCI_CONFIG, &[]), tag(".sig"), false),
            (signature(), tag(".x"), false),
            (signature(), vec!["sha256-00.sig".parse().unwrap()], false),
        ] {
            assert_eq!(is_attached(json.to_string().as_bytes(), &tags), passes, "{json} {tags:?}");
        }
    }

    #[test]
    fn with_the_action_sign_signatures_are_added_and_none_is_removed() {
        let by = |keys: &[&str]| {
            let mut signed = manifest(media_type::OCI_CONFIG, &[]);
            let layer = |key: &&str| with(descriptor(SIGNATURE), "annotations", json!({ "signature": key }));
            signed["layers"] = keys.iter().map(layer).collect();
            signed.to_string()
        };
        for (earlier, later, passes) in [
            (&["alice"][..], &["alice", "carol"][..], true),
            (&["alice"][..], &["alice"][..], true),
            (&["alice", "carol"][..], &["carol"][..], false),
            // It has the same payload as the one before.
            (&["alice"][..], &["carol"][..], false),
        ] {
            let keeps = keeps_layers(by(later).as_bytes(), by(earlier).as_bytes());
            assert_eq!(keeps, passes, "{earlier:?} {later:?}");
        }
        assert!(!keeps_layers(b"{}", b"{}"));
    }
}
