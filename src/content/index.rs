//! What is held, and for whom, in the store's index: a committed write is on disk.

mod holders;
mod rows;
mod upgrade;

use std::{cell::RefCell, sync::Arc};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{
    ReadTransaction, ReadableMultimapTable, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    CidPath,
    store::{Database, Error},
};

pub use holders::{Class, for_each_root, give_up, is_free, pins};
use rows::{BLOBS, HEADERS, HELD, HeaderRow, RELEASES, ROOTS, Rows, blobs_of, open, roots_of};
pub use upgrade::from_format_2;

/// What one reference keeps: a layer manifest and the layer it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Added by a command, not merely fetched for somebody's pull.
    pub owned: bool,
    /// The roots of its DAGs; they are announced.
    roots: Vec<Cid>,
    /// The blobs that are here because of it, and where the bytes of each are.
    pub blobs: Vec<(Digest, CidPath)>,
    /// What belongs to it and is reached from its roots: kept, and not announced.
    below: Vec<Cid>,
    /// What a command imported: images by the names they are pulled under.
    pub images: Vec<Named>,
}

/// An image that is held, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The repository name and the tag, without a registry.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// Bytes of all its blobs.
    pub size: u64,
}

/// How many holdings there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images that a command imported.
    pub images: u64,
    /// Layers that a command added.
    pub layers: u64,
    /// Holdings of what was only pulled.
    pub pulled: u64,
}

impl Holding {
    /// A holding of `roots` with `blobs` below them.
    pub fn new(owned: bool, roots: &[Cid], blobs: Vec<(Digest, CidPath)>) -> Self {
        Self { owned, roots: roots.to_vec(), blobs, below: Vec::new(), images: Vec::new() }
    }

    /// The same, with what belongs to it below its roots, and the images that it is.
    pub fn of_images(self, below: &[Cid], images: Vec<Named>) -> Self {
        Self { below: below.to_vec(), images, ..self }
    }

    /// The roots of its DAGs.
    pub fn roots(&self) -> Vec<Cid> {
        self.roots.clone()
    }

    /// Adds its rows to those of its holder.
    fn add(&self, rows: &mut Rows, holder: &[u8]) -> Result<(), Error> {
        for root in &self.roots {
            rows.add_root(holder, root, true)?;
        }
        for root in &self.below {
            rows.add_root(holder, root, false)?;
        }
        for (digest, at) in &self.blobs {
            rows.blobs.insert((holder, digest.to_string().as_str()), at.to_string().as_str())?;
        }
        Ok(())
    }

    fn set_header(&self, rows: &mut Rows, holder: &[u8]) -> Result<(), Error> {
        let images = serde_json::to_string(&self.images).map_err(damaged)?;
        rows.headers.insert(holder, (self.owned, self.images.len() as u64, images.as_str()))?;
        Ok(())
    }
}

/// The holdings.
pub struct Index(Arc<Database>);

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

fn images((_, count, json): HeaderRow) -> Result<Vec<Named>, Error> {
    if count == 0 { Ok(Vec::new()) } else { serde_json::from_str(json).map_err(damaged) }
}

fn name(cid: &Cid) -> Vec<u8> {
    Cid::new_v1(cid.codec(), *cid.hash()).to_bytes()
}

/// Holds a root for a holder that has a name of its own: a repository, a pin.
pub fn hold_for(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<(), Error> {
    write.open_multimap_table(HELD)?.insert(name(root).as_slice(), holder.as_bytes())?;
    Ok(())
}

/// Lets go of a root that such a holder holds; true where nobody holds it any more, so that it may be collected.
pub fn let_go(write: &WriteTransaction, holder: &str, root: &Cid) -> Result<bool, Error> {
    let mut held = write.open_multimap_table(HELD)?;
    held.remove(name(root).as_slice(), holder.as_bytes())?;
    Rows::released(write)?;
    Ok(held.get(name(root).as_slice())?.is_empty())
}

/// Whether something that a command added, or that came from peers, keeps a root: not only repositories and pins.
pub fn is_added(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    let held = match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        held => held?,
    };
    // The keys are sorted: CIDs come before names, and what is followed before pins and repositories.
    let first = held.get(name(root).as_slice())?.next().transpose()?;
    Ok(first.is_some_and(|key| holders::came_from_peers(key.value())))
}

/// Whether anybody keeps a root.
pub fn is_held(read: &ReadTransaction, root: &Cid) -> Result<bool, Error> {
    match read.open_multimap_table(HELD) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        held => Ok(!held?.get(name(root).as_slice())?.is_empty()),
    }
}

/// How often something was released.
pub fn releases(read: &ReadTransaction) -> Result<u64, Error> {
    let Some(releases) = open(read, RELEASES)? else { return Ok(0) };
    Ok(releases.get(())?.map_or(0, |row| row.value()))
}

impl Index {
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// Holds what `holding` names in place of what the key held before.
    pub fn hold(&self, key: &Cid, holding: &Holding) -> Result<(), Error> {
        let holder = key.to_bytes();
        self.0.write(|write| {
            Rows::released(write)?;
            let mut rows = Rows::open(write)?;
            rows.clear(&holder)?;
            holding.set_header(&mut rows, &holder)?;
            holding.add(&mut rows, &holder)
        })
    }

    /// The same beside what the key holds already.
    pub fn hold_also(&self, key: &Cid, holding: Holding) -> Result<(), Error> {
        let key = *key;
        self.0.write_together(move |write| hold_also(write, &key, &holding))
    }

    /// What is held under a key.
    pub fn holding(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        let holder = key.to_bytes();
        self.0.read(|read| {
            let (Some(headers), Some(roots), Some(blobs)) =
                (open(read, HEADERS)?, open(read, ROOTS)?, open(read, BLOBS)?)
            else {
                return Ok(None);
            };
            let Some(header) = headers.get(holder.as_slice())? else { return Ok(None) };
            let (announced, below): (Vec<_>, Vec<_>) =
                roots_of(&roots, &holder)?.into_iter().partition(|(_, announced)| *announced);
            let cids = |roots: Vec<(Cid, bool)>| roots.into_iter().map(|(cid, _)| cid).collect();
            let blobs = blobs_of(&blobs, &holder)?.collect::<Result<_, _>>()?;
            let (owned, images) = (header.value().0, images(header.value())?);
            Ok(Some(Holding { owned, roots: cids(announced), blobs, below: cids(below), images }))
        })
    }

    /// Tells every root that is announced; one that several holdings have more than once.
    pub fn for_each_announced(&self, mut each: impl FnMut(Cid)) -> Result<(), Error> {
        self.for_each_row(ROOTS, |_, (root, announced)| {
            if announced {
                each(Cid::try_from(root).map_err(damaged)?);
            }
            Ok(())
        })
    }

    /// What was imported, by the root it was imported under.
    pub fn images(&self) -> Result<Vec<(Cid, Vec<Named>)>, Error> {
        let mut all = Vec::new();
        self.for_each_row(HEADERS, |key, header| {
            if header.1 > 0 {
                all.push((Cid::try_from(key).map_err(damaged)?, images(header)?));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// How many holdings there are.
    pub fn counts(&self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        self.for_each_row(HEADERS, |_, (owned, images, _)| {
            counts.images += images;
            counts.layers += u64::from(images == 0 && owned);
            counts.pulled += u64::from(images == 0 && !owned);
            Ok(())
        })?;
        Ok(counts)
    }

    fn for_each_row<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
        each: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let each = RefCell::new(each);
        self.0.read(|read| {
            let Some(table) = open(read, table)? else { return Ok(()) };
            for row in table.iter()? {
                let (key, row) = row?;
                (each.borrow_mut())(key.value(), row.value())?;
            }
            Ok(())
        })
    }

    /// Removes a holding; the roots that no holder has any more, or none if there was no such holding.
    pub fn release(&self, key: &Cid) -> Result<Option<Vec<Cid>>, Error> {
        let holder = key.to_bytes();
        self.0.write(|write| {
            Rows::released(write)?;
            let mut rows = Rows::open(write)?;
            match rows.is_owned(&holder)? {
                Some(_) => rows.clear(&holder).map(Some),
                None => Ok(None),
            }
        })
    }
}

/// Holds what `holding` names beside what the key holds already, in a transaction that may do more.
pub fn hold_also(write: &WriteTransaction, key: &Cid, holding: &Holding) -> Result<(), Error> {
    let (mut rows, holder) = (Rows::open(write)?, key.to_bytes());
    match rows.is_owned(&holder)? {
        None => holding.set_header(&mut rows, &holder)?,
        Some(false) if holding.owned => {
            let images = rows.headers.get(holder.as_slice())?.map(|row| images(row.value())).transpose()?;
            let holding = Holding { images: images.unwrap_or_default(), ..holding.clone() };
            holding.set_header(&mut rows, &holder)?;
        }
        Some(_) => {}
    }
    holding.add(&mut rows, &holder)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::atomic::Ordering};

    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::content::store::counting::counting;

    fn cid(n: u8) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    fn sorted(mut holding: Holding) -> Holding {
        holding.roots.sort();
        holding.blobs.sort_by_key(|(digest, _)| digest.to_string());
        holding
    }

    #[test]
    fn what_is_held_survives_and_what_only_the_released_held_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        let open = || Index::new(Arc::new(Database::open(&path).unwrap()));
        let blobs = vec![(Digest::sha256_of(b"shared"), CidPath::from(cid(8)))];
        let one = Holding::new(true, &[cid(1), cid(8)], blobs);
        let two = Holding::new(false, &[cid(2), cid(8)], vec![]);
        {
            let index = open();
            assert!(
                index.counts().unwrap() == Counts::default() && index.holding(&cid(1)).unwrap().is_none()
            );
            index.hold(&cid(1), &one).unwrap();
            index.hold(&cid(1), &one).unwrap();
            index.hold(&cid(2), &two).unwrap();
        }
        let index = open();
        assert_eq!(index.counts().unwrap(), Counts { images: 0, layers: 1, pulled: 1 });
        let held = [1, 2].map(|n| index.holding(&cid(n)).unwrap().map(sorted));
        assert_eq!(held, [Some(sorted(one)), Some(sorted(two))]);
        assert_eq!(index.release(&cid(1)).unwrap(), Some(vec![cid(1)]));
        assert_eq!(index.release(&cid(1)).unwrap(), None);
        let free = index.release(&cid(2)).unwrap().unwrap();
        assert_eq!(BTreeSet::from_iter(free), [cid(2), cid(8)].into());
    }

    #[test]
    fn a_root_is_free_when_its_last_holder_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&dir.path().join("index.redb")).unwrap());
        let index = Index::new(database.clone());
        index.hold(&cid(1), &Holding::new(true, &[cid(8)], vec![])).unwrap();
        let holders = ["repository/a", "repository/b"];
        for holder in holders {
            database.write(|write| hold_for(write, holder, &cid(8))).unwrap();
        }
        assert_eq!(index.release(&cid(1)).unwrap().unwrap(), []);
        let free = holders.map(|holder| database.write(|write| let_go(write, holder, &cid(8))).unwrap());
        assert_eq!(free, [false, true]);
    }

    #[test]
    fn one_holder_holds_many_blobs_and_stays_owned() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
        let part = |n: u8, owned| {
            let blob = (Digest::sha256_of(&[n]), CidPath::from(cid(n)));
            Holding::new(owned, &[cid(1), cid(n)], vec![blob])
        };
        for (n, owned) in [(2, true), (3, false), (3, false)] {
            index.hold_also(&cid(1), part(n, owned)).unwrap();
        }
        let held = index.holding(&cid(1)).unwrap().unwrap();
        let blobs = [part(2, true).blobs, part(3, true).blobs].concat();
        assert_eq!(sorted(held.clone()), sorted(Holding::new(true, &[cid(1), cid(2), cid(3)], blobs)));
        assert_eq!(index.release(&cid(1)).unwrap().unwrap(), held.roots());
    }

    /// Bytes that are written for one more blob under a holder of so many.
    fn written_for_a_blob(blobs: u32) -> u64 {
        let (database, written) = counting();
        let hold = |from: u32, to: u32| {
            database
                .write(|write| {
                    (from..to).try_for_each(|n| {
                        let bytes = n.to_be_bytes();
                        let root = Cid::new_v1(0x55, Code::Sha2_256.digest(&bytes));
                        let blob = (Digest::sha256_of(&bytes), CidPath::from(root));
                        hold_also(write, &cid(1), &Holding::new(false, &[cid(1), root], vec![blob]))
                    })
                })
                .unwrap();
        };
        hold(0, blobs);
        let before = written.load(Ordering::Relaxed);
        (blobs..blobs + 8).for_each(|n| hold(n, n + 1));
        written.load(Ordering::Relaxed) - before
    }

    #[test]
    fn a_blob_under_a_holder_costs_the_same_however_many_blobs_it_holds() {
        let [few, many] = [1000, 4000].map(written_for_a_blob);
        assert!(many * 2 < few * 3, "{few} bytes at 1,000 blobs, {many} at 4,000");
    }

    #[test]
    fn a_release_and_a_pull_under_the_same_key_leave_no_key_without_a_holding() {
        let (database, _) = counting();
        let index = Index::new(database.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..200)
                    .for_each(|n| index.hold_also(&cid(1), Holding::new(true, &[cid(n)], vec![])).unwrap())
            });
            scope.spawn(|| (0..200).for_each(|_| drop(index.release(&cid(1)).unwrap())));
        });
        index.release(&cid(1)).unwrap();
        let held = database.read(|read| Ok((0..200).any(|n| is_held(read, &cid(n)).unwrap()))).unwrap();
        assert!(!held, "a root has a holder that is gone");
    }
}
