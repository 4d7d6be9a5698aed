//! What is here, by digest and by holder, in redb: a committed write is on disk.

use std::{collections::HashMap, path::Path};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{
    Database, Key, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError, Value,
};
use serde::{Deserialize, Serialize};

use super::{CidPath, Error};

/// Digest -> the CID path of its bytes: blobs that are here whole and were verified.
const BLOBS: TableDefinition<&str, &str> = TableDefinition::new("blobs");
/// Key CID -> what is kept under it, as JSON.
const HOLDINGS: TableDefinition<&[u8], &str> = TableDefinition::new("holdings");

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

/// The index file.
pub struct Index(Database);

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Index(error.to_string())
}

impl Index {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database =
            Database::create(path).map_err(|e| Error::Index(format!("{}: {e}", path.display())))?;
        Ok(Self(database))
    }

    /// Opens a table as of now; none where nothing was ever written to it.
    fn read<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
        match self.0.begin_read().map_err(failed)?.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Where the verified bytes of `digest` are.
    pub fn blob(&self, digest: &Digest) -> Result<Option<CidPath>, Error> {
        let Some(table) = self.read(BLOBS)? else { return Ok(None) };
        let row = table.get(digest.to_string().as_str()).map_err(failed)?;
        row.map(|row| row.value().parse().map_err(failed)).transpose()
    }

    /// Records that the bytes of `digest` are here whole and verified.
    pub fn add_blob(&self, digest: &Digest, at: &CidPath) -> Result<(), Error> {
        let write = self.0.begin_write().map_err(failed)?;
        let mut table = write.open_table(BLOBS).map_err(failed)?;
        table.insert(digest.to_string().as_str(), at.to_string().as_str()).map_err(failed)?;
        drop(table);
        write.commit().map_err(failed)
    }

    pub fn hold(&self, key: &Cid, holding: &Holding) -> Result<(), Error> {
        let json = serde_json::to_string(holding).map_err(failed)?;
        let write = self.0.begin_write().map_err(failed)?;
        let mut table = write.open_table(HOLDINGS).map_err(failed)?;
        table.insert(key.to_bytes().as_slice(), json.as_str()).map_err(failed)?;
        drop(table);
        write.commit().map_err(failed)
    }

    pub fn holding(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        let Some(table) = self.read(HOLDINGS)? else { return Ok(None) };
        let row = table.get(key.to_bytes().as_slice()).map_err(failed)?;
        row.map(|row| serde_json::from_str(row.value()).map_err(failed)).transpose()
    }

    pub fn holdings(&self) -> Result<Vec<(Cid, Holding)>, Error> {
        let Some(table) = self.read(HOLDINGS)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for row in table.iter().map_err(failed)? {
            let (key, json) = row.map_err(failed)?;
            let key = Cid::try_from(key.value()).map_err(failed)?;
            all.push((key, serde_json::from_str(json.value()).map_err(failed)?));
        }
        Ok(all)
    }

    /// Removes a holding, and the blobs that no other holding has; the others are where those have them.
    pub fn release(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        let Some(holding) = self.holding(key)? else { return Ok(None) };
        let others = self.holdings()?.into_iter().filter(|(other, _)| other != key);
        let kept: HashMap<Digest, CidPath> = others.flat_map(|(_, other)| other.blobs).collect();
        let write = self.0.begin_write().map_err(failed)?;
        let mut holdings = write.open_table(HOLDINGS).map_err(failed)?;
        holdings.remove(key.to_bytes().as_slice()).map_err(failed)?;
        let mut blobs = write.open_table(BLOBS).map_err(failed)?;
        for (digest, _) in &holding.blobs {
            let row = digest.to_string();
            match kept.get(digest) {
                Some(at) => blobs.insert(row.as_str(), at.to_string().as_str()).map_err(failed)?,
                None => blobs.remove(row.as_str()).map_err(failed)?,
            };
        }
        drop((holdings, blobs));
        write.commit().map_err(failed)?;
        Ok(Some(holding))
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
        assert_eq!(index.release(&cid(1)).unwrap(), Some(one));
        assert_eq!(index.release(&cid(1)).unwrap(), None);
        assert_eq!(index.blob(&own).unwrap(), None);
        assert_eq!(index.blob(&shared).unwrap(), Some(at(9)), "as the other has it");
    }
}
