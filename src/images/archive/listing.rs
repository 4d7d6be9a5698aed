//! Docker's `manifest.json`: the images of an archive, by the paths of their files.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Error, path::clean};

/// Annotation of the `index.json` of an exported docker archive: its layers are imported as they are, so that no digest changes.
pub const LAYERS: &str = "io.ocipfs.layers";
/// Its value.
pub const UNCHANGED: &str = "unchanged";

/// What is known of an archive's `manifest.json` before the archive is read: it tells which blobs are layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyManifest {
    /// Only the archive's end tells.
    Unknown,
    /// It has none.
    Absent,
    /// Its text.
    Found(String),
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerEntry {
    /// Path of its configuration.
    pub config: String,
    /// Its names.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths of its layers, the lowest one first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// The keys by which the `manifest.json` of skopeo's `dir:` is told from docker's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageManifest {
    #[allow(dead_code)]
    schema_version: u64,
}

#[derive(Deserialize)]
struct Annotated {
    annotations: Option<HashMap<String, serde_json::Value>>,
}

/// Whether an `index.json` says that layers are to be imported as they are.
pub fn is_unchanged(index: &[u8]) -> bool {
    let index: Option<Annotated> = serde_json::from_slice(index).ok();
    let annotations = index.and_then(|index| index.annotations).unwrap_or_default();
    annotations.get(LAYERS).is_some_and(|value| value == UNCHANGED)
}

/// Parses `manifest.json`.
pub fn parse(json: &[u8]) -> Result<Vec<DockerEntry>, Error> {
    serde_json::from_slice(json).map_err(|e| match serde_json::from_slice::<ImageManifest>(json) {
        Ok(_) => Error::SkopeoDir,
        Err(_) => Error::document("manifest.json", e),
    })
}

/// Returns the paths of all layers; what is wrong with the file is reported when it is read.
pub fn layers(json: &str) -> HashSet<String> {
    let entries = parse(json.as_bytes()).unwrap_or_default();
    let paths = entries.into_iter().flat_map(|entry| entry.layers.unwrap_or_default());
    paths.filter_map(|path| clean(path.as_bytes()).ok()).collect()
}
