//! The tables of GC roots: what each retains is rows, so that one more blob costs the same however many there are.

use ocipfs_node::{Cid, as_v1};
use ocipfs_oci::Digest;
use ocipfs_unixfs::CidPath;
use redb::{
    MultimapTable, MultimapTableDefinition, ReadOnlyTable, ReadTransaction, ReadableMultimapTable,
    ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::{Error, damaged};

/// Root CID -> the keys of the GC roots that retain it: CIDs, and names (`follow/...`, `pin/...`,
/// `repository/...`), which sort after every CID.
pub const RETAINED: MultimapTableDefinition<&[u8], &[u8]> = MultimapTableDefinition::new("held");
/// Key of a GC root -> whether a command added it, the number of its images, and those as JSON.
pub const HEADERS: TableDefinition<&[u8], HeaderRow> = TableDefinition::new("holding headers");
/// Key of a GC root (a CID or a pin), root -> the root as it was named, and whether it is announced.
pub const ROOTS: TableDefinition<RootKey, RootRow> = TableDefinition::new("holding roots");
/// Key of a GC root, digest -> where the blob's bytes are.
pub const BLOBS: TableDefinition<(&[u8], &str), &str> = TableDefinition::new("holding blobs");

/// Keys of GC roots that commands added before the node left a network: what they retain is kept, and not shared.
pub const FORMER_NETWORK: TableDefinition<&[u8], ()> = TableDefinition::new("holdings of a former network");

/// How often something was released: what could not be evicted before may be then.
pub const RELEASES: TableDefinition<(), u64> = TableDefinition::new("releases");

/// Whether a command added it, the number of its images, and those as JSON.
pub type HeaderRow<'a> = (bool, u64, &'a str);

/// Key of a GC root, and the root as the key of `RETAINED`.
pub type RootKey<'a> = (&'a [u8], &'a [u8]);
/// The root as it was named, and whether it is announced.
pub type RootRow<'a> = (&'a [u8], bool);

/// The tables, open for one transaction that writes.
pub struct GcRootRows<'t> {
    pub retained: MultimapTable<'t, &'static [u8], &'static [u8]>,
    pub headers: Table<'t, &'static [u8], HeaderRow<'static>>,
    pub roots: Table<'t, RootKey<'static>, RootRow<'static>>,
    pub blobs: Table<'t, (&'static [u8], &'static str), &'static str>,
    pub former: Table<'t, &'static [u8], ()>,
}

impl<'t> GcRootRows<'t> {
    pub fn open(write: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            retained: write.open_multimap_table(RETAINED)?,
            headers: write.open_table(HEADERS)?,
            roots: write.open_table(ROOTS)?,
            blobs: write.open_table(BLOBS)?,
            former: write.open_table(FORMER_NETWORK)?,
        })
    }

    /// Whether a command added the GC root of this key; none if the GC root does not exist.
    pub fn is_kept(&self, gc_root_key: &[u8]) -> Result<Option<bool>, Error> {
        Ok(self.headers.get(gc_root_key)?.map(|row| row.value().0))
    }

    /// Holds a root. One that is announced stays so.
    pub fn add_root(&mut self, gc_root_key: &[u8], root: &Cid, announced: bool) -> Result<(), Error> {
        let root_v1 = as_v1(root).to_bytes();
        self.retained.insert(root_v1.as_slice(), gc_root_key)?;
        let key = (gc_root_key, root_v1.as_slice());
        if self.roots.get(key)?.is_none_or(|row| !row.value().1) {
            self.roots.insert(key, (root.to_bytes().as_slice(), announced))?;
        }
        Ok(())
    }

    /// Releases a root. Returns whether it is unreferenced now.
    pub fn drop_root(&mut self, gc_root_key: &[u8], root: &Cid) -> Result<bool, Error> {
        let root_v1 = as_v1(root).to_bytes();
        self.roots.remove((gc_root_key, root_v1.as_slice()))?;
        self.retained.remove(root_v1.as_slice(), gc_root_key)?;
        Ok(self.retained.get(root_v1.as_slice())?.is_empty())
    }

    /// Counts a release.
    pub fn released(write: &WriteTransaction) -> Result<(), Error> {
        let mut releases = write.open_table(RELEASES)?;
        let count = releases.get(())?.map_or(0, |row| row.value());
        releases.insert((), count + 1)?;
        Ok(())
    }

    /// Removes everything that a GC root retains, and returns the roots that are unreferenced now.
    pub fn clear(&mut self, gc_root_key: &[u8]) -> Result<Vec<Cid>, Error> {
        self.headers.remove(gc_root_key)?;
        self.former.remove(gc_root_key)?;
        let mut digests = Vec::new();
        for row in blobs_of(&self.blobs, gc_root_key)? {
            digests.push(row?.0);
        }
        for digest in digests {
            self.blobs.remove((gc_root_key, digest.to_string().as_str()))?;
        }
        let mut free = Vec::new();
        for (root, _) in roots_of(&self.roots, gc_root_key)? {
            if self.drop_root(gc_root_key, &root)? {
                free.push(root);
            }
        }
        Ok(free)
    }
}

/// The roots of one GC root, and whether each is announced.
pub fn roots_of(
    table: &impl ReadableTable<RootKey<'static>, RootRow<'static>>,
    gc_root_key: &[u8],
) -> Result<Vec<(Cid, bool)>, Error> {
    let mut all = Vec::new();
    for row in table.range((gc_root_key, &[][..])..)? {
        let (key, row) = row?;
        if key.value().0 != gc_root_key {
            break;
        }
        let (root, announced) = row.value();
        all.push((Cid::try_from(root).map_err(damaged)?, announced));
    }
    Ok(all)
}

/// The blobs of one GC root, and where the bytes of each are.
pub fn blobs_of<'a>(
    table: &'a impl ReadableTable<(&'static [u8], &'static str), &'static str>,
    gc_root_key: &'a [u8],
) -> Result<impl Iterator<Item = Result<(Digest, CidPath), Error>> + 'a, Error> {
    let rows = table.range((gc_root_key, "")..)?;
    Ok(rows.map_while(move |row| {
        row.map_err(Error::from)
            .and_then(|(key, path)| {
                if key.value().0 != gc_root_key {
                    return Ok(None);
                }
                let digest = key.value().1.parse().map_err(damaged)?;
                Ok(Some((digest, path.value().parse().map_err(damaged)?)))
            })
            .transpose()
    }))
}

/// A table that is there once something was retained.
pub fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
    match read.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}
