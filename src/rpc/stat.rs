//! `files/stat`, for paths below `/ipfs/` and `/ipns/`: there are no other files here.

use axum::{Json, extract::State};
use serde::Serialize;

use super::{Rpc, args::Args, cids, error::Error, path};
use crate::content::EntryKind;

/// A file or a directory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileStat {
    hash: String,
    size: u64,
    cumulative_size: u64,
    blocks: usize,
    r#type: &'static str,
}

/// Returns what a path leads to.
pub async fn files_stat(State(rpc): State<Rpc>, args: Args) -> Result<Json<FileStat>, Error> {
    let text = args.one(0, "path")?;
    if !text.starts_with('/') {
        return Err(Error::failed("paths must start with a leading slash"));
    }
    if !text.starts_with("/ipfs/") && !text.starts_with("/ipns/") {
        return Err(Error::failed(format!(
            "{text:?} does not exist: only paths below /ipfs/ and /ipns/ are supported, there is no MFS"
        )));
    }
    let entry = rpc.content().entry(&path::resolve(&rpc, text).await?).await?;
    Ok(Json(FileStat {
        hash: cids::text(&entry.root.cid),
        size: entry.root.size,
        cumulative_size: entry.root.dag_size,
        blocks: entry.links,
        r#type: if entry.kind == EntryKind::Directory { "directory" } else { "file" },
    }))
}
