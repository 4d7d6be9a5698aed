//! Any archive is read or refused, and leaves nothing behind where nobody stores it.
//!
//! The input is a tar as it is, or, after a first byte that is odd, entries of which a tar is made: a byte chooses the
//! path, another the kind, two are a length. In their bytes and in paths, `$0` to `$9` is the digest of an earlier entry,
//! so that documents can name blobs.
#![no_main]

use std::{io::Cursor, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use ocipfs::{
    content::{Profile, Store},
    images::archive::{self, Compress, Options, Source},
};
use ocipfs_oci::Digest;
use tempfile::TempDir;

const PATHS: [&str; 12] = [
    "index.json",
    "oci-layout",
    "manifest.json",
    "repositories",
    "a/layer.tar",
    "a.json",
    "./b/../a.json",
    "../outside",
    "/absolute",
    "blobs/sha256/$",
    "blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000",
    "a",
];

fn store() -> &'static (TempDir, Store) {
    static STORE: OnceLock<(TempDir, Store)> = OnceLock::new();
    STORE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        (dir, store)
    })
}

/// The input with digests in the place of `$0` to `$9`.
fn filled(bytes: &[u8], digests: &[Digest]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for (number, digest) in digests.iter().take(10).enumerate() {
        text = text.replace(&format!("${number}"), &digest.to_string());
    }
    if text.as_bytes() == bytes { bytes.to_vec() } else { text.into_bytes() }
}

fn tar_of(mut bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut digests: Vec<Digest> = Vec::new();
    while let [path, kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        let content = filled(content, &digests);
        let digest = Digest::sha256_of(&content);
        let path = PATHS[usize::from(*path) % PATHS.len()].replace('$', &digest.hex());
        let mut header = tar::Header::new_gnu();
        // The path is written as it is: what leads out of the tree is for the reader to refuse.
        header.as_gnu_mut().expect("a GNU header").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        let is_link = *kind >= 0xf0;
        if is_link {
            header.set_entry_type(if kind % 2 == 0 { tar::EntryType::Symlink } else { tar::EntryType::Link });
            let target = &content[..content.len().min(99)];
            header.as_gnu_mut().expect("a GNU header").linkname[..target.len()].copy_from_slice(target);
        }
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        header.set_cksum();
        builder.append(&header, if is_link { &[][..] } else { &content[..] }).expect("a tar in memory");
        digests.push(digest);
        bytes = rest;
    }
    builder.into_inner().expect("a tar in memory")
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let tar = if first % 2 == 1 { tar_of(rest) } else { rest.to_vec() };
    let compress = [None, Some(Compress::None), Some(Compress::Gzip)][usize::from(first >> 1) % 3];
    let (dir, store) = store();
    let options = Options {
        store: store.clone(),
        profile: Profile::UnixfsV1,
        compress,
        progress: Box::new(|_| {}),
    };
    match archive::read(Source::Stream(Box::new(Cursor::new(tar))), options) {
        Ok(images) => {
            for picture in &images.pictures {
                let _ = images.below(&picture.top);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let left = std::fs::read_dir(dir.path().join("incoming")).expect("a directory").count();
    assert_eq!(left, 0, "what was dropped leaves nothing");
});
