//! Manifests among the blobs of a layout folder that no index lists.

use std::io::Read;

use bytes::Bytes;
use ocipfs_oci::Digest;

use super::{
    Error, MAX_INDEX, MAX_MANIFEST,
    folder::{ArchiveFolder, FolderFile},
    path::{blob_path, digest_of},
};

/// Leading bytes that tell JSON from other blobs.
const HEAD_BYTES: u64 = 512;

/// Whether JSON may be a manifest that refers to another one.
pub fn has_subject(json: &[u8]) -> bool {
    const KEY: &[u8] = br#""subject""#;
    json.windows(KEY.len()).any(|window| window == KEY)
}

/// Reads the JSON blobs of `folder` that have a subject; others are only looked at.
pub fn in_folder(
    folder: &dyn ArchiveFolder,
    is_taken: impl Fn(&Digest) -> bool,
) -> Result<Vec<(Digest, Bytes)>, Error> {
    let (mut all, mut size) = (Vec::new(), 0);
    for digest in candidates(folder, is_taken)? {
        let path = blob_path(&digest);
        let Some(FolderFile { mut input, .. }) = folder.open(&path)? else { continue };
        let (mut bytes, failed) = (Vec::new(), |e| Error::of_io(&path, e));
        input.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        if !matches!(bytes.trim_ascii_start().first(), Some(b'{') | None) {
            continue;
        }
        input.take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.trim_ascii_start().first() != Some(&b'{') || !has_subject(&bytes) {
            continue;
        }
        size += bytes.len() as u64;
        if size > MAX_INDEX {
            return Err(Error::TooLarge { what: "all of its unlisted manifests".into(), limit: MAX_INDEX });
        }
        all.push((digest, bytes.into()));
    }
    Ok(all)
}

/// Returns the blobs that are small enough for a manifest and were not taken.
fn candidates(folder: &dyn ArchiveFolder, is_taken: impl Fn(&Digest) -> bool) -> Result<Vec<Digest>, Error> {
    let mut found = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let mut add = |name: &str, size: u64| {
            let digest = digest_of(&format!("blobs/{algorithm}/{name}"));
            let digest = digest.filter(|digest| size <= MAX_MANIFEST && !is_taken(digest));
            found.extend(digest);
        };
        folder.list(&format!("blobs/{algorithm}"), &mut add)?;
    }
    Ok(found)
}
