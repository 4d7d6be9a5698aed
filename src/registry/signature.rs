//! Manifests that clients may push that may sign, and not push: those that refer to another.

use ocipfs_oci::{Digest, Tag};
use serde::Deserialize;

use super::error::ApiError;

/// What cosign adds to the digest of an image for the tag of what belongs to it.
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// What a manifest says of the one that it refers to.
#[derive(Deserialize)]
struct Referring {
    subject: Option<Subject>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "a subject without a valid digest is none")]
struct Subject {
    digest: Digest,
}

/// Refuses a manifest that does not refer to another, and a tag that is not that of a referrer.
pub fn check(bytes: &[u8], tags: &[Tag]) -> Result<(), ApiError> {
    let has_subject = || {
        let read = serde_json::from_slice::<Referring>(bytes);
        read.is_ok_and(|manifest| manifest.subject.is_some())
    };
    let is_referrer = if tags.is_empty() { has_subject() } else { tags.iter().all(is_of_referrer) };
    match is_referrer {
        true => Ok(()),
        false => Err(ApiError::denied(
            "pushing this requires the action `push`: with `sign`, a manifest needs a subject and no tag, or a tag such as sha256-<hex>.sig",
        )),
    }
}

/// Whether a tag is made of the digest of an image: those of cosign, and of the referrers tag schema.
fn is_of_referrer(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(hex, suffix)| (hex, Some(suffix)));
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    matches!(algorithm, "sha256" | "sha512")
        && is_hex
        && suffix.is_none_or(|suffix| SUFFIXES.contains(&suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_action_sign_only_signatures_and_other_referrers_are_pushed() {
        let digest = Digest::sha256_of(b"image");
        let (subject, hex) = (format!(r#"{{"subject":{{"digest":"{digest}"}}}}"#), digest.hex());
        let tag = |text: String| vec![text.parse::<Tag>().unwrap()];
        for (json, tags, passes) in [
            (subject.as_str(), vec![], true),
            ("{}", vec![], false),
            (r#"{"subject":{"digest":"x"}}"#, vec![], false),
            (&subject, tag("latest".into()), false),
            ("{}", tag(format!("sha256-{hex}.sig")), true),
            ("{}", tag(format!("sha256-{hex}")), true),
            ("{}", tag(format!("sha256-{hex}.x")), false),
            ("{}", tag("sha256-00.sig".into()), false),
        ] {
            assert_eq!(check(json.as_bytes(), &tags).is_ok(), passes, "{json} {tags:?}");
        }
    }
}
