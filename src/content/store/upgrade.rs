//! The rows of an earlier format made into those of this one: in one transaction, so that a crash leaves either.

use redb::{ReadTransaction, ReadableTable, TableHandle, UntypedTableHandle, WriteTransaction};

use super::{
    Error, FORMAT,
    database::Database,
    extents::Extents,
    index, origin,
    tables::{self, FORMAT_ROW, META, ORIGINS, PARTIAL_BYTES, Tables},
};

/// The oldest format that is upgraded: GC roots were JSON, and nothing counted what is being downloaded.
pub const OLDEST_FORMAT: u64 = 2;

/// The format that an index says it has; none where it says nothing.
pub fn format_of(read: &ReadTransaction) -> Result<Option<u64>, Error> {
    let has_meta = read.list_tables()?.any(|table| table.name() == META.name());
    if has_meta { tables::row(read, META, FORMAT_ROW, |format| format) } else { Ok(None) }
}

/// Makes the tables of an empty index, or upgrades those of an earlier format.
pub fn prepare(database: &Database) -> Result<(), Error> {
    match database.read(|read| Ok((format_of(read)?, has_origins(read.list_tables()?))))? {
        (Some(FORMAT), true) => Ok(()),
        _ => database.write(upgrade),
    }
}

fn has_origins(mut tables: impl Iterator<Item = UntypedTableHandle>) -> bool {
    tables.any(|table| table.name() == ORIGINS.name())
}

/// Brings every row up to date, whatever of it was done before.
pub fn upgrade(write: &WriteTransaction) -> Result<(), Error> {
    let has_origins = has_origins(write.list_tables()?);
    let mut tables = Tables::open(write)?;
    let partial = partial_bytes(&tables)?;
    tables.meta.insert(PARTIAL_BYTES, partial)?;
    tables.meta.insert(FORMAT_ROW, FORMAT)?;
    drop(tables);
    index::from_format_2(write)?;
    if has_origins { Ok(()) } else { origin::from_holders(write) }
}

fn partial_bytes(tables: &Tables) -> Result<u64, Error> {
    let mut sum = 0u64;
    for row in tables.partial.iter()? {
        sum = sum.saturating_add(Extents::from_rows(row?.1.value().2).length());
    }
    Ok(sum)
}
