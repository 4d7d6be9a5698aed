//! Writes a file of entries level by level. Nodes of the file before stay whole, unless what is before them in their level
//! ends elsewhere than it did.

use std::collections::HashMap;

use bytes::Bytes;
use ocipfs_block::{Block, Cid};

use super::{
    Edit, EntryFormat, EntryKey, MAX_LINKS, is_cut,
    leaf::{Chunk, ChunkLeaf, LeafItem},
};
use crate::{
    Error,
    dag_node::DagNode,
    profile::{Profile, Root},
};

/// A node with all that is below it.
#[derive(Clone, Copy)]
struct EditNode {
    /// How many levels are below it; chunks are on level 0.
    level: usize,
    root: Root,
}

/// A part of a file, in which nothing or something changes.
enum EditPart {
    Whole(EditNode),
    Item(LeafItem),
}

pub struct ChunkEditor<'a, E> {
    format: &'a EntryFormat,
    profile: Profile,
    read: &'a dyn Fn(&Cid) -> Result<Bytes, E>,
    /// The keys that nodes begin with.
    firsts: HashMap<Cid, Option<EntryKey>>,
    /// Nodes that were written.
    pub added: Vec<Block>,
    /// Nodes that were opened.
    pub removed: Vec<Cid>,
    /// Entries that were added, less those that were removed.
    pub entry_change: isize,
}

impl<'a, E: From<Error>> ChunkEditor<'a, E> {
    pub fn new(
        format: &'a EntryFormat,
        profile: Profile,
        read: &'a dyn Fn(&Cid) -> Result<Bytes, E>,
    ) -> Self {
        let (firsts, added, removed) = Default::default();
        Self { format, profile, read, firsts, added, removed, entry_change: 0 }
    }

    /// Writes a file of these entries.
    pub fn write(&mut self, entries: impl IntoIterator<Item = (EntryKey, Vec<u8>)>) -> Result<Root, E> {
        let entries = entries.into_iter().map(|(key, bytes)| LeafItem::Entry(key, bytes));
        let items = [LeafItem::Begin].into_iter().chain(entries).chain([LeafItem::End]);
        self.join(items.map(EditPart::Item))
    }

    /// Writes the file `before` with edits of its entries.
    pub fn edit(&mut self, before: Cid, edits: &[Edit]) -> Result<Root, E> {
        let top = self.top(before)?;
        let mut parts = Vec::new();
        self.open(top, edits, &mut parts)?;
        self.join(parts.into_iter())
    }

    /// Opens the nodes on the way to what is edited, and edits that.
    fn open(&mut self, node: EditNode, edits: &[Edit], parts: &mut Vec<EditPart>) -> Result<(), E> {
        if edits.is_empty() {
            parts.push(EditPart::Whole(node));
            return Ok(());
        }
        if node.level == 0 {
            return self.edit_leaf(node, edits, parts);
        }
        let (children, mut at, mut rest) = (self.children(node)?, 0, edits);
        self.removed.push(node.root.cid);
        while let Some((key, _)) = rest.first() {
            let child = at + self.begin_before(&children[at + 1..], key)?;
            let own = match children.get(child + 1) {
                Some(next) => {
                    let end = self.first_key(*next)?;
                    rest.partition_point(|(key, _)| end.as_ref().is_none_or(|end| key < end))
                }
                None => rest.len(),
            };
            parts.extend(children[at..child].iter().copied().map(EditPart::Whole));
            self.open(children[child], &rest[..own], parts)?;
            (at, rest) = (child + 1, &rest[own..]);
        }
        parts.extend(children[at..].iter().copied().map(EditPart::Whole));
        Ok(())
    }

    fn edit_leaf(&mut self, node: EditNode, edits: &[Edit], parts: &mut Vec<EditPart>) -> Result<(), E> {
        let mut leaf = self.leaf(node)?;
        self.removed.push(node.root.cid);
        for (key, bytes) in edits {
            let before = match bytes {
                Some(bytes) => leaf.entries.insert(key.clone(), bytes.clone()),
                None => leaf.entries.remove(key),
            };
            self.entry_change += isize::from(bytes.is_some()) - isize::from(before.is_some());
        }
        parts.extend(leaf.into_items().map(EditPart::Item));
        Ok(())
    }

    /// How many of some nodes in a row begin at or before a key.
    fn begin_before(&mut self, nodes: &[EditNode], key: &EntryKey) -> Result<usize, E> {
        let (mut low, mut high) = (0, nodes.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.first_key(nodes[middle])? {
                Some(first) if first <= *key => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The key that a node begins with; none where the file ends before an entry.
    fn first_key(&mut self, node: EditNode) -> Result<Option<EntryKey>, E> {
        if let Some(first) = self.firsts.get(&node.root.cid) {
            return Ok(first.clone());
        }
        let mut at = node;
        while at.level > 0 {
            at = self.first_child(at)?;
        }
        let cid = at.root.cid;
        let first = self.format.first_key(&self.text(at)?).map_err(|why| Error::Invalid { cid, why })?;
        self.firsts.insert(node.root.cid, first.clone());
        Ok(first)
    }

    /// Writes the chunks that the parts of a file make, and all levels above them.
    fn join(&mut self, parts: impl Iterator<Item = EditPart>) -> Result<Root, E> {
        let mut nodes = self.join_leaves(parts)?;
        for level in 1.. {
            if nodes.len() == 1 {
                break;
            }
            nodes = self.join_level(level, nodes)?;
        }
        Ok(nodes[0].root)
    }

    fn join_leaves(&mut self, mut parts: impl Iterator<Item = EditPart>) -> Result<Vec<EditNode>, E> {
        let (mut chunk, mut leaves, mut opened) = (Chunk::new(self.format), Vec::new(), Vec::new());
        while let Some(part) = opened.pop().or_else(|| parts.next()) {
            match part {
                EditPart::Item(item) => {
                    if chunk.add(item) {
                        leaves.push(self.put_leaf(&mut chunk));
                    }
                }
                EditPart::Whole(node) if chunk.is_empty() => leaves.push(node),
                EditPart::Whole(node) if node.level == 0 => {
                    self.removed.push(node.root.cid);
                    opened.extend(self.leaf(node)?.into_items().rev().map(EditPart::Item));
                }
                EditPart::Whole(node) => {
                    self.removed.push(node.root.cid);
                    opened.extend(self.children(node)?.into_iter().rev().map(EditPart::Whole));
                }
            }
        }
        if !chunk.is_empty() {
            leaves.push(self.put_leaf(&mut chunk));
        }
        Ok(leaves)
    }

    /// Writes the nodes of a level, each above two or more of those below, but the last.
    fn join_level(&mut self, level: usize, mut below: Vec<EditNode>) -> Result<Vec<EditNode>, E> {
        let (mut children, mut nodes) = (Vec::new(), Vec::new());
        below.reverse();
        while let Some(node) = below.pop() {
            if node.level >= level {
                if children.is_empty() {
                    nodes.push(node);
                } else {
                    self.removed.push(node.root.cid);
                    below.extend(self.children(node)?.into_iter().rev());
                }
                continue;
            }
            children.push(node.root);
            let is_cut = children.len() > 1 && is_cut(&node.root.cid.hash().to_bytes());
            if is_cut || children.len() >= MAX_LINKS || below.is_empty() {
                let (root, block) = self.profile.file_node(&std::mem::take(&mut children));
                self.added.push(block);
                nodes.push(EditNode { level, root });
            }
        }
        Ok(nodes)
    }

    fn put_leaf(&mut self, chunk: &mut Chunk) -> EditNode {
        let (root, block) = self.profile.leaf_block(chunk.finish().into());
        self.added.push(block);
        EditNode { level: 0, root }
    }
}

/// Nodes of the file before.
impl<E: From<Error>> ChunkEditor<'_, E> {
    /// The node of a root.
    fn top(&self, cid: Cid) -> Result<EditNode, E> {
        let root = Root::of(cid, (self.read)(&cid)?)?;
        let (mut level, mut at) = (0, cid);
        while let Some(child) = self.links(at)?.first() {
            (level, at) = (level + 1, child.cid);
        }
        Ok(EditNode { level, root })
    }

    fn children(&self, node: EditNode) -> Result<Vec<EditNode>, E> {
        let links = self.links(node.root.cid)?;
        let why = || Error::Invalid { cid: node.root.cid, why: "a node without children".into() };
        let level = node.level.checked_sub(1).filter(|_| !links.is_empty()).ok_or_else(why)?;
        Ok(links.into_iter().map(|root| EditNode { level, root }).collect())
    }

    fn first_child(&self, node: EditNode) -> Result<EditNode, E> {
        Ok(self.children(node)?[0])
    }

    fn links(&self, cid: Cid) -> Result<Vec<Root>, E> {
        let (node, sizes) = DagNode::decode_with_sizes(&cid, (self.read)(&cid)?)?;
        let DagNode::File { children, .. } = node else {
            let why = format!("expected a file, found {}", node.kind());
            return Err(Error::Invalid { cid, why }.into());
        };
        let links = children.into_iter().zip(sizes);
        Ok(links.map(|(child, dag_size)| Root { cid: child.cid, size: child.size, dag_size }).collect())
    }

    /// The bytes of a chunk.
    fn text(&self, node: EditNode) -> Result<Bytes, E> {
        let cid = node.root.cid;
        match DagNode::decode(&cid, (self.read)(&cid)?)? {
            DagNode::File { data, children } if children.is_empty() => Ok(data),
            _ => Err(Error::Invalid { cid, why: "not a chunk of a file".into() }.into()),
        }
    }

    fn leaf(&self, node: EditNode) -> Result<ChunkLeaf, E> {
        let cid = node.root.cid;
        self.format.leaf(&self.text(node)?).map_err(|why| Error::Invalid { cid, why }.into())
    }
}
