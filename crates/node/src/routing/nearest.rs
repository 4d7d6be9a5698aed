use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{KBucketDistance, KBucketKey, RecordKey},
};

/// The swarm waits meanwhile.
const SWEPT_AT_ONCE: usize = 1024;

/// What a table keeps under one key.
pub trait Row {
    /// About how many bytes it takes.
    fn weight(&self) -> usize;
    /// Drops what has expired.
    fn expire(&mut self, now: Instant) -> Left;
}

/// How much of a row an expiry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    All,
    Part,
    Nothing,
}

/// How much a table may hold.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub keys: usize,
    pub bytes: usize,
}

/// Rows by their key's distance from this node. When it is full the farthest gives way: those keys are others' to keep,
/// and every node of a small swarm drops other ones; were it the oldest, all would drop the same, and
/// anybody could wash out the whole table with keys made up at random.
pub struct Nearest<R> {
    me: KBucketKey<PeerId>,
    room: Room,
    rows: BTreeMap<KBucketDistance, (RecordKey, R)>,
    bytes: usize,
    changes: Changes,
}

impl<R: Row> Nearest<R> {
    pub fn new(me: PeerId, room: Room) -> Self {
        let changes = Changes { keys: HashSet::new(), most: 2 * room.keys };
        Self { me: me.into(), room, rows: BTreeMap::new(), bytes: 0, changes }
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

    pub fn iter(&self) -> impl Iterator<Item = &(RecordKey, R)> {
        self.rows.values()
    }

    /// Keeps `row` in place of what was under `key`; false where only nearer keys have room.
    pub fn put(&mut self, key: RecordKey, row: R) -> bool {
        let at = self.distance(&key);
        let farthest = self.rows.last_key_value().map(|(at, _)| *at);
        if self.rows.len() >= self.room.keys && farthest < Some(at) {
            return false;
        }
        self.bytes += row.weight();
        self.changes.add(key.clone());
        if let Some((_, old)) = self.rows.insert(at, (key, row)) {
            self.bytes -= old.weight();
        }
        while (self.rows.len() > self.room.keys || self.bytes > self.room.bytes) && self.drop_farthest() {}
        self.rows.contains_key(&at)
    }

    /// Drops the row of the farthest key; false where there is none.
    pub fn drop_farthest(&mut self) -> bool {
        let Some((_, (key, row))) = self.rows.pop_last() else { return false };
        self.bytes -= row.weight();
        self.changes.add(key);
        true
    }

    /// Takes a row out, to be put back or not.
    pub fn remove(&mut self, key: &RecordKey) -> Option<R> {
        let (key, row) = self.rows.remove(&self.distance(key))?;
        self.bytes -= row.weight();
        self.changes.add(key);
        Some(row)
    }

    /// Drops what has expired of the next rows behind `from`; where to go on, until the end.
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        let (mut last, mut gone) = (None, Vec::new());
        let rows = (from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (at, (key, row)) in self.rows.range_mut(rows).take(SWEPT_AT_ONCE) {
            let before = row.weight();
            let left = row.expire(now);
            self.bytes -= before - row.weight();
            if left != Left::All {
                self.changes.add(key.clone());
            }
            if left == Left::Nothing {
                self.bytes -= row.weight();
                gone.push(*at);
            }
            last = Some(*at);
        }
        gone.iter().for_each(|at| drop(self.rows.remove(at)));
        last
    }

    /// The keys whose rows are others than when they were last taken.
    pub fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }
}

/// Keys that the file has to be told of. It may miss some of a flood, since all that is in it expires by itself.
pub struct Changes {
    keys: HashSet<RecordKey>,
    most: usize,
}

impl Changes {
    pub fn add(&mut self, key: RecordKey) {
        if self.keys.len() < self.most {
            self.keys.insert(key);
        }
    }

    /// Notes what became of a key that was read from the file: `whole`, it need not be written.
    pub fn restored(&mut self, key: RecordKey, whole: bool) {
        match whole {
            true => drop(self.keys.remove(&key)),
            false => self.add(key),
        }
    }

    pub fn take(&mut self) -> Vec<RecordKey> {
        std::mem::take(&mut self.keys).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for usize {
        fn weight(&self) -> usize {
            *self
        }

        fn expire(&mut self, _: Instant) -> Left {
            Left::All
        }
    }

    fn key(n: u32) -> RecordKey {
        RecordKey::new(&n.to_be_bytes())
    }

    fn table(keys: usize, bytes: usize) -> Nearest<usize> {
        Nearest::new(PeerId::random(), Room { keys, bytes })
    }

    #[test]
    fn when_it_is_full_the_farthest_keys_give_way() {
        let mut table = table(10, 1000);
        let kept = (0..100).filter(|n| table.put(key(*n), 1)).count();
        assert!(kept >= 10);
        let mut all: Vec<_> = (0..100).map(key).collect();
        all.sort_by_key(|key| table.distance(key));
        let rows: Vec<_> = table.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(rows, all[..10]);
        assert!(!table.put(all[50].clone(), 1), "farther than all");
    }

    #[test]
    fn bytes_are_bounded_like_keys() {
        let mut table = table(100, 50);
        for n in 0..100 {
            table.put(key(n), 10);
        }
        assert_eq!((table.iter().count(), table.bytes), (5, 50));
        let near = table.iter().next().unwrap().0.clone();
        assert!(table.put(near.clone(), 30), "in place of the lighter one");
        assert_eq!((table.iter().count(), table.bytes), (3, 50));
        table.remove(&near);
        assert_eq!(table.bytes, 20);
        assert!(!table.put(near, 51), "alone too heavy");
        assert_eq!((table.iter().count(), table.bytes), (0, 0));
    }

    #[test]
    fn what_came_and_what_gave_way_is_marked() {
        let mut table = table(1, 100);
        for n in 0..2 {
            table.put(key(n), 1);
        }
        let mut changed = table.changes().take();
        changed.sort_by_key(RecordKey::to_vec);
        let kept = table.iter().next().unwrap().0.clone();
        assert!(changed.contains(&kept));
        assert!(table.changes().take().is_empty());
    }
}
