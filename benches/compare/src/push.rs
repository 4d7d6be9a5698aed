//! Pushing by HTTP as clients do: `POST` for a place, `PUT` of the whole, then a manifest under a tag.

use std::path::Path;

use ocipfs_oci::Digest;
use serde_json::json;

use crate::{
    Failure,
    client::{Body, Url},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A repository of a registry.
pub struct Repository {
    host: String,
    name: String,
}

/// Descriptor of a blob in a manifest.
pub struct Descriptor {
    pub digest: Digest,
    pub size: usize,
}

impl Repository {
    pub fn new(host: impl Into<String>, name: impl Into<String>) -> Self {
        Self { host: host.into(), name: name.into() }
    }

    pub fn at(&self, end: &str) -> Url {
        Url { host: self.host.clone(), path: format!("/v2/{}/{end}", self.name) }
    }

    /// Pushes a file as a blob, and says where it is.
    pub fn blob(&self, file: &Path, digest: &Digest) -> Result<Url, Failure> {
        self.put(Body::File(file), digest)
    }

    /// Pushes bytes as a blob.
    pub fn bytes(&self, bytes: &[u8]) -> Result<Descriptor, Failure> {
        let digest = Digest::sha256_of(bytes);
        self.bytes_as(bytes, &digest)?;
        Ok(Descriptor { digest, size: bytes.len() })
    }

    /// Pushes bytes whose digest is known.
    pub fn bytes_as(&self, bytes: &[u8], digest: &Digest) -> Result<(), Failure> {
        self.put(Body::Bytes(bytes), digest).map(drop)
    }

    fn put(&self, body: Body, digest: &Digest) -> Result<Url, Failure> {
        let opened = self.at("blobs/uploads/").send("POST", None, Body::None)?;
        let location = opened.location.ok_or_else(|| format!("no upload: {}", opened.status))?;
        let path = location.trim_start_matches(&format!("http://{}", self.host));
        let join = if path.contains('?') { '&' } else { '?' };
        let place = Url { host: self.host.clone(), path: format!("{path}{join}digest={digest}") };
        match place.send("PUT", Some("application/octet-stream"), body)?.status {
            201 => Ok(self.at(&format!("blobs/{digest}"))),
            status => Err(format!("{} answered {status} to an upload", self.host).into()),
        }
    }

    /// Pushes a manifest of these two under a tag, and under more where there are any.
    pub fn manifest(
        &self,
        tag: &str,
        config: &Descriptor,
        layer: &Descriptor,
        more: &[String],
    ) -> Result<Url, Failure> {
        let described = |kind: &str, of: &Descriptor| json!({"mediaType": kind, "digest": of.digest.to_string(), "size": of.size});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, config),
            "layers": [described(LAYER, layer)],
            "annotations": {"tag": tag},
        });
        let bytes = serde_json::to_vec(&manifest)?;
        let end = match more {
            [] => format!("manifests/{tag}"),
            // Several tags go with the digest.
            more => format!("manifests/{}?tag={tag}&tag={}", Digest::sha256_of(&bytes), more.join("&tag=")),
        };
        match self.at(&end).send("PUT", Some(MANIFEST), Body::Bytes(&bytes))?.status {
            201 => Ok(self.at(&format!("manifests/{tag}"))),
            status => Err(format!("{} answered {status} to a manifest", self.host).into()),
        }
    }
}
