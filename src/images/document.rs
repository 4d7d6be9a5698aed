use bytes::Bytes;
use ocipfs_oci::{Digest, Hasher, MediaType, media_type};
use serde::{Deserialize, de::IgnoredAny};

use super::{Error, MAX_MANIFEST};
use crate::content::{Blob, CidPath, Content};

/// A manifest or an index, byte for byte.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// Fields that tell the kind of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads one whose bytes are those of the blob's digest, and which is what `said` says of it.
    pub async fn read(content: &Content, blob: &Blob, said: Option<&MediaType>) -> Result<Self, Error> {
        let bytes = content.read_blob(blob, MAX_MANIFEST).await?;
        let digest = Hasher::of(blob.digest.algorithm(), &bytes);
        if digest != blob.digest {
            let why = format!("digest is {digest}, expected {}", blob.digest);
            return Err(crate::content::Error::Mismatch { at: blob.at.clone(), why }.into());
        }
        let media_type = media_type(&blob.at, &bytes, said)?;
        Ok(Self { media_type, digest, bytes })
    }

    /// Returns a copy for one who keeps it while other documents are read: it takes no memory of their share.
    pub fn detached(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    /// Takes bytes that were promised no digest.
    pub fn unnamed(at: &CidPath, bytes: Bytes) -> Result<Self, Error> {
        Ok(Self { media_type: media_type(at, &bytes, None)?, digest: Digest::sha256_of(&bytes), bytes })
    }
}

/// The kind of a document: what it says itself, else what it looks like, since older OCI manifests do not say.
/// One digest must not mean two things to two clients (CVE-2021-41190), so no other word counts.
fn media_type(at: &CidPath, bytes: &[u8], said: Option<&MediaType>) -> Result<MediaType, Error> {
    let malformed = |why: String| Error::Malformed { at: at.clone(), why };
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|e| malformed(format!("not a manifest or index: {e}")))?;
    if shape.schema_version == Some(1) {
        return Err(Error::Schema1(at.clone()));
    }
    let (index, image) = (shape.manifests.is_some(), shape.config.is_some() || shape.layers.is_some());
    let own = shape.media_type.filter(|text| !text.is_empty());
    let kind = match (own, index, image) {
        (_, true, true) => return Err(malformed("both a manifest and an index".into())),
        (Some(own), _, _) => own.parse().map_err(|e| malformed(format!("mediaType: {e}")))?,
        (None, true, false) => MediaType::from_static(media_type::OCI_INDEX),
        (None, false, true) => MediaType::from_static(media_type::OCI_MANIFEST),
        (None, false, false) => return Err(malformed("not a manifest or index".into())),
    };
    if (kind.is_index() && !index) || (kind.is_manifest() && !image) {
        return Err(malformed(format!("declared as {kind}, but its fields differ")));
    }
    match said {
        Some(said) if *said != kind => {
            Err(malformed(format!("it is {kind}, but its descriptor declares {said}")))
        }
        _ => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> CidPath {
        "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu".parse().unwrap()
    }

    #[test]
    fn manifest_media_type_is_declared_or_inferred_from_its_fields() {
        let docker = media_type::DOCKER_MANIFEST;
        for (json, kind) in [
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_string(), media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"mediaType":"","layers":[]}"#.to_string(), media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_string(), media_type::OCI_INDEX),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{docker}","config":{{}}}}"#), docker),
            (r#"{"mediaType":"application/vnd.example+json"}"#.to_string(), "application/vnd.example+json"),
        ] {
            assert_eq!(media_type(&at(), json.as_bytes(), None).unwrap(), kind, "{json}");
            let said = kind.parse().unwrap();
            assert_eq!(media_type(&at(), json.as_bytes(), Some(&said)).unwrap(), kind, "{json}");
            let other = "application/vnd.other".parse().unwrap();
            let error = media_type(&at(), json.as_bytes(), Some(&other)).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn documents_that_are_not_a_manifest_or_index_are_rejected() {
        for (json, told) in [
            ("", "not a manifest or index: "),
            ("[]", "not a manifest or index: "),
            ("{}", "not a manifest or index"),
            (r#"{"architecture":"amd64","os":"linux"}"#, "not a manifest or index"),
            (r#"{"manifests":[],"layers":[]}"#, "both a manifest and an index"),
            (r#"{"mediaType":"nonsense","layers":[]}"#, "mediaType"),
            (r#"{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}"#, "its fields differ"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
        ] {
            let error = media_type(&at(), json.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
