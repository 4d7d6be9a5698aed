//! The size of the store.

use redb::ReadableTableMetadata;

use super::{
    Error, Store,
    extents::Extents,
    tables::{self, BLOCKS, BYTES, FILES, META, PARTIAL, PARTIAL_BYTES, STORED},
};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStat {
    /// Stored blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their DAGs.
    pub layouts: u64,
    /// Blocks that have a row.
    pub blocks: u64,
    /// Files that are being downloaded.
    pub partial: u64,
    /// Bytes of those files that are on disk.
    pub partial_bytes: u64,
    /// Blobs that were found damaged and are not stored since.
    pub damaged: u64,
}

impl Store {
    /// How much there is.
    pub fn stat(&self) -> Result<StoreStat, Error> {
        let (live, damaged) = (self.live(), self.lost()?.len() as u64);
        self.0.database.read(|read| {
            let (meta, rows) = (read.open_table(META)?, read.open_table(PARTIAL)?);
            let (mut partial, mut partial_bytes) = (rows.len()?, tables::number(&meta, PARTIAL_BYTES)?);
            for (id, file) in &live {
                let saved = rows.get(id)?.map(|row| row.value().2);
                partial += u64::from(saved.is_none());
                let saved = saved.map_or(0, |parts| Extents::from_rows(parts).length());
                partial_bytes = (partial_bytes + file.written).saturating_sub(saved);
            }
            Ok(StoreStat {
                damaged,
                blobs: read.open_table(STORED)?.len()?,
                bytes: tables::number(&meta, BYTES)?,
                layouts: read.open_table(FILES)?.len()?,
                blocks: read.open_table(BLOCKS)?.len()?,
                partial,
                partial_bytes,
            })
        })
    }
}
