//! `block/*`: single blocks.

use axum::{Json, body::Body, extract::State, http::HeaderMap, response::Response};
use multihash_codetable::MultihashDigest;
use ocipfs_node::{Block, Cid};
use serde_json::{Value, json};

use super::{
    Rpc,
    args::Args,
    bytes::whole,
    cids,
    error::Error,
    path,
    reply::{self, Stream},
    upload::UploadedForm,
};
use crate::content::{HashFunction, hash_function};

/// The longest block that peers exchange.
pub const MAX_BLOCK_BYTES: usize = 2 << 20;
const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
/// The codec of DAG-CBOR.
pub const DAG_CBOR: u64 = 0x71;

/// Returns the bytes of a block.
pub async fn get(State(rpc): State<Rpc>, args: Args) -> Result<Response, Error> {
    let cid = path::resolve_cid(&rpc, args.one(0, "cid")?).await?;
    Ok(whole("application/octet-stream", rpc.content().block(cid).await?))
}

/// Returns the length of a block.
pub async fn stat(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let cid = path::resolve_cid(&rpc, args.one(0, "cid")?).await?;
    let size = match rpc.content().block_size(cid).await? {
        Some(size) => size,
        None => rpc.content().block(cid).await?.len() as u64,
    };
    Ok(Json(json!({ "Key": cids::text(&cid), "Size": size })))
}

/// Stores the parts of the body as blocks.
pub async fn put(
    State(rpc): State<Rpc>,
    args: Args,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let content = rpc.content().clone();
    let stall = content.stall_timeout();
    let options = Form::parse(&args).and_then(|form| Ok((form, args.is_set("pin")?)));
    let ((form, pins), mut upload) = UploadedForm::begin(options, &headers, body, stall).await?;
    reply::stream(Stream::Objects, &headers, |output| async move {
        let _turn = rpc.turn().await?;
        while let Some(part) = upload.next().await? {
            let data = part.read(MAX_BLOCK_BYTES, stall).await?;
            let (cid, size) = (form.cid(&data), data.len());
            let _guard = content.gc_guard().await;
            content.put_blocks(vec![Block { cid, data }]).await?;
            if pins {
                content.pin(cid, vec![cid]).await?;
            }
            output.object(&json!({ "Key": cids::text(&cid), "Size": size })).await?;
        }
        Ok(())
    })
    .await
}

/// Removes blocks that nothing keeps.
pub async fn rm(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let cids = args.required("cid")?.to_vec();
    let (force, quiet) = (args.is_set("force")?, args.is_set("quiet")?);
    reply::stream(Stream::Objects, &headers, |output| async move {
        for text in cids {
            let cid = path::resolve_cid(&rpc, &text).await?;
            let error = match rpc.content().remove_block(cid).await {
                Ok(true) => None,
                Ok(false) if force => None,
                Ok(false) => Some(format!("ipld: could not find {}", cids::text(&cid))),
                Err(error) => Some(error.to_string()),
            };
            if !quiet || error.is_some() {
                output.object(&removed(&cid, error)).await?;
            }
        }
        Ok(())
    })
    .await
}

fn removed(cid: &Cid, error: Option<String>) -> Value {
    match error {
        Some(error) => json!({ "Hash": cids::text(cid), "Error": error }),
        None => json!({ "Hash": cids::text(cid) }),
    }
}

/// How blocks are named.
#[derive(Clone, Copy)]
struct Form {
    is_v0: bool,
    codec: u64,
    hash: HashFunction,
}

impl Form {
    fn parse(args: &Args) -> Result<Self, Error> {
        let is_v0 = args.text("format") == Some("v0");
        let codec = match args.text("format").or(args.text("cid-codec")) {
            Some("v0" | "protobuf" | "dag-pb") => DAG_PB,
            Some("cbor" | "dag-cbor") => DAG_CBOR,
            None | Some("raw") => RAW,
            Some(other) => {
                return Err(Error::client(format!(
                    "codec {other:?} is not supported: expected raw, dag-pb or dag-cbor"
                )));
            }
        };
        let name = args.text("mhtype").unwrap_or("sha2-256");
        let hash = hash_function(name)
            .ok_or_else(|| Error::client(format!("unrecognized hash function: {name:?}")))?;
        if is_v0 && hash != HashFunction::Sha2_256 {
            return Err(Error::client("CIDv0 only supports sha2-256"));
        }
        let length = hash.digest(b"").size();
        match args.option::<i64>("mhlen")?.filter(|asked| *asked != -1 && *asked != i64::from(length)) {
            Some(asked) => Err(Error::client(format!(
                "mhlen {asked} is not supported: digests of {name} have {length} bytes, and are not truncated"
            ))),
            None => Ok(Self { is_v0, codec, hash }),
        }
    }

    fn cid(&self, data: &[u8]) -> Cid {
        let hash = self.hash.digest(data);
        match self.is_v0 {
            true => Cid::new_v0(hash).unwrap_or_else(|_| Cid::new_v1(self.codec, hash)),
            false => Cid::new_v1(self.codec, hash),
        }
    }
}
