//! Where the blocks that come next belong.

use std::collections::{HashMap, HashSet, VecDeque};

use ocipfs_node::{Block, Cid, as_v1, inline_bytes};
use ocipfs_unixfs::Child;

use crate::content::Error;

/// Places at once. A node of a usual file has 1,024 children.
const MAX_PLACES: usize = 1 << 18;
/// Nodes below each other.
const MAX_DEPTH: usize = 32;

/// Where a block belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the file; none if that is stored already.
    pub file: Option<usize>,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes of the file it and the blocks below it have.
    pub length: u64,
    /// How many nodes are above it.
    pub depth: usize,
}

/// The places of blocks that have not come.
#[derive(Debug, Default)]
pub struct Places {
    /// By their CIDs in version 1. One block may be many parts of a file.
    all: HashMap<Cid, VecDeque<Place>>,
    count: usize,
    /// How many there are of each file.
    of_files: HashMap<usize, usize>,
    /// Nodes that came.
    nodes: HashSet<Cid>,
    /// Blocks that filled several places at once: how often each may come again for them.
    again: HashMap<Cid, usize>,
}

impl Places {
    /// Takes the places of a block: all of a leaf, and of a node with `children` as many as there is room for. The block comes
    /// again where its file has it again, unless that is in another part of the bundle.
    pub fn take(&mut self, key: &Cid, children: usize) -> Vec<Place> {
        let Some(places) = self.all.get_mut(key) else { return Vec::new() };
        let room = (MAX_PLACES / 2).saturating_sub(self.count).checked_div(children);
        let most = room.map_or(places.len(), |room| room.clamp(1, places.len()));
        let taken: Vec<Place> = places.drain(..most).collect();
        if places.is_empty() {
            self.all.remove(key);
        }
        self.count -= taken.len();
        for place in &taken {
            if let Some(left) = place.file.and_then(|file| self.of_files.get_mut(&file)) {
                *left -= 1;
            }
        }
        if taken.len() > 1 {
            *self.again.entry(*key).or_default() += taken.len() - 1;
        }
        taken
    }

    /// Whether a block comes again for a place that it filled before.
    pub fn comes_again(&mut self, key: &Cid) -> bool {
        let Some(times) = self.again.get_mut(key) else { return false };
        *times -= 1;
        if *times == 0 {
            self.again.remove(key);
        }
        true
    }

    /// How many places a block has.
    pub fn of(&self, key: &Cid) -> usize {
        self.all.get(key).map_or(0, VecDeque::len)
    }

    /// Returns how many bytes a block with `data` bytes fills in all of its places.
    pub fn bytes_of(&self, key: &Cid, data: u64) -> u64 {
        let places = self.all.get(key).into_iter().flatten().filter(|place| place.file.is_some());
        places.fold(0, |sum, place| sum.saturating_add(place.length.min(data)))
    }

    /// Whether every block of a file came, of which some came.
    pub fn is_complete(&self, file: usize) -> bool {
        self.of_files.get(&file).is_none_or(|left| *left == 0)
    }

    /// Whether a block is a node that came before.
    pub fn is_node(&self, key: &Cid) -> bool {
        self.nodes.contains(key)
    }

    /// Expects the children of a node behind its `own` bytes. Returns those that the node carries itself.
    pub fn expand(
        &mut self,
        node: &Cid,
        place: &Place,
        own: u64,
        children: &[Child],
    ) -> Result<Vec<(Block, Place)>, Error> {
        let corrupt = |why: String| Error::Corrupt { cid: *node, why };
        if place.depth >= MAX_DEPTH {
            return Err(corrupt(format!("DAG is deeper than {MAX_DEPTH} levels")));
        }
        if self.count + children.len() > MAX_PLACES || self.nodes.len() >= MAX_PLACES {
            return Err(corrupt(format!("more than {MAX_PLACES} blocks are missing at once")));
        }
        self.nodes.insert(as_v1(node));
        let (mut offset, mut carried) = (place.offset + own, Vec::new());
        for Child { cid, size } in children {
            let place = Place { file: place.file, offset, length: *size, depth: place.depth + 1 };
            match inline_bytes(cid) {
                Some(bytes) => {
                    carried.push((Block { cid: *cid, data: bytes.to_vec().into() }, place));
                }
                None => {
                    if let Some(file) = place.file {
                        *self.of_files.entry(file).or_default() += 1;
                    }
                    self.all.entry(as_v1(cid)).or_default().push_back(place);
                    self.count += 1;
                }
            }
            offset = offset.checked_add(*size).ok_or_else(|| corrupt("sizes overflow".into()))?;
        }
        Ok(carried)
    }
}
