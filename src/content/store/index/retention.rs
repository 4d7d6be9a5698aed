//! Why roots are retained: the retention class of each, pins, and eviction.

use ocipfs_node::{Cid, as_v1};
use ocipfs_oci::{Algorithm, Digest};
use redb::{ReadTransaction, ReadableMultimapTable, ReadableTable, TableError, WriteTransaction};

use super::{
    Error, damaged,
    rows::{GcRootRows, HEADERS, RETAINED, open},
};

/// Prefix of the keys of pins; the pinned CID follows.
pub(super) const PIN: &str = "pin/";
/// Prefix of the keys of followed names.
const FOLLOW: &str = "follow/";
/// Prefix of the keys of repositories; the name, the kind of the content and its digest follow.
const REPOSITORY: &str = "repository/";

/// Why something is retained: classes add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionClass(u8);

impl RetentionClass {
    /// Content that clients pulled, or that is being downloaded.
    pub const CACHED: Self = Self(1);
    /// Content of a followed name.
    pub const FOLLOWED: Self = Self(2);
    /// Added, imported, pushed or pinned.
    pub const KEPT: Self = Self(4);
    /// Pinned, which is kept too.
    pub const PINNED: Self = Self(8 | 4);

    /// Both reasons.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is among the reasons.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether marking what is retained for `other` too would change nothing that is asked.
    pub fn covers(self, other: Self) -> bool {
        let dominant =
            if other == Self::CACHED { self != Self::default() } else { self.contains(Self::KEPT) };
        self.contains(other) || dominant && !other.contains(Self::PINNED)
    }

    /// Returns the bits that are stored.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns the class of stored bits.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// Returns the repository that retains something by this key, and the digest that it has there.
pub fn held_by(gc_root_key: &[u8]) -> Option<(&str, &str)> {
    let rest = std::str::from_utf8(gc_root_key).ok()?.strip_prefix(REPOSITORY)?;
    let (rest, digest) = rest.rsplit_once('/')?;
    Some((rest.rsplit_once('/')?.0, digest))
}

/// Tells every root that is retained, and why.
pub fn for_each_root(
    read: &ReadTransaction,
    mut each: impl FnMut(Cid, RetentionClass) -> Result<(), Error>,
) -> Result<(), Error> {
    let retained = match read.open_multimap_table(RETAINED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        retained => retained?,
    };
    let headers = open(read, HEADERS)?;
    for row in retained.iter()? {
        let (root, keys) = row?;
        let mut class = RetentionClass::default();
        for key in keys {
            let key = key?;
            let is_kept = || match &headers {
                Some(headers) => Ok::<_, Error>(headers.get(key.value())?.is_some_and(|row| row.value().0)),
                None => Ok(false),
            };
            class = class.and(match key.value() {
                key if key.starts_with(FOLLOW.as_bytes()) => RetentionClass::FOLLOWED,
                key if key.starts_with(PIN.as_bytes()) => RetentionClass::PINNED,
                key if Cid::try_from(key).is_err() || is_kept()? => RetentionClass::KEPT,
                _ => RetentionClass::CACHED,
            });
        }
        each(Cid::try_from(root.value()).map_err(damaged)?, class)?;
    }
    Ok(())
}

/// Whether a GC root by this key may hold content of peers only: it is a CID, or a followed name.
pub fn is_cached_or_followed(gc_root_key: &[u8]) -> bool {
    gc_root_key.starts_with(FOLLOW.as_bytes()) || Cid::try_from(gc_root_key).is_ok()
}

/// Whether no GC root retains a root.
pub fn is_unreferenced(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    Ok(write.open_multimap_table(RETAINED)?.get(as_v1(root).to_bytes().as_slice())?.is_empty())
}

/// Takes a root, the blob of which has these `hashes`, from GC roots that only cache or follow it; none if any other keeps it.
/// A GC root goes with its last blob. Returns the roots that are unreferenced then.
pub fn evict_root(
    write: &WriteTransaction,
    root: &Cid,
    hashes: &[Vec<u8>],
) -> Result<Option<Vec<Cid>>, Error> {
    let mut rows = GcRootRows::open(write)?;
    let mut gc_root_keys = Vec::new();
    for key in rows.retained.get(as_v1(root).to_bytes().as_slice())? {
        let key = key?.value().to_vec();
        if !is_cached_or_followed(&key) || rows.is_kept(&key)? == Some(true) {
            return Ok(None);
        }
        gc_root_keys.push(key);
    }
    let mut free = Vec::new();
    for gc_root_key in gc_root_keys {
        rows.drop_root(&gc_root_key, root)?;
        for hash in hashes {
            rows.blobs.remove((gc_root_key.as_slice(), digest(hash)?.to_string().as_str()))?;
        }
        let left = rows.blobs.range((gc_root_key.as_slice(), "")..)?.next().transpose()?;
        let is_last = left.is_none_or(|(key, _)| key.value().0 != gc_root_key);
        if is_last {
            free.extend(rows.clear(&gc_root_key)?);
        }
    }
    Ok(Some(free))
}

fn digest(hash: &[u8]) -> Result<Digest, Error> {
    let algorithm = if hash.len() == 64 { Algorithm::Sha512 } else { Algorithm::Sha256 };
    Digest::new(algorithm, hash).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_oci::Digest;
    use ocipfs_unixfs::CidPath;

    use super::*;
    use crate::content::store::{
        Database,
        index::{GcRoot, Index, RetainedCounts, retain_root},
    };

    fn cid(n: u8) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
        (dir, index)
    }

    impl Index {
        fn classes(&self) -> HashMap<Cid, u8> {
            let read = |read: &ReadTransaction| {
                let mut found = HashMap::new();
                for_each_root(read, |root, class| {
                    found.insert(root, class.bits());
                    Ok(())
                })?;
                Ok(found)
            };
            self.0.read(read).unwrap()
        }
    }

    fn gc_root(is_kept: bool, gc_root_key: u8, blobs: &[u8]) -> GcRoot {
        let roots: Vec<Cid> = [gc_root_key].iter().chain(blobs).map(|n| cid(*n)).collect();
        let blobs = blobs.iter().map(|n| (Digest::sha256_of(&[*n]), CidPath::from(cid(*n)))).collect();
        GcRoot::new(is_kept, &roots, blobs)
    }

    #[test]
    fn gc_roots_decide_the_retention_class_kept_followed_or_cached() {
        let (_dir, index) = index();
        assert!(index.classes().is_empty());
        index.retain(&cid(1), &gc_root(true, 1, &[2])).unwrap();
        index.retain(&cid(3), &gc_root(false, 3, &[2, 4, 5])).unwrap();
        index.pin(&cid(9), &[cid(9), cid(4)]).unwrap();
        index.0.write(|write| retain_root(write, "follow/k51", &cid(5))).unwrap();
        index.0.write(|write| retain_root(write, "repository/app/blobs/x", &cid(6))).unwrap();
        let (pulled, kept) = (RetentionClass::CACHED, RetentionClass::KEPT);
        let classes = [
            (1, kept),
            (2, kept.and(pulled)),
            (3, pulled),
            (4, RetentionClass::PINNED.and(pulled)),
            (5, RetentionClass::FOLLOWED.and(pulled)),
            (6, kept),
            (9, RetentionClass::PINNED),
        ];
        assert_eq!(index.classes(), classes.map(|(n, class)| (cid(n), class.bits())).into());
        assert_eq!(index.pins().unwrap(), [cid(9)]);
        assert_eq!(index.unpin(&cid(9)).unwrap(), Some(vec![cid(9)]));
        assert_eq!(index.unpin(&cid(9)).unwrap(), None);
    }

    #[test]
    fn eviction_removes_single_cached_blobs_and_no_kept_blob() {
        let (_dir, index) = index();
        index.retain(&cid(1), &gc_root(true, 1, &[2])).unwrap();
        index.retain(&cid(3), &gc_root(false, 3, &[2, 4, 5])).unwrap();
        let evict_root = |n: u8| {
            let hashes = [Digest::sha256_of(&[n]).bytes().to_vec()];
            index.0.write(|write| super::evict_root(write, &cid(n), &hashes)).unwrap()
        };
        assert_eq!(evict_root(2), None);
        assert_eq!(evict_root(4), Some(vec![]));
        let left = index.gc_root(&cid(3)).unwrap().unwrap();
        assert_eq!((left.roots().len(), left.blobs.len()), (3, 2));
        index.release(&cid(1)).unwrap();
        assert_eq!(evict_root(2), Some(vec![]));
        assert_eq!(evict_root(5), Some(vec![cid(3)]));
        assert!(index.counts().unwrap() == RetainedCounts::default() && index.classes().is_empty());
    }
}
