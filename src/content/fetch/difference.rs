//! Difference between two versions of a directory; equal parts are skipped.

use std::collections::{BTreeMap, HashMap};

use ocipfs_node::Cid;
use ocipfs_unixfs::DagNode;

use super::nodes::Nodes;
use crate::content::Error;

/// Deeper than 64 bits of hash can lead.
const MAX_SHARD_DEPTH: usize = 32;
/// Nodes of one level, so that a shard that leads to itself twice does not grow without end.
const MAX_NODES: usize = 1_000_000;

/// Entries that differ from the earlier version of a directory.
#[derive(Debug, Default)]
pub struct Difference {
    /// Entries that are new or lead elsewhere: the CID, and the one before.
    pub changed: BTreeMap<String, (Cid, Option<Cid>)>,
    /// Entries that are gone.
    pub removed: Vec<String>,
}

/// A part of one of the directories that are compared.
struct ChangedPart {
    /// Which of them.
    number: usize,
    new: Option<Cid>,
    old: Option<Cid>,
}

/// Entries on both sides, as far as they were compared.
#[derive(Default)]
struct Sides {
    is_known: bool,
    new: BTreeMap<String, Cid>,
    old: BTreeMap<String, Cid>,
}

/// One node: entries, and the shards below by their slots.
#[derive(Default)]
struct DiffNode {
    entries: BTreeMap<String, Cid>,
    shards: BTreeMap<String, Cid>,
}

impl DiffNode {
    /// Reads a node of a directory; none where it is something else.
    fn of(decoded: DagNode) -> Option<Self> {
        let mut node = Self::default();
        match decoded {
            DagNode::Directory(links) => node.entries.extend(links),
            DagNode::Shard { width, links, .. } => {
                for (link, cid) in links {
                    match link.split_at_checked(width) {
                        Some((slot, "")) => drop(node.shards.insert(slot.into(), cid)),
                        Some((_, name)) => drop(node.entries.insert(name.into(), cid)),
                        None => {}
                    }
                }
            }
            DagNode::File { .. } | DagNode::Symlink => return None,
        }
        Some(node)
    }
}

/// Compares directories with their earlier versions, which are read only where they are here. The answer is in the order of
/// `pairs`: none for what is not a directory or could not be had (see [`Nodes::failure`]).
///
/// # Errors
/// Fails where the store does, and where there are more nodes than a directory can have.
pub async fn differences(
    nodes: &mut Nodes,
    pairs: &[(Cid, Option<Cid>)],
) -> Result<Vec<Option<Difference>>, Error> {
    let mut sides: Vec<Sides> = pairs.iter().map(|_| Sides { is_known: true, ..Sides::default() }).collect();
    let mut level: Vec<ChangedPart> = pairs
        .iter()
        .enumerate()
        .map(|(number, (new, old))| ChangedPart { number, new: Some(*new), old: *old })
        .collect();
    for _ in 0..MAX_SHARD_DEPTH {
        level.retain(|part| part.new != part.old);
        if level.is_empty() {
            break;
        }
        if level.len() > MAX_NODES {
            let why = format!("directory has more than {MAX_NODES} shards on one level");
            return Err(Error::Corrupt { cid: pairs[0].0, why });
        }
        level = compare(nodes, &level, &mut sides).await?;
    }
    Ok(sides.into_iter().map(Sides::difference).collect())
}

/// Compares one level; gives the next.
async fn compare(
    nodes: &mut Nodes,
    level: &[ChangedPart],
    sides: &mut [Sides],
) -> Result<Vec<ChangedPart>, Error> {
    let (mut new, mut old) = (HashMap::new(), HashMap::new());
    let wanted: Vec<Cid> = level.iter().filter_map(|part| part.new).collect();
    nodes.each(&wanted, |cid, node| drop(new.insert(cid, DiffNode::of(node)))).await?;
    let known: Vec<Cid> = level.iter().filter_map(|part| part.old).collect();
    nodes.each_local(&known, |cid, node| drop(old.insert(cid, DiffNode::of(node)))).await?;
    let mut next = Vec::new();
    let nothing = DiffNode::default();
    for ChangedPart { number, new: new_cid, old: old_cid } in level {
        let before = old_cid.and_then(|cid| old.get(&cid)?.as_ref()).unwrap_or(&nothing);
        let now = match new_cid.map(|cid| new.get(&cid)) {
            None => &nothing,
            Some(Some(Some(node))) => node,
            Some(_) => {
                sides[*number].is_known = false;
                continue;
            }
        };
        let is_changed = |name: &str, cid: &Cid, other: &DiffNode| other.entries.get(name) != Some(cid);
        let fresh = now.entries.iter().filter(|(name, cid)| is_changed(name, cid, before));
        sides[*number].new.extend(fresh.map(|(name, cid)| (name.clone(), *cid)));
        let gone = before.entries.iter().filter(|(name, cid)| is_changed(name, cid, now));
        sides[*number].old.extend(gone.map(|(name, cid)| (name.clone(), *cid)));
        for (slot, cid) in &now.shards {
            next.push(ChangedPart {
                number: *number,
                new: Some(*cid),
                old: before.shards.get(slot).copied(),
            });
        }
        for (_, cid) in before.shards.iter().filter(|(slot, _)| !now.shards.contains_key(*slot)) {
            next.push(ChangedPart { number: *number, new: None, old: Some(*cid) });
        }
    }
    Ok(next)
}

impl Sides {
    /// An entry that moved within the directory, since another came or went, is on both sides.
    fn difference(self) -> Option<Difference> {
        let Self { is_known, new, old } = self;
        let removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        let changed = new.into_iter().map(|(name, cid)| {
            let before = old.get(&name).copied();
            (name, (cid, before))
        });
        let changed = changed.filter(|(_, (cid, before))| Some(*cid) != *before).collect();
        is_known.then_some(Difference { changed, removed })
    }
}
