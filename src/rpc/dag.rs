//! `dag/*`: whole DAGs of dag-pb, DAG-CBOR and raw blocks, and archives of them.

mod import;
mod json;

use std::{collections::HashSet, ops::Range};

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use bytes::Bytes;
use ocipfs_node::{Cid, car};
use serde::Serialize;
use serde_json::Value;

use super::{
    Rpc,
    args::Args,
    block::DAG_CBOR,
    bytes::whole,
    error::Error,
    path,
    reply::{self, Stream},
};
use crate::content::{CborTarget, CidPath, Extent, Fields, cbor_resolve, dag_json};

pub use import::import;

/// Returns a node as DAG-JSON, or as it is.
pub async fn get(State(rpc): State<Rpc>, args: Args) -> Result<Response, Error> {
    let at = path::resolve(&rpc, args.one(0, "ref")?).await?;
    let Node { cid, block, value, .. } = node(&rpc, at).await?;
    match args.text("output-codec") {
        None | Some("dag-json" | "json") => {
            let text = match cid.codec() {
                DAG_CBOR => dag_json(&block[value]).map_err(Error::failed)?,
                _ => json::node(&cid, &Fields::decode(&cid, block).map_err(Error::failed)?).to_string(),
            };
            Ok(whole("text/plain", text.into()))
        }
        Some("dag-cbor" | "cbor") if cid.codec() == DAG_CBOR => Ok(whole("text/plain", block.slice(value))),
        Some(_) if args.text("output-codec") == Some(codec_name(&cid)) => Ok(whole("text/plain", block)),
        Some(other) => Err(Error::failed(format!("cannot convert {} to {other:?}", codec_name(&cid)))),
    }
}

fn codec_name(cid: &Cid) -> &'static str {
    match cid.codec() {
        0x55 => "raw",
        DAG_CBOR => "dag-cbor",
        _ => "dag-pb",
    }
}

/// A block, and what of it a path names: all of it, but for a value in DAG-CBOR.
struct Node {
    cid: Cid,
    block: Bytes,
    value: Range<usize>,
    /// The names from the block to the value.
    names: Vec<String>,
}

/// Follows a path, also through DAG-CBOR.
async fn node(rpc: &Rpc, mut at: CidPath) -> Result<Node, Error> {
    while at.root().codec() == DAG_CBOR {
        let cid = *at.root();
        let block = rpc.content().block(cid).await?;
        match cbor_resolve(&block, at.names()).map_err(Error::failed)? {
            CborTarget::Link(link, depth) => {
                at = CidPath::from(link).below(at.names()[depth..].iter().map(String::as_str));
            }
            CborTarget::Value(value) => {
                return Ok(Node { cid, block, value, names: at.names().to_vec() });
            }
        }
    }
    let cid = path::cid_of(rpc, &at).await?;
    let block = rpc.content().block(cid).await?;
    let value = 0..block.len();
    Ok(Node { cid, block, value, names: Vec::new() })
}

/// Finds the block that a path leads to, and the rest of the path within it.
pub async fn resolve(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let at = path::resolve(&rpc, args.one(0, "ref")?).await?;
    let Node { cid, names, .. } = node(&rpc, at).await?;
    let rest: String = names.iter().map(|name| format!("/{name}")).collect();
    Ok(Json(serde_json::json!({ "Cid": json::link(&cid), "RemPath": rest })))
}

/// The size of a DAG.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DagStat {
    cid: String,
    size: u64,
    num_blocks: u64,
}

/// The sizes of DAGs, which may have blocks in common.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DagStats {
    unique_blocks: u64,
    total_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    shared_size: u64,
    ratio: f64,
    dag_stats: Vec<DagStat>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Counts the blocks of DAGs, which are fetched for it.
pub async fn stat(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let mut roots = Vec::new();
    for text in args.required("root")? {
        roots.push(path::resolve_cid(&rpc, text).await?);
    }
    reply::stream(Stream::Objects, &headers, |output| async move {
        let (mut all, mut seen, mut sum) = (DagStats::default(), HashSet::new(), 0);
        for root in roots {
            rpc.content().fetch_all(root, &mut |_| {}).await?;
            let mut stat = DagStat { cid: root.to_string(), ..DagStat::default() };
            let mut blocks = rpc.content().stored_dag(vec![root], Extent::default());
            while let Some(next) = blocks.recv().await {
                let block = next?.block;
                let size = block.data.len() as u64;
                stat.size += size;
                stat.num_blocks += 1;
                if seen.insert(block.cid) {
                    all.total_size += size;
                    all.unique_blocks += 1;
                }
            }
            sum += stat.size;
            all.dag_stats.push(stat);
        }
        all.shared_size = sum - all.total_size;
        all.ratio = if all.total_size == 0 { 1.0 } else { sum as f64 / all.total_size as f64 };
        output.object(&all).await
    })
    .await
}

/// Returns a DAG as a CARv1.
pub async fn export(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let root = path::resolve_cid(&rpc, args.one(0, "root")?).await?;
    let extent = Extent { skips_missing: args.is_set("local-only")?, ..Extent::default() };
    if extent.skips_missing && !rpc.content().is_here(&root).await? {
        return Err(Error::failed(format!("block was not found locally: {root}")));
    }
    reply::stream(Stream::Bytes("application/vnd.ipld.car"), &headers, |output| async move {
        let _turn = rpc.turn().await?;
        // It stays until it was read.
        let _guard = rpc.content().gc_guard().await;
        if !extent.skips_missing {
            rpc.content().fetch_all(root, &mut |_| {}).await?;
        }
        output.bytes(car::header(&[root]).into()).await?;
        let mut blocks = rpc.content().stored_dag(vec![root], extent);
        while let Some(next) = blocks.recv().await {
            let block = next?.block;
            output.bytes(car::section(&block.cid, block.data.len()).into()).await?;
            output.bytes(block.data).await?;
        }
        Ok(())
    })
    .await
}
