use std::io::{Read, Write};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

/// Bytes that compress, but not to nothing: words chosen by a small generator.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 4 {
            0 => bytes.extend_from_slice(&state.to_le_bytes()),
            1 => bytes.extend_from_slice(b"usr/share/doc/"),
            _ => bytes.extend_from_slice(&[state as u8 & 0x0f; 5]),
        }
    }
    bytes.truncate(length);
    bytes
}

fn gzip(input: &[u8], threads: usize, block: usize, write: usize) -> Vec<u8> {
    let mut writer = GzipWriter::with_shape(Vec::new(), threads, block);
    for chunk in input.chunks(write) {
        writer.write_all(chunk).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads with a decoder of one member, and checks that nothing follows it.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut output = Vec::new();
    decoder.read_to_end(&mut output).unwrap();
    assert!(decoder.into_inner().is_empty());
    output
}

#[test]
fn the_gzip_output_of_ocipfs_gzip_2_is_stable() {
    assert_eq!(ENCODER, "ocipfs-gzip-2");
    for (length, expected) in [
        (0, "ac73670af3abed54ac6fb4695131f4099be9fbe39d6076c5d0264a6bbdae9d83"),
        (1, "bcce2674eb8c12f9b525c76dcfdda07fdfef556a950f9927a66b93b808da4ee4"),
        (BLOCK, "6724535e6f1ada5355c836ceb2666a9ee3f74cbf5e4181b250ead1b54cbdb44f"),
        (3 << 20, "fa9be3769b69df1bf826ce2eb6e79845c31bbe974a74d374550e22be40703821"),
        ((3 << 20) + 12345, "811a94110eddda06b3319d232db91df7e2345a1386a549b57e14acef3d3c1cc2"),
    ] {
        let packed = gzip(&pattern(length), 2, BLOCK, 1 << 16);
        let digest = hex::encode(Sha256::digest(&packed));
        assert_eq!(digest, expected, "{length} bytes");
    }
}

#[test]
fn gzip_output_does_not_depend_on_the_number_of_threads() {
    let input = pattern((5 << 20) + 1);
    let one = gzip(&input, 1, BLOCK, 1 << 16);
    assert_eq!(one, gzip(&input, 8, BLOCK, 1 << 20));

    let mut writer = GzipWriter::new(Vec::new());
    writer.write_all(&input).unwrap();
    assert_eq!(one, writer.finish().unwrap());
}

#[test]
fn a_flush_does_not_change_the_gzip_output() {
    let input = pattern(100_000);
    let mut writer = GzipWriter::new(Vec::new());
    for chunk in input.chunks(999) {
        writer.write_all(chunk).unwrap();
        writer.flush().unwrap();
    }
    assert_eq!(writer.finish().unwrap(), gzip(&input, 1, BLOCK, 1 << 16));
}

#[test]
fn incompressible_bytes_round_trip_through_gzip() {
    let mut input = Vec::new();
    for seed in 0..100_000_u32 {
        input.extend_from_slice(&Sha256::digest(seed.to_le_bytes()));
    }
    let packed = gzip(&input, 4, BLOCK, 1 << 16);
    assert!(packed.len() > input.len());
    assert_eq!(gunzip(&packed), input);
}

#[test]
fn a_dropped_gzip_writer_leaves_no_complete_member() {
    let mut output = Vec::new();
    let mut writer = GzipWriter::with_shape(&mut output, 1, 1000);
    writer.write_all(&pattern(10_000)).unwrap();
    drop(writer);
    assert!(output.starts_with(&HEADER));
    let mut decoder = GzDecoder::new(&output[..]);
    assert!(decoder.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn an_error_of_the_inner_writer_is_returned() {
    let mut room = [0_u8; 100];
    let mut writer = GzipWriter::with_shape(&mut room[..], 1, 1000);
    writer.write_all(&pattern(500)).unwrap();
    assert_eq!(writer.finish().map(drop).unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn the_gzip_tool_reads_the_output() {
    let spawned = Command::new("gzip").arg("-t").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut tool) = spawned else {
        return; // No such tool here.
    };
    let packed = gzip(&pattern((2 << 20) + 7), 2, BLOCK, 1 << 16);
    tool.stdin.take().unwrap().write_all(&packed).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

proptest! {
    #[test]
    fn gzip_round_trip_is_independent_of_write_sizes(
        input in prop::collection::vec(0_u8..8, 0..5000),
        threads in 1_usize..5,
        block in 1_usize..700,
        write in 1_usize..2000,
    ) {
        let packed = gzip(&input, threads, block, write);
        prop_assert_eq!(&packed, &gzip(&input, 1, block, 5000));
        prop_assert_eq!(gunzip(&packed), input);
    }
}
