//! Graph of blocks in one snapshot of the index: what is reachable from where, and what is unreferenced.

use ocipfs_node::Cid;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

pub use super::layout::BlockKey;
use super::{
    Error,
    blocks::is_loose,
    extents::Extents,
    layout::BlockPlace,
    tables::{self, BLOCKS, FILES, Hash, PARTIAL, ROOTS, SHARED, STORED, USED},
};
use ocipfs_unixfs::{DAG_CBOR, DAG_PB, links};

/// A stored blob with all its layouts, or a partial file.
#[derive(Clone, Debug)]
pub struct GraphFile {
    /// Its sha256, then its other digests; none of a partial file.
    pub hashes: Vec<Vec<u8>>,
    /// The roots of its layouts and their ids.
    pub layouts: Vec<(Cid, u64)>,
    /// The bytes that are here.
    pub bytes: u64,
    /// When it was read last.
    pub used: u64,
}

/// The links between blocks.
pub struct Graph {
    blocks: ReadOnlyTable<&'static [u8], (u64, tables::PlaceRow<'static>)>,
    roots: ReadOnlyTable<&'static [u8], u64>,
}

/// A block that belongs to no file.
#[derive(Clone, Debug)]
pub struct LooseBlock {
    pub key: BlockKey,
    pub bytes: u64,
}

impl GraphFile {
    /// Whether it is here whole.
    pub fn is_stored(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// The roots of its layouts.
    pub fn roots(&self) -> Vec<Cid> {
        self.layouts.iter().map(|(root, _)| *root).collect()
    }
}

impl Graph {
    /// The blocks as one snapshot has them.
    pub fn open(read: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self { blocks: read.open_table(BLOCKS)?, roots: read.open_table(ROOTS)? })
    }

    /// Adds what is directly below a block, as far as that is here.
    pub fn push_children(&self, cid: &Cid, key: &BlockKey, to: &mut Vec<Cid>) -> Result<(), Error> {
        // What is below the root of a file is the file's own.
        if !matches!(cid.codec(), DAG_PB | DAG_CBOR) || self.roots.get(key.bytes())?.is_some() {
            return Ok(());
        }
        let row = self.blocks.get(key.bytes())?.map(|row| BlockPlace::from_row(row.value().1));
        if let Some(BlockPlace::Inline(block)) = row {
            // A block that does not decode leads nowhere.
            to.extend(links(cid, block).unwrap_or_default());
        }
        Ok(())
    }
}

fn parse(root: &[u8]) -> Result<Cid, Error> {
    Cid::try_from(root).map_err(|e| Error::Damaged(e.to_string()))
}

/// Tells every blob, and every partial file.
pub fn for_each_file(
    read: &ReadTransaction,
    mut each: impl FnMut(GraphFile) -> Result<(), Error>,
) -> Result<(), Error> {
    let (files, used) = (read.open_table(FILES)?, read.open_table(USED)?);
    for row in read.open_table(STORED)?.iter()? {
        let (sha256, row) = row?;
        each(stored(&files, &used, sha256.value(), row.value())?)?;
    }
    for row in read.open_table(PARTIAL)?.iter()? {
        let (id, row) = row?;
        each(partial(&used, id.value(), row.value())?)?;
    }
    Ok(())
}

/// The blob of which this file is a layout, or the partial file under this id.
pub fn file_of(read: &ReadTransaction, id: u64) -> Result<Option<GraphFile>, Error> {
    let (files, used) = (read.open_table(FILES)?, read.open_table(USED)?);
    let Some(file) = files.get(id)? else {
        let row = read.open_table(PARTIAL)?.get(id)?;
        return row.map(|row| partial(&used, id, row.value())).transpose();
    };
    let sha256 = file.value().0;
    let row = read.open_table(STORED)?.get(sha256)?;
    row.map(|row| stored(&files, &used, sha256, row.value())).transpose()
}

type FilesTable = ReadOnlyTable<u64, (&'static Hash, u64, &'static [u8])>;
type UsedTable = ReadOnlyTable<u64, u64>;

fn stored(
    files: &FilesTable,
    used: &UsedTable,
    sha256: &Hash,
    row: tables::StoredRow,
) -> Result<GraphFile, Error> {
    let (bytes, ids, aliases) = row;
    let hashes = std::iter::once(&sha256[..]).chain(aliases).map(Vec::from).collect();
    let mut item = GraphFile { hashes, layouts: Vec::new(), bytes, used: 0 };
    for id in ids {
        let Some(file) = files.get(id)? else { continue };
        item.layouts.push((parse(file.value().2)?, id));
        item.used = item.used.max(last_use(used, id)?);
    }
    Ok(item)
}

fn partial(used: &UsedTable, id: u64, (root, _, parts): tables::PartialRow) -> Result<GraphFile, Error> {
    let bytes = Extents::from_rows(parts).length();
    Ok(GraphFile { hashes: Vec::new(), layouts: vec![(parse(root)?, id)], bytes, used: last_use(used, id)? })
}

fn last_use(used: &UsedTable, id: u64) -> Result<u64, Error> {
    Ok(used.get(id)?.map_or(0, |row| row.value()))
}

/// Tells every block that belongs to no file.
pub fn for_each_loose_block(
    read: &ReadTransaction,
    mut each: impl FnMut(LooseBlock) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut tell = |key: &[u8], place: tables::PlaceRow| {
        each(LooseBlock { key: BlockKey::from_row(key), bytes: place.1.len() as u64 })
    };
    for row in read.open_table(BLOCKS)?.iter()? {
        let (key, row) = row?;
        let (owner, place) = row.value();
        if is_loose(owner) {
            tell(key.value(), place)?;
        }
    }
    for row in read.open_table(SHARED)?.iter()? {
        let (key, place) = row?;
        let (key, owner) = key.value();
        if is_loose(owner) {
            tell(key, place.value())?;
        }
    }
    Ok(())
}
