//! Manifests among the blobs of a layout folder that no index lists.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use bytes::Bytes;
use ocipfs_oci::Digest;

use super::{Error, MAX_INDEX, MAX_MANIFEST, path::digest_of};

/// Whether JSON may be a manifest that refers to another one.
pub fn has_subject(json: &[u8]) -> bool {
    const KEY: &[u8] = br#""subject""#;
    json.windows(KEY.len()).any(|window| window == KEY)
}

/// Reads the JSON blobs of `folder` that have a subject; others are only looked at.
pub fn in_folder(folder: &Path, is_taken: impl Fn(&Digest) -> bool) -> Result<Vec<(Digest, Bytes)>, Error> {
    let (mut all, mut size) = (Vec::new(), 0);
    for algorithm in ["sha256", "sha512"] {
        let directory = folder.join("blobs").join(algorithm);
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|e| failed(&directory, e))?,
        };
        for entry in entries {
            let path = entry.map_err(|e| failed(&directory, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = digest_of(&format!("blobs/{algorithm}/{name}"));
            let Some(digest) = digest.filter(|digest| !is_taken(digest)) else { continue };
            let is_small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_MANIFEST);
            if !is_small {
                continue;
            }
            let Some(bytes) = json(&path).map_err(|e| failed(&path, e))? else { continue };
            if has_subject(&bytes) {
                size += bytes.len() as u64;
                all.push((digest, bytes.into()));
            }
            if size > MAX_INDEX {
                return Err(Error::TooLarge {
                    what: "all of its unlisted manifests".into(),
                    limit: MAX_INDEX,
                });
            }
        }
    }
    Ok(all)
}

/// Reads a file that begins like a JSON object; of another one only the beginning is read.
fn json(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = BufReader::new(File::open(path)?);
    match file.fill_buf()?.trim_ascii_start().first() {
        Some(b'{') | None => {}
        Some(_) => return Ok(None),
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.trim_ascii_start().first() == Some(&b'{')))
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::Read { what: path.display().to_string(), why: error.to_string() }
}
