//! Stored blobs as one raw block each: what a peer asks for that knows nothing of a blob but its sha256.

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::Cid;
use ocipfs_oci::{Algorithm, Digest};
use ocipfs_unixfs::RAW;

use super::{
    Error, Origin, Store, Stored,
    database::lock,
    files,
    origin::of_owner,
    tables::{self, FILES, Hash, STORED},
};

/// The largest block that peers exchange.
pub const MAX_BLOCK_BYTES: u64 = 2 << 20;

/// Returns the CID that the bytes of a digest would have as one raw block; none if the digest is not a sha256.
pub fn whole_cid(digest: &Digest) -> Option<Cid> {
    let is_sha256 = digest.algorithm() == Algorithm::Sha256;
    is_sha256.then(|| cid_of(digest.bytes())).flatten()
}

fn cid_of(sha256: &[u8]) -> Option<Cid> {
    Some(Cid::new_v1(RAW, Code::Sha2_256.wrap(sha256).ok()?))
}

/// Returns the sha256 that a raw CID has.
fn sha256_of(raw: &Cid) -> Option<Hash> {
    let is_raw = raw.codec() == RAW && raw.hash().code() == u64::from(Code::Sha2_256);
    if is_raw { raw.hash().digest().try_into().ok() } else { None }
}

impl Store {
    /// Returns the stored blob whose bytes would be this block, in the layout whose bytes came in the most public way, and that
    /// way. What its root block alone came by does not matter.
    pub fn whole(&self, raw: &Cid) -> Result<Option<(Stored, Origin)>, Error> {
        let Some(sha256) = sha256_of(raw) else { return Ok(None) };
        self.0.database.read(|read| {
            let ids = tables::row(read, STORED, &sha256, |(_, ids, _)| ids)?.unwrap_or_default();
            let mut best: Option<(Stored, Origin)> = None;
            for id in ids {
                let Some(stored) = tables::row(read, FILES, id, |row| files::stored(id, row))? else {
                    continue;
                };
                if let Some(origin) = of_owner(read, id)?
                    && best.as_ref().is_none_or(|(_, known)| origin > *known)
                {
                    best = Some((stored?, origin));
                }
            }
            Ok(best)
        })
    }

    /// Reads a stored blob as one block; nothing where it is longer than a block may be.
    pub fn read_whole(&self, stored: &Stored) -> Result<Option<Bytes>, Error> {
        if !is_block(stored) {
            return Ok(None);
        }
        let file = match self.open_file(stored) {
            Err(Error::Gone(_)) => return Ok(None),
            opened => opened?,
        };
        let read = file.read_at(0, stored.size as usize);
        read.map(Some).map_err(|why| Error::Read { cid: stored.root, why })
    }

    /// Returns the CIDs of blobs that were removed since the last call and did not come again.
    pub fn take_removed(&self) -> Result<Vec<Cid>, Error> {
        let removed: Vec<Hash> = std::mem::take(&mut lock(&self.0.unlinked).removed);
        let gone = self.0.database.read(|read| {
            let mut gone = Vec::new();
            for sha256 in &removed {
                if tables::row(read, STORED, sha256, |_| ())?.is_none() {
                    gone.extend(cid_of(sha256));
                }
            }
            Ok(gone)
        });
        if gone.is_err() {
            lock(&self.0.unlinked).removed.extend(removed);
        }
        gone
    }
}

/// Whether peers may get a blob as one block.
pub fn is_block(stored: &Stored) -> bool {
    stored.size <= MAX_BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_cid_of_a_digest_is_that_of_a_raw_block_with_the_same_bytes() {
        let digest = Digest::sha256_of(b"hello");
        let cid = whole_cid(&digest).unwrap();
        assert_eq!(cid.to_string(), "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq");
        assert_eq!(sha256_of(&cid).unwrap(), digest.bytes());
        let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        assert_eq!(whole_cid(&sha512), None);
        let node: Cid = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu".parse().unwrap();
        assert_eq!(sha256_of(&node), None);
    }
}
