//! A sharded directory (HAMT): a tree whose nodes have a slot for each value of the next byte of a name's hash.
//! <https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory>

use std::collections::BTreeMap;

use ipld_dagpb::PbLink;
use ocipfs_block::Cid;

use super::{changes::EntryChange, editor::DirectoryEditor, size::Entries};
use crate::{
    Error, data,
    hamt::Bits,
    profile::{Root, link},
};

/// Slots of a shard, as the bits of a hash that choose one.
const FANOUT_BITS: u32 = 8;
/// Hex digits of a slot.
const WIDTH: usize = 2;

/// One node of it.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// How many shards are above it.
    depth: u32,
    slots: BTreeMap<u64, ShardSlot>,
}

#[derive(Clone, Debug)]
enum ShardSlot {
    /// One entry; more only where the whole hashes of their names are equal.
    Entries(Entries),
    Deeper(Root),
}

/// Result of looking up a name in a shard.
pub enum ShardEntry {
    /// The entry, if there is one.
    Entry(Option<Root>),
    /// A shard below it that may have it.
    Deeper(Cid),
}

/// Which slot a name has `depth` shards below the first.
fn slot_of(name: &str, depth: u32) -> u64 {
    Bits::after(name, depth * FANOUT_BITS).next(FANOUT_BITS).unwrap_or_default()
}

/// Whether no bits of a hash are left for shards below.
fn is_deepest(depth: u32) -> bool {
    (depth + 1) * FANOUT_BITS == u64::BITS
}

impl Shard {
    /// A shard of these entries; the shards below it are made.
    pub fn of<E: From<Error>>(editor: &mut DirectoryEditor<E>, depth: u32, entries: Entries) -> Self {
        let mut slots: BTreeMap<u64, Entries> = BTreeMap::new();
        for (name, root) in entries {
            slots.entry(slot_of(&name, depth)).or_default().insert(name, root);
        }
        let slots = slots.into_iter().map(|(slot, entries)| (slot, ShardSlot::of(editor, depth, entries)));
        Self { depth, slots: slots.collect() }
    }

    /// A shard from its links, whose names have the slot in front; none where it is of another width.
    pub fn read(fanout_bits: u32, links: Vec<(String, Root)>) -> Option<Self> {
        if fanout_bits != FANOUT_BITS {
            return None;
        }
        let mut shard = Self::default();
        for (prefixed, root) in links {
            let (slot, name) = prefixed.split_at_checked(WIDTH)?;
            let slot = u64::from_str_radix(slot, 16).ok()?;
            match shard.slots.entry(slot).or_insert_with(|| ShardSlot::Entries(Entries::new())) {
                ShardSlot::Entries(entries) if !name.is_empty() => drop(entries.insert(name.into(), root)),
                other => *other = ShardSlot::Deeper(root),
            }
        }
        Some(shard)
    }

    /// Its links and its data.
    pub fn node(&self) -> (Vec<PbLink>, Vec<u8>) {
        let links = self.slots.iter().flat_map(|(slot, place)| match place {
            ShardSlot::Deeper(root) => vec![link(format!("{slot:0WIDTH$X}"), root)],
            ShardSlot::Entries(entries) => {
                entries.iter().map(|(name, root)| link(format!("{slot:0WIDTH$X}{name}"), root)).collect()
            }
        });
        (links.collect(), data::shard_data(FANOUT_BITS, self.slots.keys().copied()))
    }

    /// The entries in this node.
    pub fn entries(&self) -> impl Iterator<Item = (String, Root)> {
        let entries = self.slots.values().filter_map(|slot| match slot {
            ShardSlot::Entries(entries) => Some(entries.clone()),
            ShardSlot::Deeper(_) => None,
        });
        entries.flatten()
    }

    /// Where a name is that would be in this node or below it.
    pub fn find(&self, name: &str, depth: u32) -> ShardEntry {
        match self.slots.get(&slot_of(name, depth)) {
            Some(ShardSlot::Entries(entries)) => ShardEntry::Entry(entries.get(name).copied()),
            Some(ShardSlot::Deeper(root)) => ShardEntry::Deeper(root.cid),
            None => ShardEntry::Entry(None),
        }
    }

    /// The shards below it.
    pub fn deeper(&self) -> Vec<Cid> {
        let deeper = self.slots.values().filter_map(|slot| match slot {
            ShardSlot::Deeper(root) => Some(root.cid),
            ShardSlot::Entries(_) => None,
        });
        deeper.collect()
    }

    /// Changes entries; says whether one weighs less than before.
    pub fn change<'c, E: From<Error>>(
        &mut self,
        editor: &mut DirectoryEditor<E>,
        changes: impl IntoIterator<Item = (&'c String, &'c EntryChange)>,
    ) -> Result<bool, E> {
        let mut by_slot: BTreeMap<u64, Vec<(&String, &EntryChange)>> = BTreeMap::new();
        for change in changes {
            by_slot.entry(slot_of(change.0, self.depth)).or_default().push(change);
        }
        let mut lighter = false;
        for (slot, changes) in by_slot {
            let place = match self.slots.remove(&slot) {
                Some(ShardSlot::Deeper(root)) => self.change_deeper(editor, root, changes, &mut lighter)?,
                other => {
                    let mut entries = match other {
                        Some(ShardSlot::Entries(entries)) => entries,
                        _ => Entries::new(),
                    };
                    for (name, change) in changes {
                        lighter |= editor.change_entry(&mut entries, name, change)?;
                    }
                    (!entries.is_empty()).then(|| ShardSlot::of(editor, self.depth, entries))
                }
            };
            self.slots.extend(place.map(|place| (slot, place)));
        }
        Ok(lighter)
    }

    fn change_deeper<E: From<Error>>(
        &self,
        editor: &mut DirectoryEditor<E>,
        root: Root,
        changes: Vec<(&String, &EntryChange)>,
        lighter: &mut bool,
    ) -> Result<Option<ShardSlot>, E> {
        let mut deeper = Self { depth: self.depth + 1, ..editor.open_shard(&root.cid)? };
        *lighter |= deeper.change(editor, changes)?;
        // What is alone needs no shard of its own.
        let mut alone = deeper.entries().take(2);
        let (first, second) = (alone.next(), alone.next());
        if second.is_some() || !deeper.deeper().is_empty() {
            return Ok(Some(ShardSlot::Deeper(editor.put_shard(Some(root.cid), &deeper))));
        }
        editor.leave(root.cid);
        Ok(first.map(|entry| ShardSlot::Entries(Entries::from([entry]))))
    }
}

impl ShardSlot {
    fn of<E: From<Error>>(editor: &mut DirectoryEditor<E>, depth: u32, entries: Entries) -> Self {
        if entries.len() == 1 || is_deepest(depth) {
            return Self::Entries(entries);
        }
        let deeper = Shard::of(editor, depth + 1, entries);
        Self::Deeper(editor.put_shard(None, &deeper))
    }
}
