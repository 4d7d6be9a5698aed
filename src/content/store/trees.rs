//! Versions of one tree of directories, each made of the one before: what both have is here once.
//!
//! A node has a row with the number of its places in the versions that are here. A version that is added counts the nodes
//! that it made, and one that goes counts down those that the next one left: so both cost what changed between them.

use std::collections::BTreeMap;

use ocipfs_node::Cid;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Error, Store,
    layout::{BlockKey, BlockPlace},
    tables::{Tables, row},
};
use ocipfs_unixfs::{Changed, Root};

/// The owner of blocks that are nodes of the tree.
pub const TREE: u64 = u64::MAX;

/// Node -> the number of its places.
const PLACES: TableDefinition<&[u8], u64> = TableDefinition::new("tree places");
/// Version -> the CID of its top, and the size of its DAG.
const VERSIONS: TableDefinition<u64, (&[u8], u64)> = TableDefinition::new("tree versions");
/// Version -> CIDs of the nodes that the next one left.
const LEFT: TableDefinition<u64, Vec<&[u8]>> = TableDefinition::new("tree left");

/// The tree as it was at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeVersion {
    /// Counts up.
    pub number: u64,
    /// The directory at the top.
    pub root: Root,
}

fn version(number: u64, (cid, dag_size): (&[u8], u64)) -> Result<TreeVersion, Error> {
    let cid = Cid::try_from(cid).map_err(|e| Error::Damaged(e.to_string()))?;
    Ok(TreeVersion { number, root: Root { cid, size: 0, dag_size } })
}

impl Store {
    /// The versions that are here, the newest last.
    pub fn tree_versions(&self) -> Result<Vec<TreeVersion>, Error> {
        self.0.database.read(|read| {
            let versions = match read.open_table(VERSIONS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                versions => versions?,
            };
            versions
                .iter()?
                .map(|row| row.map(|(number, row)| version(number.value(), row.value()))?)
                .collect()
        })
    }

    /// Whether a block is a node of the tree.
    pub fn is_tree_node(&self, cid: &Cid) -> Result<bool, Error> {
        match self.0.database.read(|read| row(read, PLACES, BlockKey::of(cid).bytes(), |_| ())) {
            Ok(found) => Ok(found.is_some()),
            Err(Error::Index(redb::Error::TableDoesNotExist(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many places all nodes have.
    #[cfg(test)]
    pub fn tree_places(&self) -> Result<u64, Error> {
        self.0.database.read(|read| {
            let places = read.open_table(PLACES)?;
            places.iter()?.map(|row| Ok(row?.1.value())).sum()
        })
    }

    /// Forgets the oldest version, which must not be the only one, with the nodes that no other has.
    pub fn forget_oldest_tree(&self) -> Result<(), Error> {
        self.0.database.write(|write| {
            let (oldest, left) = {
                let mut versions = write.open_table(VERSIONS)?;
                let Some(oldest) = versions.pop_first()?.map(|(number, _)| number.value()) else {
                    return Ok(());
                };
                let mut all = write.open_table(LEFT)?;
                let left = all.remove(oldest)?;
                (
                    oldest,
                    left.map(|left| {
                        left.value().into_iter().map(Cid::try_from).collect::<Result<Vec<_>, _>>()
                    }),
                )
            };
            let left = left.transpose().map_err(|e| Error::Damaged(format!("tree {oldest}: {e}")))?;
            leave(write, &left.unwrap_or_default())
        })
    }
}

/// Forgets every version.
pub fn forget_trees(write: &WriteTransaction) -> Result<(), Error> {
    let mut keys = Vec::new();
    for row in write.open_table(PLACES)?.iter()? {
        keys.push(row?.0.value().to_vec());
    }
    let mut tables = Tables::open(write)?;
    keys.iter().try_for_each(|key| tables.disown(&BlockKey::from_row(key), TREE))?;
    write.delete_table(PLACES)?;
    write.delete_table(VERSIONS)?;
    write.delete_table(LEFT)?;
    Ok(())
}

/// Adds a version that was made of the last one.
pub fn add_tree(write: &WriteTransaction, changed: &Changed) -> Result<TreeVersion, Error> {
    let mut made: BTreeMap<BlockKey, (u64, &[u8])> = BTreeMap::new();
    for block in &changed.added {
        made.entry(BlockKey::of(&block.cid)).or_insert((0, &block.data)).0 += 1;
    }
    let mut new = Vec::new();
    {
        let mut places = write.open_table(PLACES)?;
        for (key, (count, data)) in &made {
            let before = places.get(key.bytes())?.map_or(0, |row| row.value());
            places.insert(key.bytes(), before + count)?;
            if before == 0 {
                new.push((key, data));
            }
        }
    }
    let mut tables = Tables::open(write)?;
    for (key, data) in new {
        tables.own(key, TREE, &BlockPlace::Inline(bytes::Bytes::copy_from_slice(data)))?;
    }
    let mut versions = write.open_table(VERSIONS)?;
    let last = versions.last()?.map(|(number, _)| number.value());
    if let Some(last) = last {
        let left: Vec<Vec<u8>> = changed.removed.iter().map(Cid::to_bytes).collect();
        write.open_table(LEFT)?.insert(last, left.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    }
    let number = last.map_or(1, |last| last + 1);
    versions.insert(number, (changed.root.cid.to_bytes().as_slice(), changed.root.dag_size))?;
    Ok(TreeVersion { number, root: changed.root })
}

fn leave(write: &WriteTransaction, left: &[Cid]) -> Result<(), Error> {
    let mut gone = Vec::new();
    {
        let mut places = write.open_table(PLACES)?;
        for key in left.iter().map(BlockKey::of) {
            let count = places.get(key.bytes())?.map_or(0, |row| row.value());
            match count {
                0 | 1 => {
                    places.remove(key.bytes())?;
                    gone.push(key);
                }
                more => drop(places.insert(key.bytes(), more - 1)?),
            }
        }
    }
    let mut tables = Tables::open(write)?;
    gone.iter().try_for_each(|key| tables.disown(key, TREE))
}

#[cfg(test)]
mod tests {
    use ocipfs_unixfs::{Builder, Changes, DagNode, Document, Profile};

    use super::*;

    const PROFILE: Profile = Profile::UnixfsV1;

    fn change(store: &Store, steps: &[(&str, Option<&str>)]) -> TreeVersion {
        let mut changes = Changes::default();
        for (path, text) in steps {
            match text {
                Some(text) => changes.write(path, Document::file(text.to_string().into(), PROFILE)),
                None => changes.erase(path),
            };
        }
        let before = store.tree_versions().unwrap().last().map(|version| version.root);
        let read = |cid: &Cid| {
            let block = store.get(cid).unwrap().expect("a node that is here");
            Ok::<_, ocipfs_unixfs::Error>(block)
        };
        let changed = PROFILE.change(before, &changes, &read).unwrap();
        store.database().write(|write| add_tree(write, &changed)).unwrap()
    }

    /// Every block of a tree.
    fn blocks(store: &Store, root: Cid) -> std::collections::HashSet<Cid> {
        let (mut all, mut waiting) = (std::collections::HashSet::new(), vec![root]);
        while let Some(cid) = waiting.pop() {
            let block = store.get(&cid).unwrap().unwrap_or_else(|| panic!("{cid} is not here"));
            if let DagNode::Directory(links) = DagNode::decode(&cid, block).unwrap() {
                waiting.extend(links.into_iter().map(|(_, cid)| cid));
            }
            all.insert(cid);
        }
        all
    }

    #[test]
    fn removing_a_tree_version_removes_its_unshared_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(
            store.tree_versions().unwrap().is_empty()
                && !store.is_tree_node(&"bafkqaaa".parse().unwrap()).unwrap()
        );
        let one = change(&store, &[("a/index", Some("same")), ("b/index", Some("same")), ("c", Some("1"))]);
        let two = change(&store, &[("a/index", Some("other")), ("c", None)]);
        let three = change(&store, &[("a/index", Some("same")), ("c", Some("1"))]);
        assert_eq!((one.number, two.number, three.number, one.root), (1, 2, 3, three.root));
        assert_eq!(store.tree_versions().unwrap(), [one, two, three]);
        for version in [one, two, three] {
            assert!(blocks(&store, version.root.cid).iter().all(|cid| store.is_tree_node(cid).unwrap()));
        }
        store.forget_oldest_tree().unwrap();
        assert!(!blocks(&store, two.root.cid).is_empty());
        store.forget_oldest_tree().unwrap();
        let left = blocks(&store, three.root.cid);
        assert_eq!(store.stat().unwrap().blocks, left.len() as u64);
        assert_eq!(store.tree_versions().unwrap(), [three]);
    }

    #[test]
    fn a_tree_node_shared_with_other_content_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        change(&store, &[("a", Some("shared"))]);
        let mut builder = Builder::new(PROFILE);
        let shared = builder.push("shared".into());
        store.put_blocks(&shared).unwrap();
        change(&store, &[("a", None)]);
        store.forget_oldest_tree().unwrap();
        assert!(store.get(&shared[0].cid).unwrap().is_some() && !store.is_tree_node(&shared[0].cid).unwrap());
        store.remove_blocks(&[shared[0].cid], |_, _| Ok(true)).unwrap();
        assert!(store.get(&shared[0].cid).unwrap().is_none());
    }
}
