use serde::{Deserialize, Serialize};

/// Tagged images of pushed repositories that are not signed as the signature policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldImages {
    /// How many tags point at one.
    pub images: u64,
    /// Whether there are tags that were not looked at.
    pub more: bool,
    /// The first of them.
    pub first: Vec<WithheldImage>,
}

/// An image that is served only to users who may sign it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldImage {
    /// Its repository and its tag.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// What is missing.
    pub why: String,
}
