//! The names that archives give their images.

use std::{fmt::Display, str::FromStr};

use ocipfs_oci::{Name, Tag};

use super::Error;

/// Annotation that names an entry of `index.json`: a tag within its repository, or a full image name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of containerd and docker with the full image name.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation of an exported referrer with its repository: an image name would make it an image for other tools.
pub const REPOSITORY: &str = "io.ocipfs.repository";
/// Components that would stand where the layout's own files are.
const RESERVED: [&str; 3] = ["blobs", "index.json", "oci-layout"];
/// Docker's text for a repository or a tag that an image does not have.
const NONE: &str = "<none>";

/// What an archive calls an image, as far as that is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivedName {
    /// The repository without its registry.
    pub repository: Option<Name>,
    /// The repository below its registry, where that is given and is valid as a component.
    pub full: Option<Name>,
    /// The tag.
    pub tag: Option<Tag>,
    /// The parts that were changed or ignored.
    pub warning: Option<String>,
}

/// Splits `docker.io/library/busybox:1.36` into `busybox` and `1.36`: the registry is left out, and what Docker leaves out.
pub fn split(text: &str) -> Result<(Name, Option<Tag>), Error> {
    let failed = |why: String| Error::Name { text: text.chars().take(120).collect(), why };
    let (path, tag) = path_and_tag(text);
    let name: Name = short(path).parse().map_err(|e: ocipfs_oci::name::Error| failed(e.to_string()))?;
    check_reserved(&name).map_err(failed)?;
    let tag =
        tag.map(str::parse).transpose().map_err(|e: ocipfs_oci::reference::Error| failed(e.to_string()))?;
    Ok((name, tag))
}

/// Splits an image name into its path and its tag; its digest is left out.
fn path_and_tag(text: &str) -> (&str, Option<&str>) {
    let (named, _digest) = text.split_once('@').unwrap_or((text, ""));
    match named.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (named, None),
    }
}

/// Leaves out the registry, and the `library` that Docker leaves out.
fn short(path: &str) -> &str {
    let path = without_registry(path);
    path.strip_prefix("library/").unwrap_or(path)
}

/// Leaves out a first component that is a host: it has a dot or a port, or is `localhost`.
pub fn without_registry(path: &str) -> &str {
    match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => path,
    }
}

fn check_reserved(name: &Name) -> Result<(), String> {
    match name.components().find(|component| RESERVED.contains(component)) {
        Some(taken) => Err(format!("{taken:?} is reserved for the image layout")),
        None => Ok(()),
    }
}

/// Reads the annotation with the repository of an exported referrer; none where it is not valid.
pub fn repository(text: &str) -> Option<Name> {
    text.parse().ok().filter(|name| check_reserved(name).is_ok())
}

impl ArchivedName {
    /// Reads `org.opencontainers.image.ref.name`: a tag within its repository, or a full image name.
    pub fn of_ref(text: &str) -> Self {
        match text.contains(['/', ':', '@']) {
            true => Self::of_image(text),
            false => Self::new(text, "", Some(text)),
        }
    }

    /// Reads an image name with or without registry, tag and digest.
    pub fn of_image(text: &str) -> Self {
        let (path, tag) = path_and_tag(text);
        Self::new(text, path, tag)
    }

    /// Reads the two parts of `text`, of which either may be invalid without the other being lost.
    fn new(text: &str, path: &str, tag: Option<&str>) -> Self {
        let mut notes = Vec::new();
        let path = Some(path).filter(|path| !path.is_empty() && *path != NONE);
        let repository: Option<Name> = path.and_then(|path| {
            let name = valid(short(path), "repository", &mut notes)?;
            check_reserved(&name)
                .map_err(|why| notes.push(format!("the repository is ignored: {why}")))
                .ok()?;
            Some(name)
        });
        let full = path.filter(|path| without_registry(path) != *path).and_then(|path| {
            let full: Name = path.to_lowercase().replace([':', '+'], "_").parse().ok()?;
            check_reserved(&full).is_ok().then_some(full)
        });
        let tag = tag.filter(|tag| !tag.is_empty() && *tag != NONE);
        let tag = tag.and_then(|tag| valid(tag, "tag", &mut notes));
        let shown: String = text.chars().take(120).collect();
        let warning = (!notes.is_empty()).then(|| format!("image name {shown:?}: {}", notes.join("; ")));
        Self { full: full.filter(|_| repository.is_some()), repository, tag, warning }
    }
}

/// Parses a part of a name, with `_` for `+` where that makes it valid, as helm does.
fn valid<T: FromStr<Err: Display> + Display>(text: &str, part: &str, notes: &mut Vec<String>) -> Option<T> {
    let why = match text.parse() {
        Ok(parsed) => return Some(parsed),
        Err(why) => why,
    };
    match text.replace('+', "_").parse() {
        Ok(parsed) if text.contains('+') => {
            notes.push(format!("the {part} becomes {parsed}"));
            Some(parsed)
        }
        _ => {
            notes.push(format!("the {part} is ignored: {why}"));
            None
        }
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

    fn parts(name: &ArchivedName) -> [Option<&str>; 3] {
        [
            name.repository.as_ref().map(Name::as_str),
            name.full.as_ref().map(Name::as_str),
            name.tag.as_ref().map(Tag::as_str),
        ]
    }

    #[test]
    fn valid_image_names_of_archives_are_read_without_a_warning() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("1.0", [None, None, Some("1.0")]),
            ("MyTag_1", [None, None, Some("MyTag_1")]),
            ("foo:1.0", [Some("foo"), None, Some("1.0")]),
            ("docker.io/library/foo:1.0", [Some("foo"), Some("docker.io/library/foo"), Some("1.0")]),
            ("localhost:5000/a/b:1", [Some("a/b"), Some("localhost_5000/a/b"), Some("1")]),
            (&digest, [None, None, None]),
            (&format!("ghcr.io/org/app{digest}"), [Some("org/app"), Some("ghcr.io/org/app"), None]),
            ("<none>:<none>", [None, None, None]),
            ("foo:<none>", [Some("foo"), None, None]),
        ] {
            let name = ArchivedName::of_ref(text);
            assert_eq!((parts(&name), &name.warning), (expected, &None), "{text}");
        }
    }

    #[test]
    fn invalid_parts_of_image_names_are_mapped_or_ignored_with_a_warning() {
        for (text, expected, warning) in [
            ("1.0.0+git1", [None, None, Some("1.0.0_git1")], "the tag becomes 1.0.0_git1"),
            ("chart:1.0+b", [Some("chart"), None, Some("1.0_b")], "the tag becomes 1.0_b"),
            ("MyApp:1", [None, None, Some("1")], "the repository is ignored: "),
            ("foo:a b", [Some("foo"), None, None], "the tag is ignored: "),
            ("x.org/a/blobs:1", [None, None, Some("1")], "reserved for the image layout"),
            ("a b c", [None, None, None], "the tag is ignored: "),
        ] {
            let name = ArchivedName::of_ref(text);
            let said = name.warning.clone().unwrap_or_default();
            assert_eq!(parts(&name), expected, "{text}");
            assert!(said.contains(warning) && said.contains(text), "{text}: {said:?}");
        }
    }
}
