//! Inspection of a pushed manifest.

use ocipfs_oci::{Descriptor, Digest, Index, Manifest, MediaType, media_type};
use serde::{Deserialize, de::IgnoredAny};

use super::{Pushed, RepositoryBlob, digests::digests_in};
use crate::content::StoreError;

/// Properties needed to store a manifest, whose bytes do not change.
#[derive(Clone, Debug)]
pub struct InspectedManifest {
    /// Its kind.
    pub media_type: MediaType,
    /// Digest of its subject.
    pub subject: Option<Digest>,
    /// How its subject tells of it.
    pub referrer: Descriptor,
    /// The blobs without which it is refused, the configuration first.
    pub required: Vec<Digest>,
    /// All that it references but its subject: what is removed with it, if nothing else references that.
    pub references: Vec<Digest>,
}

impl InspectedManifest {
    /// Returns its row: its bytes are stored as `blob` and were pushed at `at`, in seconds since 1970.
    pub fn pushed(&self, blob: RepositoryBlob, at: u64) -> Pushed {
        let artifact_type = self.referrer.artifact_type.as_ref().map(ToString::to_string);
        Pushed { blob, media_type: self.media_type.clone(), subject: self.subject.clone(), artifact_type, at }
    }

    /// Returns the blobs without which it is refused, as distribution does: a push that was answered with 201 can be pulled.
    pub fn missing(
        &self,
        is_here: impl Fn(&Digest) -> Result<bool, StoreError>,
    ) -> Result<Vec<Digest>, StoreError> {
        let missing = self.required.iter().filter_map(|digest| match is_here(digest) {
            Ok(true) => None,
            Ok(false) => Some(Ok(digest.clone())),
            Err(error) => Some(Err(error)),
        });
        missing.collect()
    }
}

/// Fields that tell the kind of a document.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PushedShape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    subject: Option<Descriptor>,
    artifact_type: Option<MediaType>,
}

/// Reads a manifest, an index, or a document of any other kind that `said`, the header of the push, gives it.
pub fn inspect(bytes: &[u8], digest: &Digest, said: Option<&str>) -> Result<InspectedManifest, String> {
    let json = serde_json::from_slice::<PushedShape>(bytes);
    let kind = kind(said, json.as_ref().ok())?;
    let referrer = Descriptor::new(kind.clone(), digest.clone(), bytes.len() as u64);
    if kind.is_manifest() {
        let manifest = Manifest::parse(bytes).map_err(|e| e.to_string())?;
        let required = manifest.blobs().filter(|blob| !blob.is_foreign()).map(|blob| blob.digest.clone());
        let required = required.collect();
        let references = manifest.blobs().map(|blob| blob.digest.clone()).collect();
        let artifact_type = manifest.artifact_type.or(Some(manifest.config.media_type)).filter(is_stated);
        let referrer = Descriptor { artifact_type, annotations: manifest.annotations, ..referrer };
        let subject = manifest.subject.map(|subject| subject.digest);
        return Ok(InspectedManifest { media_type: kind, subject, referrer, required, references });
    }
    if kind.is_index() {
        let Index { artifact_type, annotations, subject, manifests, .. } =
            Index::parse(bytes).map_err(|e| e.to_string())?;
        let references = manifests.into_iter().map(|manifest| manifest.digest).collect();
        let referrer = Descriptor { artifact_type, annotations, ..referrer };
        let subject = subject.map(|subject| subject.digest);
        return Ok(InspectedManifest {
            media_type: kind,
            subject,
            referrer,
            required: Vec::new(),
            references,
        });
    }
    let PushedShape { subject, artifact_type, .. } = json.unwrap_or_default();
    let subject = subject.map(|subject| subject.digest);
    let referrer = Descriptor { artifact_type: artifact_type.filter(is_stated), ..referrer };
    let mut references = digests_in(bytes);
    references.retain(|reference| Some(reference) != subject.as_ref());
    Ok(InspectedManifest { media_type: kind, subject, referrer, required: Vec::new(), references })
}

/// Two that differ are refused: one digest must not mean two things to two clients (CVE-2021-41190).
fn kind(said: Option<&str>, shape: Option<&PushedShape>) -> Result<MediaType, String> {
    let said = said.map(media_type::essence);
    let said = said.filter(|text| !text.is_empty() && *text != "application/json");
    let said: Option<MediaType> =
        said.map(str::parse).transpose().map_err(|e| format!("Content-Type: {e}"))?;
    let own = shape.and_then(|shape| shape.media_type.as_deref()).map(media_type::essence);
    let own = own.filter(|text| !text.is_empty());
    let own: Option<MediaType> = own.map(str::parse).transpose().map_err(|e| format!("mediaType: {e}"))?;
    let index = shape.is_some_and(|shape| shape.manifests.is_some());
    let image = shape.is_some_and(|shape| shape.config.is_some() || shape.layers.is_some());
    if index && image {
        return Err("both a manifest and an index".into());
    }
    if shape.is_some_and(|shape| shape.schema_version == Some(1)) {
        return Err(
            "Docker schema 1 manifests are not supported: push with a client that writes schema 2".into()
        );
    }
    match (said, own) {
        (Some(said), Some(own)) if said != own => {
            Err(format!("its mediaType is {own}, but the Content-Type is {said}"))
        }
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) if index => Ok(MediaType::from_static(media_type::OCI_INDEX)),
        (None, None) if image => Ok(MediaType::from_static(media_type::OCI_MANIFEST)),
        (None, None) => Err("neither its Content-Type nor its mediaType says what it is".into()),
    }
}

fn is_stated(kind: &MediaType) -> bool {
    !kind.as_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn of(json: &str, said: Option<&str>) -> Result<InspectedManifest, String> {
        inspect(json.as_bytes(), &DIGEST.parse().unwrap(), said)
    }

    fn descriptor(kind: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":0{more}}}"#)
    }

    fn image(kind: &str, layer: &str) -> String {
        let config = descriptor(media_type::OCI_CONFIG, "");
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]}}"#)
    }

    #[test]
    fn foreign_layers_are_not_required_blobs_of_a_manifest() {
        for (kind, more, blobs) in [
            (media_type::OCI_LAYER_TAR_GZIP, "", 2),
            (media_type::OCI_NONDISTRIBUTABLE_TAR_GZIP, "", 1),
            (media_type::DOCKER_FOREIGN_TAR_GZIP, "", 1),
            (media_type::OCI_LAYER_TAR, r#","urls":["https://example.org/x"]"#, 1),
        ] {
            let json = image(media_type::OCI_MANIFEST, &descriptor(kind, more));
            assert_eq!(of(&json, None).unwrap().required.len(), blobs, "{json}");
        }
        let foreign = image(media_type::OCI_MANIFEST, &descriptor(media_type::DOCKER_FOREIGN_TAR_GZIP, ""));
        assert_eq!(of(&foreign, None).unwrap().references.len(), 2, "it goes with the manifest all the same");
        let inspected = of(&image(media_type::OCI_MANIFEST, ""), Some(media_type::OCI_MANIFEST)).unwrap();
        assert_eq!(inspected.referrer.artifact_type.unwrap(), media_type::OCI_CONFIG);
    }

    #[test]
    fn an_image_needs_its_config_and_all_its_layers() {
        let digest = |n: u8| Digest::sha256_of(&[n]);
        let layer = |n| descriptor(media_type::OCI_LAYER_TAR, "").replace(DIGEST, &digest(n).to_string());
        let image = of(&image(media_type::OCI_MANIFEST, &[layer(1), layer(2)].join(",")), None).unwrap();
        let config: Digest = DIGEST.parse().unwrap();
        for (here, missing) in [
            (vec![config.clone(), digest(1), digest(2)], vec![]),
            (vec![config.clone(), digest(1)], vec![digest(2)]),
            (vec![digest(1), digest(2)], vec![config.clone()]),
            (vec![], vec![config.clone(), digest(1), digest(2)]),
        ] {
            assert_eq!(image.missing(|digest| Ok(here.contains(digest))).unwrap(), missing, "{here:?}");
        }
    }

    #[test]
    fn what_a_manifest_says_of_blobs_is_no_reason_to_reject_it() {
        let odd = |kind: &str| descriptor(kind, r#","annotations":{"a":null},"platform":{"os":"linux"}"#);
        for kind in ["text/plain; charset=utf-8", "sbom", "", "a/b c"] {
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}; a=b","artifactType":"sbom","config":{},"layers":[{}],"annotations":{{"a":null}}}}"#,
                media_type::OCI_MANIFEST,
                odd(kind),
                odd(kind)
            );
            let inspected =
                of(&manifest, Some("application/vnd.oci.image.manifest.v1+json;charset=utf-8")).unwrap();
            assert_eq!(inspected.media_type, media_type::OCI_MANIFEST, "it becomes a header");
            assert_eq!(
                (inspected.required.len(), inspected.referrer.artifact_type.unwrap().as_str()),
                (2, "sbom")
            );
            let index = format!(r#"{{"schemaVersion":2,"artifactType":"sbom","manifests":[{}]}}"#, odd(kind));
            assert_eq!(of(&index, None).unwrap().references.len(), 1);
        }
        let untyped = image(media_type::OCI_MANIFEST, "").replace(media_type::OCI_CONFIG, "");
        assert_eq!(of(&untyped, None).unwrap().referrer.artifact_type, None);
        for (unsafe_size, told) in [("-1", "size"), ("1.5", "size"), ("18446744073709551616", "size")] {
            let json = image(media_type::OCI_MANIFEST, "")
                .replace(r#""size":0"#, &format!(r#""size":{unsafe_size}"#));
            assert!(of(&json, None).unwrap_err().contains(told), "{json}");
        }
    }

    #[test]
    fn a_manifest_of_any_media_type_is_accepted_and_a_contradicting_one_rejected() {
        assert_eq!(of("no JSON", Some("text/x-mine; charset=utf-8")).unwrap().media_type, "text/x-mine");
        let subject = format!(r#"{{"subject":{}}}"#, descriptor(media_type::OCI_MANIFEST, ""));
        assert!(of(&subject, Some("application/vnd.mine")).unwrap().subject.is_some());
        let artifact =
            format!(r#"{{"blobs":[{}],"in":{{"it":{}}}}}"#, descriptor("a/b", ""), descriptor("a/b", ""));
        assert_eq!(of(&artifact, Some("application/vnd.mine")).unwrap().references.len(), 2);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(of(index, Some("application/json")).unwrap().media_type, media_type::OCI_INDEX);
        for (json, said, told) in [
            (index, Some(media_type::OCI_MANIFEST), "invalid image manifest"),
            (r#"{"manifests":[],"layers":[]}"#, None, "both a manifest and an index"),
            (r#"{"mediaType":"application/vnd.a"}"#, Some("application/vnd.b"), "Content-Type is"),
            (r#"{"schemaVersion":1}"#, Some("application/vnd.b"), "schema 1"),
            ("{}", None, "says what it is"),
            ("{}", Some("nonsense"), "invalid media type"),
            (r#"{"schemaVersion":2,"manifests":[],"Layers":[]}"#, None, "some clients read the key"),
        ] {
            let error = of(json, said).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
