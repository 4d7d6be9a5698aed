//! Directories as Kubo writes them: one block, or sharded where that would pass 256 KiB. A tree of them is changed by
//! reading and writing the nodes on the way to what changes.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use ocipfs_node::{Block, Cid};

use super::{
    build::{Profile, Root},
    changes::{Changes, EntryChange, difference},
    chunked::Edited,
    document::Document,
    shard::{Shard, ShardEntry},
    unixfs::{self, DagNode, RAW},
};
use crate::content::Error;

/// Beyond this size a directory is sharded.
const MAX_DIRECTORY_BYTES: usize = 256 << 10;

/// The entries of a directory, by name.
pub(super) type Entries = BTreeMap<String, Root>;

/// A directory as it is read.
enum Directory {
    Plain(Entries),
    Sharded(Shard),
}

/// A tree after a change, and the nodes that make the difference: each once for every place in the tree.
#[derive(Debug)]
pub struct Changed {
    /// The directory at the top.
    pub root: Root,
    /// Nodes that were not at their places before.
    pub made: Vec<Block>,
    /// Nodes that were removed from their places.
    pub left: Vec<Cid>,
}

impl Profile {
    /// Changes the tree below `before`, or one that is empty. `read` has the blocks of the tree as it was.
    pub fn change(
        self,
        before: Option<Root>,
        changes: &Changes,
        read: &dyn Fn(&Cid) -> Result<Bytes, Error>,
    ) -> Result<Changed, Error> {
        let mut editor = DirectoryEditor::new(self, read);
        let root = match editor.directory(before, changes)? {
            Some(root) => root,
            None => {
                let (root, block) = self.node(Vec::new(), unixfs::directory_data());
                editor.make(block);
                root
            }
        };
        Ok(Changed { root, made: editor.made, left: editor.left })
    }

    /// Returns what an entry adds to the size that decides whether a directory is sharded.
    fn weight(self, name: &str, root: &Root) -> usize {
        let cid = root.cid.encoded_len();
        match self {
            // An estimate by names and links.
            Self::Legacy => name.len() + cid,
            // The bytes of the block: hash, name and size, each behind a tag, in a message of its own.
            Self::UnixfsV1 => {
                let chunk = |length: usize| 1 + varint_len(length as u64) + length;
                chunk(chunk(cid) + chunk(name.len()) + 1 + varint_len(root.dag_size))
            }
        }
    }

    fn is_plain(self, entries: &Entries) -> bool {
        let frame = match self {
            Self::Legacy => 0,
            Self::UnixfsV1 => 2 + unixfs::directory_data().len(),
        };
        frame + entries.iter().map(|(name, root)| self.weight(name, root)).sum::<usize>()
            <= MAX_DIRECTORY_BYTES
    }

    pub(super) fn node(self, links: Vec<PbLink>, data: Vec<u8>) -> (Root, Block) {
        let below: u64 = links.iter().filter_map(|link| link.size).sum();
        let block = self.dag_pb(PbNode { links, data: Some(data.into()) });
        (Root { cid: block.cid, size: 0, dag_size: below + block.data.len() as u64 }, block)
    }
}

pub(super) fn link(name: String, root: &Root) -> PbLink {
    PbLink { cid: root.cid, name: Some(name), size: Some(root.dag_size) }
}

fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

impl Changes {
    /// The tree of what is set and written, on its own.
    pub fn document(&self, profile: Profile) -> Result<Document, Error> {
        let missing = |cid: &Cid| Err(ocipfs_node::Error::Offline(*cid).into());
        let Changed { root, made: blocks, .. } = profile.change(None, self, &missing)?;
        Ok(Document { root, blocks })
    }
}

/// The names in a directory of a tree, sorted; empty if there is none.
pub fn names_in(
    root: Cid,
    path: &str,
    read: &dyn Fn(&Cid) -> Result<Bytes, Error>,
) -> Result<Vec<String>, Error> {
    let Some(at) = find(root, path, read)? else { return Ok(Vec::new()) };
    let editor = DirectoryEditor::new(Profile::default(), read);
    Ok(editor.all(&at)?.into_keys().collect())
}

/// Returns the CID that a path leads to in a tree; none if there is no such entry.
pub fn find(
    root: Cid,
    path: &str,
    read: &dyn Fn(&Cid) -> Result<Bytes, Error>,
) -> Result<Option<Cid>, Error> {
    let editor = DirectoryEditor::new(Profile::default(), read);
    let mut at = root;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Some(root) = editor.find(at, name)? else { return Ok(None) };
        at = root.cid;
    }
    Ok(Some(at))
}

pub(super) struct DirectoryEditor<'a> {
    profile: Profile,
    read: &'a dyn Fn(&Cid) -> Result<Bytes, Error>,
    made: Vec<Block>,
    /// Content of `made`, by CID.
    by_cid: HashMap<Cid, Bytes>,
    left: Vec<Cid>,
}

impl<'a> DirectoryEditor<'a> {
    fn new(profile: Profile, read: &'a dyn Fn(&Cid) -> Result<Bytes, Error>) -> Self {
        Self { profile, read, made: Vec::new(), by_cid: HashMap::new(), left: Vec::new() }
    }

    fn make(&mut self, block: Block) {
        self.by_cid.insert(block.cid, block.data.clone());
        self.made.push(block);
    }

    /// One entry of a directory, found by the way to it alone.
    fn find(&self, directory: Cid, name: &str) -> Result<Option<Root>, Error> {
        let (mut at, mut depth) = (directory, 0);
        loop {
            match self.open(&at)? {
                Directory::Plain(entries) => return Ok(entries.get(name).copied()),
                Directory::Sharded(shard) => match shard.find(name, depth) {
                    ShardEntry::Entry(root) => return Ok(root),
                    ShardEntry::Deeper(cid) => at = cid,
                },
            }
            depth += 1;
        }
    }
}

impl DirectoryEditor<'_> {
    /// The directory after its changes; none where nothing is in it.
    fn directory(&mut self, before: Option<Root>, changes: &Changes) -> Result<Option<Root>, Error> {
        let directory = match before {
            None => Directory::Plain(Entries::new()),
            Some(root) => self.open(&root.cid)?,
        };
        let directory = match directory {
            Directory::Plain(mut entries) => {
                for (name, change) in &changes.0 {
                    self.entry(&mut entries, name, change)?;
                }
                Directory::Plain(entries)
            }
            Directory::Sharded(mut shard) => match shard.change(self, &changes.0)? {
                true => self.plain_again(shard)?,
                false => Directory::Sharded(shard),
            },
        };
        let before = before.map(|root| root.cid);
        Ok(match directory {
            Directory::Plain(entries) if entries.is_empty() => {
                self.left.extend(before);
                None
            }
            Directory::Plain(entries) if self.profile.is_plain(&entries) => {
                let links = entries.into_iter().map(|(name, root)| link(name, &root)).collect();
                Some(self.put(before, links, unixfs::directory_data()))
            }
            Directory::Plain(entries) => {
                let shard = Shard::of(self, 0, entries);
                Some(self.put_shard(before, &shard))
            }
            Directory::Sharded(shard) => Some(self.put_shard(before, &shard)),
        })
    }

    /// Changes one entry, and says whether it weighs less than before.
    pub fn entry(&mut self, entries: &mut Entries, name: &str, change: &EntryChange) -> Result<bool, Error> {
        let old = entries.get(name).copied();
        let new = match change {
            EntryChange::Set(root) => Some(*root),
            EntryChange::Unset => None,
            EntryChange::Write(document) => {
                if old.map(|old| old.cid) != Some(document.root.cid) {
                    self.replace_file(old, document)?;
                }
                Some(document.root)
            }
            EntryChange::Edit(edited) => {
                self.edit_file(old, edited)?;
                Some(edited.root)
            }
            EntryChange::Erase => {
                let mut left = self.nodes_of(old)?;
                self.left.append(&mut left);
                None
            }
            EntryChange::Within(changes) => self.directory(old, changes)?,
        };
        match new {
            Some(root) => drop(entries.insert(name.into(), root)),
            None => drop(entries.remove(name)),
        }
        let weight = |root: Option<Root>| root.map_or(0, |root| self.profile.weight(name, &root));
        Ok(weight(new) < weight(old))
    }

    /// Puts a file in the place of another: the nodes that both have stay where they are.
    fn replace_file(&mut self, old: Option<Root>, new: &Document) -> Result<(), Error> {
        let (made, left) = difference(self.nodes_of(old)?, new.blocks.clone());
        made.into_iter().for_each(|block| self.make(block));
        self.left.extend(left);
        Ok(())
    }

    /// Takes over a file that was made of the one at its place.
    fn edit_file(&mut self, old: Option<Root>, edited: &Edited) -> Result<(), Error> {
        if old.map(|old| old.cid) != Some(edited.before) {
            let why = "expected the previous file at its place in the tree".into();
            return Err(Error::Corrupt { cid: edited.root.cid, why });
        }
        edited.made.iter().for_each(|block| self.make(block.clone()));
        self.left.extend(&edited.left);
        Ok(())
    }

    /// The blocks of a file.
    fn nodes_of(&self, file: Option<Root>) -> Result<Vec<Cid>, Error> {
        let mut waiting: Vec<Cid> = file.into_iter().map(|root| root.cid).collect();
        let mut all = Vec::new();
        while let Some(cid) = waiting.pop() {
            if cid.codec() != RAW
                && let DagNode::File { children, .. } = DagNode::decode(&cid, self.block(&cid)?)?
            {
                waiting.extend(children.into_iter().map(|child| child.cid));
            }
            all.push(cid);
        }
        Ok(all)
    }

    /// The directory in one block, if it fits into one by now.
    fn plain_again(&mut self, shard: Shard) -> Result<Directory, Error> {
        let (mut entries, mut shards) = (Entries::new(), Vec::new());
        let mut waiting = shard.deeper();
        entries.extend(shard.entries());
        while let Some(cid) = waiting.pop() {
            if !self.profile.is_plain(&entries) {
                return Ok(Directory::Sharded(shard));
            }
            let deeper = self.open_shard(&cid)?;
            entries.extend(deeper.entries());
            waiting.extend(deeper.deeper());
            shards.push(cid);
        }
        if !self.profile.is_plain(&entries) {
            return Ok(Directory::Sharded(shard));
        }
        self.left.append(&mut shards);
        Ok(Directory::Plain(entries))
    }

    /// All entries of a directory.
    fn all(&self, cid: &Cid) -> Result<Entries, Error> {
        let mut shards = match self.open(cid)? {
            Directory::Plain(entries) => return Ok(entries),
            Directory::Sharded(shard) => vec![shard],
        };
        let mut entries = Entries::new();
        while let Some(shard) = shards.pop() {
            entries.extend(shard.entries());
            for cid in shard.deeper() {
                shards.push(self.open_shard(&cid)?);
            }
        }
        Ok(entries)
    }

    fn open(&self, cid: &Cid) -> Result<Directory, Error> {
        let (unit, sizes) = DagNode::decode_with_sizes(cid, self.block(cid)?)?;
        let root = |(cid, dag_size)| Root { cid, size: 0, dag_size };
        match unit {
            DagNode::Directory(links) => {
                let entries = links.into_iter().zip(sizes);
                Ok(Directory::Plain(entries.map(|((name, cid), size)| (name, root((cid, size)))).collect()))
            }
            DagNode::Shard { fanout_bits, links, .. } => {
                let links = links.into_iter().zip(sizes);
                let links = links.map(|((name, cid), size)| (name, root((cid, size))));
                let shard = Shard::read(fanout_bits, links.collect());
                let why = || "unsupported shard layout".to_string();
                shard.map(Directory::Sharded).ok_or_else(|| Error::Corrupt { cid: *cid, why: why() })
            }
            other => Err(Error::Corrupt {
                cid: *cid,
                why: format!("expected a directory, found {}", other.kind()),
            }),
        }
    }

    pub fn open_shard(&self, cid: &Cid) -> Result<Shard, Error> {
        match self.open(cid)? {
            Directory::Sharded(shard) => Ok(shard),
            Directory::Plain(_) => {
                Err(Error::Corrupt { cid: *cid, why: "expected a shard, found a plain directory".into() })
            }
        }
    }

    fn block(&self, cid: &Cid) -> Result<Bytes, Error> {
        match self.by_cid.get(cid) {
            Some(data) => Ok(data.clone()),
            None => (self.read)(cid),
        }
    }

    /// Puts a node in the place of the one before it.
    fn put(&mut self, before: Option<Cid>, links: Vec<PbLink>, data: Vec<u8>) -> Root {
        let (root, block) = self.profile.node(links, data);
        if before != Some(root.cid) {
            self.left.extend(before);
            self.make(block);
        }
        root
    }

    pub fn put_shard(&mut self, before: Option<Cid>, shard: &Shard) -> Root {
        let (links, data) = shard.node();
        self.put(before, links, data)
    }

    /// Forgets the shard that was at a place.
    pub fn leave(&mut self, cid: Cid) {
        self.left.push(cid);
    }
}
