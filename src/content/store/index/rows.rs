//! The tables of holdings: what a holder holds is rows, so that one more blob costs the same however many there are.

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use ocipfs_unixfs::CidPath;
use redb::{
    MultimapTable, MultimapTableDefinition, ReadOnlyTable, ReadTransaction, ReadableMultimapTable,
    ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::{Error, damaged, name};

/// Root CID -> the keys it is held under: CIDs of holdings, and names of holders (`follow/...`, `pin/...`,
/// `repository/...`), which sort after every CID.
pub const HELD: MultimapTableDefinition<&[u8], &[u8]> = MultimapTableDefinition::new("held");
/// Holder key -> whether a command added it, the number of its images, and those as JSON.
pub const HEADERS: TableDefinition<&[u8], HeaderRow> = TableDefinition::new("holding headers");
/// Holder key (of a holding or a pin), root -> the root as it was named, and whether it is announced.
pub const ROOTS: TableDefinition<RootKey, RootRow> = TableDefinition::new("holding roots");
/// Holder key, digest -> where the blob's bytes are.
pub const BLOBS: TableDefinition<(&[u8], &str), &str> = TableDefinition::new("holding blobs");

/// Holder keys of what commands added before the node left a network: they keep what they hold, and share nothing.
pub const FORMER: TableDefinition<&[u8], ()> = TableDefinition::new("holdings of a former network");

/// How often something was released: what could not be evicted before may be then.
pub const RELEASES: TableDefinition<(), u64> = TableDefinition::new("releases");

/// Whether a command added it, the number of its images, and those as JSON.
pub type HeaderRow<'a> = (bool, u64, &'a str);

/// Holder key, and the root as the key of `HELD`.
pub type RootKey<'a> = (&'a [u8], &'a [u8]);
/// The root as it was named, and whether it is announced.
pub type RootRow<'a> = (&'a [u8], bool);

/// The tables, open for one transaction that writes.
pub struct ReferenceRows<'t> {
    pub held: MultimapTable<'t, &'static [u8], &'static [u8]>,
    pub headers: Table<'t, &'static [u8], HeaderRow<'static>>,
    pub roots: Table<'t, RootKey<'static>, RootRow<'static>>,
    pub blobs: Table<'t, (&'static [u8], &'static str), &'static str>,
    pub former: Table<'t, &'static [u8], ()>,
}

impl<'t> ReferenceRows<'t> {
    pub fn open(write: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            held: write.open_multimap_table(HELD)?,
            headers: write.open_table(HEADERS)?,
            roots: write.open_table(ROOTS)?,
            blobs: write.open_table(BLOBS)?,
            former: write.open_table(FORMER)?,
        })
    }

    /// Whether a command added this holding; none without such a holding.
    pub fn is_owned(&self, holder: &[u8]) -> Result<Option<bool>, Error> {
        Ok(self.headers.get(holder)?.map(|row| row.value().0))
    }

    /// Holds a root. One that is announced stays so.
    pub fn add_root(&mut self, holder: &[u8], root: &Cid, announced: bool) -> Result<(), Error> {
        let name = name(root);
        self.held.insert(name.as_slice(), holder)?;
        let key = (holder, name.as_slice());
        if self.roots.get(key)?.is_none_or(|row| !row.value().1) {
            self.roots.insert(key, (root.to_bytes().as_slice(), announced))?;
        }
        Ok(())
    }

    /// Lets go of a root; whether no holder has it any more.
    pub fn drop_root(&mut self, holder: &[u8], root: &Cid) -> Result<bool, Error> {
        let name = name(root);
        self.roots.remove((holder, name.as_slice()))?;
        self.held.remove(name.as_slice(), holder)?;
        Ok(self.held.get(name.as_slice())?.is_empty())
    }

    /// Counts a release.
    pub fn released(write: &WriteTransaction) -> Result<(), Error> {
        let mut releases = write.open_table(RELEASES)?;
        let count = releases.get(())?.map_or(0, |row| row.value());
        releases.insert((), count + 1)?;
        Ok(())
    }

    /// Removes everything that a holder holds, and gives the roots that no holder has any more.
    pub fn clear(&mut self, holder: &[u8]) -> Result<Vec<Cid>, Error> {
        self.headers.remove(holder)?;
        self.former.remove(holder)?;
        let mut digests = Vec::new();
        for row in blobs_of(&self.blobs, holder)? {
            digests.push(row?.0);
        }
        for digest in digests {
            self.blobs.remove((holder, digest.to_string().as_str()))?;
        }
        let mut free = Vec::new();
        for (root, _) in roots_of(&self.roots, holder)? {
            if self.drop_root(holder, &root)? {
                free.push(root);
            }
        }
        Ok(free)
    }
}

/// The roots of one holder, and whether each is announced.
pub fn roots_of(
    table: &impl ReadableTable<RootKey<'static>, RootRow<'static>>,
    holder: &[u8],
) -> Result<Vec<(Cid, bool)>, Error> {
    let mut all = Vec::new();
    for row in table.range((holder, &[][..])..)? {
        let (key, row) = row?;
        if key.value().0 != holder {
            break;
        }
        let (root, announced) = row.value();
        all.push((Cid::try_from(root).map_err(damaged)?, announced));
    }
    Ok(all)
}

/// The blobs of one holder, and where the bytes of each are.
pub fn blobs_of<'a>(
    table: &'a impl ReadableTable<(&'static [u8], &'static str), &'static str>,
    holder: &'a [u8],
) -> Result<impl Iterator<Item = Result<(Digest, CidPath), Error>> + 'a, Error> {
    let rows = table.range((holder, "")..)?;
    Ok(rows.map_while(move |row| {
        row.map_err(Error::from)
            .and_then(|(key, path)| {
                if key.value().0 != holder {
                    return Ok(None);
                }
                let digest = key.value().1.parse().map_err(damaged)?;
                Ok(Some((digest, path.value().parse().map_err(damaged)?)))
            })
            .transpose()
    }))
}

/// A table that is there once something was held.
pub fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
    match read.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}
