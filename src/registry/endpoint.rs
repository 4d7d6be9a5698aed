use std::borrow::Cow;

use ocipfs_oci::Name;

/// Endpoint that a request path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Uploads { name: &'a str },
    Upload { name: &'a str, id: &'a str },
    Tags { name: &'a str },
    Referrers { name: &'a str, digest: &'a str },
    Catalog,
}

/// Decodes the path of a request, once (RFC 3986, section 2.1): some clients send `sha256%3A...`.
///
/// None where the encoding is invalid or hides a slash: that would be part of a component, which no name has.
pub fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(path.into());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, after @ ..] = rest {
        (rest, _) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (after, bytes.push(byte(*high, *low)?)),
            (b'%', _) => return None,
            _ => (after, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Returns an encoded byte; none for a slash.
fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?).filter(|byte| *byte != b'/')
}

impl<'a> Endpoint<'a> {
    /// Reads `path` from its end, since a repository name may hold `blobs` too.
    pub fn parse(path: &'a str) -> Option<Self> {
        if path == "/v2/_catalog" {
            return Some(Self::Catalog);
        }
        let (path, last) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
        let (name, kind) = path.rsplit_once('/')?;
        Some(match kind {
            "manifests" => Self::Manifest { name, reference: last },
            "blobs" if last == "uploads" => Self::Uploads { name },
            "blobs" => Self::Blob { name, digest: last },
            "uploads" => {
                let name = name.strip_suffix("/blobs")?;
                if last.is_empty() { Self::Uploads { name } } else { Self::Upload { name, id: last } }
            }
            "tags" if last == "list" => Self::Tags { name },
            "referrers" => Self::Referrers { name, digest: last },
            _ => return None,
        })
    }

    /// The methods that it takes.
    pub fn methods(&self) -> &'static str {
        match self {
            Self::Manifest { .. } => "GET, HEAD, PUT, DELETE",
            Self::Blob { .. } => "GET, HEAD, DELETE",
            Self::Uploads { .. } => "POST",
            Self::Upload { .. } => "GET, HEAD, PATCH, PUT, DELETE",
            Self::Tags { .. } | Self::Referrers { .. } | Self::Catalog => "GET, HEAD",
        }
    }

    /// The repository, where it is of one.
    pub fn name(&self) -> Option<&'a str> {
        match self {
            Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Tags { name }
            | Self::Referrers { name, .. } => Some(name),
            Self::Catalog => None,
        }
    }

    /// Returns the scope to request a token for:
    /// <https://distribution.github.io/distribution/spec/auth/scope/>. None if the repository name is
    /// invalid.
    pub fn scope(&self, actions: &str) -> Option<String> {
        match self.name() {
            None => Some("registry:catalog:*".into()),
            Some(name) => name.parse::<Name>().is_ok().then(|| format!("repository:{name}:{actions}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Endpoint::{self, *},
        decode,
    };

    #[test]
    fn a_path_is_decoded_once_and_an_encoded_slash_or_invalid_encoding_is_rejected() {
        for (path, decoded) in [
            ("/v2/a/blobs/sha256:00", Some("/v2/a/blobs/sha256:00")),
            ("/v2/a/blobs/sha256%3A00", Some("/v2/a/blobs/sha256:00")),
            ("/v2/a/blobs/sha256%3a00", Some("/v2/a/blobs/sha256:00")),
            ("/v2/%61/tags/list", Some("/v2/a/tags/list")),
            ("/v2/a/manifests/%253A", Some("/v2/a/manifests/%3A")),
            ("/v2/a/manifests/%C3%A9", Some("/v2/a/manifests/é")),
            ("/v2/a%2Fb/tags/list", None),
            ("/v2/a%2fb/tags/list", None),
            ("/v2/%", None),
            ("/v2/%3", None),
            ("/v2/%3G", None),
            ("/v2/%+1", None),
            ("/v2/%ff", None),
            ("/v2/%é1", None),
        ] {
            assert_eq!(decode(path).as_deref(), decoded, "{path}");
        }
    }

    #[test]
    fn an_endpoint_path_is_parsed_from_its_end() {
        for (path, endpoint) in [
            ("/v2/layer/bafy/manifests/latest", Some(Manifest { name: "layer/bafy", reference: "latest" })),
            ("/v2/a/manifests/b/manifests/c", Some(Manifest { name: "a/manifests/b", reference: "c" })),
            ("/v2/a/blobs/blobs/sha256:00", Some(Blob { name: "a/blobs", digest: "sha256:00" })),
            ("/v2/a/b/c/tags/list", Some(Tags { name: "a/b/c" })),
            ("/v2/a/b/blobs/uploads/", Some(Uploads { name: "a/b" })),
            ("/v2/a/blobs/uploads", Some(Uploads { name: "a" })),
            ("/v2/a/blobs/uploads/id", Some(Upload { name: "a", id: "id" })),
            ("/v2/a/uploads/id", None),
            ("/v2/a/referrers/sha256:00", Some(Referrers { name: "a", digest: "sha256:00" })),
            ("/v2/_catalog", Some(Catalog)),
            ("/v2/a/tags/other", None),
            ("/v2/manifests/latest", None),
            ("/v2/", None),
            ("/v1/a/manifests/b", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::parse(path), endpoint, "{path}");
        }
    }

    #[test]
    fn token_scope_is_of_the_repository_or_of_the_catalog() {
        let scope = |path: &str| Endpoint::parse(path).unwrap().scope("pull");
        assert_eq!(scope("/v2/a/b/tags/list").as_deref(), Some("repository:a/b:pull"));
        assert_eq!(scope("/v2/_catalog").as_deref(), Some("registry:catalog:*"));
        assert_eq!(scope("/v2/a\"b/tags/list"), None);
    }
}
