//! Blobs into the store and out of it: chunks, hashes, blocks on disk.
//!
//! `cargo bench --bench content`; the disk takes part, so compare runs on one machine only.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::stream;
use ocipfs::content::{Blob, Content, Profile, Reader, Settings, Stored};
use ocipfs_node::Node;
use ocipfs_oci::Digest;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SIZE: usize = 64 << 20;
const PIECE: usize = 1 << 20;

/// A node without a swarm, in a directory of its own.
async fn node() -> (TempDir, Content) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::open_offline(dir.path()).await.expect("a node");
    let content = Content::open_in(dir.path(), node, Settings::default()).await.expect("an index");
    (dir, content)
}

/// Counts up, so that no two blocks are the same.
fn blob() -> Bytes {
    (0..SIZE as u64 / 8).flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn put(content: &Content, blob: &Bytes, profile: Profile) -> Stored {
    let pieces = (0..SIZE).step_by(PIECE).map(|at| Ok(blob.slice(at..at + PIECE)));
    content.put(stream::iter(pieces), profile).await.expect("a file")
}

/// What is kept as verified, which a `GET` of a stored blob reads.
fn keep(content: &Content, bytes: &Bytes, stored: &Stored) -> Blob {
    let (digest, cid) = (Digest::sha256_of(bytes), stored.cid());
    let blob = Blob { digest, size: stored.size(), at: cid.into(), holder: cid };
    content.keep(&blob, cid, true).expect("an index");
    blob
}

async fn read(mut reader: Reader) -> usize {
    let mut length = 0;
    while let Some(bytes) = reader.next().await {
        length += bytes.expect("bytes").len();
    }
    length
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let blob = blob();
    let mut group = c.benchmark_group("content");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(10);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        group.bench_function(format!("put/{}", profile.as_str()), |b| {
            // What is stored already is not written again, so each round has a new directory.
            b.iter_batched(
                || runtime.block_on(node()),
                |(dir, content)| {
                    runtime.block_on(put(&content, &blob, profile));
                    (dir, content)
                },
                BatchSize::PerIteration,
            );
        });
        let (_dir, content) = runtime.block_on(node());
        let file = runtime.block_on(put(&content, &blob, profile));
        let kept = keep(&content, &blob, &file);
        group.bench_function(format!("open_at/{}", profile.as_str()), |b| {
            let open = async || read(content.open_at(&kept.at).await.expect("the file")).await;
            b.iter(|| black_box(runtime.block_on(open())));
        });
        group.bench_function(format!("open/{}", profile.as_str()), |b| {
            let open = async || read(content.open(&kept, 0..kept.size).await.expect("the blob")).await;
            b.iter(|| black_box(runtime.block_on(open())));
        });
    }
}

criterion_group!(all, benches);
criterion_main!(all);
