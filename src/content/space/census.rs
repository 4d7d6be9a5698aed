use std::{collections::HashSet, sync::atomic::Ordering, time::Instant};

use ocipfs_node::Cid;

use super::Space;
use crate::content::{
    index::holders,
    locked,
    store::{
        Error, Store,
        census::{self, Item, Loose, Reached},
    },
};

/// Something that nobody keeps.
pub struct Taken {
    pub item: Item,
    /// Whether somebody's pull holds it.
    pub is_held: bool,
}

/// What there is and why.
#[derive(Default)]
pub struct Census {
    /// What is kept leads here.
    pub kept: Reached,
    /// What is held, or on its way, leads here.
    pub held: Reached,
    /// Blobs and parts of files that nobody keeps.
    pub pulled: Vec<Taken>,
    /// Loose blocks that nobody holds.
    pub loose: Vec<Loose>,
    pub usage: Usage,
}

/// How the room is used, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it, with what is on its way.
    pub used: u64,
    /// Added, imported, pushed or pinned.
    pub kept: u64,
    /// Pinned, be it added too or not.
    pub pinned: u64,
    /// Only pulled, with the whole of what is being pulled now.
    pub cached: u64,
    /// How many CIDs are pinned.
    pub pins: u64,
}

impl Census {
    /// Bytes that nobody keeps, be it that somebody pulled them.
    pub fn removable(&self) -> u64 {
        let pulled: u64 = self.pulled.iter().map(|taken| taken.item.bytes).sum();
        pulled + self.loose.iter().map(|block| block.bytes).sum::<u64>()
    }
}

/// What was counted is taken for true for so many times as long as counting took.
const WORTH: u32 = 10;

impl Space {
    /// How the room is used.
    pub fn usage(&self, store: &Store) -> Result<Usage, Error> {
        if let Some((usage, when, took)) = *locked(&self.counted)
            && when.elapsed() < took * WORTH
        {
            return Ok(usage);
        }
        Ok(self.census(store)?.usage)
    }

    /// Counts what there is: in one snapshot, so that what is moved from one holder to another is held at any time.
    pub fn census(&self, store: &Store) -> Result<Census, Error> {
        let begun = Instant::now();
        // Before the snapshot: what arrived until it is taken is held in it.
        let in_flight = self.arrivals.roots();
        let arriving = store.arriving()?;
        let live: HashSet<Cid> = arriving.iter().filter(|file| file.is_live).map(|file| file.root).collect();
        let mut census = store.database().read(|read| {
            let holders = holders(read)?;
            let (mut kept, mut pinned) = (Reached::default(), Reached::default());
            kept.add(read, holders.kept)?;
            pinned.add(read, holders.pinned)?;
            let mut held = kept.clone();
            held.add(read, holders.pulled.into_iter().chain(in_flight.iter().copied()))?;
            let mut all = Census::default();
            all.usage.pins = holders.pins.len() as u64;
            census::items(read, |item| {
                if pinned.has_any(&item) {
                    all.usage.pinned += item.bytes;
                }
                if kept.has_any(&item) {
                    all.usage.kept += item.bytes;
                } else if item.is_stored() || !item.layouts.iter().any(|(root, _)| live.contains(root)) {
                    all.usage.cached += item.bytes;
                    all.pulled.push(Taken { is_held: held.has_any(&item), item });
                }
                Ok(())
            })?;
            census::loose(read, |block| {
                if kept.has(&block) {
                    all.usage.kept += block.bytes;
                    return Ok(());
                }
                all.usage.cached += block.bytes;
                if !held.has(&block) {
                    all.loose.push(block);
                }
                Ok(())
            })?;
            Ok(Census { kept, held, ..all })
        })?;
        let kept = &census.kept;
        let coming = arriving.iter().filter(|file| file.is_live && !kept.contains(&file.root));
        census.usage.cached += coming.map(|file| file.size).sum::<u64>();
        census.usage.used = store.used_bytes()?;
        let known = census.usage.cached + store.draft_bytes();
        self.kept.store(census.usage.used.saturating_sub(known), Ordering::Relaxed);
        *locked(&self.counted) = Some((census.usage, Instant::now(), begun.elapsed()));
        Ok(census)
    }
}
