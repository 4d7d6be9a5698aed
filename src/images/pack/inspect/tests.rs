use bytes::Bytes;
use std::io::Write;

use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn tarball() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("a", "first ".repeat(300)), ("b", "second".repeat(500))] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18];
    frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

fn digest(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

fn measure(bytes: &[u8], piece: usize) -> Result<InspectedLayer, Error> {
    let mut inspector = LayerInspector::new();
    for piece in bytes.chunks(piece) {
        inspector.update(&Bytes::copy_from_slice(piece))?;
    }
    inspector.finish()
}

#[track_caller]
fn assert_layer(stored: &[u8], tar: &[u8], compression: Compression) {
    let expected = InspectedLayer {
        digest: digest(stored),
        diff_id: digest(tar),
        size: stored.len() as u64,
        compression,
    };
    for piece in [1, 7, 4096, usize::MAX] {
        assert_eq!(measure(stored, piece).unwrap(), expected);
    }
}

#[test]
fn the_diff_id_of_an_uncompressed_layer_is_its_digest() {
    assert_layer(&tarball(), &tarball(), Compression::None);
    assert_layer(&[0; 1024], &[0; 1024], Compression::None);
}

#[test]
fn a_gzip_layer_has_digest_and_diff_id() {
    assert_layer(&gzip(&tarball()), &tarball(), Compression::Gzip);
}

#[test]
fn a_layer_of_several_gzip_members_is_accepted() {
    let tar = tarball();
    let (start, end) = tar.split_at(700);
    let members = [gzip(start), gzip(&[]), gzip(end)].concat();
    assert_layer(&members, &tar, Compression::Gzip);
}

#[test]
fn a_layer_of_several_zstd_and_skippable_frames_is_accepted() {
    let tar = tarball();
    let (start, end) = tar.split_at(700);
    assert_layer(&zstd(&tar), &tar, Compression::Zstd);
    let frames =
        [skippable(b"first"), zstd(start), skippable(b""), zstd(end), skippable(b"table of contents")]
            .concat();
    assert_layer(&frames, &tar, Compression::Zstd);
}

#[test]
fn each_compression_has_its_media_type() {
    for (compression, expected) in [
        (Compression::None, "application/vnd.oci.image.layer.v1.tar"),
        (Compression::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (Compression::Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        assert_eq!(compression.media_type(), expected);
    }
}

#[test]
fn an_empty_layer_is_rejected() {
    let mut inspector = LayerInspector::new();
    inspector.update(&Bytes::new()).unwrap();
    assert!(matches!(inspector.finish(), Err(Error::Empty)));
}

#[test]
fn every_truncated_layer_is_rejected_as_truncated() {
    let tar = tarball();
    for (stored, compression) in [(gzip(&tar), Compression::Gzip), (zstd(&tar), Compression::Zstd)] {
        for length in 4..stored.len() {
            let error = measure(&stored[..length], usize::MAX).unwrap_err();
            assert!(
                matches!(error, Error::Truncated(found) if found == compression),
                "{compression} at {length}: {error}"
            );
        }
    }
}

#[test]
fn trailing_garbage_after_gzip_is_rejected() {
    for garbage in [&b"\0"[..], b"\x1f", b"garbage"] {
        let stored = [&gzip(&tarball())[..], garbage].concat();
        let error = measure(&stored, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::TrailingGarbage), "{error}");
    }
}

#[test]
fn trailing_garbage_after_zstd_is_rejected() {
    let stored = [&zstd(&tarball())[..], b"garbage"].concat();
    let error = measure(&stored, usize::MAX).unwrap_err();
    assert_eq!(error.to_string(), "the layer cannot be decompressed as zstd: Unknown frame descriptor");
}

#[test]
fn a_wrong_gzip_checksum_is_rejected() {
    let mut stored = gzip(&tarball());
    let crc = stored.len() - 8;
    stored[crc] ^= 1;
    let error = measure(&stored, usize::MAX).unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { compression, .. } if compression == Compression::Gzip),
        "{error}"
    );
}

#[test]
fn a_zstd_window_beyond_the_limit_is_rejected() {
    // A frame header alone: no single segment, a window of 2^(10 + 18) bytes.
    let stored = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3][..], &[0; 64]].concat();
    let error = measure(&stored, usize::MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the layer cannot be decompressed as zstd: Frame requires too much memory for decoding"
    );
}

#[test]
fn content_that_is_not_a_tar_is_rejected_in_every_compression() {
    let text = "no tar at all ".repeat(100);
    for stored in [
        text.as_bytes().to_vec(),
        gzip(text.as_bytes()),
        zstd(text.as_bytes()),
        gzip(b""),
        zstd(b""),
        skippable(b"nothing but this"),
        vec![0x1f],
    ] {
        let error = measure(&stored, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::NotTar), "{error}");
    }
}

#[test]
fn a_truncated_tar_is_rejected_in_every_compression() {
    let tar = &tarball()[..1000];
    for stored in [tar.to_vec(), gzip(tar), zstd(tar)] {
        let error = measure(&stored, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::PartialBlock(1000)), "{error}");
    }
}

#[test]
fn an_invalid_layer_is_rejected_before_its_end() {
    let mut inspector = LayerInspector::new();
    let error = loop {
        // More than the channel holds, so that the refusal has to come back this way.
        if let Err(error) = inspector.update(&Bytes::from_static(&[b'x'; 4096])) {
            break error;
        }
    };
    assert!(matches!(error, Error::NotTar), "{error}");
    assert!(matches!(inspector.update(&tarball().into()), Err(Error::Refused)));
    assert!(matches!(inspector.finish(), Err(Error::Refused)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_rejected_without_a_panic(
        magic in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let stored = [magic, &bytes[..]].concat();
        prop_assert!(measure(&stored, 64).is_err());
    }
}

#[test]
fn an_uncompressed_tar_is_recognized_by_its_first_block() {
    let mut header = tar::Header::new_ustar();
    header.set_size(700);
    header.set_cksum();
    let tar = [header.as_bytes().as_slice(), &[7; 1024], &[0; 1024]].concat();
    let digest = Digest::sha256_of(&tar);
    let layer = plain(&tar[..600], tar.len() as u64, &digest).unwrap().unwrap();
    assert_eq!((layer.digest, layer.diff_id, layer.size), (digest.clone(), digest.clone(), 2560));
    assert!(matches!(plain(&tar[..600], 2561, &digest), Err(Error::PartialBlock(2561))));
    assert!(matches!(plain(&[7; 600], 1024, &digest), Err(Error::NotTar)));
    for more_is_needed in [&tar[..511], &[0; 1024][..], &[0x1f, 0x8b, 8, 0]] {
        assert_eq!(plain(more_is_needed, 4096, &digest).unwrap(), None);
    }
}
