//! A stored blob in place of one that would be written with the same DAG.

use ocipfs_oci::Digest;
use ocipfs_unixfs::{Builder, DAG_PB, RAW, Root};

use crate::content::{
    Profile,
    store::{Error, Leaf, Store, Stored},
};

/// The multihash code of SHA2-256.
const SHA2_256: u64 = 0x12;

/// A blob that is stored, with the DAG that a [`BlobWriter`](super::BlobWriter) would make of its bytes.
#[derive(Clone, Debug)]
pub struct KnownBlob {
    /// The top of that DAG.
    pub root: Root,
    /// The blob with this DAG.
    pub stored: Stored,
}

impl KnownBlob {
    /// Finds a blob by its digest; none if it is not stored, or with other DAGs only. While a GC guard is open, it stays.
    pub fn find(store: &Store, profile: Profile, digest: &Digest) -> Result<Option<Self>, Error> {
        let Some(stored) = store.present(digest)? else { return Ok(None) };
        for stored in store.layouts_of(&stored)? {
            store.guard_cid(&stored.root);
            let root = root_of(&store.leaves(&stored.root, stored.size)?, stored.size, profile);
            if let Some(root) = root.filter(|root| root.cid == stored.root) {
                return Ok(Some(Self { root, stored }));
            }
        }
        Ok(None)
    }
}

/// The root above leaves; none if the profile would cut the file in another way.
fn root_of(leaves: &[Leaf], size: u64, profile: Profile) -> Option<Root> {
    let options = profile.options();
    let (mut builder, mut offset) = (Builder::new(options), 0);
    for leaf in leaves {
        let length = (profile.chunk() as u64).min(size.checked_sub(offset)?);
        let codec = if options.raw_leaves { RAW } else { DAG_PB };
        let is_alike = leaf.cid.codec() == codec && leaf.cid.hash().code() == SHA2_256;
        if !is_alike || (leaf.offset, leaf.length) != (offset, length) || length == 0 {
            return None;
        }
        builder.push_root(options.leaf_root(leaf.cid, length));
        offset += length;
    }
    (offset == size && size > 0).then(|| builder.finish().0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ocipfs_unixfs::Chunker;

    use super::*;
    use crate::content::{BlobWriter, FileOptions};

    fn write(store: &Store, options: impl Into<FileOptions>, bytes: &Bytes) -> Root {
        let mut writer = BlobWriter::new(store, options).unwrap();
        writer.write(bytes.clone()).unwrap();
        writer.store().unwrap().1
    }

    #[test]
    fn a_known_blob_has_the_root_that_writing_it_again_would_give() {
        for length in [1, 1000, 64 << 10, 100_000, 256 << 10, 1 << 20, (1 << 20) + 1, 50 << 20] {
            let bytes: Bytes =
                (0..length).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let digest = Digest::sha256_of(&bytes);
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            for (profile, other) in
                [(Profile::UnixfsV1, Profile::Legacy), (Profile::Legacy, Profile::UnixfsV1)]
            {
                assert!(KnownBlob::find(&store, profile, &digest).unwrap().is_none(), "{profile:?} {length}");
                let root = write(&store, profile, &bytes);
                let known = KnownBlob::find(&store, profile, &digest).unwrap().unwrap();
                assert_eq!((known.root, known.stored.root), (root, root.cid), "{profile:?} {length}");
                if profile == Profile::UnixfsV1 {
                    assert!(KnownBlob::find(&store, other, &digest).unwrap().is_none(), "{length}");
                }
            }
        }
    }

    #[test]
    fn a_blob_in_other_chunks_is_not_a_known_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let bytes = Bytes::from(vec![7; 3 << 20]);
        let options =
            FileOptions { chunker: Chunker::Size(512 << 10), ..FileOptions::from(Profile::UnixfsV1) };
        write(&store, options, &bytes);
        let digest = Digest::sha256_of(&bytes);
        assert!(KnownBlob::find(&store, Profile::UnixfsV1, &digest).unwrap().is_none());
    }
}
