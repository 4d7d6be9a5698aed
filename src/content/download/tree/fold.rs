//! How the number of known parts stays bounded, whatever a DAG is like and wherever it is read.

use std::{collections::HashSet, ops::Range, sync::Arc};

use ocipfs_node::Cid;
use ocipfs_unixfs::Child;

use super::{DownloadTree, FilePart, MAX_EXPANDED, MAX_PARTS, Parent, PartState, Position};
use crate::content::download::read_ranges::{ReadRanges, overlaps};

/// Children of an urgent node that are expanded even if the tree is full.
const MIN_EXPANDED: usize = 64;
/// Parts that stay when others are folded: so many at the beginning of the ranges.
const MAX_KEPT_PARTS: usize = MAX_PARTS / 2;

/// Parts side by side below one inner node.
struct Run {
    parent: Arc<Parent>,
    offsets: Vec<u64>,
    end: u64,
}

impl DownloadTree {
    /// Whether a node may be expanded.
    pub(super) fn has_room(&self) -> bool {
        self.parts.len() + MAX_EXPANDED <= MAX_PARTS
    }

    /// How many parts more may be known.
    pub(super) fn room(&self) -> usize {
        MAX_PARTS.saturating_sub(self.parts.len()).max(MIN_EXPANDED)
    }

    /// Takes up at most `room` children, those first that readers wait for, then those that they need; the others stay
    /// folded in the node.
    pub(super) fn expand_at(
        &mut self,
        node: &Cid,
        place: &Position,
        own: u64,
        children: &[Child],
        (interest, room): (&ReadRanges, usize),
        here: impl Fn(&Range<u64>) -> bool,
    ) {
        let mut offset = place.offset + own;
        let mut missing = Vec::new();
        for child in children {
            let (start, end) = (offset, offset + child.size);
            offset = end;
            let covers = start.max(place.covers.start)..end.min(place.covers.end);
            if !covers.is_empty() && !here(&covers) {
                let (length, depth) = (child.size, place.depth + 1);
                missing.push((child.cid, Position { offset: start, length, depth, covers, parent: None }));
            }
        }
        let chosen = choose(&missing, interest, room);
        let parent = Arc::new(Parent { cid: *node, place: place.clone() });
        let mut folded: Option<Range<u64>> = None;
        for ((cid, child), is_chosen) in missing.into_iter().zip(chosen) {
            if is_chosen {
                self.add_folded(&parent, folded.take());
                self.add(cid, Position { parent: Some(parent.clone()), ..child });
                continue;
            }
            // Where all of a reader's range is here, the folded part must not stand for it.
            if folded.as_ref().is_some_and(|folded| interest.has_within(&(folded.end..child.covers.start))) {
                self.add_folded(&parent, folded.take());
            }
            let start = folded.map_or(child.covers.start, |folded| folded.start);
            folded = Some(start..child.covers.end);
        }
        self.add_folded(&parent, folded);
    }

    fn add_folded(&mut self, parent: &Parent, covers: Option<Range<u64>>) {
        if let Some(covers) = covers {
            self.add(parent.cid, Position { covers, ..parent.place.clone() });
        }
    }

    /// Folds parts that no reader is near to back into their inner nodes.
    pub(super) fn fold(&mut self, interest: &ReadRanges) {
        let near = self.near(interest);
        loop {
            let runs = self.runs(&near, interest);
            if runs.is_empty() {
                return;
            }
            for Run { parent, offsets, end } in runs {
                let covers = offsets.first().map(|start| *start..end);
                offsets.into_iter().for_each(|offset| drop(self.remove(offset)));
                self.add_folded(&parent, covers);
            }
        }
    }

    /// The first parts that readers wait for and need.
    fn near(&self, interest: &ReadRanges) -> HashSet<u64> {
        let each = (MAX_KEPT_PARTS / interest.ranges().len().max(1)).max(1);
        let urgent = interest.urgent().iter().flat_map(|range| self.within(range).take(MIN_EXPANDED));
        let needed = interest.ranges().iter().flat_map(|range| self.within(range).take(each));
        urgent.chain(needed).map(|(offset, _)| offset).collect()
    }

    /// The parts that may be folded, where that makes them fewer.
    fn runs(&self, near: &HashSet<u64>, interest: &ReadRanges) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut is_adjacent = false;
        for (offset, part) in &self.parts {
            let Some(parent) = foldable(part).filter(|_| !near.contains(offset)) else {
                is_adjacent = false;
                continue;
            };
            let end = part.place.covers.end;
            let joins = |run: &&mut Run| {
                is_adjacent && run.parent.is_same(parent) && !interest.has_within(&(run.end..*offset))
            };
            match runs.last_mut().filter(joins) {
                Some(run) => {
                    run.offsets.push(*offset);
                    run.end = end;
                }
                None => runs.push(Run { parent: parent.clone(), offsets: vec![*offset], end }),
            }
            is_adjacent = true;
        }
        runs.retain(|run| run.offsets.len() > 1);
        runs
    }
}

impl Parent {
    fn is_same(&self, other: &Self) -> bool {
        let what = |parent: &Self| (parent.cid, parent.place.offset, parent.place.depth);
        what(self) == what(other)
    }
}

fn foldable(part: &FilePart) -> Option<&Arc<Parent>> {
    part.place.parent.as_ref().filter(|_| part.stage != PartState::Wanted)
}

/// Which children to take up.
fn choose(children: &[(Cid, Position)], interest: &ReadRanges, mut room: usize) -> Vec<bool> {
    if children.len() <= room {
        return vec![true; children.len()];
    }
    let mut chosen = vec![false; children.len()];
    for ranges in [interest.urgent(), interest.ranges()] {
        for ((_, place), chosen) in children.iter().zip(&mut chosen) {
            if room > 0 && !*chosen && overlaps(ranges, &place.covers) {
                *chosen = true;
                room -= 1;
            }
        }
    }
    chosen
}
