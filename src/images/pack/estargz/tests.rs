use std::io::Cursor;

use flate2::bufread::{GzDecoder, MultiGzDecoder};
use serde_json::Value;

use super::*;

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A tar of these entries.
fn tar(entries: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    entries(&mut tar);
    tar.into_inner().unwrap()
}

fn file(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o640);
    header.set_uid(1000);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, name, bytes).unwrap();
}

fn link(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o777);
    tar.append_link(&mut header, name, target).unwrap();
}

fn write(tar: &[u8]) -> (Written, Vec<u8>) {
    super::write(tar, None, Vec::new()).unwrap()
}

/// The JSON of the table of contents, found by the footer as a snapshotter does.
fn toc(layer: &[u8]) -> Value {
    assert!(has_footer(layer));
    let footer = &layer[layer.len() - FOOTER_BYTES..];
    let at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    let mut member = Vec::new();
    GzDecoder::new(&layer[at..]).read_to_end(&mut member).unwrap();
    let mut tar = tar::Archive::new(&member[..]);
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path_bytes(), TOC_NAME.as_bytes());
    let mut json = String::new();
    entry.read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn entries(layer: &[u8]) -> Vec<Value> {
    toc(layer)["entries"].as_array().unwrap().clone()
}

/// The bytes of a file, read by the members that the table of contents names.
fn read(layer: &[u8], name: &str) -> Vec<u8> {
    let all = entries(layer);
    let size = all.iter().find(|entry| entry["name"] == name).unwrap()["size"].as_u64().unwrap_or(0);
    let mut bytes = Vec::new();
    for chunk in all.iter().filter(|entry| entry["name"] == name) {
        let number = |key: &str| chunk[key].as_u64().unwrap_or_default();
        assert_eq!(number("chunkOffset"), bytes.len() as u64);
        let length =
            if number("chunkSize") == 0 { size - number("chunkOffset") } else { number("chunkSize") };
        let mut part = Vec::new();
        GzDecoder::new(&layer[number("offset") as usize..]).take(length).read_to_end(&mut part).unwrap();
        assert_eq!(chunk["chunkDigest"], Digest::sha256_of(&part).to_string());
        bytes.extend(part);
    }
    let first = all.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(first["digest"], Digest::sha256_of(&bytes).to_string());
    bytes
}

fn gunzip(layer: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    MultiGzDecoder::new(layer).read_to_end(&mut tar).unwrap();
    tar
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut tar = tar::Archive::new(tar);
    let entries = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    entries.collect()
}

fn example() -> Vec<u8> {
    tar(|tar| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        tar.append_data(&mut header, "data/", &b""[..]).unwrap();
        file(tar, "data/small", b"small");
        file(tar, "data/empty", b"");
        file(tar, "data/large", &noise(3 * CHUNK_BYTES as usize + 7));
        file(tar, "data/even", &noise(2 * CHUNK_BYTES as usize));
        link(tar, EntryType::Symlink, "data/link", "small");
        link(tar, EntryType::Link, "data/hard", "data/small");
    })
}

#[test]
fn estargz_files_are_read_by_the_table_of_contents() {
    let (written, layer) = write(&example());
    assert_eq!(read(&layer, "data/small"), b"small");
    assert_eq!(read(&layer, "data/large"), noise(3 * CHUNK_BYTES as usize + 7));
    assert_eq!(read(&layer, "data/even"), noise(2 * CHUNK_BYTES as usize));
    assert_eq!(read(&layer, NO_PREFETCH_LANDMARK), LANDMARK);
    let all = entries(&layer);
    let small = all.iter().find(|entry| entry["name"] == "data/small").unwrap();
    assert_eq!((&small["mode"], &small["uid"]), (&0o640.into(), &1000.into()));
    assert_eq!(small["modtime"], "2023-11-14T22:13:20Z");
    let of = |name: &str| all.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(
        (&of("data/link")["type"], &of("data/link")["linkName"]),
        (&"symlink".into(), &"small".into())
    );
    assert_eq!(of("data/hard")["linkName"], "data/small");
    assert_eq!(of("data/empty").get("offset"), None);
    assert_eq!(of("data/")["type"], "dir");
    let tar = gunzip(&layer);
    assert_eq!(written.diff_id, Digest::sha256_of(&tar));
    assert_eq!(written.uncompressed_size, tar.len() as u64);
}

#[test]
fn estargz_keeps_the_headers_of_the_tar_and_the_order_of_its_entries() {
    let before = example();
    let tar = gunzip(&write(&before).1);
    // The landmark is a header and a block.
    let kept = before.len() - END.len();
    assert!(tar[2 * 512..2 * 512 + kept] == before[..kept]);
    let expected = [&[NO_PREFETCH_LANDMARK.to_owned()], &names(&before)[..], &[TOC_NAME.to_owned()]].concat();
    assert_eq!(names(&tar), expected);
}

#[test]
fn the_output_of_ocipfs_estargz_1_is_stable() {
    assert_eq!(ENCODER, "ocipfs-estargz-1");
    let (written, layer) = write(&example());
    insta::assert_debug_snapshot!((Digest::sha256_of(&layer), layer.len(), written));
    let (_, empty) = write(&tar(|_| {}));
    insta::assert_debug_snapshot!((Digest::sha256_of(&empty), empty.len()));
}

#[test]
fn an_estargz_layer_that_is_converted_again_stays_the_same() {
    let (written, layer) = write(&example());
    assert_eq!(write(&gunzip(&layer)), (written, layer));
}

#[test]
fn of_an_entry_that_comes_twice_an_estargz_layer_has_the_last() {
    let bytes = tar(|tar| {
        file(tar, "a", b"first");
        file(tar, "b", b"b");
        file(tar, "./a", b"second");
    });
    assert!(matches!(super::write(&bytes[..], None, Vec::new()), Err(Error::Repeated(name)) if name == "a"));
    let repeated = repeated(&bytes[..]).unwrap();
    let (_, layer) = super::write(&bytes[..], Some(&repeated), Vec::new()).unwrap();
    let expected = [NO_PREFETCH_LANDMARK, "b", "a", TOC_NAME];
    assert_eq!(names(&gunzip(&layer)), expected);
    assert_eq!(read(&layer, "a"), b"second");
}

#[test]
fn long_names_and_attributes_are_in_the_table_of_contents() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let mut bytes = tar(|tar| {
        file(tar, &long, b"long");
        link(tar, EntryType::Symlink, "link", &long);
    });
    bytes.truncate(bytes.len() - END.len());
    // A value with a line feed, and a time with a fraction.
    let records = b"40 SCHILY.xattr.user.x=one\ntwo\0three!!!\n22 mtime=1700000000.5\n";
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(records);
    bytes.extend_from_slice(padding(records.len() as u64));
    bytes.extend(tar(|tar| file(tar, "attributes", b"x")));
    let (_, layer) = write(&bytes);
    assert_eq!(read(&layer, &long), b"long");
    let all = entries(&layer);
    let of = |name: &str| all.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(of("link")["linkName"], long);
    assert_eq!(of("attributes")["xattrs"]["user.x"], "b25lCnR3bwB0aHJlZSEhIQ==");
    assert_eq!(of("attributes")["modtime"], "2023-11-14T22:13:21Z");
}

#[test]
fn what_a_table_of_contents_cannot_say_is_unsupported() {
    let header = |kind: EntryType, name: &[u8], size: u64| {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let global = b"13 path=a/bc\n";
    let large = [header(EntryType::XHeader, b"x", 2 << 20), vec![b'1'; 2 << 20]].concat();
    for (bytes, why) in [
        (header(EntryType::Regular, b"\xff\xfe", 0), "UTF-8"),
        (header(EntryType::GNUSparse, b"sparse", 0), "unsupported kind"),
        (header(EntryType::Continuous, b"x", 0), "unsupported kind"),
        (header(EntryType::Link, b"x", 0), "hard link"),
        ([&header(EntryType::XGlobalHeader, b"g", 13)[..], &global[..], padding(13)].concat(), "global"),
        (large, "too large"),
    ] {
        let refused = super::write(&bytes[..], None, Vec::new()).unwrap_err();
        assert!(matches!(&refused, Error::Unsupported(text) if text.contains(why)), "{why}: {refused}");
    }
}

#[test]
fn a_damaged_tar_never_becomes_a_layer() {
    let whole = example();
    for bytes in [&whole[..700], &whole[..2 << 20], &[&whole[..512], &[7; 512]].concat()[..]] {
        let refused = super::write(Cursor::new(bytes), None, Vec::new()).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_tars_do_not_panic(bytes: Vec<u8>, kind: u8, size in 0u64..2000) {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        let _ = super::write(&[header.as_bytes(), &bytes[..]].concat()[..], None, Vec::new());
    }
}
