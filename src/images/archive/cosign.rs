//! What signers keep beside images: `cosign save` tells its entries apart by an annotation, registries by tags.

use ocipfs_oci::{Descriptor, Digest, Tag};

use super::name::REF_NAME;

/// Annotation of `cosign save` with the kind of an entry.
const KIND: &str = "kind";
const IMAGES: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];
/// Kinds that are not images, and the suffixes of their tags in a registry.
const SIGNATURES: [(&str, &str); 2] =
    [("dev.cosignproject.cosign/sigs", ".sig"), ("dev.cosignproject.cosign/atts", ".att")];
/// Digits of a digest in a tag.
const STEM_HEX: usize = 64;

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
    tag_stem(tag)?.replacen('-', ":", 1).parse().ok()
}

/// The part of a tag such as `sha256-<hex>.sig` that is made of a digest. What follows it is `.sig`, `.att` or `.sbom` of cosign,
/// the suffix of another tool, or nothing: the fall-back of the referrers API.
pub fn tag_stem(tag: &Tag) -> Option<&str> {
    let text = tag.as_str();
    let stem = text.split_once('.').map_or(text, |(stem, _)| stem);
    let (algorithm, hex) = stem.split_once('-')?;
    let is_hex = hex.len() >= STEM_HEX && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && algorithm.starts_with("sha")).then_some(stem)
}

/// Returns the stem of the tags that are about a manifest. A longer digest than sha256 is cut, as the distribution specification
/// says.
pub fn stem_of(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(STEM_HEX).collect();
    format!("{}-{hex}", digest.algorithm())
}

#[cfg(test)]
mod tests {
    use ocipfs_oci::{Algorithm, Hasher};

    use super::*;

    #[test]
    fn tags_of_signatures_and_of_the_referrers_fallback_name_their_subject() {
        let digest = Digest::sha256_of(b"image");
        for suffix in ["", ".sig", ".att", ".sbom", ".0123.meta"] {
            let tag: Tag = format!("sha256-{}{suffix}", digest.hex()).parse().unwrap();
            assert_eq!(subject_of_tag(&tag), Some(digest.clone()), "{tag}");
            assert_eq!(tag_stem(&tag), Some(stem_of(&digest).as_str()), "{tag}");
        }
        for text in ["latest", "sha256-abc", "sha256-abc.sig", "1.0-rc"] {
            assert_eq!(subject_of_tag(&text.parse().unwrap()), None, "{text}");
        }
        let long = Hasher::of(Algorithm::Sha512, b"image");
        let tag: Tag = format!("sha512-{}.sig", &long.hex()[..64]).parse().unwrap();
        assert_eq!(tag_stem(&tag), Some(stem_of(&long).as_str()));
    }
}
