/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Tags { name: &'a str },
}

impl<'a> Endpoint<'a> {
    /// Reads `path` from its end, since a repository name may hold `blobs` too.
    pub fn parse(path: &'a str) -> Option<Self> {
        let (path, last) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
        let (name, kind) = path.rsplit_once('/')?;
        Some(match kind {
            "manifests" => Self::Manifest { name, reference: last },
            "blobs" => Self::Blob { name, digest: last },
            "tags" if last == "list" => Self::Tags { name },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint::{self, *};

    #[test]
    fn a_path_is_read_from_its_end() {
        for (path, endpoint) in [
            ("/v2/layer/bafy/manifests/latest", Some(Manifest { name: "layer/bafy", reference: "latest" })),
            ("/v2/a/manifests/b/manifests/c", Some(Manifest { name: "a/manifests/b", reference: "c" })),
            ("/v2/a/blobs/blobs/sha256:00", Some(Blob { name: "a/blobs", digest: "sha256:00" })),
            ("/v2/a/b/c/tags/list", Some(Tags { name: "a/b/c" })),
            ("/v2/a/tags/other", None),
            ("/v2/manifests/latest", None),
            ("/v2/", None),
            ("/v1/a/manifests/b", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::parse(path), endpoint, "{path}");
        }
    }
}
