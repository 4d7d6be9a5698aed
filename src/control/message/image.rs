//! Requests about images, and their replies.

use std::path::PathBuf;

use ocipfs_oci::Platform;
use serde::{Deserialize, Serialize};

/// How images are imported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportOptions {
    /// Name of the images: `name` or `name:tag`.
    pub name: Option<String>,
    /// `layout`, `descriptor` or `dockerized`.
    pub form: String,
    /// `gzip`, `zstd` or `none`.
    pub compress: Option<String>,
    /// Whether layers become eStargz layers.
    pub estargz: bool,
    /// Another profile than that of the form.
    pub profile: Option<String>,
    /// The registry that references are shown with.
    pub registry: Option<String>,
}

/// Request about images.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ImageRequest {
    /// Import the images of the attached archive.
    Import {
        /// How.
        options: ImportOptions,
    },
    /// Import an image of the registry in another form.
    Convert {
        /// A reference.
        reference: String,
        /// How.
        options: ImportOptions,
    },
    /// The same with some platforms of an index. A request of its own, so that a node that does not know platforms refuses it
    /// and does not take all of them.
    ConvertPlatforms {
        /// A reference.
        reference: String,
        /// The platforms that are taken.
        platforms: Vec<Platform>,
        /// How.
        options: ImportOptions,
    },
    /// Write images to the attached destination.
    Export {
        /// References or repository names.
        references: Vec<String>,
        /// Its path, as the result shows it.
        dest: PathBuf,
        /// `oci`, `oci-archive` or `docker-archive`.
        format: Option<String>,
        /// Whether signatures and other referrers are written, too.
        referrers: bool,
    },
    /// List imported images.
    Ls,
    /// Tell what a reference means.
    Inspect {
        /// A reference or a repository name.
        reference: String,
    },
    /// Remove the images imported under one root.
    Rm {
        /// A reference, or the root's CID.
        reference: String,
    },
    /// Call an imported image otherwise, under a root of its own.
    Tag {
        /// A reference.
        reference: String,
        /// `name` or `name:tag`.
        name: String,
    },
}

/// To an `ImageRequest`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ImageReply {
    /// To `Import`, `Convert`, `ConvertPlatforms` and `Tag`.
    Imported {
        /// In the order of the archive.
        images: Vec<ImageInfo>,
    },
    /// To `Export`.
    Exported {
        /// Where it was written.
        dest: PathBuf,
        /// The exported images, in the order of the request.
        images: Vec<ExportedImage>,
    },
    /// To `Ls`.
    Listed {
        /// By reference.
        images: Vec<ImageInfo>,
    },
    /// To `Inspect`.
    Inspected(Box<InspectedImage>),
    /// To `Rm`.
    Removed {
        /// The root that is gone.
        cid: String,
        /// The images that were below it.
        references: Vec<String>,
    },
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Reference that clients pull.
    pub reference: String,
    /// Its root.
    pub cid: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// Bytes of all its blobs.
    pub size: u64,
}

impl ImageInfo {
    /// Whether the reference has a digest in place of a tag.
    pub fn is_untagged(&self) -> bool {
        self.reference.contains('@')
    }
}

/// An image that was exported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedImage {
    /// Reference that clients pull.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// Bytes of all its blobs, and of those of its referrers.
    pub size: u64,
    /// How many manifests refer to it or to parts of it.
    pub referrers: usize,
}

/// Image that a reference resolves to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InspectedImage {
    /// Reference that clients pull.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// The media type of that.
    pub media_type: String,
    /// Whether a command imported it here.
    pub owned: bool,
    /// The manifest or index itself.
    pub manifest: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_does_not_know_platforms_refuses_a_request_with_some() {
        let options = json!({ "name": null, "form": "descriptor", "compress": null, "estargz": false,
            "profile": null, "registry": null });
        let options: ImportOptions = serde_json::from_value(options).unwrap();
        let (reference, platforms) = ("team/app:1".to_string(), vec!["linux/arm64".parse().unwrap()]);
        let all = ImageRequest::Convert { reference: reference.clone(), options: options.clone() };
        let some = ImageRequest::ConvertPlatforms { reference, platforms, options };
        // Older nodes know this one, and ignore what else it has.
        assert_eq!(serde_json::to_value(all).unwrap()["what"], "convert");
        assert_eq!(serde_json::to_value(some).unwrap()["what"], "convert-platforms");
    }
}
