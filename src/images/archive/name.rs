//! The names that archives give their images.

use ocipfs_oci::{Name, Tag};

use super::Error;

/// Splits `docker.io/library/busybox:1.36` into `busybox` and `1.36`: the registry is left out, and what Docker leaves out.
pub fn split(text: &str) -> Result<(Name, Option<Tag>), Error> {
    let failed = |why: String| Error::Name { text: text.chars().take(120).collect(), why };
    let (text, _digest) = text.split_once('@').unwrap_or((text, ""));
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    };
    let path = without_registry(path);
    let path = path.strip_prefix("library/").unwrap_or(path);
    let name: Name = path.parse().map_err(|e: ocipfs_oci::name::Error| failed(e.to_string()))?;
    // They would stand where the layout's own files are.
    if let Some(taken) = name.components().find(|name| matches!(*name, "blobs" | "index.json" | "oci-layout"))
    {
        return Err(failed(format!("{taken:?} is reserved for the image layout")));
    }
    let tag =
        tag.map(str::parse).transpose().map_err(|e: ocipfs_oci::reference::Error| failed(e.to_string()))?;
    Ok((name, tag))
}

/// Leaves out a first component that is a host: it has a dot or a port, or is `localhost`.
pub fn without_registry(path: &str) -> &str {
    match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_host_is_removed_from_image_names() {
        for (text, name, tag) in [
            ("busybox", "busybox", None),
            ("busybox:1.36", "busybox", Some("1.36")),
            ("docker.io/library/busybox:latest", "busybox", Some("latest")),
            ("localhost/foo", "foo", None),
            ("localhost:5000/foo/bar:v1", "foo/bar", Some("v1")),
            ("ghcr.io/org/app@sha256:abc", "org/app", None),
            ("org/app", "org/app", None),
        ] {
            let (found, found_tag) = split(text).unwrap();
            assert_eq!((found.as_str(), found_tag.as_ref().map(Tag::as_str)), (name, tag), "{text}");
        }
    }

    #[test]
    fn image_name_with_a_reserved_component_is_rejected() {
        for text in ["", "Foo", "foo/blobs", "a/index.json/b", "foo:", "foo:a b", "docker.io/"] {
            assert!(matches!(split(text), Err(Error::Name { .. })), "{text:?}");
        }
    }
}
