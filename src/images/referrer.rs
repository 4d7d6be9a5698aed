use ocipfs_oci::{Descriptor, Digest, Tag};

/// A manifest or index that refers to another one: by its `subject`, or by its tag.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The manifest or index.
    pub top: Descriptor,
    /// A tag that is made of the digest of the subject, such as `sha256-<hex>.sig`.
    pub tag: Option<Tag>,
    /// What it refers to.
    pub subject: Digest,
}
