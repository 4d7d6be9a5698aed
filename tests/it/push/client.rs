use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::{
    harness::Serve,
    http::{Answer, ask, send},
};

/// A repository at a node, as a client speaks to it.
pub struct Repository {
    base: String,
    name: String,
}

/// A descriptor of these bytes.
pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len() })
}

/// The manifest of an image of this config and these layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> =
        layers.iter().map(|layer| descriptor(media_type::OCI_LAYER_TAR_GZIP, layer)).collect();
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, config), "layers": layers })
}

impl Repository {
    pub fn new(node: &Serve, name: &str) -> Self {
        Self { base: node.url(""), name: name.into() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.name)
    }

    /// Where a `Location`, which is relative, leads.
    pub fn at(&self, answer: &Answer) -> String {
        let location = answer.header("location");
        assert!(location.starts_with("/v2/"), "{answer:?}");
        format!("{}{location}", self.base)
    }

    /// Begins an upload: where it goes on.
    pub async fn begin(&self) -> String {
        let answer = ask("POST", &self.url("blobs/uploads/"), &[]).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        self.at(&answer)
    }

    /// Sends the part of an upload that begins at `start`.
    pub async fn part(&self, at: &str, start: usize, bytes: &[u8]) -> Answer {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        send("PATCH", at, &[("content-range", &range)], bytes.to_vec()).await
    }

    /// Ends an upload with its last bytes.
    pub async fn end(&self, at: &str, digest: &str, bytes: &[u8]) -> Answer {
        send("PUT", &format!("{at}?digest={digest}"), &[], bytes.to_vec()).await
    }

    /// Pushes a blob and gives its digest.
    pub async fn push(&self, bytes: &[u8]) -> String {
        let digest = Digest::sha256_of(bytes).to_string();
        let answer = self.end(&self.begin().await, &digest, bytes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    pub async fn put(&self, reference: &str, json: &Value) -> Answer {
        let kind = json["mediaType"].as_str().expect("a media type");
        let headers = [("content-type", kind)];
        send("PUT", &self.url(&format!("manifests/{reference}")), &headers, json.to_string()).await
    }

    /// Pushes an image of one layer and gives its digest.
    pub async fn push_image(&self, reference: &str, layer: &[u8]) -> String {
        self.push(b"{}").await;
        self.push(layer).await;
        let answer = self.put(reference, &manifest(b"{}", &[layer])).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("docker-content-digest").into()
    }

    pub async fn get(&self, path: &str) -> Answer {
        ask("GET", &self.url(path), &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        ask("DELETE", &self.url(path), &[]).await
    }

    /// Holds that a blob is there, whole.
    pub async fn has(&self, bytes: &[u8]) {
        let answer = self.get(&format!("blobs/{}", Digest::sha256_of(bytes))).await;
        assert!(answer.status == 200 && answer.body == bytes, "{}", answer.status);
    }
}
