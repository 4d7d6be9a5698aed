use bytes::Bytes;
use ocipfs_oci::{Digest, Hasher, MediaType, check_keys, media_type};
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
#[derive(Default, Deserialize)]
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

/// The kind of a document: what it says itself; else what its descriptor says, if it looks like that; else what it looks
/// like, since older OCI manifests do not say.
/// One digest must not mean two things to two clients (CVE-2021-41190), so no other word counts.
fn media_type(at: &CidPath, bytes: &[u8], said: Option<&MediaType>) -> Result<MediaType, Error> {
    let malformed = |why: String| Error::Malformed { at: at.clone(), why };
    // It becomes a header.
    let said: Option<MediaType> = said.and_then(|said| said.essence().parse().ok());
    let shape = serde_json::from_slice::<Shape>(bytes);
    let (shape, why) = match shape {
        Ok(shape) => (shape, "it has neither manifests nor config and layers".to_string()),
        Err(error) => (Shape::default(), error.to_string()),
    };
    if shape.schema_version == Some(1) {
        return Err(Error::Schema1(at.clone()));
    }
    let (index, image) = (shape.manifests.is_some(), shape.config.is_some() || shape.layers.is_some());
    if index && image {
        return Err(malformed("both a manifest and an index".into()));
    }
    let own = shape.media_type.as_deref().map(media_type::essence).filter(|text| !text.is_empty());
    let kind = match own {
        Some(own) => own.parse().map_err(|e| malformed(format!("mediaType: {e}")))?,
        None => match (inferred(&shape), &said) {
            (Some(_), Some(said)) if is_other(said) => said.clone(),
            (Some(seen), Some(said)) if said.is_index() == seen.is_index() && !is_blob(said) => said.clone(),
            (Some(seen), _) => seen,
            (None, Some(said)) if is_other(said) => said.clone(),
            (None, Some(said)) if !is_blob(said) => {
                return Err(malformed(format!("not a manifest or index: {why}")));
            }
            (None, _) => return Err(Error::NotAManifest { at: at.clone(), why }),
        },
    };
    if (kind.is_index() && !index) || (kind.is_manifest() && !image) {
        return Err(malformed(format!("declared as {kind}, but its fields differ")));
    }
    if kind.is_index() || kind.is_manifest() {
        check_keys(bytes).map_err(|error| malformed(error.to_string()))?;
    }
    match said {
        Some(said) if said != kind => {
            Err(malformed(format!("it is {kind}, but its descriptor declares {said}")))
        }
        _ => Ok(kind),
    }
}

/// Returns the kind of a document that nothing describes, or none if it is neither a manifest nor an index.
pub(super) fn kind_of(bytes: &[u8]) -> Option<MediaType> {
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    let own = shape.media_type.as_deref().map(media_type::essence).filter(|text| !text.is_empty());
    match own {
        Some(own) => own.parse().ok().filter(|kind: &MediaType| kind.is_index() || kind.is_manifest()),
        None => inferred(&shape),
    }
}

/// What a document looks like. A docker configuration has a `config`, too, and no schema version.
fn inferred(shape: &Shape) -> Option<MediaType> {
    let image = shape.schema_version == Some(2) && (shape.config.is_some() || shape.layers.is_some());
    match shape.manifests {
        Some(_) => Some(MediaType::from_static(media_type::OCI_INDEX)),
        None => image.then(|| MediaType::from_static(media_type::OCI_MANIFEST)),
    }
}

/// Returns whether a media type is that of a blob, which is never read as a manifest.
fn is_blob(kind: &MediaType) -> bool {
    kind.is_layer() || matches!(kind.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

/// Whether a media type is that of a manifest of another kind than those known here.
fn is_other(kind: &MediaType) -> bool {
    !kind.is_index() && !kind.is_manifest() && !is_blob(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> CidPath {
        "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu".parse().unwrap()
    }

    #[test]
    fn manifest_media_type_is_declared_or_inferred_from_its_fields() {
        let (docker, mine) = (media_type::DOCKER_MANIFEST, "application/vnd.example+json");
        for (json, kind) in [
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_string(), media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"mediaType":"","layers":[]}"#.to_string(), media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"config":{},"layers":null}"#.to_string(), media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_string(), media_type::OCI_INDEX),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{docker}","config":{{}}}}"#), docker),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{docker}; a=b","config":{{}}}}"#), docker),
            (format!(r#"{{"mediaType":"{mine}"}}"#), mine),
        ] {
            assert_eq!(media_type(&at(), json.as_bytes(), None).unwrap(), kind, "{json}");
            for said in [kind.to_string(), format!("{kind}; charset=utf-8"), "".into(), "sbom".into()] {
                let said = MediaType::stated(said);
                assert_eq!(media_type(&at(), json.as_bytes(), Some(&said)).unwrap(), kind, "{json}");
            }
            let config = MediaType::from_static(media_type::OCI_CONFIG);
            let error = media_type(&at(), json.as_bytes(), Some(&config)).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn a_document_that_does_not_say_its_kind_is_what_its_descriptor_says_unless_it_looks_otherwise() {
        const IMAGE: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
        let mine = "application/vnd.mine";
        for (document, said, is_taken) in [
            (IMAGE, media_type::DOCKER_MANIFEST, true),
            (INDEX, media_type::DOCKER_MANIFEST_LIST, true),
            (IMAGE, mine, true),
            ("no JSON", mine, true),
            ("[]", mine, true),
            (r#"{"x":1}"#, mine, true),
            (IMAGE, media_type::DOCKER_MANIFEST_LIST, false),
            (INDEX, media_type::OCI_MANIFEST, false),
            (IMAGE, media_type::OCI_LAYER_TAR, false),
            ("no JSON", media_type::OCI_MANIFEST, false),
            (r#"{"mediaType":"application/vnd.other"}"#, mine, false),
        ] {
            let found = media_type(&at(), document.as_bytes(), Some(&said.parse().unwrap()));
            match is_taken {
                true => assert_eq!(found.unwrap(), said, "{document}"),
                false => assert!(matches!(found, Err(Error::Malformed { .. })), "{document}: {found:?}"),
            }
        }
    }

    #[test]
    fn configurations_and_layers_are_not_manifests() {
        for document in [
            "",
            "\u{1f}\u{8b}",
            "[]",
            "{}",
            r#"{"architecture":"amd64","os":"linux","config":{"Env":[]},"rootfs":{}}"#,
        ] {
            for said in [None, Some(media_type::OCI_CONFIG), Some(media_type::DOCKER_LAYER_TAR_GZIP)] {
                let said = said.map(MediaType::from_static);
                let error = media_type(&at(), document.as_bytes(), said.as_ref()).unwrap_err();
                assert!(matches!(error, Error::NotAManifest { .. }), "{document}: {error}");
            }
        }
    }

    #[test]
    fn documents_that_contradict_themselves_are_rejected() {
        for (json, told) in [
            (r#"{"manifests":[],"layers":[]}"#, "both a manifest and an index"),
            (r#"{"mediaType":"nonsense","layers":[]}"#, "mediaType"),
            (r#"{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}"#, "its fields differ"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":2,"layers":[],"Layers":[]}"#, "some clients read the key"),
        ] {
            let error = media_type(&at(), json.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
