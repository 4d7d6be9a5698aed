//! `pin/*`: what is kept. A pin is the same as one of `ocipfs store pin`.

mod list;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ocipfs_node::Cid;
use serde_json::{Value, json};

use super::{
    Rpc,
    args::Args,
    cids,
    error::Error,
    path,
    reply::{self, Output, Stream},
};
use crate::content::PinInfo;

pub use list::ls;

const MAX_NAME_CHARS: usize = 255;
/// Bytes that count as one block of progress.
const BLOCK_BYTES: u64 = 256 << 10;

/// Pins what paths lead to, once all of it is here.
pub async fn add(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let is_recursive = args.flag("recursive")?.unwrap_or(true);
    let name = args.text("name").unwrap_or_default().to_owned();
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Error::client(format!("pin name is too long: at most {MAX_NAME_CHARS} characters")));
    }
    let paths = args.required("ipfs-path")?.to_vec();
    if !args.is_set("progress")? {
        let pins = pin(&rpc, &paths, is_recursive, &name, None).await?;
        return Ok(pinned(&pins).into_response());
    }
    reply::stream(Stream::Objects, &headers, |output| async move {
        let pins = pin(&rpc, &paths, is_recursive, &name, Some(&output)).await?;
        output.object(&pinned(&pins).0).await
    })
    .await
}

async fn pin(
    rpc: &Rpc,
    paths: &[String],
    is_recursive: bool,
    name: &str,
    output: Option<&Output>,
) -> Result<Vec<Cid>, Error> {
    // What is found here on the way must not go before it is held.
    let _guard = rpc.content().gc_guard().await;
    let mut pins = Vec::new();
    for path in paths {
        let cid = path::resolve_cid(rpc, path).await?;
        match is_recursive {
            true => {
                let progress = &mut |bytes: u64| {
                    if let Some(output) = output {
                        // ipfs-cluster gives up a pin whose number of blocks does not grow.
                        let blocks = bytes / BLOCK_BYTES;
                        output.try_object(&json!({ "Progress": blocks, "Bytes": bytes }));
                    }
                };
                rpc.content().fetch_all(cid, progress).await?;
            }
            false => {
                if rpc.content().pin_info(&cid).await?.is_some_and(|pin| pin.is_recursive) {
                    return Err(Error::failed(format!(
                        "pin: {} already pinned recursively",
                        cids::text(&cid)
                    )));
                }
                drop(rpc.content().block(cid).await?);
            }
        }
        rpc.content().pin_named(PinInfo { cid, is_recursive, name: name.into() }).await?;
        pins.push(cid);
    }
    Ok(pins)
}

fn pinned(pins: &[Cid]) -> Json<Value> {
    Json(json!({ "Pins": pins.iter().map(cids::text).collect::<Vec<_>>() }))
}

/// Unpins what paths lead to; it goes with the next garbage collection.
pub async fn rm(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let mut pins = Vec::new();
    for text in args.required("ipfs-path")? {
        let cid = path::resolve_cid(&rpc, text).await?;
        if !rpc.content().unpin_later(&cid).await? {
            return Err(Error::failed("not pinned or pinned indirectly"));
        }
        pins.push(cid);
    }
    Ok(pinned(&pins))
}

/// Pins another version of what is pinned, and unpins the one before.
pub async fn update(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let from = path::resolve_cid(&rpc, args.one(0, "from-path")?).await?;
    let to = path::resolve_cid(&rpc, args.one(1, "to-path")?).await?;
    let is_recursive = |pin: Option<PinInfo>| pin.filter(|pin| pin.is_recursive);
    let content = rpc.content();
    let Some(before) = is_recursive(content.pin_info(&from).await?) else {
        return Err(Error::failed("'from' cid was not recursively pinned already"));
    };
    if from != to && is_recursive(content.pin_info(&to).await?).is_some() {
        return Err(Error::failed("'to' cid was already recursively pinned"));
    }
    let _guard = content.gc_guard().await;
    content.fetch_all(to, &mut |_| {}).await?;
    content.pin_named(PinInfo { cid: to, ..before }).await?;
    if from != to && args.flag("unpin")?.unwrap_or(true) {
        content.unpin_later(&from).await?;
    }
    Ok(pinned(&[from, to]))
}
