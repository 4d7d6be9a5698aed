//! Memory does not grow with the blob, nor with what has come and gone.

mod budget;
mod crowd;
mod rounds;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use crate::harness::{Serve, trials};
pub use budget::pulled;

/// Maximum memory of a node while it pulls or serves.
const BOUND: u64 = 150 << 20;
/// Memory is looked at whenever this much more of the body has come.
const SAMPLE: usize = 4 << 20;

pub fn trials() -> Vec<Trial> {
    let mut all = trials![a_large_blob_is_pulled_and_served_in_bounded_memory];
    all.extend(budget::trials());
    all.extend(crowd::trials());
    all.extend(rounds::trials());
    all
}

async fn a_large_blob_is_pulled_and_served_in_bounded_memory() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address()]);
    let (path, digest) = large_tar(source.data_dir(), size());
    let reference = source.ask(&["-q", "layer", "add", path.to_str().unwrap()]);
    fs::remove_file(path).unwrap();
    let name = reference.split_once('/').unwrap().1.rsplit_once(':').unwrap().0;
    let url = reader.url(&format!("/v2/{name}/blobs/{digest}"));
    for pull in ["cold", "stored"] {
        let mut response = reqwest::get(&url).await.unwrap();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut unsampled = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            hasher.update(&chunk);
            unsampled += chunk.len();
            if unsampled > SAMPLE {
                unsampled = 0;
                for (node, who) in [(&reader, "reader"), (&source, "source")] {
                    let now = node.rss_anon();
                    assert!(now <= BOUND, "{pull}: the {who} took {} MiB", now >> 20);
                }
            }
        }
        assert_eq!(hasher.finish(), digest, "{pull}");
    }
}

/// 1 GiB unless `OCIPFS_TEST_LARGE_MIB` says otherwise.
pub fn size() -> u64 {
    let mib = std::env::var("OCIPFS_TEST_LARGE_MIB").map_or(1024, |text| text.parse().unwrap());
    mib << 20
}

/// A tar of one file of `size` bytes, no two blocks of which are the same, and its digest.
pub fn large_tar(dir: &Path, size: u64) -> (PathBuf, Digest) {
    let path = dir.join("large.tar");
    let mut builder = tar::Builder::new(Hashed {
        file: BufWriter::with_capacity(1 << 20, File::create(&path).unwrap()),
        hasher: Hasher::new(Algorithm::Sha256),
    });
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    builder.append_data(&mut header, "data", Counter(0).take(size)).unwrap();
    let mut out = builder.into_inner().unwrap();
    out.flush().unwrap();
    (path, out.hasher.finish())
}

/// Counts up in words of 8 bytes: quick to make, and every MiB is another.
struct Counter(u64);

impl Read for Counter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for word in buffer.chunks_exact_mut(8) {
            word.copy_from_slice(&self.0.to_le_bytes());
            self.0 += 1;
        }
        Ok(buffer.len() / 8 * 8)
    }
}

struct Hashed {
    file: BufWriter<File>,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
