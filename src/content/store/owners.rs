//! Whose a block is, as far as others may have it.

use ocipfs_node::Cid;
use redb::{ReadTransaction, WriteTransaction};

use super::{
    Error, Store,
    blocks::NOBODY,
    layout::Key,
    lost::is_damaged,
    tables::{ARRIVING, BLOCKS, FETCHED, FILES, SHARED, row},
    trees::TREE,
};
use crate::content::index;

impl Store {
    /// Whether a block is here for pushes alone: part of the published tree, or of blobs that nothing but repositories hold.
    pub fn is_only_pushed(&self, cid: &Cid) -> Result<bool, Error> {
        let key = Key::of(cid);
        // What arrives comes from peers.
        if self.0.pending.get(&key).is_some() {
            return Ok(false);
        }
        self.0.database.read(|read| {
            let Some(first) = row(read, BLOCKS, key.bytes(), |(owner, _)| owner)? else { return Ok(false) };
            if !is_pushed(read, first)? {
                return Ok(false);
            }
            let shared = read.open_table(SHARED)?;
            for other in shared.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                if !is_pushed(read, other?.0.value().1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// Notes that a stored file came from peers, where no holding says so.
pub fn note_fetched(write: &WriteTransaction, root: &Cid) -> Result<(), Error> {
    write.open_table(FETCHED)?.insert(Key::of(root).bytes(), ())?;
    Ok(())
}

fn is_pushed(read: &ReadTransaction, owner: u64) -> Result<bool, Error> {
    match owner {
        NOBODY => Ok(false),
        TREE => Ok(true),
        id => {
            let arriving = row(read, ARRIVING, id, |(root, ..)| Cid::try_from(root))?;
            // What arrives comes from peers, unless it was stored and is damaged.
            if arriving.is_some() && !is_damaged(read, id)? {
                return Ok(false);
            }
            let root = match arriving {
                Some(root) => Some(root),
                None => row(read, FILES, id, |(_, _, root)| Cid::try_from(root))?,
            };
            match root.transpose().map_err(|e| Error::Damaged(e.to_string()))? {
                Some(root) => {
                    let is_fetched = row(read, FETCHED, Key::of(&root).bytes(), |()| ())?.is_some();
                    Ok(!is_fetched && !index::is_added(read, &root)?)
                }
                None => Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Holding, Profile, Put, hold_for, index::Index, let_go};

    #[test]
    fn a_block_is_shared_when_somebody_added_it_and_not_when_it_was_only_pushed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (database, index) = (store.database(), Index::new(store.database()));
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        let mut put = Put::new(&store, Profile::UnixfsV1).unwrap();
        put.write(bytes.clone().into()).unwrap();
        let (_, root) = put.finish().unwrap();
        let leaf = ocipfs_node::Cid::new_v1(
            0x55,
            multihash_codetable::MultihashDigest::digest(
                &multihash_codetable::Code::Sha2_256,
                &bytes[..1 << 20],
            ),
        );
        let hidden = || [root.cid, leaf].map(|cid| store.is_only_pushed(&cid).unwrap());
        database.write(|write| hold_for(write, "repository/app/blobs/x", &root.cid)).unwrap();
        assert_eq!(hidden(), [true, true]);
        index.hold(&leaf, &Holding::new(true, &[root.cid], vec![])).unwrap();
        assert_eq!(hidden(), [false, false]);
        index.release(&leaf).unwrap();
        assert_eq!(hidden(), [true, true]);
        // Deleted, and not yet collected.
        database.write(|write| let_go(write, "repository/app/blobs/x", &root.cid)).unwrap();
        assert_eq!(hidden(), [true, true]);
        // Damaged: its right windows are as public as before.
        database.write(|write| hold_for(write, "repository/app/blobs/x", &root.cid)).unwrap();
        let hex = ocipfs_oci::Digest::sha256_of(&bytes).hex().to_string();
        let path = dir.path().join("blobs").join(&hex[..2]).join(&hex);
        std::fs::File::options().write(true).open(path).unwrap().set_len(2 << 20).unwrap();
        assert!(store.demote(&store.file(&root.cid).unwrap().unwrap()).unwrap());
        assert_eq!((hidden(), store.get(&leaf).unwrap().is_some()), ([true, true], true));
        index.hold(&leaf, &Holding::new(true, &[root.cid], vec![])).unwrap();
        assert_eq!(hidden(), [false, false]);
        assert!(!store.is_only_pushed(&"bafkqaaa".parse().unwrap()).unwrap());
    }
}
