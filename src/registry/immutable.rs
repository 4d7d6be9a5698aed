//! Tags that are not moved, as the access rules say.

use ocipfs_oci::{Reference, Tag};

use super::{Target, error::ApiError};
use crate::access::Action;

/// Returns those tags that stay as they are once they are pushed.
pub fn among(target: &Target<'_>, tags: &[Tag]) -> Vec<Tag> {
    let Some(rules) = target.registry.access.rules() else { return Vec::new() };
    let name = target.name.as_str();
    tags.iter().filter(|tag| rules.is_immutable(name, tag.as_str())).cloned().collect()
}

/// Refuses to delete an immutable tag, or content that an image under one needs, to all but those with the action `admin`.
pub async fn check_deletion(target: &Target<'_>, reference: &Reference) -> Result<(), ApiError> {
    let Target { registry, visitor, name } = target;
    let Some(rules) = registry.access.rules().filter(|rules| rules.has_immutable(name.as_str())) else {
        return Ok(());
    };
    if registry.access.may(visitor, Action::Admin, name.as_str()) {
        return Ok(());
    }
    let of = (*name).clone();
    let is_immutable = move |tag: &str| rules.is_immutable(of.as_str(), tag);
    let tag = match reference {
        Reference::Tag(tag) => is_immutable(tag.as_str()).then(|| tag.to_string()),
        Reference::Digest(digest) => registry.pushes.protecting_tag(name, digest, is_immutable).await?,
    };
    match tag {
        Some(tag) => Err(ApiError::denied(format!(
            "tag {tag:?} of {name} is immutable: deleting {reference} requires the action `admin`"
        ))),
        None => Ok(()),
    }
}
