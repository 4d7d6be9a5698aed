//! `dag/import`: the blocks of archives.

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use ocipfs_node::{Block, Cid, car};
use serde_json::json;

use super::json::link;
use crate::{
    content::Content,
    rpc::{
        Rpc,
        args::Args,
        error::Error,
        reply::{self, Stream},
        upload::{UploadPart, UploadedForm},
    },
};

/// Blocks that are stored in one commit.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_BLOCKS: usize = 1024;
/// Roots of all archives of a request.
const MAX_ROOTS: usize = 10_000;

/// Stores the blocks of the archives in the body, and pins their roots.
pub async fn import(
    State(rpc): State<Rpc>,
    args: Args,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let content = rpc.content().clone();
    let begun =
        UploadedForm::begin(ImportOptions::parse(&args), &headers, body, content.stall_timeout()).await;
    let (ImportOptions { pins, silent, stats }, mut upload) = begun?;
    reply::stream(Stream::Objects, &headers, |output| async move {
        let _turn = rpc.turn().await?;
        let _guard = content.gc_guard().await;
        let mut importer = Importer::new(content.clone());
        let read = importer.archives(&mut upload).await;
        if read.is_err() {
            upload.drain().await;
        }
        read?;
        let (roots, blocks, bytes) = importer.finish().await?;
        for root in roots {
            let error = if pins { pin(&content, root).await.err() } else { None };
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            if pins && !silent {
                output.object(&json!({ "Root": { "Cid": link(&root), "PinErrorMsg": error } })).await?;
            }
        }
        if stats && !silent {
            let stats = json!({ "BlockCount": blocks, "BlockBytesCount": bytes });
            output.object(&json!({ "Stats": stats })).await?;
        }
        Ok(())
    })
    .await
}

struct ImportOptions {
    pins: bool,
    silent: bool,
    stats: bool,
}

impl ImportOptions {
    fn parse(args: &Args) -> Result<Self, Error> {
        let (local_only, pins) = (args.is_set("local-only")?, args.flag("pin-roots")?);
        if local_only && pins == Some(true) {
            return Err(Error::client("local-only imports a DAG in part, which pin-roots cannot keep"));
        }
        let (silent, stats) = (args.is_set("silent")?, args.is_set("stats")?);
        Ok(Self { pins: pins.unwrap_or(!local_only), silent, stats })
    }
}

async fn pin(content: &Content, root: Cid) -> Result<(), Error> {
    content.fetch_all(root, &mut |_| {}).await?;
    Ok(content.pin(root, vec![root]).await?)
}

struct Importer {
    content: Content,
    roots: Vec<Cid>,
    batch: Vec<Block>,
    batch_bytes: usize,
    blocks: u64,
    bytes: u64,
}

impl Importer {
    fn new(content: Content) -> Self {
        Self { content, roots: Vec::new(), batch: Vec::new(), batch_bytes: 0, blocks: 0, bytes: 0 }
    }

    async fn archives(&mut self, upload: &mut UploadedForm) -> Result<(), Error> {
        while let Some(part) = upload.next().await? {
            self.archive(part).await?;
        }
        Ok(())
    }

    async fn archive(&mut self, mut part: UploadPart) -> Result<(), Error> {
        let (mut decoder, stall) = (car::Decoder::default(), self.content.stall_timeout());
        while let Some(piece) = part.next(stall).await? {
            decoder.push(piece);
            while let Some(item) = decoder.next().map_err(Error::failed)? {
                match item {
                    car::Item::Header(roots) => self.roots.extend(roots),
                    car::Item::Block(block) => self.block(block).await?,
                }
            }
            if self.roots.len() > MAX_ROOTS {
                return Err(Error::failed(format!("more than {MAX_ROOTS} roots")));
            }
        }
        decoder.finish().map_err(Error::failed)
    }

    async fn block(&mut self, block: Block) -> Result<(), Error> {
        self.blocks += 1;
        self.bytes += block.data.len() as u64;
        // What a CID carries needs no row.
        if ocipfs_node::inline_bytes(&block.cid).is_some() {
            return Ok(());
        }
        self.batch_bytes += block.data.len();
        self.batch.push(block);
        match self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_BLOCKS {
            true => self.store().await,
            false => Ok(()),
        }
    }

    async fn store(&mut self) -> Result<(), Error> {
        self.batch_bytes = 0;
        Ok(self.content.put_blocks(std::mem::take(&mut self.batch)).await?)
    }

    async fn finish(mut self) -> Result<(Vec<Cid>, u64, u64), Error> {
        self.store().await?;
        let mut seen = std::collections::HashSet::new();
        self.roots.retain(|root| seen.insert(*root));
        Ok((self.roots, self.blocks, self.bytes))
    }
}
