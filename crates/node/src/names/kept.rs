//! Records that outlive a restart: those this node published, and the last that was seen of others' names.

use std::{path::Path, sync::Mutex};

use super::Domain;
use libp2p::PeerId;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableError,
};

/// Name -> the record this node signed for it.
const OWN: TableDefinition<&[u8], &[u8]> = TableDefinition::new("own");
/// Name -> the last verified record of somebody else.
const SEEN: TableDefinition<&[u8], &[u8]> = TableDefinition::new("seen");
/// Domain -> what it last was a link to.
const LINKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("links");
/// Name -> its place among the followed ones (0: it is followed only where `serve` is told so), and its last record.
const FOLLOWED: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("followed");
/// Own name -> the newest record that somebody else signed under it.
const FOREIGN: TableDefinition<&[u8], &[u8]> = TableDefinition::new("foreign");
/// More names of others are not remembered: the first to go is any.
const MOST_SEEN: u64 = 4096;
const CACHE_BYTES: usize = 1 << 20;

/// The file `names.redb` of a node directory.
pub struct Kept {
    database: Database,
    /// One publication at a time: each counts on from the one before.
    publishing: Mutex<()>,
}

impl Kept {
    pub fn open(data_dir: &Path) -> Result<Self, redb::Error> {
        let database =
            redb::Builder::new().set_cache_size(CACHE_BYTES).create(data_dir.join("names.redb"))?;
        Ok(Self { database, publishing: Mutex::default() })
    }

    pub fn own(&self, name: &PeerId) -> Result<Option<Vec<u8>>, redb::Error> {
        self.row(OWN, &name.to_bytes())
    }

    pub fn seen(&self, name: &PeerId) -> Result<Option<Vec<u8>>, redb::Error> {
        self.row(SEEN, &name.to_bytes())
    }

    /// The newest record under an own name that was not signed here.
    pub fn foreign(&self, name: &PeerId) -> Result<Option<Vec<u8>>, redb::Error> {
        self.row(FOREIGN, &name.to_bytes())
    }

    pub fn see_foreign(&self, name: &PeerId, record: &[u8]) -> Result<(), redb::Error> {
        self.write(FOREIGN, &name.to_bytes(), record, u64::MAX)
    }

    /// The names that are followed by command, in order.
    pub fn followed(&self) -> Result<Vec<PeerId>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(FOLLOWED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut all = Vec::new();
        for row in table.iter()? {
            let (name, row) = row?;
            if let (Ok(name), place @ 1..) = (PeerId::from_bytes(name.value()), row.value().0) {
                all.push((place, name));
            }
        }
        all.sort_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, name)| name).collect())
    }

    /// Follows a name from now on, behind those before; false if that was so.
    pub fn follow(&self, name: &PeerId) -> Result<bool, redb::Error> {
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
    pub fn unfollow(&self, name: &PeerId) -> Result<bool, redb::Error> {
        self.change_followed(|table| {
            let (place, record) = followed_row(table, name)?;
            if place > 0 {
                table.insert(&*name.to_bytes(), (0, record.as_slice()))?;
            }
            Ok(place > 0)
        })
    }

    /// The last record of a name that is followed.
    pub fn head(&self, name: &PeerId) -> Result<Option<Vec<u8>>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(FOLLOWED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        let row = table.get(&*name.to_bytes())?;
        Ok(row.map(|row| row.value().1.to_vec()).filter(|record| !record.is_empty()))
    }

    pub fn set_head(&self, name: &PeerId, record: &[u8]) -> Result<(), redb::Error> {
        self.change_followed(|table| {
            let (place, _) = followed_row(table, name)?;
            table.insert(&*name.to_bytes(), (place, record))?;
            Ok(())
        })
    }

    fn change_followed<T>(
        &self,
        change: impl FnOnce(&mut Table<&[u8], (u64, &[u8])>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let write = self.database.begin_write()?;
        let value = change(&mut write.open_table(FOLLOWED)?)?;
        write.commit()?;
        Ok(value)
    }

    /// All names that this node published, and their records.
    pub fn all_own(&self) -> Result<Vec<(PeerId, Vec<u8>)>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(OWN) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut all = Vec::new();
        for row in table.iter()? {
            let (name, record) = row?;
            if let Ok(name) = PeerId::from_bytes(name.value()) {
                all.push((name, record.value().to_vec()));
            }
        }
        Ok(all)
    }

    /// Replaces the record of an own name by what `next` makes of the one before.
    pub fn publish<E: From<redb::Error>>(
        &self,
        name: &PeerId,
        next: impl FnOnce(Option<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let _alone = self.publishing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let record = next(self.own(name)?)?;
        self.write(OWN, &name.to_bytes(), &record, u64::MAX)?;
        Ok(record)
    }

    pub fn see(&self, name: &PeerId, record: &[u8]) -> Result<(), redb::Error> {
        self.write(SEEN, &name.to_bytes(), record, MOST_SEEN)
    }

    pub fn link(&self, domain: &Domain) -> Result<Option<String>, redb::Error> {
        let link = self.row(LINKS, domain.as_str().as_bytes())?;
        Ok(link.and_then(|link| String::from_utf8(link).ok()))
    }

    /// Remembers a link, where it is another than before.
    pub fn see_link(&self, domain: &Domain, link: &str) -> Result<(), redb::Error> {
        if self.link(domain)?.as_deref() == Some(link) {
            return Ok(());
        }
        self.write(LINKS, domain.as_str().as_bytes(), link.as_bytes(), MOST_SEEN)
    }

    fn row(&self, table: TableDefinition<&[u8], &[u8]>, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(table.get(key)?.map(|record| record.value().to_vec()))
    }

    fn write(
        &self,
        definition: TableDefinition<&[u8], &[u8]>,
        key: &[u8],
        value: &[u8],
        most: u64,
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(definition)?;
            if table.len()? >= most {
                table.pop_first()?;
            }
            table.insert(key, value)?;
        }
        Ok(write.commit()?)
    }
}

fn followed_row(table: &Table<&[u8], (u64, &[u8])>, name: &PeerId) -> Result<(u64, Vec<u8>), redb::Error> {
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
            kept.publish::<redb::Error>(&mine, |before| {
                assert_eq!(before, None);
                Ok(vec![1])
            })
            .unwrap();
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
        let next =
            kept.publish::<redb::Error>(&mine, |before| Ok([before.unwrap(), vec![3]].concat())).unwrap();
        assert_eq!(next, [1, 3]);
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
