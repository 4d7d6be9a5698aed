//! Holdings of format 2, each of which was one JSON value with all of its blobs.

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use ocipfs_unixfs::CidPath;
use redb::{ReadableMultimapTable, ReadableTable, TableDefinition, TableHandle, WriteTransaction};
use serde::Deserialize;

use super::{Error, GcRoot, ImportedImage, damaged, retention::PIN, rows::GcRootRows};

/// Key CID -> what is kept under it, as JSON.
const HOLDINGS: TableDefinition<&[u8], &str> = TableDefinition::new("holdings");

#[derive(Deserialize)]
struct Old {
    #[serde(rename = "owned")]
    is_kept: bool,
    roots: Vec<String>,
    blobs: Vec<(Digest, CidPath)>,
    #[serde(default)]
    below: Vec<String>,
    #[serde(default)]
    images: Vec<ImportedImage>,
}

/// Makes rows of the GC roots and pins of format 2, and drops what is retained under a key that is gone.
pub fn from_format_2(write: &WriteTransaction) -> Result<(), Error> {
    if write.list_tables()?.all(|table| table.name() != HOLDINGS.name()) {
        return Ok(());
    }
    let mut rows = GcRootRows::open(write)?;
    for row in write.open_table(HOLDINGS)?.iter()? {
        let (key, json) = row?;
        let gc_root = GcRoot::from(serde_json::from_str::<Old>(json.value()).map_err(damaged)?);
        gc_root.set_header(&mut rows, key.value())?;
        gc_root.add(&mut rows, key.value())?;
    }
    let (pinned, orphans) = sort_out(&rows)?;
    for (pin, root) in pinned {
        rows.add_root(&pin, &root, false)?;
    }
    for (gc_root_key, root) in orphans {
        rows.drop_root(&gc_root_key, &root)?;
    }
    drop(rows);
    write.delete_table(HOLDINGS)?;
    Ok(())
}

type RetainedRow = Vec<(Vec<u8>, Cid)>;

/// Returns the pins, and the roots that are retained under CIDs without a header.
fn sort_out(rows: &GcRootRows) -> Result<(RetainedRow, RetainedRow), Error> {
    let (mut pinned, mut orphans) = (Vec::new(), Vec::new());
    for row in rows.retained.iter()? {
        let (root, keys) = row?;
        let root = Cid::try_from(root.value()).map_err(damaged)?;
        for key in keys {
            let key = key?;
            if key.value().starts_with(PIN.as_bytes()) {
                pinned.push((key.value().to_vec(), root));
            } else if Cid::try_from(key.value()).is_ok() && rows.is_kept(key.value())?.is_none() {
                orphans.push((key.value().to_vec(), root));
            }
        }
    }
    Ok((pinned, orphans))
}

impl From<Old> for GcRoot {
    fn from(old: Old) -> Self {
        let cids = |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
        let Old { is_kept, roots, blobs, below, images } = old;
        Self { is_kept, roots: cids(roots), blobs, below: cids(below), images }
    }
}
