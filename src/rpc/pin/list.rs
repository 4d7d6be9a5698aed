//! `pin/ls`: pins, and what is below them.

use std::collections::HashMap;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ocipfs_node::Cid;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    content::{Extent, PinInfo},
    rpc::{
        Rpc,
        args::Args,
        cids,
        error::Error,
        path,
        reply::{self, Stream},
    },
};

/// A line of the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPin {
    cid: String,
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

/// Kinds of pins that are listed.
#[derive(Clone, Copy)]
struct Kinds {
    recursive: bool,
    direct: bool,
    indirect: bool,
}

impl Kinds {
    fn parse(text: Option<&str>) -> Result<Self, Error> {
        let only = |recursive, direct, indirect| Ok(Self { recursive, direct, indirect });
        match text {
            None | Some("all") => only(true, true, true),
            Some("recursive") => only(true, false, false),
            Some("direct") => only(false, true, false),
            Some("indirect") => only(false, false, true),
            Some(other) => Err(Error::failed(format!(
                "invalid type {other:?}: must be one of {{direct, indirect, recursive, all}}"
            ))),
        }
    }

    fn has(self, pin: &PinInfo) -> bool {
        if pin.is_recursive { self.recursive } else { self.direct }
    }
}

/// Lists pins.
pub async fn ls(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let kinds = Kinds::parse(args.text("type"))?;
    let filter = args.text("name").unwrap_or_default().to_owned();
    let names = args.is_set("names")? || !filter.is_empty();
    let shown = move |mut listed: ListedPin| {
        if !names {
            listed.name.clear();
        }
        listed
    };
    let mut all = match args.all() {
        [] => listed(&rpc, kinds).await?,
        paths => {
            let mut found = Vec::new();
            for path in paths {
                found.push(find(&rpc, path, kinds).await?);
            }
            found
        }
    };
    all.retain(|listed| listed.name.contains(&filter));
    if args.is_set("stream")? {
        return reply::stream(Stream::Objects, &headers, |output| async move {
            for listed in all.into_iter().map(shown) {
                output.object(&listed).await?;
            }
            Ok(())
        })
        .await;
    }
    let keys: Map<String, Value> = all
        .into_iter()
        .map(shown)
        .map(|listed| (listed.cid, json!({ "Type": listed.r#type, "Name": listed.name })))
        .collect();
    Ok(Json(json!({ "Keys": keys })).into_response())
}

fn listed_pin(pin: PinInfo) -> ListedPin {
    let kind = if pin.is_recursive { "recursive" } else { "direct" };
    ListedPin { cid: cids::text(&pin.cid), r#type: kind.into(), name: pin.name }
}

async fn listed(rpc: &Rpc, kinds: Kinds) -> Result<Vec<ListedPin>, Error> {
    let pins = rpc.content().pin_infos().await?;
    let mut all: Vec<ListedPin> = pins.iter().filter(|pin| kinds.has(pin)).cloned().map(listed_pin).collect();
    if kinds.indirect {
        let pinned: HashMap<Cid, bool> = pins.iter().map(|pin| (pin.cid, pin.is_recursive)).collect();
        let roots = pins.iter().filter(|pin| pin.is_recursive).map(|pin| pin.cid).collect();
        let extent = Extent { skips_missing: true, ..Extent::default() };
        let mut blocks = rpc.content().stored_dag(roots, extent);
        while let Some(next) = blocks.recv().await {
            let cid = next?.block.cid;
            if !pinned.contains_key(&cid) {
                all.push(ListedPin { cid: cids::text(&cid), r#type: "indirect".into(), name: String::new() });
            }
        }
    }
    Ok(all)
}

async fn find(rpc: &Rpc, text: &str, kinds: Kinds) -> Result<ListedPin, Error> {
    let cid = path::resolve_cid(rpc, text).await?;
    if let Some(pin) = rpc.content().pin_info(&cid).await?.filter(|pin| kinds.has(pin)) {
        return Ok(listed_pin(pin));
    }
    let pins = if kinds.indirect { rpc.content().pin_infos().await? } else { Vec::new() };
    for pin in pins.into_iter().filter(|pin| pin.is_recursive && pin.cid != cid) {
        let extent = Extent { skips_missing: true, ..Extent::default() };
        let mut blocks = rpc.content().stored_dag(vec![pin.cid], extent);
        while let Some(next) = blocks.recv().await {
            if next?.block.cid == cid {
                let kind = format!("indirect through {}", cids::text(&pin.cid));
                return Ok(ListedPin { cid: cids::text(&cid), r#type: kind, name: String::new() });
            }
        }
    }
    Err(Error::failed(format!("path '{text}' is not pinned")))
}
