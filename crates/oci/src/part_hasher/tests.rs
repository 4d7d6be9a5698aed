use proptest::prelude::*;

use super::*;
use crate::digest::{Algorithm, Hasher};

fn input(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn check(bytes: &[u8], part: usize) {
    let mut hasher = PartHasher::default();
    for part in bytes.chunks(part) {
        assert_eq!(hasher.part(part), Digest::sha256_of(part), "part of {} bytes", part.len());
    }
    assert_eq!(
        hasher.finish(),
        Hasher::of(Algorithm::Sha256, bytes),
        "{} bytes in parts of {part}",
        bytes.len()
    );
}

#[test]
fn whole_and_parts_have_the_digests_of_two_passes() {
    let bytes = input(10_000);
    for length in (0..200).chain([255, 256, 1000, 4096, 10_000]) {
        for part in [64, 128, 4096, 1, 55, 100] {
            check(&bytes[..length], part);
        }
    }
}

#[test]
fn the_rounds_of_two_hashes_are_those_of_one() {
    let bytes = input(64 * 9);
    let blocks = bytes.as_chunks().0;
    let (mut one, mut other) = (START, START.map(|word| word.rotate_left(7)));
    let (mut expected_one, mut expected_other) = (one, other);
    rounds::compress_both(&mut one, &mut other, blocks);
    compress256(&mut expected_one, blocks);
    compress256(&mut expected_other, blocks);
    assert_eq!((one, other), (expected_one, expected_other));
}

proptest! {
    #[test]
    fn arbitrary_parts_have_the_digests_of_two_passes(bytes: Vec<u8>, part in 1_usize..300) {
        check(&bytes, part);
    }
}
