//! The tables of the index and what one transaction sees of them.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::error::Error;

/// Where a block of an owner is: a window of its file, or else the bytes in the row.
pub type PlaceRow<'a> = (Option<(u64, u64)>, &'a [u8]);
/// The bytes of a blob's sha256.
pub type Hash = [u8; 32];
/// Size, file ids, aliases.
pub type StoredRow<'a> = (u64, Vec<u64>, Vec<&'a [u8]>);
/// sha256, file ids.
pub type DamagedRow<'a> = (&'a Hash, Vec<u64>);
/// Root CID, size, and the extents that are synced.
pub type PartialRow<'a> = (&'a [u8], u64, Vec<(u64, u64)>);

/// Block key -> its (first) owner and its place.
pub const BLOCKS: TableDefinition<&[u8], (u64, PlaceRow)> = TableDefinition::new("blocks");
/// Block key and further owner -> where that one has it.
pub const SHARED: TableDefinition<(&[u8], u64), PlaceRow> = TableDefinition::new("shared");
/// File id -> sha256, size, root CID: the layouts of stored blobs.
pub const FILES: TableDefinition<u64, (&Hash, u64, &[u8])> = TableDefinition::new("files");
/// Root key -> file id, stored or arriving.
pub const ROOTS: TableDefinition<&[u8], u64> = TableDefinition::new("roots");
/// sha256 -> size, file ids, aliases.
pub const STORED: TableDefinition<&Hash, StoredRow> = TableDefinition::new("stored");
/// The hash of another digest -> sha256.
pub const ALIASES: TableDefinition<&[u8], &Hash> = TableDefinition::new("aliases");
/// sha256 -> the bytes of a blob that is too small for a file.
pub const SMALL: TableDefinition<&Hash, &[u8]> = TableDefinition::new("small");
/// File id -> root CID, size, and the extents that are synced.
pub const PARTIAL: TableDefinition<u64, PartialRow> = TableDefinition::new("arriving");
/// File id of a partial file -> how many of its first bytes are hashed, and the state of their sha256.
pub const HASHED: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("hashed");
/// Upload -> its owner, file id, when it was saved (seconds since 1970), and how long it was then.
pub const UPLOADS: TableDefinition<&str, (&str, u64, u64, u64)> = TableDefinition::new("uploads");
/// sha256 of blobs whose rows are gone and whose files may not be yet.
pub const DOOMED: TableDefinition<&Hash, ()> = TableDefinition::new("doomed");
/// The hash of each digest of a blob that was stored and is damaged -> its sha256, and its layouts: partial files.
pub const DAMAGED: TableDefinition<&[u8], DamagedRow> = TableDefinition::new("damaged");
/// File id -> its root: files whose other rows are gone, and whose blocks go in lots.
pub const REMOVED: TableDefinition<u64, &[u8]> = TableDefinition::new("removed");
/// File id -> where its bytes came from, where that is not a push.
pub const ORIGINS: TableDefinition<u64, u8> = TableDefinition::new("origins");
/// Root of a stored file that came from peers: in directories without `ORIGINS`.
pub const FETCHED: TableDefinition<&[u8], ()> = TableDefinition::new("fetched");
/// File id -> when it was last read, or came, in milliseconds since 1970.
pub const USED: TableDefinition<u64, u64> = TableDefinition::new("used");
/// Numbers that stand alone.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Rows of `META`.
pub const FORMAT_ROW: &str = "format";
pub const NEXT_ID: &str = "next id";
pub const BYTES: &str = "bytes";
pub const LOOSE_BYTES: &str = "loose bytes";
/// Whether the node ever left a network.
pub const LEFT_NETWORK: &str = "left network";
/// Whether the published tree leaves out repositories that not all may pull from.
pub const HIDES_REPOSITORIES: &str = "hides repositories";
/// Whether most of the index was free pages and it could not be compacted while the node served.
pub const COMPACT_AT_START: &str = "compact at start";
/// Bytes of partial blobs that are on disk.
pub const PARTIAL_BYTES: &str = "arriving bytes";

/// Every table, open for one transaction that writes.
pub struct Tables<'t> {
    pub blocks: Table<'t, &'static [u8], (u64, PlaceRow<'static>)>,
    pub shared: Table<'t, (&'static [u8], u64), PlaceRow<'static>>,
    pub files: Table<'t, u64, (&'static Hash, u64, &'static [u8])>,
    pub roots: Table<'t, &'static [u8], u64>,
    pub stored: Table<'t, &'static Hash, StoredRow<'static>>,
    pub aliases: Table<'t, &'static [u8], &'static Hash>,
    pub small: Table<'t, &'static Hash, &'static [u8]>,
    pub partial: Table<'t, u64, PartialRow<'static>>,
    pub hashed: Table<'t, u64, (u64, &'static [u8])>,
    pub uploads: Table<'t, &'static str, (&'static str, u64, u64, u64)>,
    pub doomed: Table<'t, &'static Hash, ()>,
    pub damaged: Table<'t, &'static [u8], DamagedRow<'static>>,
    pub removed: Table<'t, u64, &'static [u8]>,
    pub origins: Table<'t, u64, u8>,
    pub used: Table<'t, u64, u64>,
    pub meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub fn open(write: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            blocks: write.open_table(BLOCKS)?,
            shared: write.open_table(SHARED)?,
            files: write.open_table(FILES)?,
            roots: write.open_table(ROOTS)?,
            stored: write.open_table(STORED)?,
            aliases: write.open_table(ALIASES)?,
            small: write.open_table(SMALL)?,
            partial: write.open_table(PARTIAL)?,
            hashed: write.open_table(HASHED)?,
            uploads: write.open_table(UPLOADS)?,
            doomed: write.open_table(DOOMED)?,
            damaged: write.open_table(DAMAGED)?,
            removed: write.open_table(REMOVED)?,
            origins: write.open_table(ORIGINS)?,
            used: write.open_table(USED)?,
            meta: write.open_table(META)?,
        })
    }

    /// Records that no id below `next` may be given again.
    pub fn used_ids(&mut self, next: u64) -> Result<(), Error> {
        let known = number(&self.meta, NEXT_ID)?;
        self.meta.insert(NEXT_ID, next.max(known))?;
        Ok(())
    }
}

/// A number of `META` goes up, or down by what is negative.
pub fn add_to(meta: &mut Table<&'static str, u64>, row: &'static str, change: i64) -> Result<(), Error> {
    let now = number(meta, row)?.saturating_add_signed(change);
    meta.insert(row, now)?;
    Ok(())
}

/// A number of `META`; 0 before it was first written.
pub fn number(meta: &impl ReadableTable<&'static str, u64>, row: &str) -> Result<u64, Error> {
    Ok(meta.get(row)?.map_or(0, |row| row.value()))
}

/// Reads one row as `with` makes something of it.
pub fn row<K: redb::Key + 'static, V: redb::Value + 'static, T>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
    key: K::SelfType<'_>,
    with: impl FnOnce(V::SelfType<'_>) -> T,
) -> Result<Option<T>, Error> {
    let table = read.open_table(table)?;
    Ok(table.get(key)?.map(|row| with(row.value())))
}
