//! Records that outlive a restart: those this node published, and the last that was seen of others' names.

mod aged;

use std::path::Path;

use super::Domain;
use crate::database::{Database, Settings};
use aged::Aged;
use libp2p::PeerId;
use redb::{Error, ReadTransaction, ReadableTable, Table, TableDefinition, TableError};

type Records = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Name -> the record this node signed for it.
const OWN: Records = TableDefinition::new("own");
/// Own name -> the newest record that another node signed under it.
const FOREIGN: Records = TableDefinition::new("foreign");
/// Name -> its place among the followed ones (0: it is followed only where `serve` is told so), and its last record.
const FOLLOWED: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("followed");
/// Name -> the last verified record of another node.
const SEEN: Aged = Aged::new("seen", "seen-turns");
/// Domain -> what it last was a link to.
const LINKS: Aged = Aged::new("links", "links-turns");
/// More names of others, or domains, are not remembered.
const MAX_SEEN: u64 = 4096;
const SETTINGS: Settings = Settings { cache_bytes: 1 << 20, quick_repair: false };

/// The file `names.redb` of a node directory.
pub struct Kept {
    database: Database,
}

impl Kept {
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let database = Database::open(&data_dir.join("names.redb"), SETTINGS)?;
        Ok(Self { database })
    }

    pub fn own(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(OWN, &name.to_bytes())
    }

    pub fn set_own(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.write(OWN, &name.to_bytes(), record)
    }

    pub fn seen(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(SEEN.rows, &name.to_bytes())
    }

    /// The newest record under an own name that was not signed here.
    pub fn foreign(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.row(FOREIGN, &name.to_bytes())
    }

    pub fn see_foreign(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.write(FOREIGN, &name.to_bytes(), record)
    }

    /// The names that are followed by command, in order.
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

    /// Follows a name from now on, behind those before; false if that was so.
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

    /// Follows a name no more; false if it was not followed. What it meant last is kept.
    pub fn unfollow(&self, name: &PeerId) -> Result<bool, Error> {
        self.change_followed(|table| {
            let (place, record) = followed_row(table, name)?;
            if place > 0 {
                table.insert(&*name.to_bytes(), (0, record.as_slice()))?;
            }
            Ok(place > 0)
        })
    }

    /// The last record of a name that is followed.
    pub fn head(&self, name: &PeerId) -> Result<Option<Vec<u8>>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, FOLLOWED)? else { return Ok(None) };
            let row = table.get(&*name.to_bytes())?;
            Ok(row.map(|row| row.value().1.to_vec()).filter(|record| !record.is_empty()))
        })
    }

    pub fn set_head(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
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

    /// Forgets every record, own and others'. Names that are followed stay so.
    pub fn forget_records(&self) -> Result<(), Error> {
        let followed = self.followed()?;
        self.database.write(|write| {
            write.delete_table(OWN)?;
            SEEN.forget(write)?;
            LINKS.forget(write)?;
            write.delete_table(FOLLOWED)?;
            let mut table = write.open_table(FOLLOWED)?;
            for (place, name) in (1..).zip(&followed) {
                table.insert(&*name.to_bytes(), (place, &[][..]))?;
            }
            Ok(())
        })
    }

    /// All names that this node published, and their records.
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

    /// Remembers a record of another node's name; beyond the limit the one seen longest ago is forgotten.
    pub fn see(&self, name: &PeerId, record: &[u8]) -> Result<(), Error> {
        self.database.write(|write| SEEN.insert(write, &name.to_bytes(), record, MAX_SEEN))
    }

    pub fn link(&self, domain: &Domain) -> Result<Option<String>, Error> {
        let link = self.row(LINKS.rows, domain.as_str().as_bytes())?;
        Ok(link.and_then(|link| String::from_utf8(link).ok()))
    }

    /// Remembers a link, where it is another than before.
    pub fn see_link(&self, domain: &Domain, link: &str) -> Result<(), Error> {
        if self.link(domain)?.as_deref() == Some(link) {
            return Ok(());
        }
        let key = domain.as_str().as_bytes();
        self.database.write(|write| LINKS.insert(write, key, link.as_bytes(), MAX_SEEN))
    }

    fn row(&self, table: Records, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.database.read(|read| {
            let Some(table) = existing(read, table)? else { return Ok(None) };
            Ok(table.get(key)?.map(|record| record.value().to_vec()))
        })
    }

    fn write(&self, table: Records, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.database.write(|write| {
            write.open_table(table)?.insert(key, value)?;
            Ok(())
        })
    }
}

/// Opens a table for reading, if anything was ever written to it.
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
    fn records_outlive_a_restart_and_own_ones_are_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (PeerId::random(), PeerId::random());
        {
            let kept = Kept::open(dir.path()).unwrap();
            assert_eq!(kept.own(&mine).unwrap(), None);
            kept.set_own(&mine, &[1]).unwrap();
            kept.see(&other, &[2]).unwrap();
        }
        let domain: Domain = "example.org".parse().unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        assert_eq!(kept.link(&domain).unwrap(), None);
        for link in ["/ipfs/a", "/ipfs/a", "/ipfs/b"] {
            kept.see_link(&domain, link).unwrap();
            assert_eq!(kept.link(&domain).unwrap().as_deref(), Some(link));
        }
        assert_eq!(kept.all_own().unwrap(), [(mine, vec![1])]);
        assert_eq!((kept.seen(&other).unwrap(), kept.own(&other).unwrap()), (Some(vec![2]), None));
        kept.set_own(&mine, &[3]).unwrap();
        assert_eq!(kept.own(&mine).unwrap(), Some(vec![3]));
    }

    #[test]
    fn followed_names_stay_in_order_and_keep_their_records() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other, third] = [(); 3].map(|()| PeerId::random());
        {
            let kept = Kept::open(dir.path()).unwrap();
            assert!(kept.followed().unwrap().is_empty() && kept.head(&one).unwrap().is_none());
            assert_eq!([other, one, other].map(|name| kept.follow(&name).unwrap()), [true, true, false]);
            kept.set_head(&one, &[1]).unwrap();
            // Followed because `serve` is told so.
            kept.set_head(&third, &[3]).unwrap();
        }
        let kept = Kept::open(dir.path()).unwrap();
        assert_eq!(kept.followed().unwrap(), [other, one]);
        assert_eq!(
            [one, other, third].map(|name| kept.head(&name).unwrap()),
            [Some(vec![1]), None, Some(vec![3])]
        );
        assert_eq!([one, one].map(|name| kept.unfollow(&name).unwrap()), [true, false]);
        assert!(kept.follow(&third).unwrap() && kept.follow(&one).unwrap());
        assert_eq!(kept.followed().unwrap(), [other, third, one]);
        assert_eq!(kept.head(&one).unwrap(), Some(vec![1]));
    }
}
