use std::{
    io::Read,
    sync::{Arc, Mutex},
};

use flate2::read::GzDecoder;

use super::*;

/// The written bytes of a writer that fails after so many bytes.
#[derive(Clone)]
struct Sink {
    written: Arc<Mutex<Vec<u8>>>,
    limit: usize,
}

impl Sink {
    fn new(limit: usize) -> Self {
        Self { written: Arc::default(), limit }
    }

    fn bytes(&self) -> Vec<u8> {
        self.written.lock().unwrap().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.lock().unwrap();
        match written.len() + bytes.len() > self.limit {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => {
                written.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn long() -> String {
    format!("blobs/sha512/{}", "0".repeat(128))
}

async fn fill(target: &mut ExportTarget) -> io::Result<()> {
    for (path, bytes) in [("one", &b"1"[..]), ("a/two", &[2; 512]), ("none", b""), (&long(), &[4; 3_000_000])]
    {
        target.file(path, bytes.len() as u64).await?;
        target.write(Bytes::copy_from_slice(bytes)).await?;
    }
    Ok(())
}

fn entries(tar: impl Read) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().display().to_string(), entry.size())
    });
    entries.collect()
}

#[tokio::test]
async fn an_exported_tar_has_the_same_entries_in_a_file_and_a_stream_however_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let expected = [("one", 1), ("a/two", 512), ("none", 0), (&long(), 3_000_000)]
        .map(|(path, size)| (path.to_string(), size));
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let path = dir.path().join(format!("{compression:?}.tar"));
        let sink = Sink::new(usize::MAX);
        for dest in [Dest::File(path.clone(), compression), Dest::Stream(Box::new(sink.clone()), compression)]
        {
            let mut target = ExportTarget::create(dest).unwrap();
            fill(&mut target).await.unwrap();
            target.finish().await.unwrap();
        }
        let file = fs::read(&path).unwrap();
        assert!(file == sink.bytes(), "{compression:?}");
        let found = match compression {
            Compression::None => entries(&file[..]),
            Compression::Gzip => entries(GzDecoder::new(&file[..])),
            Compression::Zstd => entries(zstd::Decoder::new(&file[..]).unwrap()),
        };
        assert_eq!(found, expected, "{compression:?}");
    }
}

#[tokio::test]
async fn an_unfinished_export_leaves_no_files_and_no_tar_that_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut target = ExportTarget::create(Dest::File(path.clone(), compression)).unwrap();
        fill(&mut target).await.unwrap();
        target.abandon().await;
        assert!(!path.exists(), "{compression:?}");
        let sink = Sink::new(usize::MAX);
        let mut target = ExportTarget::create(Dest::Stream(Box::new(sink.clone()), compression)).unwrap();
        fill(&mut target).await.unwrap();
        target.abandon().await;
        let written = sink.bytes();
        let is_ended = match compression {
            // A tar ends with 1,024 zeros.
            Compression::None => written.ends_with(&[0; 1024]),
            Compression::Gzip => GzDecoder::new(&written[..]).read_to_end(&mut Vec::new()).is_ok(),
            Compression::Zstd => zstd::decode_all(&written[..]).is_ok(),
        };
        assert!(!is_ended, "{compression:?}");
    }
    let mut target = ExportTarget::create(Dest::Folder(path.clone())).unwrap();
    fill(&mut target).await.unwrap();
    target.abandon().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_export_to_a_full_disk_fails() {
    for limit in [0, 2_000_000] {
        let dest = Dest::Stream(Box::new(Sink::new(limit)), Compression::None);
        let mut target = ExportTarget::create(dest).unwrap();
        let filled = fill(&mut target).await;
        let error = match filled {
            Ok(()) => target.finish().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn an_export_replaces_no_file_and_no_folder_that_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("taken"), b"").unwrap();
    for dest in
        [Dest::File(dir.path().join("taken"), Compression::None), Dest::Folder(dir.path().to_path_buf())]
    {
        let error = ExportTarget::create(dest).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
