//! Files, folders and layers on IPFS become a layer manifest, in one pass over the bytes of each.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Platform};
use tokio::sync::mpsc;

use super::{Layer, LayerDocument, LayerManifest};
use crate::{
    content::{self, BlobWriter, CidPath, Content, Document, Profile, Reader, StoreError, WrittenBlob},
    images::pack::{
        folder,
        gzip::GzipWriter,
        inspect::{self, InspectedLayer as Measured, LayerInspector},
    },
};

const CHUNK: usize = 1 << 20;
/// Chunks between the stream and the thread that measures it.
const QUEUE_LENGTH: usize = 8;

/// Why no layer was added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// Path as given.
        path: PathBuf,
        /// Error of the operating system.
        why: String,
    },
    /// The path's last component cannot name a layer.
    #[error("invalid layer path {}: expected a last component in UTF-8", .0.display())]
    Name(PathBuf),
    /// The folder cannot be packed.
    #[error(transparent)]
    Pack(#[from] folder::Error),
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
}

/// Where a layer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A tar, compressed or not, or a folder.
    Path(PathBuf),
    /// A file that is on IPFS already.
    Ipfs(CidPath),
}

/// How a layer is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other than linux/amd64.
    pub platform: Option<Platform>,
    /// The time of every file in a packed folder, in seconds since 1970.
    pub epoch: u64,
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

/// Told how many bytes have been read so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// The progress of one layer.
type Told = Box<dyn FnMut(u64) + Send>;

/// A layer that was read whole, and what is yet to be stored of it.
struct ReadLayer {
    layer: Measured,
    at: CidPath,
    file: Cid,
    unstored: Option<(WrittenBlob, Document)>,
}

/// Stores layers, the lowest first, and their manifest, and holds them all. Where one is refused, none is stored.
pub async fn add(
    content: &Content,
    sources: Vec<Source>,
    options: Options,
    progress: Progress,
) -> Result<Added, Error> {
    let _storing = content.gc_guard().await;
    let (mut taken, mut before) = (Vec::new(), 0);
    for source in sources {
        let (progress, start) = (progress.clone(), before);
        let told: Told = Box::new(move |done| progress(start + done));
        let next = match source {
            Source::Path(path) => read_layer(content, path, &options, told).await?,
            Source::Ipfs(at) => measure(content, at, told).await?,
        };
        before += next.layer.size;
        taken.push(next);
    }
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
        content.keep(&layer.blob(cid), file, true).await?;
    }
    Ok(Added { cid, manifest, has_zstd })
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
    path: PathBuf,
    options: &Options,
    progress: Told,
) -> Result<ReadLayer, Error> {
    let is_dir = fs::metadata(&path).map_err(|e| read(&path, e))?.is_dir();
    let name = name_of(&path, is_dir)?;
    let (content, epoch, profile) = (content.clone(), options.epoch, options.profile);
    let taking = move || {
        let put = BlobWriter::unhashed(content.store(), profile).map_err(content::Error::from)?;
        let mut sink = LayerSink { inspect: LayerInspector::new(), put, progress, done: 0, refused: None };
        if is_dir { sink.folder(&path, epoch) } else { sink.file(&path) }?;
        let LayerSink { inspect, put, .. } = sink;
        let layer =
            inspect.finish().map_err(|why| Error::NoLayer { what: path.display().to_string(), why })?;
        let written = put.finish().map_err(content::Error::from)?;
        let file = written.root.cid;
        let directory = Document::directory(&name, &written.root, profile);
        let at = CidPath::in_directory(directory.root.cid, &name).map_err(|_| Error::Name(name.into()))?;
        Ok(ReadLayer { layer, at, file, unstored: Some((written, directory)) })
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
            return Ok(ReadLayer { layer, at, file, unstored: None });
        }
    }
    let inspect = unpack(first, reader, progress).await?.map_err(no_layer)?;
    let digest = content.digest_of(&file).await?;
    let layer = inspect.finish_as(digest).map_err(no_layer)?;
    Ok(ReadLayer { layer, at, file, unstored: None })
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

fn read(path: &Path, error: io::Error) -> Error {
    Error::Read { path: path.into(), why: error.to_string() }
}

fn name_of(path: &Path, is_dir: bool) -> Result<String, Error> {
    // `.` and `..` name a folder by what it is called where it is.
    let full = fs::canonicalize(path).map_err(|e| read(path, e))?;
    let path = if is_dir { full.as_path() } else { path };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::Name(path.into()))?;
    Ok(if is_dir { format!("{name}.tar.gz") } else { name.into() })
}

/// Measures what is written to it and hands it on to the store.
struct LayerSink {
    inspect: LayerInspector,
    put: BlobWriter,
    progress: Told,
    done: u64,
    /// Kept here, since `Write` has only `io::Error` to say it with.
    refused: Option<Rejection>,
}

enum Rejection {
    Layer(inspect::Error),
    Store(StoreError),
}

impl LayerSink {
    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let mut file = fs::File::open(path).map_err(|e| read(path, e))?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let length = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).map_err(|e| read(path, e))?;
            if length == 0 {
                return Ok(());
            }
            self.push(chunk.into()).map_err(|_| self.reason(path))?;
        }
    }

    fn folder(&mut self, path: &Path, epoch: u64) -> Result<(), Error> {
        let mut gzip = GzipWriter::new(io::BufWriter::with_capacity(CHUNK, &mut *self));
        let packed = folder::pack(path, epoch, &mut gzip);
        let flushed = packed.map_err(Error::from).and_then(|()| {
            let flush = gzip.finish().and_then(|mut out| out.flush());
            flush.map_err(|e| Error::Pack(folder::Error::Write(e)))
        });
        match self.refused {
            Some(_) => Err(self.reason(path)),
            None => flushed,
        }
    }

    fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Err(error) = self.inspect.update(&chunk) {
            return self.refuse(Rejection::Layer(error));
        }
        self.done += chunk.len() as u64;
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

    fn reason(&mut self, path: &Path) -> Error {
        match self.refused.take() {
            Some(Rejection::Layer(why)) => Error::NoLayer { what: path.display().to_string(), why },
            Some(Rejection::Store(why)) => content::Error::from(why).into(),
            None => Error::BrokenOff,
        }
    }
}

impl Write for &mut LayerSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(Bytes::copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
