use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn put(dir: &TempDir, name: impl AsRef<Path>, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn put_folder(dir: &TempDir, name: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn packed(dir: &TempDir) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(dir.path(), 0, &mut bytes).unwrap();
    bytes
}

/// Entry as a tar reader finds it.
#[derive(Debug, PartialEq)]
struct Found {
    name: Vec<u8>,
    kind: EntryType,
    mode: u32,
    link: Vec<u8>,
    content: Vec<u8>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads the records here, because the tar crate ends each one at the first newline.
fn read(bytes: &[u8]) -> Vec<Found> {
    let mut archive = tar::Archive::new(bytes);
    let mut records = BTreeMap::new();
    let mut found = Vec::new();
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        if header.entry_type() == EntryType::XHeader {
            records = parse_records(&content);
            continue;
        }
        let old = header.as_old();
        let field = |field: &[u8]| field.split(|byte| *byte == 0).next().unwrap().to_vec();
        let or_record = |key: &[u8], value| records.get(key).cloned().unwrap_or(field(value));
        found.push(Found {
            name: or_record(b"path", &old.name),
            kind: header.entry_type(),
            mode: header.mode().unwrap(),
            link: or_record(b"linkpath", &old.linkname),
            content,
            records: std::mem::take(&mut records),
        });
    }
    found
}

fn parse_records(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").unwrap();
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        bytes = rest;
    }
    records
}

fn names(bytes: &[u8]) -> Vec<String> {
    let name = |found: Found| String::from_utf8(found.name).unwrap();
    read(bytes).into_iter().map(name).collect()
}

#[test]
fn an_empty_folder_is_two_blocks_of_zeros() {
    assert_eq!(packed(&TempDir::new().unwrap()), [0; 1024]);
}

#[test]
fn tar_entries_are_sorted_by_the_bytes_of_their_paths() {
    let dir = TempDir::new().unwrap();
    for name in ["b", "a/z", "a", "a/b/c"] {
        put_folder(&dir, name, 0o755);
    }
    for name in ["a.txt", "a-1", "a/b.txt", "B", "é"] {
        put(&dir, name, b"", 0o644);
    }
    let expected = ["B", "a/", "a-1", "a.txt", "a/b/", "a/b.txt", "a/b/c/", "a/z/", "b/", "é"];
    assert_eq!(names(&packed(&dir)), expected);
}

#[test]
fn owners_and_mtimes_of_the_host_are_not_packed() {
    let dir = TempDir::new().unwrap();
    put(&dir, "file", b"content", 0o644);
    let mut bytes = Vec::new();
    pack(dir.path(), 1_700_000_000, &mut bytes).unwrap();
    let header = tar::Header::from_byte_slice(&bytes[..512]);
    assert_eq!(header.mtime().unwrap(), 1_700_000_000);
    assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
    assert_eq!(header.username_bytes(), Some(&b""[..]));
    assert_eq!(header.groupname_bytes(), Some(&b""[..]));
}

#[test]
fn modes_are_kept_with_their_special_bits() {
    let dir = TempDir::new().unwrap();
    for mode in [0o400, 0o644, 0o755, 0o4755, 0o2755, 0o7777] {
        put(&dir, format!("{mode:04o}"), b"", mode);
    }
    put_folder(&dir, "tmp", 0o1777);
    for found in read(&packed(&dir)) {
        let name = String::from_utf8(found.name).unwrap();
        let expected = u32::from_str_radix(&name, 8).unwrap_or(0o1777);
        assert_eq!(found.mode, expected, "{name}");
    }
}

#[test]
fn symbolic_links_are_kept_and_not_followed() {
    let dir = TempDir::new().unwrap();
    let far = "far/".repeat(60);
    for (name, target) in [("dangling", "nowhere"), ("loop", "loop"), ("long", &far)] {
        symlink(target, dir.path().join(name)).unwrap();
    }
    symlink("/", dir.path().join("root")).unwrap();
    let found = read(&packed(&dir));
    let links: Vec<_> = found.iter().map(|found| &found.link[..]).collect();
    assert_eq!(links, [&b"nowhere"[..], far.as_bytes(), b"loop", b"/"]);
    assert!(found.iter().all(|found| found.kind == EntryType::Symlink));
}

#[test]
fn hard_links_within_a_folder_are_packed_as_hard_links() {
    let dir = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    let file = put(&dir, "m", b"content", 0o644);
    fs::hard_link(&file, dir.path().join("z")).unwrap();
    fs::hard_link(&file, dir.path().join("a")).unwrap();
    let other = put(&dir, "zz", b"shared with the outside", 0o644);
    fs::hard_link(other, outside.path().join("other")).unwrap();

    let found = read(&packed(&dir));
    let kinds: Vec<_> = found.iter().map(|found| found.kind).collect();
    let link = EntryType::Link;
    assert_eq!(kinds, [EntryType::Regular, link, link, EntryType::Regular]);
    assert_eq!(found[0].content, b"content");
    for found in &found[1..3] {
        assert_eq!(found.link, b"a");
        assert_eq!(found.content, b"");
    }
    assert_eq!(found[3].content, b"shared with the outside");
}

#[test]
fn file_names_of_any_bytes_and_length_are_kept() {
    let dir = TempDir::new().unwrap();
    let long = "long".repeat(50);
    put_folder(&dir, &long, 0o755);
    put(&dir, format!("{long}/{long}"), b"deep", 0o644);
    put(&dir, OsStr::from_bytes(b"\xff\xfe not text"), b"raw", 0o644);
    let mut raw_and_long = vec![0xff; 200];
    raw_and_long[7] = b'\n';
    put(&dir, OsStr::from_bytes(&raw_and_long), b"both", 0o644);

    let found: Vec<_> = read(&packed(&dir));
    let names: Vec<_> = found.iter().map(|found| &found.name[..]).collect();
    assert_eq!(
        names,
        [
            format!("{long}/").as_bytes(),
            format!("{long}/{long}").as_bytes(),
            b"\xff\xfe not text",
            &raw_and_long,
        ]
    );
    assert_eq!(found[3].content, b"both");
}

#[test]
fn extended_attributes_are_kept() {
    let dir = TempDir::new().unwrap();
    let file = put(&dir, "file", b"", 0o755);
    let value = b"any\nbytes \0 = 7 a=b\n";
    if xattr::set(&file, "user.zeta", value).is_err() {
        return; // This file system has none.
    }
    xattr::set(&file, "user.alpha", b"first").unwrap();
    xattr::set(put_folder(&dir, "folder", 0o755), "user.beta", b"of it").unwrap();
    // cap_net_bind_service=ep, which only root may set.
    let mut capability = [0; 20];
    capability[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
    let privileged = xattr::set(&file, "security.capability", &capability).is_ok();

    let bytes = packed(&dir);
    let found = read(&bytes);
    let attribute = |found: &Found, name: &str| {
        let key = format!("SCHILY.xattr.{name}").into_bytes();
        found.records[&key].clone()
    };
    assert_eq!(attribute(&found[0], "user.zeta"), value);
    assert_eq!(attribute(&found[0], "user.alpha"), b"first");
    assert_eq!(attribute(&found[1], "user.beta"), b"of it");
    if privileged {
        assert_eq!(attribute(&found[0], "security.capability"), capability);
    }
    let at = |name: &[u8]| bytes.windows(name.len()).position(|bytes| bytes == name);
    assert!(at(b"user.alpha") < at(b"user.zeta"));
}

#[test]
fn an_extended_attribute_with_an_equals_sign_in_its_name_is_rejected() {
    let dir = TempDir::new().unwrap();
    let file = put(&dir, "file", b"", 0o644);
    if xattr::set(file, "user.a=b", b"").is_err() {
        return; // This file system has none.
    }
    let error = pack(dir.path(), 0, io::sink()).unwrap_err();
    assert!(matches!(error, Error::AttributeName { name, .. } if name == "user.a=b"));
}

#[test]
fn a_socket_in_a_packed_folder_is_rejected_by_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("server.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = pack(dir.path(), 0, io::sink()).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is a socket, which a tar cannot hold", path.display()));
}

#[test]
fn fifos_and_devices_are_kept() {
    let dir = TempDir::new().unwrap();
    let mknod = |name, arguments: &[&str]| {
        let mut command = Command::new("mknod");
        command.arg(dir.path().join(name)).args(arguments);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !mknod("fifo", &["p"]) {
        return; // No such tool here.
    }
    let privileged = mknod("null", &["c", "1", "3"]) && mknod("zram", &["b", "259", "70000"]);
    let bytes = packed(&dir);
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut headers = archive.entries().unwrap().map(|entry| entry.unwrap().header().clone());
    assert_eq!(headers.next().unwrap().entry_type(), EntryType::Fifo);
    if privileged {
        for (kind, device) in [(EntryType::Char, (1, 3)), (EntryType::Block, (259, 70_000))] {
            let header = headers.next().unwrap();
            assert_eq!(header.entry_type(), kind);
            let major = header.device_major().unwrap().unwrap();
            let minor = header.device_minor().unwrap().unwrap();
            assert_eq!((major, minor), device);
        }
    }
}

#[test]
fn unreadable_file_in_a_packed_folder_is_named() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing");
    let error = pack(&missing, 0, io::sink()).unwrap_err();
    assert!(matches!(error, Error::Read { path, .. } if path.starts_with(&missing)));
}

/// Changes a file as soon as its header is written.
struct Meddler<F: FnMut()>(F);

impl<F: FnMut()> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_its_size_while_it_is_read_is_an_error() {
    for size in [0, 1 << 22] {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "file", &vec![1; 1 << 20], 0o644);
        let meddler = Meddler(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(size).unwrap();
        });
        let error = pack(dir.path(), 0, meddler).unwrap_err();
        assert!(matches!(error, Error::Changed(changed) if changed == path));
    }
}

#[test]
fn an_error_of_the_writer_is_returned() {
    let dir = TempDir::new().unwrap();
    put(&dir, "file", b"content", 0o644);
    let error = pack(dir.path(), 0, &mut [0; 600][..]).unwrap_err();
    assert!(matches!(error, Error::Write(_)));
}

#[test]
fn the_tar_tool_extracts_the_output_without_a_warning() {
    let dir = TempDir::new().unwrap();
    let long = "long".repeat(40);
    let file = put(&dir, &long, b"content", 0o755);
    fs::hard_link(&file, dir.path().join("z")).unwrap();
    symlink(&long, dir.path().join("link")).unwrap();
    put_folder(&dir, "folder", 0o755);
    let target = TempDir::new().unwrap();
    let archive = target.path().join("archive.tar");
    fs::write(&archive, packed(&dir)).unwrap();
    let Ok(output) = Command::new("tar").arg("-C").arg(target.path()).arg("-xf").arg(archive).output() else {
        return; // No such tool here.
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for name in ["z", "link", &long] {
        assert_eq!(fs::read(target.path().join(name)).unwrap(), b"content");
    }
    assert_eq!(fs::metadata(target.path().join("z")).unwrap().nlink(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn packed_files_round_trip_in_order_and_in_whole_tar_blocks(
        files in prop::collection::btree_map(
            prop::collection::vec(1_u8..=255, 1..200).prop_filter("a legal name", |name| {
                !name.contains(&b'/') && name != b"." && name != b".."
            }),
            prop::collection::vec(any::<u8>(), 0..1500),
            0..6,
        ),
    ) {
        let dir = TempDir::new().unwrap();
        for (name, content) in &files {
            put(&dir, OsStr::from_bytes(name), content, 0o644);
        }
        let bytes = packed(&dir);
        prop_assert_eq!(bytes.len() % 512, 0);
        let found: Vec<_> = read(&bytes).into_iter().map(|found| (found.name, found.content)).collect();
        prop_assert_eq!(found, files.into_iter().collect::<Vec<_>>());
    }
}
