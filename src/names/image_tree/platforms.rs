//! The entries of an index that are of the wanted platforms.

use std::collections::HashSet;

use ocipfs_oci::{Descriptor, Platform};

use crate::images::archive::attested::ATTESTED;

/// Docker's platform of an entry that is not an image, such as an attestation.
const UNKNOWN: &str = "unknown";

/// Leaves out the entries of other platforms, and the attestations about them. A manifest that is listed under several
/// platforms stays if one of them is wanted.
///
/// # Errors
/// Fails with the platforms that the index has, if none of them is wanted.
pub fn wanted(entries: Vec<Descriptor>, platforms: &[Platform]) -> Result<Vec<Descriptor>, Vec<String>> {
    let known = |entry: &Descriptor| {
        entry.platform.clone().filter(|platform| platform.is_complete() && platform.os != UNKNOWN)
    };
    let found: Vec<(String, Platform)> =
        entries.iter().filter_map(|entry| Some((entry.digest.to_string(), known(entry)?))).collect();
    if platforms.is_empty() || found.is_empty() {
        return Ok(entries);
    }
    let is_wanted = |platform: &Platform| platforms.iter().any(|wanted| fits(wanted, platform));
    let kept: HashSet<&String> =
        found.iter().filter(|(_, platform)| is_wanted(platform)).map(|(digest, _)| digest).collect();
    if kept.is_empty() {
        return Err(found.iter().map(|(_, platform)| platform.to_string()).collect());
    }
    let others: HashSet<&str> = found
        .iter()
        .filter(|(digest, _)| !kept.contains(digest))
        .map(|(digest, _)| digest.as_str())
        .collect();
    let is_left_out = |entry: &Descriptor| {
        entry.annotation(ATTESTED).is_some_and(|about| others.contains(about))
            || others.contains(entry.digest.to_string().as_str())
    };
    Ok(entries.into_iter().filter(|entry| !is_left_out(entry)).collect())
}

/// Whether an image of this platform is one of those that are wanted; without a variant, any fits.
fn fits(wanted: &Platform, found: &Platform) -> bool {
    (&wanted.os, &wanted.architecture) == (&found.os, &found.architecture)
        && (wanted.variant.is_none() || wanted.variant == found.variant)
}

#[cfg(test)]
mod tests {
    use ocipfs_oci::{Digest, media_type};

    use super::*;

    fn entry(manifest: &str, platform: &str) -> Descriptor {
        let media_type = media_type::OCI_MANIFEST.parse().unwrap();
        let mut entry = Descriptor::new(media_type, Digest::sha256_of(manifest.as_bytes()), 1);
        entry.platform = Some(platform.parse().unwrap());
        entry
    }

    #[test]
    fn a_manifest_that_is_listed_under_two_platforms_is_kept_for_either() {
        let all = ["one linux/amd64", "one linux/arm64", "two linux/s390x", "attestation unknown/unknown"];
        let entries = || -> Vec<Descriptor> {
            all.iter().map(|text| text.split_once(' ').unwrap()).map(|(one, at)| entry(one, at)).collect()
        };
        let names = |platforms: &[&str]| {
            let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
            wanted(entries(), &platforms).map(|kept| kept.len())
        };
        // The attestation is about no manifest that is left out.
        assert_eq!(names(&["linux/amd64"]), Ok(3));
        assert_eq!(names(&["linux/arm64"]), Ok(3));
        assert_eq!(names(&["linux/s390x"]), Ok(2));
        assert_eq!(names(&["linux/amd64", "linux/s390x"]), Ok(4));
        assert_eq!(names(&[]), Ok(4));
        assert_eq!(names(&["linux/riscv64"]).unwrap_err().len(), 3);
    }
}
