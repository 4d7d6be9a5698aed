//! What signers keep beside images: `cosign save` tells its entries apart by an annotation, registries by tags.

use ocipfs_oci::{Descriptor, Digest, Tag};

use super::name::REF_NAME;

/// Annotation of `cosign save` with the kind of an entry.
const KIND: &str = "kind";
const IMAGES: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];
/// Kinds that are not images, and the suffixes of their tags in a registry.
const SIGNATURES: [(&str, &str); 2] =
    [("dev.cosignproject.cosign/sigs", ".sig"), ("dev.cosignproject.cosign/atts", ".att")];
/// Suffixes after the digest in a tag; without one it is the fall-back of the referrers API.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// A signature or attestation of `cosign save`: the image that it is about, and its tag in a registry.
pub fn signature(entry: &Descriptor, entries: &[Descriptor]) -> Option<(Digest, Tag)> {
    let kind = entry.annotation(KIND)?;
    let (_, suffix) = SIGNATURES.iter().find(|(signature, _)| *signature == kind)?;
    let is_image = |other: &&Descriptor| {
        other.annotation(KIND).is_some_and(|kind| IMAGES.contains(&kind))
            && other.annotation(REF_NAME) == entry.annotation(REF_NAME)
    };
    let mut images = entries.iter().filter(is_image);
    let (image, None) = (images.next()?, images.next()) else { return None };
    let digest = &image.digest;
    let tag = format!("{}-{}{suffix}", digest.algorithm(), digest.hex()).parse().ok()?;
    Some((digest.clone(), tag))
}

/// Whether `cosign save` says that an entry is not an image.
pub fn is_signature(entry: &Descriptor) -> bool {
    entry.annotation(KIND).is_some_and(|kind| SIGNATURES.iter().any(|(signature, _)| *signature == kind))
}

/// The manifest that a tag such as `sha256-<hex>.sig` is about.
pub fn subject_of_tag(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = SUFFIXES.iter().rev().find_map(|suffix| rest.strip_suffix(suffix))?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_signatures_and_of_the_referrers_fallback_name_their_subject() {
        let digest = Digest::sha256_of(b"image");
        for suffix in SUFFIXES {
            let tag = format!("sha256-{}{suffix}", digest.hex()).parse().unwrap();
            assert_eq!(subject_of_tag(&tag), Some(digest.clone()), "{tag}");
        }
        for text in ["latest", "sha256-abc", "sha256-abc.sig", "1.0-rc"] {
            assert_eq!(subject_of_tag(&text.parse().unwrap()), None, "{text}");
        }
    }
}
