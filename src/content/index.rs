//! What is held, and for whom, in the store's index: a committed write is on disk.

mod holders;

use std::sync::Arc;

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{
    MultimapTableDefinition, ReadTransaction, ReadableMultimapTable, ReadableTable, TableDefinition,
    TableError, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    CidPath,
    store::{Database, Error},
};

pub use holders::{give_up, holders, is_free};

/// Key CID -> what is kept under it, as JSON.
const HOLDINGS: TableDefinition<&[u8], &str> = TableDefinition::new("holdings");
/// Root CID -> the keys it is held under: CIDs of holdings, and names of holders (`repository/...`, `pin/...`).
const HELD: MultimapTableDefinition<&[u8], &[u8]> = MultimapTableDefinition::new("held");

/// Root CID -> nothing: released by its last holder, and not collected yet.
const FREED: TableDefinition<&[u8], ()> = TableDefinition::new("freed");

/// What one reference keeps: a layer manifest and the layer it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Added by a command, not merely fetched for somebody's pull.
    pub owned: bool,
    /// The roots of its DAGs; they are announced.
    roots: Vec<String>,
    /// The blobs that are here because of it, and where the bytes of each are.
    pub blobs: Vec<(Digest, CidPath)>,
    /// What belongs to it and is reached from its roots: kept, and not announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    below: Vec<String>,
    /// What a command imported: images by the names they are pulled under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Named>,
}

/// An image that is held, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The repository name and the tag, without a registry.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// Bytes of all its blobs.
    pub size: u64,
}

impl Holding {
    /// A holding of `roots` with `blobs` below them.
    pub fn new(owned: bool, roots: &[Cid], blobs: Vec<(Digest, CidPath)>) -> Self {
        let roots = roots.iter().map(ToString::to_string).collect();
        Self { owned, roots, blobs, below: Vec::new(), images: Vec::new() }
    }

    /// The same, with what belongs to it below its roots, and the images that it is.
    pub fn of_images(self, below: &[Cid], images: Vec<Named>) -> Self {
        Self { below: below.iter().map(ToString::to_string).collect(), images, ..self }
    }

    /// Takes up what another names beside this.
    fn merge(&mut self, other: &Self) {
        self.owned |= other.owned;
        let new = |root: &&String| !self.roots.contains(root);
        let roots: Vec<String> = other.roots.iter().filter(new).cloned().collect();
        self.roots.extend(roots);
        for blob in &other.blobs {
            if !self.blobs.contains(blob) {
                self.blobs.push(blob.clone());
            }
        }
    }

    /// The roots of its DAGs.
    pub fn roots(&self) -> Vec<Cid> {
        self.roots.iter().filter_map(|root| root.parse().ok()).collect()
    }

    /// Everything that is kept because of it.
    fn kept(&self) -> Vec<Cid> {
        self.roots.iter().chain(&self.below).filter_map(|root| root.parse().ok()).collect()
    }
}

/// What was released, and what of it nothing else holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    pub holding: Holding,
    pub free: Vec<Cid>,
}

/// The holdings.
pub struct Index(Arc<Database>);

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

fn parse(json: &str) -> Result<Holding, Error> {
    serde_json::from_str(json).map_err(damaged)
}

fn name(cid: &Cid) -> Vec<u8> {
    Cid::new_v1(cid.codec(), *cid.hash()).to_bytes()
}

/// Holds a root for a holder that has a name of its own: a repository, a pin.
pub fn hold_for(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<(), Error> {
    write.open_multimap_table(HELD)?.insert(name(root).as_slice(), holder.as_bytes())?;
    Ok(())
}

/// Lets go of a root that such a holder holds; true where nobody holds it any more, so that it may be collected.
pub fn let_go(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<bool, Error> {
    let mut held = write.open_multimap_table(HELD)?;
    held.remove(name(root).as_slice(), holder.as_bytes())?;
    let is_free = held.get(name(root).as_slice())?.is_empty();
    if is_free {
        write.open_table(FREED)?.insert(name(root).as_slice(), ())?;
    }
    Ok(is_free)
}

/// Returns at most `most` roots that were released and are not collected yet.
pub fn freed(read: &ReadTransaction, most: usize) -> Result<Vec<Cid>, Error> {
    let freed = match read.open_table(FREED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        freed => freed?,
    };
    freed.iter()?.take(most).map(|row| Cid::try_from(row?.0.value()).map_err(damaged)).collect()
}

/// Forgets that roots were released: they are collected, or held again.
pub fn settle_freed(write: &WriteTransaction, roots: &[Cid]) -> Result<(), Error> {
    let mut freed = write.open_table(FREED)?;
    for root in roots {
        freed.remove(name(root).as_slice())?;
    }
    Ok(())
}

/// Whether something that a command added, or that came from peers, keeps a root: not only repositories and pins.
pub fn is_added(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    let held = match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        held => held?,
    };
    for key in held.get(name(root).as_slice())? {
        // Holders with names of their own are no CIDs.
        if Cid::try_from(key?.value()).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anybody keeps a root.
pub fn is_held(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        held => Ok(!held?.get(name(root).as_slice())?.is_empty()),
    }
}

impl Index {
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    pub fn hold(&self, key: &Cid, holding: &Holding) -> Result<(), Error> {
        let json = serde_json::to_string(holding).map_err(damaged)?;
        self.0.write(|write| {
            let mut held = write.open_multimap_table(HELD)?;
            let mut holdings = write.open_table(HOLDINGS)?;
            let before = holdings.insert(key.to_bytes().as_slice(), json.as_str())?;
            if let Some(before) = before {
                for root in parse(before.value())?.kept() {
                    held.remove(name(&root).as_slice(), key.to_bytes().as_slice())?;
                }
            }
            for root in holding.kept() {
                held.insert(name(&root).as_slice(), key.to_bytes().as_slice())?;
            }
            Ok(())
        })
    }

    /// The same beside what the key holds already.
    pub fn hold_also(&self, key: &Cid, holding: &Holding) -> Result<(), Error> {
        self.0.write(|write| {
            let mut held = write.open_multimap_table(HELD)?;
            let mut holdings = write.open_table(HOLDINGS)?;
            let key = key.to_bytes();
            let before = holdings.get(key.as_slice())?.map(|row| parse(row.value())).transpose()?;
            let mut all = before.unwrap_or_else(|| Holding::new(false, &[], Vec::new()));
            all.merge(holding);
            let json = serde_json::to_string(&all).map_err(damaged)?;
            holdings.insert(key.as_slice(), json.as_str())?;
            for root in holding.roots() {
                held.insert(name(&root).as_slice(), key.as_slice())?;
            }
            Ok(())
        })
    }

    pub fn holding(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        self.0.read(|read| {
            let table = match read.open_table(HOLDINGS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let row = table.get(key.to_bytes().as_slice())?;
            row.map(|row| parse(row.value())).transpose()
        })
    }

    pub fn holdings(&self) -> Result<Vec<(Cid, Holding)>, Error> {
        self.0.read(|read| {
            let table = match read.open_table(HOLDINGS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut all = Vec::new();
            for row in table.iter()? {
                let (key, json) = row?;
                let key = Cid::try_from(key.value()).map_err(damaged)?;
                all.push((key, parse(json.value())?));
            }
            Ok(all)
        })
    }

    /// Removes a holding.
    pub fn release(&self, key: &Cid) -> Result<Option<Released>, Error> {
        let Some(holding) = self.holding(key)? else { return Ok(None) };
        let key = key.to_bytes();
        self.0.write(|write| {
            write.open_table(HOLDINGS)?.remove(key.as_slice())?;
            let mut held = write.open_multimap_table(HELD)?;
            let mut free = Vec::new();
            for root in holding.kept() {
                let name = name(&root);
                held.remove(name.as_slice(), key.as_slice())?;
                if held.get(name.as_slice())?.is_empty() {
                    free.push(root);
                }
            }
            Ok(Some(Released { holding: holding.clone(), free }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u8) -> Cid {
        use multihash_codetable::{Code, MultihashDigest};
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    #[test]
    fn what_is_held_survives_and_what_only_the_released_held_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        let open = || Index::new(Arc::new(Database::open(&path).unwrap()));
        let blobs = vec![(Digest::sha256_of(b"shared"), CidPath::from(cid(8)))];
        let one = Holding::new(true, &[cid(1), cid(8)], blobs);
        let two = Holding::new(false, &[cid(2), cid(8)], vec![]);
        {
            let index = open();
            assert!(index.holdings().unwrap().is_empty() && index.holding(&cid(1)).unwrap().is_none());
            index.hold(&cid(1), &one).unwrap();
            index.hold(&cid(1), &one).unwrap();
            index.hold(&cid(2), &two).unwrap();
        }
        let index = open();
        let mut all = index.holdings().unwrap();
        all.sort_by_key(|(_, holding)| !holding.owned);
        assert_eq!(all, [(cid(1), one.clone()), (cid(2), two.clone())]);
        assert_eq!(index.release(&cid(1)).unwrap(), Some(Released { holding: one, free: vec![cid(1)] }));
        assert_eq!(index.release(&cid(1)).unwrap(), None);
        assert_eq!(
            index.release(&cid(2)).unwrap(),
            Some(Released { holding: two, free: vec![cid(2), cid(8)] })
        );
    }

    #[test]
    fn a_root_is_free_when_its_last_holder_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&dir.path().join("index.redb")).unwrap());
        let index = Index::new(database.clone());
        index.hold(&cid(1), &Holding::new(true, &[cid(8)], vec![])).unwrap();
        let holders = ["repository/a", "repository/b"];
        for holder in holders {
            database.write(|write| hold_for(write, holder, &cid(8))).unwrap();
        }
        assert_eq!(index.release(&cid(1)).unwrap().unwrap().free, []);
        let free = holders.map(|holder| database.write(|write| let_go(write, holder, &cid(8))).unwrap());
        assert_eq!(free, [false, true]);
    }

    #[test]
    fn one_holder_holds_many_blobs_and_stays_owned() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
        let part = |n: u8, owned| {
            let blob = (Digest::sha256_of(&[n]), CidPath::from(cid(n)));
            Holding::new(owned, &[cid(1), cid(n)], vec![blob])
        };
        for (n, owned) in [(2, true), (3, false), (3, false)] {
            index.hold_also(&cid(1), &part(n, owned)).unwrap();
        }
        let held = index.holding(&cid(1)).unwrap().unwrap();
        assert_eq!((held.owned, held.roots()), (true, vec![cid(1), cid(2), cid(3)]));
        assert_eq!(held.blobs, [part(2, true).blobs, part(3, true).blobs].concat());
        assert_eq!(index.release(&cid(1)).unwrap().unwrap().free, held.roots());
    }
}
