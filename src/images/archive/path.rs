//! Paths within an archive.

use ocipfs_oci::Digest;

use super::Error;

/// A path within the archive, without `.`; what would lead out of it is refused.
pub fn clean(path: &[u8]) -> Result<String, Error> {
    let outside = || Error::Outside(String::from_utf8_lossy(path).chars().take(120).collect());
    let text = std::str::from_utf8(path).map_err(|_| outside())?;
    if text.starts_with('/') {
        return Err(outside());
    }
    let mut names = Vec::new();
    for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match name {
            ".." => drop(names.pop().ok_or_else(outside)?),
            name => names.push(name),
        }
    }
    Ok(names.join("/"))
}

/// The digest that a path in a layout stands for.
pub fn digest_of(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Where the blob of a digest is in a layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
