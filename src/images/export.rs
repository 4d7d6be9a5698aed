//! Where an image is written to: a layout folder, or a tar of one, which is a docker archive with one file more.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    str::FromStr,
    thread,
};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Index, Manifest};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::archive::blob_path;

/// The file of every layout that says so.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Chunks that wait for the disk.
const QUEUE_LENGTH: usize = 16;

/// Format of an exported image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// A tar of one.
    OciArchive,
    /// A tar of one with `manifest.json`, which every `docker load` and `podman load` reads.
    DockerArchive,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "oci-archive" => Ok(Self::OciArchive),
            "docker-archive" => Ok(Self::DockerArchive),
            _ => Err(format!("unknown format {text:?}: expected `oci`, `oci-archive` or `docker-archive`")),
        }
    }
}

impl Format {
    /// Returns the format that is usual for a file name.
    pub fn of(dest: &Path) -> Self {
        let name = dest.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        match name.as_str() {
            name if name.ends_with(".oci.tar") || name.ends_with(".oci") => Self::OciArchive,
            name if name.ends_with(".tar") => Self::DockerArchive,
            _ => Self::Oci,
        }
    }
}

/// The `index.json` of one image that is called so.
pub fn index(top: &Descriptor, name: &str, tag: Option<&str>) -> Result<Vec<u8>, serde_json::Error> {
    let mut entry = top.clone();
    if let Some(tag) = tag {
        entry.annotations.insert(REF_NAME.into(), tag.into());
        entry.annotations.insert(IMAGE_NAME.into(), format!("docker.io/{}:{tag}", full(name)));
    }
    serde_json::to_vec(&Index::new(vec![entry]))
}

/// Docker's name of a repository without a user.
fn full(name: &str) -> String {
    if name.contains('/') { name.into() } else { format!("library/{name}") }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The `manifest.json` of one image.
pub fn docker_manifest(manifest: &Manifest, name: Option<String>) -> Result<Vec<u8>, serde_json::Error> {
    let layers = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
    let config = blob_path(&manifest.config.digest);
    serde_json::to_vec(&[DockerImage { config, repo_tags: name.into_iter().collect(), layers }])
}

/// An archive that is being written by a thread of its own; dropped before its end, it leaves nothing.
pub struct ExportTarget {
    orders: mpsc::Sender<ExportOrder>,
    outcome: oneshot::Receiver<io::Result<()>>,
}

/// What an [`ExportTarget`] is told to do.
pub enum ExportOrder {
    /// Begin a file.
    File {
        /// Its path in the layout.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// Write the next bytes of the file.
    Bytes(Bytes),
    /// Complete the archive.
    Finish,
}

/// The other end of an [`ExportTarget`], which carries out its orders.
pub struct ExportOrders {
    orders: mpsc::Receiver<ExportOrder>,
    /// None once the export has ended.
    tell: Option<oneshot::Sender<io::Result<()>>>,
}

impl ExportOrders {
    /// Waits for the next order; for ever where the export has ended or is abandoned.
    pub async fn next(&mut self) -> ExportOrder {
        if let (Some(order), true) = (self.orders.recv().await, self.tell.is_some()) {
            return order;
        }
        self.tell = None;
        std::future::pending().await
    }

    /// Ends the export, which is complete or failed.
    pub fn end(&mut self, outcome: io::Result<()>) {
        self.orders.close();
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(outcome);
        }
    }
}

impl ExportTarget {
    /// Makes `dest`, which must not be there, or be an empty folder.
    pub fn create(format: Format, dest: &Path) -> io::Result<Self> {
        let mut sink = match format {
            Format::Oci => ExportSink::folder(dest)?,
            Format::OciArchive | Format::DockerArchive => ExportSink::tar(dest)?,
        };
        let (target, mut received) = Self::remote();
        let dest = dest.to_path_buf();
        let write = move || {
            let mut written = Err(io::Error::other("export aborted"));
            while let Some(order) = received.orders.blocking_recv() {
                let done = match order {
                    ExportOrder::File { path, size } => sink.file(&path, size),
                    ExportOrder::Bytes(bytes) => sink.write(&bytes),
                    ExportOrder::Finish => {
                        written = sink.finish();
                        break;
                    }
                };
                if let Err(error) = done {
                    written = Err(error);
                    break;
                }
            }
            if written.is_err() {
                let _ = match format {
                    Format::Oci => fs::remove_dir_all(&dest),
                    _ => fs::remove_file(&dest),
                };
            }
            received.end(written);
        };
        thread::Builder::new().name("export".into()).spawn(write)?;
        Ok(target)
    }

    /// A target whose orders are carried out elsewhere.
    pub fn remote() -> (Self, ExportOrders) {
        let (orders, received) = mpsc::channel(QUEUE_LENGTH);
        let (tell, outcome) = oneshot::channel();
        (Self { orders, outcome }, ExportOrders { orders: received, tell: Some(tell) })
    }

    /// Begins a file of so many bytes.
    pub async fn file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.order(ExportOrder::File { path: path.into(), size }).await
    }

    /// The next bytes of it.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.order(ExportOrder::Bytes(bytes)).await
    }

    /// Waits until all of it is on the disk.
    pub async fn finish(mut self) -> io::Result<()> {
        self.order(ExportOrder::Finish).await?;
        self.outcome.await.unwrap_or_else(|_| Err(io::Error::other("export aborted")))
    }

    /// Waits until nothing of it is left.
    pub async fn abandon(self) {
        drop(self.orders);
        let _ = self.outcome.await;
    }

    async fn order(&mut self, order: ExportOrder) -> io::Result<()> {
        match self.orders.send(order).await {
            Ok(()) => Ok(()),
            Err(_) => match (&mut self.outcome).await {
                Ok(Err(error)) => Err(error),
                _ => Err(io::Error::other("export aborted")),
            },
        }
    }
}

enum ExportSink {
    Folder {
        dir: PathBuf,
        open: Option<BufWriter<File>>,
    },
    /// With what is missing of the last file's last block.
    Tar {
        tar: tar::Builder<BufWriter<File>>,
        padding: usize,
    },
}

impl ExportSink {
    fn folder(dir: &Path) -> io::Result<Self> {
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty")),
            Err(_) => fs::create_dir(dir)?,
        }
        Ok(Self::Folder { dir: dir.into(), open: None })
    }

    fn tar(dest: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create_new(dest)?);
        Ok(Self::Tar { tar: tar::Builder::new(file), padding: 0 })
    }

    fn file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.end_file()?;
        match self {
            Self::Folder { dir, open } => {
                let full = dir.join(path);
                full.parent().map_or(Ok(()), fs::create_dir_all)?;
                *open = Some(BufWriter::with_capacity(1 << 20, File::create_new(full)?));
            }
            Self::Tar { tar, padding } => {
                let mut header = tar::Header::new_ustar();
                header.set_path(path)?;
                header.set_size(size);
                header.set_mode(0o644);
                header.set_mtime(0);
                header.set_entry_type(tar::EntryType::Regular);
                header.set_cksum();
                tar.append(&header, io::empty())?;
                *padding = (512 - size as usize % 512) % 512;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder { open: Some(file), .. } => file.write_all(bytes),
            Self::Folder { .. } => Ok(()),
            Self::Tar { tar, .. } => tar.get_mut().write_all(bytes),
        }
    }

    fn end_file(&mut self) -> io::Result<()> {
        match self {
            Self::Folder { open, .. } => match open.take() {
                Some(file) => file.into_inner().map_err(|e| e.into_error())?.sync_all(),
                None => Ok(()),
            },
            Self::Tar { tar, padding } => {
                let missing = std::mem::take(padding);
                tar.get_mut().write_all(&[0; 512][..missing])
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.end_file()?;
        match self {
            Self::Folder { .. } => Ok(()),
            Self::Tar { tar, .. } => tar.into_inner()?.into_inner().map_err(|e| e.into_error())?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_format_is_chosen_by_file_extension() {
        for (dest, format) in [
            ("/x/foo", Format::Oci),
            ("/x/foo.tar", Format::DockerArchive),
            ("/x/foo.oci.tar", Format::OciArchive),
            ("/x/FOO.OCI", Format::OciArchive),
            ("/", Format::Oci),
        ] {
            assert_eq!(Format::of(Path::new(dest)), format, "{dest}");
        }
    }

    #[tokio::test]
    async fn an_unfinished_export_leaves_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("a.tar");
        let mut target = ExportTarget::create(Format::OciArchive, &dest).unwrap();
        for (path, bytes) in [("one", &b"1"[..]), ("a/two", &[2; 512]), ("none", b"")] {
            target.file(path, bytes.len() as u64).await.unwrap();
            target.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        }
        target.finish().await.unwrap();
        let mut archive = tar::Archive::new(File::open(&dest).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.size())
        });
        let expected = [("one", 1), ("a/two", 512), ("none", 0)];
        assert_eq!(entries.collect::<Vec<_>>(), expected.map(|(path, size)| (path.to_string(), size)));
        let taken = ExportTarget::create(Format::OciArchive, &dest).map(drop).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert!(ExportTarget::create(Format::Oci, dir.path()).is_err(), "it is not empty");
        let half = dir.path().join("half");
        let target = ExportTarget::create(Format::Oci, &half).unwrap();
        let ExportTarget { orders, outcome } = target;
        drop(orders);
        assert!(outcome.await.unwrap().is_err() && !half.exists());
    }
}
