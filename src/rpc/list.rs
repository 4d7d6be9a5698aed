//! `ls`, `refs` and `resolve`: what paths lead to.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ocipfs_node::Cid;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Rpc,
    args::Args,
    cids,
    error::Error,
    path,
    reply::{self, Stream},
};
use crate::content::{CidPath, EntryKind, Extent};

/// The numbers of the kinds of entries in Kubo.
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const LINK: u8 = 4;

/// What `refs` tells of a link.
const DEFAULT_FORMAT: &str = "<dst>";
const EDGES_FORMAT: &str = "<src> -> <dst>";

/// An entry of a directory, or a part of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    name: String,
    hash: String,
    size: u64,
    r#type: u8,
    target: String,
    mode: u32,
    mod_time: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    hash: String,
    links: Vec<Listed>,
}

impl Listed {
    fn new(name: String, cid: &Cid) -> Self {
        let (hash, mod_time) = (cids::text(cid), "0001-01-01T00:00:00Z");
        Self { name, hash, size: 0, r#type: 0, target: String::new(), mode: 0, mod_time }
    }
}

/// Lists directories.
pub async fn ls(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let looks = args.flag("resolve-type")?.unwrap_or(true) || args.flag("size")?.unwrap_or(true);
    let paths = args.required("ipfs-path")?.to_vec();
    if !args.is_set("stream")? {
        let mut objects = Vec::new();
        for path in paths {
            let (hash, mut links) = (path.clone(), Vec::new());
            for entry in entries(&rpc, &path).await? {
                links.push(listed(&rpc, entry, looks).await?);
            }
            objects.push(Object { hash, links });
        }
        return Ok(Json(json!({ "Objects": objects })).into_response());
    }
    reply::stream(Stream::Objects, &headers, |output| async move {
        for path in paths {
            for entry in entries(&rpc, &path).await? {
                let links = vec![listed(&rpc, entry, looks).await?];
                output.object(&json!({ "Objects": [Object { hash: path.clone(), links }] })).await?;
            }
        }
        Ok(())
    })
    .await
}

/// A name, where it leads, and its size where that is known.
type Found = (String, CidPath, Option<u64>);

async fn entries(rpc: &Rpc, text: &str) -> Result<Vec<Found>, Error> {
    let at = path::resolve(rpc, text).await?;
    let entry = rpc.content().entry(&at).await?;
    let below = |cid: Cid| CidPath::from(cid).with_search_root(at.search_root());
    if entry.kind == EntryKind::Directory {
        let entries = rpc.content().directory_entries(&at).await?;
        return Ok(entries.into_iter().map(|(name, cid)| (name, below(cid), None)).collect());
    }
    let children = rpc.content().file_children(&at).await?;
    Ok(children.into_iter().map(|child| (String::new(), below(child.cid), Some(child.size))).collect())
}

async fn listed(rpc: &Rpc, (name, at, size): Found, looks: bool) -> Result<Listed, Error> {
    let mut listed = Listed::new(name, at.root());
    if let Some(size) = size {
        (listed.size, listed.r#type) = (size, FILE);
    } else if looks {
        let entry = rpc.content().entry(&at).await?;
        listed.size = entry.root.size;
        listed.r#type = match entry.kind {
            EntryKind::Directory => DIRECTORY,
            EntryKind::File => FILE,
            EntryKind::Link => LINK,
        };
        if entry.kind == EntryKind::Link {
            listed.target = rpc.content().link_target(&at).await?;
            listed.size = listed.target.len() as u64;
        }
    }
    Ok(listed)
}

/// Lists the links of DAGs.
pub async fn refs(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let (edges, unique) = (args.is_set("edges")?, args.is_set("unique")?);
    // Kubo's command line sends the default at any time.
    let format = match (args.text("format").unwrap_or(DEFAULT_FORMAT), edges) {
        (DEFAULT_FORMAT, true) => EDGES_FORMAT,
        (_, true) => return Err(Error::failed("using format argument with edges is not allowed")),
        (format, false) => format,
    };
    let format = format.to_owned();
    let max_depth = match args.option::<i64>("max-depth")?.unwrap_or(-1) {
        0 => return Ok(reply::no_objects()),
        _ if !args.is_set("recursive")? => 1,
        depth => usize::try_from(depth).unwrap_or(usize::MAX),
    };
    let mut roots = Vec::new();
    for text in args.required("ipfs-path")? {
        roots.push(path::resolve_cid(&rpc, text).await?);
    }
    reply::stream(Stream::Objects, &headers, |output| async move {
        for root in &roots {
            match max_depth {
                1 => drop(rpc.content().block(*root).await?),
                _ => rpc.content().fetch_all(*root, &mut |_| {}).await?,
            }
        }
        // The links of the blocks at the last depth are not listed.
        let extent = Extent { max_depth: max_depth - 1, ..Extent::default() };
        let mut seen = std::collections::HashSet::new();
        let mut blocks = rpc.content().stored_dag(roots, extent);
        while let Some(next) = blocks.recv().await {
            let found = next?;
            for link in found.links {
                if unique && !seen.insert(link.cid) {
                    continue;
                }
                let text = format
                    .replace("<src>", &cids::text(&found.block.cid))
                    .replace("<dst>", &cids::text(&link.cid))
                    .replace("<linkname>", &link.name);
                output.object(&json!({ "Ref": text, "Err": "" })).await?;
            }
        }
        Ok(())
    })
    .await
}

/// Finds the CID that a path leads to.
pub async fn resolve(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let cid = path::resolve_cid(&rpc, args.one(0, "name")?).await?;
    Ok(Json(json!({ "Path": format!("/ipfs/{}", cids::text(&cid)) })))
}
