//! Files, folders and layers on IPFS become a layer manifest, in one pass over the bytes of each.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Platform};
use tokio::sync::mpsc;

use super::{
    Layer, LayerDocument, LayerManifest,
    file::{self, LayerFile},
};
use crate::{
    content::{self, BlobWriter, CidPath, Content, Document, Profile, Reader, StoreError, WrittenBlob},
    images::pack::inspect::{self, InspectedLayer as Measured, LayerInspector},
};

/// Chunks between the stream and the thread that measures it.
const QUEUE_LENGTH: usize = 8;

/// Why no layer was added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or the folder cannot be read.
    #[error(transparent)]
    File(#[from] file::Error),
    /// A name that no entry of a directory can have.
    #[error("invalid layer name {0:?}: expected the name of a file, without '/'")]
    Name(String),
    /// The bytes are no layer.
    #[error("{what} is not a layer: {why}")]
    NoLayer {
        /// Which source.
        what: String,
        /// Error of the layer inspector.
        why: inspect::Error,
    },
    /// It could not be stored or fetched.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The reading thread is gone.
    #[error("read aborted")]
    BrokenOff,
    /// The caller gave up.
    #[error("the command was interrupted")]
    Cancelled,
}

/// Where a layer comes from.
pub enum Source {
    /// A tar, compressed or not, or a folder.
    File(LayerFile),
    /// A file that is on IPFS already.
    Ipfs(CidPath),
}

/// How a layer is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other than linux/amd64.
    pub platform: Option<Platform>,
    /// The shape of the DAGs.
    pub profile: Profile,
}

/// Layers that were added.
#[derive(Clone, Debug)]
pub struct Added {
    /// The CIDv1 of the layer manifest: the image's name.
    pub cid: Cid,
    /// Content of the layer manifest.
    pub manifest: LayerManifest,
    /// Whether one of them is compressed with zstd.
    pub has_zstd: bool,
}

/// Told how many bytes have been read so far; those of a folder are counted before they are compressed.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// The progress of one layer.
type Told = Box<dyn FnMut(u64) + Send>;

/// A layer that was read whole, and what is yet to be stored of it.
struct ReadLayer {
    layer: Measured,
    at: CidPath,
    file: Cid,
    unstored: Option<(WrittenBlob, Document)>,
    /// What its progress was told last.
    counted: u64,
}

/// Stores layers, the lowest first, and their manifest, and holds them all. Where one is refused, or `cancelled` before
/// all are read, none is stored.
pub async fn add(
    content: &Content,
    sources: Vec<Source>,
    options: Options,
    progress: Progress,
    cancelled: impl Future<Output = ()>,
) -> Result<Added, Error> {
    let _storing = content.gc_guard().await;
    let taken = tokio::select! {
        taken = read_all(content, sources, options.profile, progress) => taken?,
        () = cancelled => return Err(Error::Cancelled),
    };
    let has_zstd = taken.iter().any(|taken| taken.layer.compression == inspect::Compression::Zstd);
    let manifest = LayerManifest {
        layers: taken.iter().map(ReadLayer::described).collect(),
        platform: options.platform,
    };
    let mut files = Vec::new();
    for ReadLayer { layer, file, unstored, .. } in taken {
        files.push(file);
        if let Some((written, directory)) = unstored {
            store(layer, written, directory).await?;
        }
    }
    let cid = put(content, &LayerDocument::Manifest(manifest.clone()), options.profile).await?;
    for (layer, file) in manifest.layers.iter().zip(files) {
        content.retain_blob(&layer.blob(cid), file, true).await?;
    }
    Ok(Added { cid, manifest, has_zstd })
}

async fn read_all(
    content: &Content,
    sources: Vec<Source>,
    profile: Profile,
    progress: Progress,
) -> Result<Vec<ReadLayer>, Error> {
    let (mut taken, mut before) = (Vec::new(), 0);
    for source in sources {
        let (progress, start) = (progress.clone(), before);
        let told: Told = Box::new(move |done| progress(start + done));
        let next = match source {
            Source::File(file) => read_layer(content, file, profile, told).await?,
            Source::Ipfs(at) => measure(content, at, told).await?,
        };
        before += next.counted;
        taken.push(next);
    }
    Ok(taken)
}

/// Stores a document, and gives the CIDv1 that names it.
pub(super) async fn put(content: &Content, document: &LayerDocument, profile: Profile) -> Result<Cid, Error> {
    let file = Document::file(document.to_bytes().into(), profile);
    let stored = file.root.cid;
    content.put_document(file).await?;
    Ok(Cid::new_v1(stored.codec(), *stored.hash()))
}

impl ReadLayer {
    fn described(&self) -> Layer {
        Layer {
            media_type: MediaType::from_static(self.layer.compression.media_type()),
            digest: self.layer.digest.clone(),
            size: self.layer.size,
            at: self.at.clone(),
            diff_id: self.layer.diff_id.clone(),
            annotations: Default::default(),
        }
    }
}

/// Reads, measures and writes a layer in one pass, on a thread that may wait for the disk.
async fn read_layer(
    content: &Content,
    file: LayerFile,
    profile: Profile,
    progress: Told,
) -> Result<ReadLayer, Error> {
    let content = content.clone();
    let taking = move || {
        let (name, what) = (file.name.clone(), file.what.clone());
        if name.is_empty() || name.contains('/') {
            return Err(Error::Name(name));
        }
        let put = BlobWriter::unhashed(content.store(), profile).map_err(content::Error::from)?;
        let inspect = LayerInspector::new();
        let unpacked = file.is_folder.then(|| inspect.unpacked());
        let sink = LayerSink { inspect, put, progress, unpacked, done: 0, refused: None };
        let LayerSink { inspect, put, mut progress, unpacked, done, .. } = sink.fill(file)?;
        let layer = inspect.finish().map_err(|why| Error::NoLayer { what, why })?;
        let counted = unpacked.map_or(done, |unpacked| unpacked.load(Ordering::Relaxed));
        progress(counted);
        let written = put.finish().map_err(content::Error::from)?;
        let file = written.root.cid;
        let directory = Document::directory(&name, &written.root, profile);
        let at = CidPath::in_directory(directory.root.cid, &name).map_err(|_| Error::Name(name))?;
        Ok(ReadLayer { layer, at, file, unstored: Some((written, directory)), counted })
    };
    tokio::task::spawn_blocking(taking).await.map_err(|_| Error::BrokenOff)?
}

async fn store(layer: Measured, written: WrittenBlob, directory: Document) -> Result<(), Error> {
    let gc_guard = move || written.store(&layer.digest, &[], &directory.blocks).map(drop);
    let stored = tokio::task::spawn_blocking(gc_guard).await.map_err(|_| Error::BrokenOff)?;
    Ok(stored.map_err(content::Error::from)?)
}

/// Fetches a layer that is on IPFS, to know its digests; its blocks stay here.
async fn measure(content: &Content, at: CidPath, mut progress: Told) -> Result<ReadLayer, Error> {
    let no_layer = |why| Error::NoLayer { what: at.to_string(), why };
    let file = content.stat(&at).await?.cid;
    let mut reader = content.fetch_at(&at).await?;
    let size = reader.size();
    let first = reader.next().await.transpose()?.unwrap_or_default();
    // Of a plain tar only the beginning is looked at: the download hashes the whole anyway.
    let unknown = Digest::sha256_of(b"");
    if inspect::plain(&first, size, &unknown).map_err(no_layer)?.is_some() {
        reader.wait_until_stored(&mut progress).await?;
        let digest = content.digest_of(&file).await?;
        if let Some(layer) = inspect::plain(&first, size, &digest).map_err(no_layer)? {
            return Ok(ReadLayer { counted: layer.size, layer, at, file, unstored: None });
        }
    }
    let inspect = unpack(first, reader, progress).await?.map_err(no_layer)?;
    let digest = content.digest_of(&file).await?;
    let layer = inspect.finish_as(digest).map_err(no_layer)?;
    Ok(ReadLayer { counted: layer.size, layer, at, file, unstored: None })
}

/// Unpacks a layer while it comes.
async fn unpack(
    first: Bytes,
    mut reader: Reader,
    mut progress: Told,
) -> Result<Result<LayerInspector, inspect::Error>, Error> {
    let (chunks, mut incoming) = mpsc::channel::<Bytes>(QUEUE_LENGTH);
    let measuring = tokio::task::spawn_blocking(move || {
        let mut inspect = LayerInspector::unhashed();
        while let Some(chunk) = incoming.blocking_recv() {
            inspect.update(&chunk)?;
        }
        Ok(inspect)
    });
    let mut done = 0;
    let mut next = Some(Ok(first));
    while let Some(chunk) = next {
        let chunk = chunk?;
        done += chunk.len() as u64;
        progress(done);
        if chunks.send(chunk).await.is_err() {
            break;
        }
        next = reader.next().await;
    }
    drop(chunks);
    measuring.await.map_err(|_| Error::BrokenOff)
}

/// Measures what is written to it and hands it on to the store.
struct LayerSink {
    inspect: LayerInspector,
    put: BlobWriter,
    progress: Told,
    /// Counts the bytes of a folder, in place of those that they are compressed to.
    unpacked: Option<Arc<AtomicU64>>,
    done: u64,
    /// Kept here, since `Write` has only `io::Error` to say it with.
    refused: Option<Rejection>,
}

enum Rejection {
    Layer(inspect::Error),
    Store(StoreError),
}

impl LayerSink {
    /// Takes all bytes of a file.
    fn fill(mut self, file: LayerFile) -> Result<Self, Error> {
        let what = file.what.clone();
        let read = file.read_to(|chunk| self.push(chunk));
        match (self.refused.take(), read) {
            (Some(Rejection::Layer(why)), _) => Err(Error::NoLayer { what, why }),
            (Some(Rejection::Store(why)), _) => Err(content::Error::from(why).into()),
            (None, read) => Ok(read.map(|()| self)?),
        }
    }

    fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Err(error) = self.inspect.update(&chunk) {
            return self.refuse(Rejection::Layer(error));
        }
        self.done = match &self.unpacked {
            Some(unpacked) => unpacked.load(Ordering::Relaxed),
            None => self.done + chunk.len() as u64,
        };
        (self.progress)(self.done);
        match self.put.write(chunk) {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(Rejection::Store(error)),
        }
    }

    fn refuse(&mut self, why: Rejection) -> io::Result<()> {
        self.refused = Some(why);
        Err(io::Error::other("refused"))
    }
}
