//! What is here, by digest and by holder, in redb: a committed write is on disk.

use std::{path::Path, sync::Arc};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{
    Key, MultimapTable, MultimapTableDefinition, ReadTransaction, ReadableMultimapTable, ReadableTable,
    Table, TableDefinition, TableError, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    CidPath, Error,
    store::{self, Database},
};

/// Digest -> the CID path of its bytes: blobs that are here whole and were verified.
const BLOBS: TableDefinition<&str, &str> = TableDefinition::new("blobs");
/// Key CID -> what is kept under it, as JSON.
const HOLDINGS: TableDefinition<&[u8], &str> = TableDefinition::new("holdings");
/// Root CID -> the keys of the holdings that name it.
const HOLDERS: MultimapTableDefinition<&[u8], &[u8]> = MultimapTableDefinition::new("holders");
/// Digest -> the keys of the holdings that have the blob.
const KEEPERS: MultimapTableDefinition<&str, &[u8]> = MultimapTableDefinition::new("keepers");

/// What one reference keeps: a layer manifest and the layer it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Added by a command, not merely fetched for somebody's pull.
    pub owned: bool,
    /// The roots of its DAGs; they are announced.
    roots: Vec<String>,
    /// The blobs that are here because of it, and where the bytes of each are.
    pub blobs: Vec<(Digest, CidPath)>,
}

impl Holding {
    /// A holding of `roots` with `blobs` below them.
    pub fn new(owned: bool, roots: &[Cid], blobs: Vec<(Digest, CidPath)>) -> Self {
        Self { owned, roots: roots.iter().map(ToString::to_string).collect(), blobs }
    }

    /// The roots of its DAGs.
    pub fn roots(&self) -> Vec<Cid> {
        self.roots.iter().filter_map(|root| root.parse().ok()).collect()
    }
}

/// What is held, in the index file.
pub struct Index(Arc<Database>);

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Index(error.to_string())
    }
}

fn damaged(error: impl std::fmt::Display) -> store::Error {
    store::Error::Damaged(error.to_string())
}

impl Index {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database = Database::open(path).map_err(|e| Error::Index(format!("{}: {e}", path.display())))?;
        Ok(Self::over(Arc::new(database)))
    }

    /// Keeps what is held beside what else is in `database`.
    pub fn over(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// Where the verified bytes of `digest` are.
    pub fn blob(&self, digest: &Digest) -> Result<Option<CidPath>, Error> {
        Ok(self.0.read(|read| {
            let at = row(read, BLOBS, digest.to_string().as_str(), |at| at.parse())?;
            at.transpose().map_err(damaged)
        })?)
    }

    /// Records that the bytes of `digest` are here whole and verified.
    pub fn add_blob(&self, digest: &Digest, at: &CidPath) -> Result<(), Error> {
        Ok(self.0.write(|write| {
            write.open_table(BLOBS)?.insert(digest.to_string().as_str(), at.to_string().as_str())?;
            Ok(())
        })?)
    }

    pub fn hold(&self, key: &Cid, holding: &Holding) -> Result<(), Error> {
        Ok(self.0.write(|write| {
            let mut tables = Tables::open(write)?;
            tables.remove(key)?;
            tables.insert(key, holding)
        })?)
    }

    pub fn holding(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        Ok(self.0.read(|read| {
            let holding = row(read, HOLDINGS, key.to_bytes().as_slice(), |json| serde_json::from_str(json))?;
            holding.transpose().map_err(damaged)
        })?)
    }

    pub fn holdings(&self) -> Result<Vec<(Cid, Holding)>, Error> {
        Ok(self.0.read(|read| {
            let Some(table) = existing(read.open_table(HOLDINGS))? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for row in table.iter()? {
                let (key, json) = row?;
                let key = Cid::try_from(key.value()).map_err(damaged)?;
                all.push((key, serde_json::from_str(json.value()).map_err(damaged)?));
            }
            Ok(all)
        })?)
    }

    /// Whether any holding names this root.
    #[allow(dead_code)]
    pub fn is_held(&self, root: &Cid) -> Result<bool, Error> {
        Ok(self.0.read(|read| {
            let Some(table) = existing(read.open_multimap_table(HOLDERS))? else { return Ok(false) };
            Ok(!table.get(root.to_bytes().as_slice())?.is_empty())
        })?)
    }

    /// Removes a holding, and the blobs that no other holding has; the others are where those have them.
    pub fn release(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        Ok(self.0.write(|write| {
            let mut tables = Tables::open(write)?;
            let Some(holding) = tables.remove(key)? else { return Ok(None) };
            let mut blobs = write.open_table(BLOBS)?;
            for (digest, _) in &holding.blobs {
                let row = digest.to_string();
                match tables.elsewhere(digest)? {
                    Some(at) => blobs.insert(row.as_str(), at.to_string().as_str())?,
                    None => blobs.remove(row.as_str())?,
                };
            }
            Ok(Some(holding))
        })?)
    }
}

/// The tables of what is held, for one transaction that writes.
struct Tables<'t> {
    holdings: Table<'t, &'static [u8], &'static str>,
    holders: MultimapTable<'t, &'static [u8], &'static [u8]>,
    keepers: MultimapTable<'t, &'static str, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(write: &'t WriteTransaction) -> Result<Self, store::Error> {
        Ok(Self {
            holdings: write.open_table(HOLDINGS)?,
            holders: write.open_multimap_table(HOLDERS)?,
            keepers: write.open_multimap_table(KEEPERS)?,
        })
    }

    fn insert(&mut self, key: &Cid, holding: &Holding) -> Result<(), store::Error> {
        let json = serde_json::to_string(holding).map_err(damaged)?;
        let key = key.to_bytes();
        self.holdings.insert(key.as_slice(), json.as_str())?;
        for root in holding.roots() {
            self.holders.insert(root.to_bytes().as_slice(), key.as_slice())?;
        }
        for (digest, _) in &holding.blobs {
            self.keepers.insert(digest.to_string().as_str(), key.as_slice())?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Cid) -> Result<Option<Holding>, store::Error> {
        let key = key.to_bytes();
        let json = self.holdings.remove(key.as_slice())?.map(|row| row.value().to_owned());
        let Some(json) = json else { return Ok(None) };
        let holding: Holding = serde_json::from_str(&json).map_err(damaged)?;
        for root in holding.roots() {
            self.holders.remove(root.to_bytes().as_slice(), key.as_slice())?;
        }
        for (digest, _) in &holding.blobs {
            self.keepers.remove(digest.to_string().as_str(), key.as_slice())?;
        }
        Ok(Some(holding))
    }

    /// Where one of the holdings that are left has the blob.
    fn elsewhere(&self, digest: &Digest) -> Result<Option<CidPath>, store::Error> {
        let mut keys = self.keepers.get(digest.to_string().as_str())?;
        let Some(key) = keys.next().transpose()? else { return Ok(None) };
        let Some(row) = self.holdings.get(key.value())? else { return Ok(None) };
        let holding: Holding = serde_json::from_str(row.value()).map_err(damaged)?;
        Ok(holding.blobs.into_iter().find(|(other, _)| other == digest).map(|(_, at)| at))
    }
}

/// A table as of now; none where nothing was ever written to it.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, store::Error> {
    match opened {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn row<K: Key + 'static, V: Value + 'static, T>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
    key: K::SelfType<'_>,
    with: impl FnOnce(V::SelfType<'_>) -> T,
) -> Result<Option<T>, store::Error> {
    let Some(table) = existing(read.open_table(table))? else { return Ok(None) };
    Ok(table.get(key)?.map(|row| with(row.value())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u8) -> Cid {
        use multihash_codetable::{Code, MultihashDigest};
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    #[test]
    fn what_is_held_survives_and_what_is_released_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        let (shared, own) = (Digest::sha256_of(b"shared"), Digest::sha256_of(b"own"));
        let at = |n| CidPath::from(cid(n));
        let blobs = vec![(shared.clone(), at(8)), (own.clone(), at(8))];
        let one = Holding::new(true, &[cid(1), cid(8)], blobs);
        let two = Holding::new(false, &[cid(2), cid(9)], vec![(shared.clone(), at(9))]);
        {
            let index = Index::open(&path).unwrap();
            assert!(index.holdings().unwrap().is_empty() && index.blob(&own).unwrap().is_none());
            index.hold(&cid(1), &one).unwrap();
            index.hold(&cid(2), &two).unwrap();
            index.add_blob(&shared, &at(8)).unwrap();
            index.add_blob(&own, &at(8)).unwrap();
        }
        let index = Index::open(&path).unwrap();
        assert_eq!(index.holdings().unwrap(), vec![(cid(1), one.clone()), (cid(2), two)]);
        assert!([1, 2, 8, 9].iter().all(|n| index.is_held(&cid(*n)).unwrap()));
        assert_eq!(index.release(&cid(1)).unwrap(), Some(one));
        assert_eq!([1, 2, 8, 9].map(|n| index.is_held(&cid(n)).unwrap()), [false, true, false, true]);
        assert_eq!(index.release(&cid(1)).unwrap(), None);
        assert_eq!(index.blob(&own).unwrap(), None);
        assert_eq!(index.blob(&shared).unwrap(), Some(at(9)), "as the other has it");
    }

    #[test]
    fn a_root_is_held_by_whom_names_it_now() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.redb")).unwrap();
        index.hold(&cid(1), &Holding::new(true, &[cid(1), cid(8)], vec![])).unwrap();
        index.hold(&cid(2), &Holding::new(true, &[cid(2), cid(8)], vec![])).unwrap();
        index.hold(&cid(1), &Holding::new(true, &[cid(1), cid(9)], vec![])).unwrap();
        assert!(index.is_held(&cid(8)).unwrap() && index.is_held(&cid(9)).unwrap());
        index.release(&cid(2)).unwrap();
        assert!(!index.is_held(&cid(8)).unwrap() && index.is_held(&cid(9)).unwrap());
    }
}
