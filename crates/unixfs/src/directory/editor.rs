//! Opens the nodes of a tree on the way to what changes, and writes them again.

use std::collections::HashMap;

use bytes::Bytes;
use ipld_dagpb::PbLink;
use ocipfs_block::{Block, Cid};

use super::{
    changes::{Changes, EntryChange},
    shard::{Shard, ShardEntry},
    size::Entries,
};
use crate::{
    Error,
    chunked::Edited,
    dag_node::{DagNode, RAW},
    dag_options::DagOptions,
    data,
    document::Document,
    profile::{Root, link},
    replaced::replaced,
};

/// A directory as it is read.
enum Directory {
    Plain(Entries),
    Sharded(Shard),
}

/// Changes a tree, and collects the nodes by which it differs from the tree before.
pub struct DirectoryEditor<'a, E> {
    options: DagOptions,
    read: &'a dyn Fn(&Cid) -> Result<Bytes, E>,
    /// Nodes that were written.
    pub added: Vec<Block>,
    /// Content of `added`, by CID.
    by_cid: HashMap<Cid, Bytes>,
    /// Nodes that left their places.
    pub removed: Vec<Cid>,
}

impl<'a, E: From<Error>> DirectoryEditor<'a, E> {
    pub fn new(options: DagOptions, read: &'a dyn Fn(&Cid) -> Result<Bytes, E>) -> Self {
        Self { options, read, added: Vec::new(), by_cid: HashMap::new(), removed: Vec::new() }
    }

    /// Adds a new node.
    pub fn make(&mut self, block: Block) {
        self.by_cid.insert(block.cid, block.data.clone());
        self.added.push(block);
    }

    /// Returns one entry of a directory; of a sharded one only the shards on the way are read.
    pub fn entry_of(&self, directory: Cid, name: &str) -> Result<Option<Root>, E> {
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

impl<E: From<Error>> DirectoryEditor<'_, E> {
    /// Returns the directory after its changes; none if it has no entry left.
    pub fn change_directory(&mut self, before: Option<Root>, changes: &Changes) -> Result<Option<Root>, E> {
        let directory = match before {
            None => Directory::Plain(Entries::new()),
            Some(root) => self.open(&root.cid)?,
        };
        let directory = match directory {
            Directory::Plain(mut entries) => {
                for (name, change) in &changes.0 {
                    self.change_entry(&mut entries, name, change)?;
                }
                Directory::Plain(entries)
            }
            Directory::Sharded(mut shard) => match shard.change(self, &changes.0)? {
                true => self.unshard(shard)?,
                false => Directory::Sharded(shard),
            },
        };
        let before = before.map(|root| root.cid);
        Ok(match directory {
            Directory::Plain(entries) if entries.is_empty() => {
                self.removed.extend(before);
                None
            }
            Directory::Plain(entries) => Some(self.put_entries(before, entries)),
            Directory::Sharded(shard) => Some(self.put_shard(before, &shard)),
        })
    }

    /// Writes a directory of these entries.
    pub fn put_directory(&mut self, entries: Entries) -> Root {
        self.put_entries(None, entries)
    }

    /// Writes a directory in the place of the one before it: in one block, or sharded where it does not fit.
    fn put_entries(&mut self, before: Option<Cid>, entries: Entries) -> Root {
        if self.options.is_plain(&entries) {
            let links = entries.into_iter().map(|(name, root)| link(name, &root)).collect();
            return self.put(before, links, data::directory_data());
        }
        let shard = Shard::of(self, 0, entries);
        self.put_shard(before, &shard)
    }

    /// Changes one entry. Returns whether it weighs less than before.
    pub fn change_entry(
        &mut self,
        entries: &mut Entries,
        name: &str,
        change: &EntryChange,
    ) -> Result<bool, E> {
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
                let mut nodes = self.nodes_of(old)?;
                self.removed.append(&mut nodes);
                None
            }
            EntryChange::Within(changes) => self.change_directory(old, changes)?,
        };
        match new {
            Some(root) => drop(entries.insert(name.into(), root)),
            None => drop(entries.remove(name)),
        }
        let weight = |root: Option<Root>| root.map_or(0, |root| self.options.weight(name, &root));
        Ok(weight(new) < weight(old))
    }

    /// Puts a file in the place of another: the nodes that both have stay where they are.
    fn replace_file(&mut self, old: Option<Root>, new: &Document) -> Result<(), E> {
        let (added, removed) = replaced(self.nodes_of(old)?, new.blocks.clone());
        added.into_iter().for_each(|block| self.make(block));
        self.removed.extend(removed);
        Ok(())
    }

    /// Takes over a file that was made of the one at its place.
    fn edit_file(&mut self, old: Option<Root>, edited: &Edited) -> Result<(), E> {
        if old.map(|old| old.cid) != Some(edited.before) {
            let why = "expected the previous file at its place in the tree".into();
            return Err(Error::Invalid { cid: edited.root.cid, why }.into());
        }
        edited.added.iter().for_each(|block| self.make(block.clone()));
        self.removed.extend(&edited.removed);
        Ok(())
    }

    /// The blocks of a file.
    fn nodes_of(&self, file: Option<Root>) -> Result<Vec<Cid>, E> {
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

    /// Returns the directory in one block, if it fits into one by now.
    fn unshard(&mut self, shard: Shard) -> Result<Directory, E> {
        let (mut entries, mut shards) = (Entries::new(), Vec::new());
        let mut waiting = shard.deeper();
        entries.extend(shard.entries());
        while let Some(cid) = waiting.pop() {
            if !self.options.is_plain(&entries) {
                return Ok(Directory::Sharded(shard));
            }
            let deeper = self.open_shard(&cid)?;
            entries.extend(deeper.entries());
            waiting.extend(deeper.deeper());
            shards.push(cid);
        }
        if !self.options.is_plain(&entries) {
            return Ok(Directory::Sharded(shard));
        }
        self.removed.append(&mut shards);
        Ok(Directory::Plain(entries))
    }

    /// Returns all entries of a directory.
    pub fn entries(&self, cid: &Cid) -> Result<Entries, E> {
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

    fn open(&self, cid: &Cid) -> Result<Directory, E> {
        let (node, sizes) = DagNode::decode_with_sizes(cid, self.block(cid)?)?;
        let root = |(cid, dag_size)| Root { cid, size: 0, dag_size };
        match node {
            DagNode::Directory(links) => {
                let entries = links.into_iter().zip(sizes);
                Ok(Directory::Plain(entries.map(|((name, cid), size)| (name, root((cid, size)))).collect()))
            }
            DagNode::Shard { fanout_bits, links, .. } => {
                let links = links.into_iter().zip(sizes);
                let links = links.map(|((name, cid), size)| (name, root((cid, size))));
                let shard = Shard::read(fanout_bits, links.collect());
                let why = || "unsupported shard layout".to_string();
                shard.map(Directory::Sharded).ok_or_else(|| Error::Invalid { cid: *cid, why: why() }.into())
            }
            other => {
                let why = format!("expected a directory, found {}", other.kind());
                Err(Error::Invalid { cid: *cid, why }.into())
            }
        }
    }

    pub fn open_shard(&self, cid: &Cid) -> Result<Shard, E> {
        match self.open(cid)? {
            Directory::Sharded(shard) => Ok(shard),
            Directory::Plain(_) => {
                let why = "expected a shard, found a plain directory".into();
                Err(Error::Invalid { cid: *cid, why }.into())
            }
        }
    }

    fn block(&self, cid: &Cid) -> Result<Bytes, E> {
        match self.by_cid.get(cid) {
            Some(data) => Ok(data.clone()),
            None => (self.read)(cid),
        }
    }

    /// Puts a node in the place of the one before it.
    fn put(&mut self, before: Option<Cid>, links: Vec<PbLink>, data: Vec<u8>) -> Root {
        let (root, block) = self.options.directory_node(links, data);
        if before != Some(root.cid) {
            self.removed.extend(before);
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
        self.removed.push(cid);
    }
}
