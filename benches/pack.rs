//! Layers as bytes: compressed, and measured for their manifest.
//!
//! `cargo bench --bench pack`; throughput counts the bytes that go in.

use std::{hint::black_box, io::Write, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ocipfs::images::pack::{gzip::GzipWriter, inspect::LayerInspector};

const SIZE: usize = 64 << 20;

/// A tar whose one file compresses about as well as programs do.
fn layer() -> Vec<u8> {
    let mut word = 0u64;
    let words = (0..SIZE / 16).flat_map(|i| {
        word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        [(word >> 32).to_le_bytes(), ((i % 512) as u64).to_le_bytes()].concat()
    });
    let data: Vec<u8> = words.collect();
    let mut builder = tar::Builder::new(Vec::with_capacity(SIZE + 4096));
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "data", data.as_slice()).expect("a tar");
    builder.into_inner().expect("a tar")
}

fn gzip(layer: &[u8]) -> Vec<u8> {
    let mut writer = GzipWriter::new(Vec::new());
    writer.write_all(layer).expect("memory");
    writer.finish().expect("memory")
}

fn measure(layer: &[u8]) -> u64 {
    let mut inspect = LayerInspector::new();
    for piece in layer.chunks(1 << 20) {
        inspect.update(&Bytes::copy_from_slice(piece)).expect("a layer");
    }
    inspect.finish().expect("a layer").size
}

fn benches(c: &mut Criterion) {
    let tar = layer();
    let gzipped = gzip(&tar);
    let mut group = c.benchmark_group("pack");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Bytes(tar.len() as u64));
    group.bench_function("gzip", |b| b.iter(|| black_box(gzip(&tar))));
    group.bench_function("inspect/tar", |b| b.iter(|| black_box(measure(&tar))));
    group.throughput(Throughput::Bytes(gzipped.len() as u64));
    group.bench_function("inspect/tar.gz", |b| b.iter(|| black_box(measure(&gzipped))));
}

criterion_group!(all, benches);
criterion_main!(all);
