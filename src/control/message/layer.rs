//! Requests about layers, and their replies.

use serde::{Deserialize, Serialize};

/// Request about layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum LayerRequest {
    /// Make layers and their manifest.
    Add {
        /// The lowest layer first.
        sources: Vec<Source>,
        /// Other than linux/amd64.
        platform: Option<String>,
        /// Another profile than the node's.
        profile: Option<String>,
    },
    /// Join the layers of several platforms.
    Index {
        /// References, repository names or CIDs.
        references: Vec<String>,
        /// Another profile than the node's.
        profile: Option<String>,
    },
    /// Tell what a reference means.
    Inspect {
        /// A reference, a repository name or a CID.
        reference: String,
    },
    /// Forget a layer.
    Rm {
        /// A reference, a repository name or a CID.
        reference: String,
    },
}

/// Where a layer comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The next attached file.
    Attached,
    /// On IPFS: `<cid>[/path]`.
    Ipfs(String),
}

/// Layers that were added or joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Added {
    /// Reference that clients pull.
    pub reference: String,
    /// The CID of the layer manifest, or of the index.
    pub cid: String,
    /// The layers, the lowest first, one platform after the other.
    pub layers: Vec<AddedLayer>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddedLayer {
    /// Other than linux/amd64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Where the layer's bytes are.
    pub layer: String,
    /// The layer's digest.
    pub digest: String,
    /// The digest of the uncompressed tar.
    pub diff_id: String,
    /// Bytes.
    pub size: u64,
    /// The layer's media type.
    pub media_type: String,
}

/// Layers that a reference resolves to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspected {
    /// Reference that clients pull.
    pub reference: String,
    /// The layer manifest's CID.
    pub cid: String,
    /// The digest of the synthesised image manifest, or of the index over several.
    pub image_digest: String,
    /// Whether the layer's bytes are here, verified.
    pub local: bool,
    /// Whether a command added it here.
    pub owned: bool,
    /// The layer manifest itself.
    pub manifest: serde_json::Value,
}
