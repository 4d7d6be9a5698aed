//! Any archive is read or refused, and leaves nothing behind unless it is stored.
//!
//! The input is a tar as it is, or, after a first byte that is odd, entries of which a tar is made: a byte chooses the
//! path, another the kind and a template, two are a length, and then come the bytes, which replace `@` in the template.
//! In what comes of that, `$0` to `$9` is the digest of an earlier entry and `#0` to `#9` its size, so that documents can
//! name blobs.
#![no_main]

use std::{io::Cursor, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use ocipfs::{
    content::{Profile, Store},
    images::archive::{self, ArchiveSource, Compress, Options},
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

/// Documents that a fuzzer would be long in finding.
const TEMPLATES: [&str; 8] = [
    "@",
    r#"{"imageLayoutVersion":"1.0.0"@}"#,
    r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"$2","size":#2@}]}"#,
    r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"$3","size":#3@}]}"#,
    r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$0","size":#0},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$1","size":#1@}]}"#,
    r#"[{"Config":"a.json","RepoTags":["a:1"],"Layers":["a/layer.tar"]@}]"#,
    r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["$0"@]}}"#,
    r#"[{"Config":"a.json","RepoTags":null,"Layers":[@]}]"#,
];

fn store() -> &'static (TempDir, Store) {
    static STORE: OnceLock<(TempDir, Store)> = OnceLock::new();
    STORE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        (dir, store)
    })
}

/// The template with the bytes, and with digests and sizes in the place of `$0` and `#0`.
fn filled(template: &str, bytes: &[u8], earlier: &[(Digest, usize)]) -> Vec<u8> {
    if template == "@" && !bytes.contains(&b'$') {
        return bytes.to_vec();
    }
    let mut text = template.replace('@', &String::from_utf8_lossy(bytes));
    for (number, (digest, size)) in earlier.iter().take(10).enumerate() {
        text = text.replace(&format!("${number}"), &digest.to_string());
        text = text.replace(&format!("#{number}"), &size.to_string());
    }
    text.into_bytes()
}

fn tar_of(mut bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut earlier: Vec<(Digest, usize)> = Vec::new();
    while let [path, kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        let content = filled(TEMPLATES[usize::from(kind % 8)], content, &earlier);
        let digest = Digest::sha256_of(&content);
        let path = PATHS[usize::from(*path) % PATHS.len()].replace('$', &digest.hex());
        let mut header = tar::Header::new_gnu();
        // The path is written as it is: what leads out of the tree is for the reader to refuse.
        header.as_gnu_mut().expect("a GNU header").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        let is_link = *kind >= 0xf0;
        if is_link {
            header.set_entry_type(if kind % 16 < 8 { tar::EntryType::Symlink } else { tar::EntryType::Link });
            let target = &content[..content.len().min(99)];
            header.as_gnu_mut().expect("a GNU header").linkname[..target.len()].copy_from_slice(target);
        }
        header.set_size(if is_link { 0 } else { content.len() as u64 });
        header.set_cksum();
        builder.append(&header, if is_link { &[][..] } else { &content[..] }).expect("a tar in memory");
        earlier.push((digest, content.len()));
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
    match archive::read(ArchiveSource::stream("the stream", Cursor::new(tar)), options) {
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
