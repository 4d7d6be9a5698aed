//! Files that a command opens itself and the instance reads or writes: with the rights of the command's user, wherever
//! the node runs.
//!
//! Where `serve` runs they stay in the command, and the control socket carries their bytes:
//!
//! ```text
//! command: served  ◄─ Ask, as a line ──── remote: instance, which reads files
//!                  ─── Answer, frames ─►          (of a regular file its descriptor: passed)
//! command: written ◄─ Write, bytes ────── remote: instance, which exports
//! ```

pub mod frame;
pub mod passed;
pub mod remote;
pub mod served;
pub mod total;
pub mod written;

use std::{io, path::PathBuf};

use tokio_util::sync::CancellationToken;

use super::message::{Attached, AttachedBundle, AttachedLayer};
use crate::images::{
    archive::{ArchiveSource, EarlyManifest},
    bundle::import::BundleFile,
    export::ExportTarget,
    layer::LayerFile,
};

/// The largest `manifest.json` that is sent with a request.
const MAX_MANIFEST: usize = 1 << 20;

/// The most that an export sends or writes at once.
pub const MAX_WRITE_BYTES: usize = 1 << 20;

/// What a command attaches to its request.
pub enum Attachment {
    /// Nothing.
    Nothing,
    /// What is imported.
    Archive(ArchiveSource),
    /// Files and folders that become layers, in order.
    Layers(Vec<LayerFile>),
    /// Bundles, or parts of them.
    Bundles(Vec<BundleFile>),
    /// Where an image or a bundle is exported to.
    Export(Destination),
}

/// Where an image is exported to.
pub struct Destination {
    /// What errors call it.
    pub path: PathBuf,
    /// Makes it.
    pub create: Box<dyn FnOnce() -> io::Result<ExportTarget> + Send>,
}

impl Destination {
    /// Takes a target that is made already.
    pub fn made(target: ExportTarget) -> Self {
        Self { path: PathBuf::new(), create: Box::new(move || Ok(target)) }
    }
}

/// An attachment, and whether the command is still there.
pub struct Received {
    /// The attachment.
    pub attachment: Attachment,
    /// Cancelled when the command disconnects.
    pub gone: CancellationToken,
}

impl From<Attachment> for Received {
    fn from(attachment: Attachment) -> Self {
        Self { attachment, gone: CancellationToken::new() }
    }
}

impl Attachment {
    /// Describes it to the instance.
    pub fn describe(&self) -> Attached {
        match self {
            Self::Nothing => Attached::Nothing,
            Self::Archive(ArchiveSource::Folder(_)) => Attached::Folder,
            Self::Archive(ArchiveSource::Stream(stream)) => Attached::Archive {
                what: stream.what.clone(),
                size: stream.size,
                manifest: match &stream.manifest {
                    // It only saves work.
                    EarlyManifest::Found(json) if json.len() > MAX_MANIFEST => EarlyManifest::Unknown,
                    other => other.clone(),
                },
            },
            Self::Layers(files) => Attached::Layers(files.iter().map(describe_layer).collect()),
            Self::Bundles(files) => Attached::Bundles(files.iter().map(describe_bundle).collect()),
            Self::Export(_) => Attached::Export,
        }
    }
}

fn describe_layer(file: &LayerFile) -> AttachedLayer {
    let (name, what) = (file.name.clone(), file.what.clone());
    AttachedLayer { name, what, size: file.size, is_folder: file.is_folder }
}

fn describe_bundle(file: &BundleFile) -> AttachedBundle {
    AttachedBundle { what: file.what.clone(), size: file.size }
}
