//! Blobs into the store and out of it: chunks, hashes, blocks on disk.
//!
//! `cargo bench --bench content`; the disk takes part, so compare runs on one machine only.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ocipfs::content::{Blob, BlobWriter, Content, Profile, Reader, Settings, Store};
use ocipfs_node::{Cid, Node};
use ocipfs_oci::Digest;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SIZE: usize = 64 << 20;
const PIECE: usize = 1 << 20;

/// A node without a swarm, in a directory of its own.
fn node() -> (TempDir, Content) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    let node = Node::offline(dir.path()).expect("a node");
    let content = Content::new(store, node, Settings::default()).expect("an index");
    (dir, content)
}

/// Counts up, so that no two blocks are the same.
fn blob() -> Bytes {
    (0..SIZE as u64 / 8).flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into()
}

fn put(content: &Content, blob: &Bytes, profile: Profile) -> Cid {
    let mut put = BlobWriter::new(content.store(), profile).expect("a draft");
    for at in (0..SIZE).step_by(PIECE) {
        put.write(blob.slice(at..at + PIECE)).expect("room");
    }
    put.store().expect("a file").0.root
}

fn blob_at(bytes: &Bytes, cid: Cid) -> Blob {
    Blob { digest: Digest::sha256_of(bytes), size: SIZE as u64, at: cid.into(), gc_root: Some(cid) }
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
                node,
                |(dir, content)| {
                    put(&content, &blob, profile);
                    (dir, content)
                },
                BatchSize::PerIteration,
            );
        });
        let (_dir, content) = node();
        let kept = blob_at(&blob, put(&content, &blob, profile));
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
