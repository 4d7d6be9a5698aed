//! Records kept over a restart: those that this node published, and the last ones of other names. Rows only: which
//! record of a name is the newest is decided in `subscriptions`.

mod bounded_table;

use std::path::Path;

use crate::{
    Domain,
    database::{Database, Settings},
};
use bounded_table::BoundedTable;
use libp2p::PeerId;
use redb::{Error, ReadTransaction, ReadableTable, Table, TableDefinition, TableError};

type RecordTable = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Name -> the record that this node signed.
const OWN: RecordTable = TableDefinition::new("own");
/// Own name -> the newest record that another node signed under it.
const FOREIGN: RecordTable = TableDefinition::new("foreign");
/// Name -> its position among the followed names (0: followed by configuration only), and its last record.
const FOLLOWED: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("followed");
/// Name -> the last verified record of another node.
const SEEN: BoundedTable = BoundedTable::new("seen", "seen-turns");
/// Domain -> its last DNSLink.
const LINKS: BoundedTable = BoundedTable::new("links", "links-turns");
/// Other names, or domains, that are remembered.
const MAX_SEEN: u64 = 4096;
const SETTINGS: Settings = Settings { cache_bytes: 1 << 20, quick_repair: false };

/// The file `names.redb` of a node directory.
pub struct RecordStore {
    database: Database,
}

impl RecordStore {
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let database = Database::open(&data_dir.join("names.redb"), SETTINGS)?;
        database.compact_if_sparse();
        Ok(Self { database })
    }

    pub fn own(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(OWN, &name.to_bytes())
    }

    pub fn put_own(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.write(OWN, &name.to_bytes(), record)
    }

    pub fn seen(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(SEEN.rows, &name.to_bytes())
    }

    /// Returns the newest record under an own name that was signed elsewhere.
    pub fn foreign(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(FOREIGN, &name.to_bytes())
    }

    pub fn put_foreign(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.write(FOREIGN, &name.to_bytes(), record)
    }

    /// Returns the persistently followed names in order.
    pub fn followed(&self) -> Result<Vec<PeerId>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, FOLLOWED)? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for row in table.iter()? {
                let (name, row) = row?;
                if let (Ok(name), place @ 1..) = (PeerId::from_bytes(name.value()), row.value().0) {
                    all.push((place, name));
                }
            }
            all.sort_by_key(|(place, _)| *place);
            Ok(all.into_iter().map(|(_, name)| name).collect())
        })
    }

    /// Appends a name to the followed ones. Returns false if it was followed already.
    pub fn follow(&self, name: &PeerId) -> Result<bool, Error> {
        self.change_followed(|table| {
            let mut last = 0;
            for row in table.iter()? {
                last = last.max(row?.1.value().0);
            }
            let (place, record) = followed_row(table, name)?;
            table
                .insert(&*name.to_bytes(), (if place == 0 { last + 1 } else { place }, record.as_slice()))?;
            Ok(place == 0)
        })
    }

    /// Stops following a name. Returns false if it was not followed. Its last record is kept.
    pub fn unfollow(&self, name: &PeerId) -> Result<bool, Error> {
        self.change_followed(|table| {
            let (place, record) = followed_row(table, name)?;
            if place > 0 {
                table.insert(&*name.to_bytes(), (0, record.as_slice()))?;
            }
            Ok(place > 0)
        })
    }

    /// Returns the last record of a followed name.
    pub fn followed_record(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, FOLLOWED)? else { return Ok(None) };
            let row = table.get(&*name.to_bytes())?;
            Ok(row.map(|row| row.value().1.to_vec()).filter(|record| !record.is_empty()))
        })
    }

    pub fn put_followed_record(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.change_followed(|table| {
            let (place, _) = followed_row(table, name)?;
            table.insert(&*name.to_bytes(), (place, record))?;
            Ok(())
        })
    }

    fn change_followed<T>(
        &self,
        change: impl FnOnce(&mut Table<&[u8], (u64, &[u8])>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.database.write(|write| change(&mut write.open_table(FOLLOWED)?))
    }

    /// Deletes all records, own and others'. Followed names stay followed.
    pub fn delete_records(&self) -> Result<(), Error> {
        let followed = self.followed()?;
        self.database.write(|write| {
            write.delete_table(OWN)?;
            SEEN.clear(write)?;
            LINKS.clear(write)?;
            write.delete_table(FOLLOWED)?;
            let mut table = write.open_table(FOLLOWED)?;
            for (place, name) in (1..).zip(&followed) {
                table.insert(&*name.to_bytes(), (place, &[][..]))?;
            }
            Ok(())
        })
    }

    /// Returns all names that this node published, with their records.
    pub fn all_own(&self) -> Result<Vec<(PeerId, Vec<u8>)>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, OWN)? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for row in table.iter()? {
                let (name, record) = row?;
                if let Ok(name) = PeerId::from_bytes(name.value()) {
                    all.push((name, record.value().to_vec()));
                }
            }
            Ok(all)
        })
    }

    /// Stores a record of another node's name; beyond the limit the oldest one is evicted.
    pub fn put_seen(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.database.write(|write| SEEN.insert(write, &name.to_bytes(), record, MAX_SEEN))
    }

    pub fn link(&self, domain: &Domain) -> Result<Option<String>, Error> {
        let link = self.row(LINKS.rows, domain.as_str().as_bytes())?;
        Ok(link.and_then(|link| String::from_utf8(link).ok()))
    }

    /// Stores a DNSLink if it has changed.
    pub fn put_link(&self, domain: &Domain, link: &str) -> Result<(), Error> {
        if self.link(domain)?.as_deref() == Some(link) {
            return Ok(());
        }
        let key = domain.as_str().as_bytes();
        self.database.write(|write| LINKS.insert(write, key, link.as_bytes(), MAX_SEEN))
    }

    fn row(&self, table: RecordTable, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, table)? else { return Ok(None) };
            Ok(table.get(key)?.map(|record| record.value().to_vec()))
        })
    }

    fn write(&self, table: RecordTable, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.database.write(|write| {
            write.open_table(table)?.insert(key, value)?;
            Ok(())
        })
    }
}

/// Opens a table for reading, or returns `None` if it was never written.
fn existing<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, Error> {
    match read.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

fn followed_row(table: &Table<&[u8], (u64, &[u8])>, name: &PeerId) -> Result<(u64, Vec<u8>), Error> {
    let row = table.get(&*name.to_bytes())?;
    Ok(row.map(|row| (row.value().0, row.value().1.to_vec())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_restart_and_own_ones_are_separate() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (PeerId::random(), PeerId::random());
        {
            let record_store = RecordStore::open(dir.path()).unwrap();
            assert_eq!(record_store.own(&mine).unwrap(), None);
            record_store.put_own(&mine, &[1]).unwrap();
            record_store.put_seen(&other, &[2]).unwrap();
        }
        let domain: Domain = "example.org".parse().unwrap();
        let record_store = RecordStore::open(dir.path()).unwrap();
        assert_eq!(record_store.link(&domain).unwrap(), None);
        for link in ["/ipfs/a", "/ipfs/a", "/ipfs/b"] {
            record_store.put_link(&domain, link).unwrap();
            assert_eq!(record_store.link(&domain).unwrap().as_deref(), Some(link));
        }
        assert_eq!(record_store.all_own().unwrap(), [(mine, vec![1])]);
        assert_eq!(
            (record_store.seen(&other).unwrap(), record_store.own(&other).unwrap()),
            (Some(vec![2]), None)
        );
        record_store.put_own(&mine, &[3]).unwrap();
        assert_eq!(record_store.own(&mine).unwrap(), Some(vec![3]));
    }

    #[test]
    fn followed_names_keep_their_order_and_records() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other, third] = [(); 3].map(|()| PeerId::random());
        {
            let record_store = RecordStore::open(dir.path()).unwrap();
            assert!(
                record_store.followed().unwrap().is_empty()
                    && record_store.followed_record(&one).unwrap().is_none()
            );
            assert_eq!(
                [other, one, other].map(|name| record_store.follow(&name).unwrap()),
                [true, true, false]
            );
            record_store.put_followed_record(&one, &[1]).unwrap();
            // Followed by configuration.
            record_store.put_followed_record(&third, &[3]).unwrap();
        }
        let record_store = RecordStore::open(dir.path()).unwrap();
        assert_eq!(record_store.followed().unwrap(), [other, one]);
        assert_eq!(
            [one, other, third].map(|name| record_store.followed_record(&name).unwrap()),
            [Some(vec![1]), None, Some(vec![3])]
        );
        assert_eq!([one, one].map(|name| record_store.unfollow(&name).unwrap()), [true, false]);
        assert!(record_store.follow(&third).unwrap() && record_store.follow(&one).unwrap());
        assert_eq!(record_store.followed().unwrap(), [other, third, one]);
        assert_eq!(record_store.followed_record(&one).unwrap(), Some(vec![1]));
    }
}
