//! Which pushed manifests are signatures, by their type or by their tag.

use serde::Deserialize;

use super::{is_signature_type, signed_by_tag};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kinds {
    artifact_type: Option<String>,
    config: Option<Config>,
    subject: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

/// Whether a manifest is a signature of its subject.
pub fn is_signature(manifest: &[u8]) -> bool {
    let Ok(kinds) = serde_json::from_slice::<Kinds>(manifest) else { return false };
    let config = kinds.config.and_then(|config| config.media_type);
    let mut types = kinds.artifact_type.into_iter().chain(config);
    kinds.subject.is_some() && types.any(|kind| is_signature_type(&kind))
}

/// The digest that a tag says is signed: cosign tags the signatures of `sha256:<hex>` as `sha256-<hex>.sig`. Its tags of
/// attestations are no signatures.
pub fn signed_by_cosign(tag: &str) -> Option<String> {
    let untyped = tag.strip_suffix(".sig").filter(|rest| !rest.contains('.'))?;
    signed_by_tag(&untyped.parse().ok()?).map(|digest| digest.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOTATION: &str = "application/vnd.cncf.notary.signature";

    #[test]
    fn signatures_are_known_by_their_type_and_their_subject_or_by_their_tag() {
        let subject = json!({ "digest": "sha256:00" });
        for (manifest, is) in [
            (json!({ "subject": subject, "artifactType": NOTATION }), true),
            (json!({ "subject": subject, "config": { "mediaType": NOTATION } }), true),
            (
                json!({ "subject": subject, "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json" }),
                true,
            ),
            (json!({ "artifactType": NOTATION }), false),
            (json!({ "subject": subject, "artifactType": "application/spdx+json" }), false),
            (json!({ "subject": subject }), false),
            (json!([]), false),
        ] {
            assert_eq!(is_signature(manifest.to_string().as_bytes()), is, "{manifest}");
        }
        let hex = "0a".repeat(32);
        assert_eq!(signed_by_cosign(&format!("sha256-{hex}.sig")), Some(format!("sha256:{hex}")));
        for other in [
            format!("sha256-{hex}"),
            format!("sha256-{hex}.att"),
            format!("sha256-{hex}.att.sig"),
            "sha256-00.sig".into(),
            "app.sig".into(),
            format!("md5-{hex}.sig"),
        ] {
            assert_eq!(signed_by_cosign(&other), None, "{other}");
        }
    }
}
