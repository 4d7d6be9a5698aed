//! Who keeps what, seen as a whole: holdings, and whoever else has a key among the holders of a root.

use std::collections::HashSet;

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableMultimapTable, ReadableTable, TableError, WriteTransaction};
use serde::Deserialize;

use super::{Error, HELD, HOLDINGS, Index, damaged, name, parse};

/// What the keys of pins begin with; the pinned CID follows.
const PIN: &str = "pin/";

/// The roots that are held, by why they are.
#[derive(Debug, Default)]
pub struct Holders {
    /// For somebody who wants to keep them: what was added, imported, pushed or pinned.
    pub kept: Vec<Cid>,
    /// Only because they were pulled.
    pub pulled: Vec<Cid>,
    /// Those of the kept ones that were pinned.
    pub pinned: Vec<Cid>,
    /// What was pinned, as it was named.
    pub pins: Vec<Cid>,
}

/// The one field of a holding that matters here.
#[derive(Deserialize)]
struct Owned {
    owned: bool,
}

/// Every root that is held, in one snapshot.
pub fn holders(read: &ReadTransaction) -> Result<Holders, Error> {
    let mut all = Holders::default();
    let held = match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(all),
        held => held?,
    };
    let pulling = pulling(read)?;
    let mut pins = HashSet::new();
    for row in held.iter()? {
        let (root, keys) = row?;
        let root = Cid::try_from(root.value()).map_err(damaged)?;
        let (mut is_kept, mut is_pinned) = (false, false);
        for key in keys {
            let key = key?;
            is_kept |= !pulling.contains(key.value());
            if let Some(pin) = key.value().strip_prefix(PIN.as_bytes()) {
                is_pinned = true;
                pins.insert(Cid::try_from(pin).map_err(damaged)?);
            }
        }
        if is_pinned {
            all.pinned.push(root);
        }
        if is_kept { all.kept.push(root) } else { all.pulled.push(root) }
    }
    all.pins = pins.into_iter().collect();
    all.pins.sort();
    Ok(all)
}

/// The keys of holdings that nobody asked for but by pulling.
fn pulling(read: &ReadTransaction) -> Result<HashSet<Vec<u8>>, Error> {
    let holdings = match read.open_table(HOLDINGS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(HashSet::new()),
        holdings => holdings?,
    };
    let mut keys = HashSet::new();
    for row in holdings.iter()? {
        let (key, json) = row?;
        let holding: Owned = serde_json::from_str(json.value()).map_err(damaged)?;
        if !holding.owned {
            keys.insert(key.value().to_vec());
        }
    }
    Ok(keys)
}

/// Whether nobody holds a root.
pub fn is_free(write: &WriteTransaction, root: &Cid) -> Result<bool, Error> {
    Ok(write.open_multimap_table(HELD)?.get(name(root).as_slice())?.is_empty())
}

/// Takes a root, the blob of which has these `hashes`, from those who only pulled it; none if somebody keeps it.
/// A holding goes with its last blob: the roots that nobody holds then are given.
pub fn give_up(write: &WriteTransaction, root: &Cid, hashes: &[Vec<u8>]) -> Result<Option<Vec<Cid>>, Error> {
    let mut held = write.open_multimap_table(HELD)?;
    let mut holdings = write.open_table(HOLDINGS)?;
    let mut changed = Vec::new();
    for key in held.get(name(root).as_slice())? {
        let key = key?.value().to_vec();
        let Some(holding) = holdings.get(key.as_slice())?.map(|row| parse(row.value())).transpose()? else {
            return Ok(None);
        };
        if holding.owned {
            return Ok(None);
        }
        changed.push((key, holding));
    }
    let mut free = Vec::new();
    for (key, mut holding) in changed {
        held.remove(name(root).as_slice(), key.as_slice())?;
        holding.blobs.retain(|(digest, _)| !hashes.iter().any(|hash| hash == digest.bytes()));
        holding.roots.retain(|text| text.parse().map_or(true, |other: Cid| name(&other) != name(root)));
        if !holding.blobs.is_empty() {
            let json = serde_json::to_string(&holding).map_err(damaged)?;
            holdings.insert(key.as_slice(), json.as_str())?;
            continue;
        }
        holdings.remove(key.as_slice())?;
        for other in holding.kept() {
            held.remove(name(&other).as_slice(), key.as_slice())?;
            if held.get(name(&other).as_slice())?.is_empty() {
                free.push(other);
            }
        }
    }
    Ok(Some(free))
}

fn pin_key(pin: &Cid) -> Vec<u8> {
    [PIN.as_bytes(), &name(pin)].concat()
}

impl Index {
    /// Keeps `roots` because `pin` is pinned.
    pub fn pin(&self, pin: &Cid, roots: &[Cid]) -> Result<(), Error> {
        self.0.write(|write| {
            let mut held = write.open_multimap_table(HELD)?;
            roots.iter().try_for_each(|root| {
                held.insert(name(root).as_slice(), pin_key(pin).as_slice())?;
                Ok(())
            })
        })
    }

    /// Undoes it; the roots that nobody holds any more, or none if it was not pinned.
    pub fn unpin(&self, pin: &Cid) -> Result<Option<Vec<Cid>>, Error> {
        let key = pin_key(pin);
        self.0.write(|write| {
            let mut held = write.open_multimap_table(HELD)?;
            let mut roots = Vec::new();
            for row in held.iter()? {
                let (root, keys) = row?;
                for other in keys {
                    if other?.value() == key {
                        roots.push(Cid::try_from(root.value()).map_err(damaged)?);
                    }
                }
            }
            let mut free = Vec::new();
            for root in &roots {
                held.remove(name(root).as_slice(), key.as_slice())?;
                if held.get(name(root).as_slice())?.is_empty() {
                    free.push(*root);
                }
            }
            Ok((!roots.is_empty()).then_some(free))
        })
    }

    /// Everything that is held.
    pub fn holders(&self) -> Result<Holders, Error> {
        self.0.read(holders)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_oci::Digest;

    use super::*;
    use crate::content::{CidPath, Holding, store::Database};

    fn cid(n: u8) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
        (dir, index)
    }

    fn holding(owned: bool, holder: u8, blobs: &[u8]) -> Holding {
        let roots: Vec<Cid> = [holder].iter().chain(blobs).map(|n| cid(*n)).collect();
        let blobs = blobs.iter().map(|n| (Digest::sha256_of(&[*n]), CidPath::from(cid(*n)))).collect();
        Holding::new(owned, &roots, blobs)
    }

    #[test]
    fn whoever_holds_beside_pulls_keeps() {
        let (_dir, index) = index();
        assert!(index.holders().unwrap().kept.is_empty());
        index.hold(&cid(1), &holding(true, 1, &[2])).unwrap();
        index.hold(&cid(3), &holding(false, 3, &[2, 4, 5])).unwrap();
        index.pin(&cid(9), &[cid(9), cid(4)]).unwrap();
        let sorted = |mut cids: Vec<Cid>| {
            cids.sort();
            cids
        };
        let holders = index.holders().unwrap();
        assert_eq!(sorted(holders.kept), sorted([1, 2, 4, 9].map(cid).into()));
        assert_eq!(sorted(holders.pulled), sorted([3, 5].map(cid).into()));
        assert_eq!(holders.pins, [cid(9)]);
        assert_eq!(index.unpin(&cid(9)).unwrap(), Some(vec![cid(9)]));
        assert_eq!(index.unpin(&cid(9)).unwrap(), None);
    }

    #[test]
    fn what_was_only_pulled_is_given_up_blob_by_blob_and_what_is_kept_is_not() {
        let (_dir, index) = index();
        index.hold(&cid(1), &holding(true, 1, &[2])).unwrap();
        index.hold(&cid(3), &holding(false, 3, &[2, 4, 5])).unwrap();
        let give_up = |n: u8| {
            let hashes = [Digest::sha256_of(&[n]).bytes().to_vec()];
            index.0.write(|write| super::give_up(write, &cid(n), &hashes)).unwrap()
        };
        assert_eq!(give_up(2), None);
        assert_eq!(give_up(4), Some(vec![]));
        let left = index.holding(&cid(3)).unwrap().unwrap();
        assert_eq!((left.roots().len(), left.blobs.len()), (3, 2));
        index.release(&cid(1)).unwrap();
        assert_eq!(give_up(2), Some(vec![]));
        assert_eq!(give_up(5), Some(vec![cid(3)]));
        assert!(index.holdings().unwrap().is_empty() && index.holders().unwrap().pulled.is_empty());
    }
}
