//! References of images and repositories, as commands give them.

use ocipfs_oci::Reference;

use super::Instance;
use crate::{control::Failure, images::archive};

/// A reference, without its registry.
pub struct ImageRef {
    pub name: String,
    pub reference: Reference,
}

impl ImageRef {
    /// Returns the name of the repository in an archive: without the components that only IPFS needs.
    pub fn repository(&self) -> &str {
        let rest = match self.name.split_once('/') {
            Some(("ipfs" | "ipns", rest)) => rest.split_once('/').map(|(_, rest)| rest),
            Some((hash, rest)) if hash.starts_with("ciq") || hash.starts_with("1220") => Some(rest),
            _ => None,
        };
        rest.unwrap_or(&self.name)
    }

    /// Returns the reference that clients pull, without the registry.
    pub fn text(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.name),
            Reference::Digest(digest) => format!("{}@{digest}", self.name),
        }
    }
}

/// A pushed repository, and perhaps a tag or a manifest of it, as a command names it.
pub struct RepoRef<'a> {
    pub name: &'a str,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> RepoRef<'a> {
    /// Splits `NAME`, `NAME:TAG` or `NAME@DIGEST`; the node's own registry may stand in front.
    pub fn split(text: &'a str, registry: &str) -> Self {
        let text = below(registry, text).unwrap_or(text);
        match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((name, digest)), _) => Self { name, tag: None, digest: Some(digest) },
            (None, Some((name, tag))) => Self { name, tag: Some(tag), digest: None },
            (None, None) => Self { name: text, tag: None, digest: None },
        }
    }
}

/// Returns a reference without this registry, if that stands in front.
fn below<'a>(registry: &str, text: &'a str) -> Option<&'a str> {
    text.strip_prefix(registry)?.strip_prefix('/')
}

impl Instance {
    /// Leaves out the registry: this one, or another.
    pub(super) fn without_own_registry<'a>(&self, text: &'a str) -> &'a str {
        below(&self.0.registry, text).unwrap_or_else(|| archive::without_registry(text))
    }

    /// Takes `[registry/]name[:tag][@digest]`.
    pub(super) fn image_ref(&self, text: &str) -> Result<ImageRef, Failure> {
        let text = self.without_own_registry(text);
        let refused = |e: &dyn std::fmt::Display| {
            Failure::new(format!("invalid reference {text:?}: {e}"))
                .hint("give a reference printed by `ocipfs image import`")
        };
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        let (name, tag) = rest.split_once(':').map_or((rest, "latest"), |(name, tag)| (name, tag));
        let reference =
            digest.unwrap_or(tag).parse().map_err(|e: ocipfs_oci::reference::Error| refused(&e))?;
        Ok(ImageRef { name: name.into(), reference })
    }
}
