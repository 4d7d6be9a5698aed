//! `add`: files and directories, with Kubo's options and defaults.

mod options;
mod tree;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use futures::StreamExt;
use serde::Serialize;

use super::{
    Rpc,
    args::Args,
    cids,
    error::Error,
    reply::{self, Output},
    upload::{PartKind, PartStat, UploadPart, UploadedForm},
};
use crate::content::{Adder, Content, Metadata, Root};
use options::{AddOptions, permissions};
use tree::AddedTree;

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 256 << 10;

/// An added file or directory.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddedEntry {
    name: String,
    hash: String,
    /// A number as text, as in Kubo.
    size: String,
}

/// How much of a file came.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Progress<'a> {
    name: &'a str,
    bytes: u64,
}

impl AddedEntry {
    fn new(name: String, root: &Root) -> Self {
        Self { name, hash: cids::text(&root.cid), size: root.dag_size.to_string() }
    }
}

/// Adds the files of the body, and tells the CID of each once it is stored.
pub async fn add(
    State(rpc): State<Rpc>,
    args: Args,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let stall = rpc.content().stall_timeout();
    let (options, mut upload) = UploadedForm::begin(AddOptions::parse(&args), &headers, body, stall).await?;
    reply::stream(reply::Stream::Objects, &headers, |output| async move {
        let _turn = rpc.turn().await?;
        let added = Adding::new(rpc.content(), options, output).await.run(&mut upload).await;
        if added.is_err() {
            upload.drain().await;
        }
        added
    })
    .await
}

struct Adding {
    content: Content,
    options: AddOptions,
    adder: Adder,
    output: Output,
    tree: AddedTree,
    /// What is not told yet, since it is not stored yet.
    untold: Vec<AddedEntry>,
}

impl Adding {
    async fn new(content: &Content, options: AddOptions, output: Output) -> Self {
        let adder = content.adder(options.file, options.only_hash).await;
        let (mut tree, untold) = (AddedTree::new(options.metadata(Metadata::default())), Vec::new());
        if !options.empty_dirs {
            tree.omit_empty();
        }
        Self { content: content.clone(), options, adder, output, tree, untold }
    }

    async fn run(mut self, upload: &mut UploadedForm) -> Result<(), Error> {
        while let Some(part) = upload.next().await? {
            self.part(part).await?;
            if self.adder.is_committed() {
                self.tell().await?;
            }
        }
        if self.tree.is_empty() {
            return Err(Error::request("file argument \"path\" is required"));
        }
        let tree = std::mem::take(&mut self.tree);
        let mut told = Vec::new();
        let wrapped = self.options.wraps.then(|| self.options.metadata(Metadata::default()));
        let roots = tree.build(&mut self.adder, wrapped, &mut told).await?;
        self.untold.extend(told.into_iter().map(|(name, root)| AddedEntry::new(name, &root)));
        let pins = if self.options.pins { roots.iter().map(|root| root.cid).collect() } else { Vec::new() };
        self.adder.commit(pins, &self.options.pin_name).await?;
        self.tell().await
    }

    async fn part(&mut self, part: UploadPart) -> Result<(), Error> {
        let path = part.path.clone();
        let PartStat { mode, mtime } = part.stat;
        let own = Metadata { mode: mode.map(permissions), mtime };
        let metadata = self.options.metadata(own);
        // Links have no mode.
        let mode = metadata.mode.filter(|_| part.kind != PartKind::Link);
        self.adder.set_metadata(Metadata { mode, ..metadata });
        let root = match part.kind {
            PartKind::Directory => return self.tree.add_directory(&path, metadata),
            PartKind::Link => {
                let target = part.target(self.content.stall_timeout()).await?;
                self.adder.symlink(&target).await?
            }
            PartKind::File => self.file(part).await?,
        };
        let name = if path.is_empty() { cids::text(&root.cid) } else { path.join("/") };
        self.untold.push(AddedEntry::new(name, &root));
        self.tree.add_file(&path, root)
    }

    async fn file(&mut self, part: UploadPart) -> Result<Root, Error> {
        let (name, mut told) = (part.path.join("/"), 0);
        let (shows, output) = (self.options.progress, self.output.clone());
        let progress = |bytes: u64| {
            if shows && bytes >= told + PROGRESS_BYTES {
                told = bytes;
                output.try_object(&Progress { name: &name, bytes });
            }
        };
        let root = self
            .adder
            .file(part.bytes.map(|piece| piece.map_err(|error| error.to_string())), progress)
            .await?;
        if shows && told < root.size {
            self.output.object(&Progress { name: &name, bytes: root.size }).await?;
        }
        Ok(root)
    }

    async fn tell(&mut self) -> Result<(), Error> {
        for added in self.untold.drain(..) {
            self.output.object(&added).await?;
        }
        Ok(())
    }
}
