//! The file of the routing store: records with their expiry in wall-clock time.

use std::{fs, io, path::Path};

use libp2p::{
    Multiaddr, PeerId,
    kad::{ProviderRecord, Record, RecordKey},
};
use redb::{Error, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::clock::Now;
use crate::database::{Database, Settings};

/// The provider's peer id, the expiry of its record, its addresses.
type ProviderRow<'a> = (&'a [u8], u64, Vec<&'a [u8]>);

/// Key -> its providers.
const PROVIDERS: TableDefinition<&[u8], Vec<ProviderRow>> = TableDefinition::new("providers");
/// Key -> the expiry of the value, and the value.
const VALUES: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("values");
/// The file is read once, and written in batches.
const SETTINGS: Settings = Settings { cache_bytes: 1 << 20, quick_repair: false };

/// The records under each key; an empty row means that the key was removed.
#[derive(Default)]
pub struct Rows {
    pub providers: Vec<(RecordKey, Vec<ProviderRecord>)>,
    pub values: Vec<(RecordKey, Option<Record>)>,
}

/// The open file.
pub struct File(Database);

impl File {
    /// Opens the file, or creates it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut database = Database::open(path, SETTINGS)?;
        // All of it is about to be read, so verify the checksums.
        database.check()?;
        database.compact_if_sparse();
        Ok(Self(database))
    }

    /// Replaces a damaged file with an empty one.
    pub fn replace(path: &Path) -> Result<Self, Error> {
        fs::remove_file(path)?;
        Self::open(path)
    }

    pub fn read(&self, now: Now) -> Result<Rows, Error> {
        self.0
            .read(|read| Ok(Rows { providers: read_providers(read, now)?, values: read_values(read, now)? }))
    }

    /// Writes all rows in one transaction.
    pub fn write(&self, rows: &Rows, now: Now) -> Result<(), Error> {
        self.0.write(|write| {
            write_providers(write, rows, now)?;
            write_values(write, rows, now)
        })
    }
}

/// Returns whether `error` means that the file is damaged, rather than temporarily unusable.
pub fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corrupted(_) | Error::UpgradeRequired(_) | Error::TableTypeMismatch { .. } => true,
        Error::Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        _ => false,
    }
}

fn read_providers(read: &ReadTransaction, now: Now) -> Result<Vec<(RecordKey, Vec<ProviderRecord>)>, Error> {
    let table = match read.open_table(PROVIDERS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let rows = table.iter()?.map(|row| {
        let (key, row) = row?;
        let key = RecordKey::new(&key.value());
        let records = row.value().into_iter().filter_map(|row| provider(&key, row, now)).collect();
        Ok((key, records))
    });
    rows.collect()
}

fn provider(key: &RecordKey, (id, ends, addresses): ProviderRow, now: Now) -> Option<ProviderRecord> {
    let address = |bytes: &[u8]| Multiaddr::try_from(bytes.to_vec()).ok();
    Some(ProviderRecord {
        key: key.clone(),
        provider: PeerId::from_bytes(id).ok()?,
        expires: Some(now.instant_of_seconds(ends)),
        addresses: addresses.into_iter().filter_map(address).collect(),
    })
}

fn read_values(read: &ReadTransaction, now: Now) -> Result<Vec<(RecordKey, Option<Record>)>, Error> {
    let table = match read.open_table(VALUES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let rows = table.iter()?.map(|row| {
        let (key, row) = row?;
        let (key, (ends, value)) = (RecordKey::new(&key.value()), row.value());
        let expires = Some(now.instant_of_seconds(ends));
        let record = Record { key: key.clone(), value: value.into(), publisher: None, expires };
        Ok((key, Some(record)))
    });
    rows.collect()
}

fn write_providers(write: &WriteTransaction, rows: &Rows, now: Now) -> Result<(), Error> {
    let mut table = write.open_table(PROVIDERS)?;
    for (key, records) in &rows.providers {
        if records.is_empty() {
            table.remove(key.as_ref())?;
            continue;
        }
        let ids: Vec<_> = records.iter().map(|record| record.provider.to_bytes()).collect();
        let row = records.iter().zip(&ids).filter_map(|(record, id)| {
            let addresses = record.addresses.iter().map(AsRef::as_ref).collect();
            Some((&id[..], now.seconds_of(record.expires?), addresses))
        });
        table.insert(key.as_ref(), row.collect::<Vec<ProviderRow>>())?;
    }
    Ok(())
}

fn write_values(write: &WriteTransaction, rows: &Rows, now: Now) -> Result<(), Error> {
    let mut table = write.open_table(VALUES)?;
    for (key, record) in &rows.values {
        match record {
            Some(Record { value, expires: Some(expires), .. }) => {
                table.insert(key.as_ref(), (now.seconds_of(*expires), &value[..]))?;
            }
            _ => drop(table.remove(key.as_ref())?),
        }
    }
    Ok(())
}
