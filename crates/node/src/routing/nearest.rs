use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{KBucketDistance, KBucketKey, RecordKey},
};

use super::compact::CompactBytes;

/// Keys swept while the swarm waits.
const SWEEP_BATCH: usize = 1024;

/// The rows of a table.
pub trait RankedRow {
    /// Returns the approximate size in bytes.
    fn weight(&self) -> usize;
    /// Removes expired records.
    fn expire(&mut self, now: Instant) -> Remaining;
}

/// How much of a row remains after a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    All,
    Some,
    Nothing,
}

/// The capacity of a table.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub keys: usize,
    pub bytes: usize,
}

/// Rows ordered by the distance of their key from this node. A full table evicts the farthest key: other nodes are
/// responsible for it, and every node of a small swarm evicts different keys. If it evicted the oldest, all nodes would
/// evict the same, and random keys could flush the whole table.
pub struct Nearest<R> {
    me: KBucketKey<PeerId>,
    capacity: Capacity,
    rows: BTreeMap<KBucketDistance, (CompactBytes, R)>,
    bytes: usize,
    changes: RankedChanges,
}

impl<R: RankedRow> Nearest<R> {
    pub fn new(me: PeerId, capacity: Capacity) -> Self {
        let changes = RankedChanges { keys: HashSet::new(), max: 2 * capacity.keys };
        Self { me: me.into(), capacity, rows: BTreeMap::new(), bytes: 0, changes }
    }

    fn distance(&self, key: &RecordKey) -> KBucketDistance {
        self.me.distance(&KBucketKey::new(key.clone()))
    }

    #[cfg(test)]
    pub fn distance_to(&self, key: &RecordKey) -> KBucketDistance {
        self.distance(key)
    }

    pub fn get(&self, key: &RecordKey) -> Option<&R> {
        self.rows.get(&self.distance(key)).map(|(_, row)| row)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RecordKey, &R)> {
        self.rows.values().map(|(key, row)| (key.to_key(), row))
    }

    /// Stores `row` under `key`. Returns false if the table is full of nearer keys.
    pub fn put(&mut self, key: RecordKey, row: R) -> bool {
        let at = self.distance(&key);
        let farthest = self.rows.last_key_value().map(|(at, _)| *at);
        if self.rows.len() >= self.capacity.keys && farthest < Some(at) {
            return false;
        }
        self.bytes += row.weight();
        let key = CompactBytes::from(&key);
        self.changes.add_compact(key.clone());
        if let Some((_, old)) = self.rows.insert(at, (key, row)) {
            self.bytes -= old.weight();
        }
        while (self.rows.len() > self.capacity.keys || self.bytes > self.capacity.bytes)
            && self.drop_farthest()
        {}
        self.rows.contains_key(&at)
    }

    /// Evicts the row of the farthest key. Returns false if the table is empty.
    pub fn drop_farthest(&mut self) -> bool {
        let Some((_, (key, row))) = self.rows.pop_last() else { return false };
        self.bytes -= row.weight();
        self.changes.add_compact(key);
        true
    }

    /// Removes and returns a row.
    pub fn remove(&mut self, key: &RecordKey) -> Option<R> {
        let (key, row) = self.rows.remove(&self.distance(key))?;
        self.bytes -= row.weight();
        self.changes.add_compact(key);
        Some(row)
    }

    /// Removes expired records from the next rows after `from`. Returns where to continue, or `None` at the end.
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        let (mut last, mut gone) = (None, Vec::new());
        let rows = (from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (at, (key, row)) in self.rows.range_mut(rows).take(SWEEP_BATCH) {
            let before = row.weight();
            let left = row.expire(now);
            self.bytes -= before - row.weight();
            if left != Remaining::All {
                self.changes.add_compact(key.clone());
            }
            if left == Remaining::Nothing {
                self.bytes -= row.weight();
                gone.push(*at);
            }
            last = Some(*at);
        }
        gone.iter().for_each(|at| drop(self.rows.remove(at)));
        last
    }

    /// Returns the keys whose rows changed.
    pub fn changes(&mut self) -> &mut RankedChanges {
        &mut self.changes
    }
}

/// Keys to write to the file. It may miss some of a flood, since everything in it expires.
pub struct RankedChanges {
    keys: HashSet<CompactBytes>,
    max: usize,
}

impl RankedChanges {
    pub fn add(&mut self, key: RecordKey) {
        self.add_compact((&key).into());
    }

    fn add_compact(&mut self, key: CompactBytes) {
        if self.keys.len() < self.max {
            self.keys.insert(key);
        }
    }

    /// Records that a key was read from the file; it need not be written if all its records were accepted.
    pub fn restored(&mut self, key: RecordKey, whole: bool) {
        match whole {
            true => drop(self.keys.remove(&CompactBytes::from(&key))),
            false => self.add(key),
        }
    }

    pub fn drain(&mut self) -> Vec<RecordKey> {
        std::mem::take(&mut self.keys).iter().map(CompactBytes::to_key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl RankedRow for usize {
        fn weight(&self) -> usize {
            *self
        }

        fn expire(&mut self, _: Instant) -> Remaining {
            Remaining::All
        }
    }

    fn key(n: u32) -> RecordKey {
        RecordKey::new(&n.to_be_bytes())
    }

    fn table(keys: usize, bytes: usize) -> Nearest<usize> {
        Nearest::new(PeerId::random(), Capacity { keys, bytes })
    }

    #[test]
    fn a_full_table_evicts_the_farthest_keys() {
        let mut table = table(10, 1000);
        let kept = (0..100).filter(|n| table.put(key(*n), 1)).count();
        assert!(kept >= 10);
        let mut all: Vec<_> = (0..100).map(key).collect();
        all.sort_by_key(|key| table.distance(key));
        let rows: Vec<_> = table.iter().map(|(key, _)| key).collect();
        assert_eq!(rows, all[..10]);
        assert!(!table.put(all[50].clone(), 1), "farther than all");
    }

    #[test]
    fn the_bytes_of_a_table_are_bounded() {
        let mut table = table(100, 50);
        for n in 0..100 {
            table.put(key(n), 10);
        }
        assert_eq!((table.iter().count(), table.bytes), (5, 50));
        let near = table.iter().next().unwrap().0;
        assert!(table.put(near.clone(), 30), "in place of the lighter one");
        assert_eq!((table.iter().count(), table.bytes), (3, 50));
        table.remove(&near);
        assert_eq!(table.bytes, 20);
        assert!(!table.put(near, 51), "alone too heavy");
        assert_eq!((table.iter().count(), table.bytes), (0, 0));
    }

    #[test]
    fn added_and_evicted_keys_are_marked_as_changed() {
        let mut table = table(1, 100);
        for n in 0..2 {
            table.put(key(n), 1);
        }
        let mut changed = table.changes().drain();
        changed.sort_by_key(RecordKey::to_vec);
        let kept = table.iter().next().unwrap().0;
        assert!(changed.contains(&kept));
        assert!(table.changes().drain().is_empty());
    }
}
