//! What a command attaches to its request, and how an instance asks for it.

use serde::{Deserialize, Serialize};

use super::Request;
use crate::images::archive::EarlyManifest;

/// A request, and a description of what is attached to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The request.
    pub request: Request,
    /// What the command attached to it.
    pub attached: Attached,
}

/// Description of an attachment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attached {
    /// Nothing.
    Nothing,
    /// An archive as a stream.
    Archive {
        /// What errors call it.
        what: String,
        /// Its bytes, where they are known.
        size: Option<u64>,
        /// Its `manifest.json`.
        manifest: EarlyManifest,
    },
    /// A layout folder.
    Folder,
    /// Files that become layers, in order.
    Layers(Vec<AttachedLayer>),
    /// Bundles, or parts of them, in order.
    Bundles(Vec<AttachedBundle>),
    /// The destination of an export.
    Export,
}

/// Description of a bundle, or of a part of one.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttachedBundle {
    /// What errors call it.
    pub what: String,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
}

/// Description of a file that becomes a layer.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttachedLayer {
    /// The name of the layer.
    pub name: String,
    /// What errors call it.
    pub what: String,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// Whether it is a folder, which is packed as it is read.
    #[serde(default)]
    pub is_folder: bool,
}

/// What the instance needs of an attachment next.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The bytes of the archive.
    Archive,
    /// Those of a layer, by its number.
    Layer(usize),
    /// Those of a bundle, by its number.
    Bundle(usize),
    /// A file of the folder.
    File(String),
    /// Whether the folder has such a file.
    Has(String),
    /// The bytes of the open file that was passed and did not arrive.
    Bytes,
    /// The files in a directory of the folder: for each its size, a space, its name and a zero byte.
    List(String),
}

/// The beginning of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The bytes follow.
    Found {
        /// Their number, where it is known.
        size: Option<u64>,
    },
    /// There is nothing.
    Missing,
}

/// An order to the command that exports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// Begin a file.
    File {
        /// Its path in the layout.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// Write so many bytes, which follow the line.
    Bytes(usize),
}
