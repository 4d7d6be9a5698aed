//! Attestations of an index name the manifest that they are about.

use ocipfs_oci::{Descriptor, Digest};

/// Annotation with the digest of the manifest that an attestation is about.
pub const ATTESTED: &str = "vnd.docker.reference.digest";

/// Has the attestations among `children` name the manifests as they are called now.
pub fn rename(children: &mut [Descriptor], renamed: impl Fn(&Digest) -> Option<Digest>) {
    for child in children {
        let Some(text) = child.annotations.get_mut(ATTESTED) else { continue };
        if let Some(digest) = text.parse().ok().and_then(|digest| renamed(&digest)) {
            *text = digest.to_string();
        }
    }
}
