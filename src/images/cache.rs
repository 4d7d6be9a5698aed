use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A bounded cache of immutable values; the least recently used half is evicted at a time.
pub struct Cache<K, V> {
    /// Weight at which a half is set aside.
    half: usize,
    halves: Mutex<Halves<K, V>>,
}

struct Halves<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// Holds what weighs `most` together, and one value more where that alone weighs as much.
    pub fn new(most: usize) -> Self {
        let halves = Halves { young: HashMap::new(), old: HashMap::new(), weight: 0 };
        Self { half: most / 2, halves: Mutex::new(halves) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.halves().get(key, self.half)
    }

    pub fn insert(&self, key: K, value: V, weight: usize) {
        self.halves().insert(key, value, weight, self.half);
    }

    /// Returns the value of a key; if there is none, it is made with its weight.
    pub fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> (V, usize)) -> V
    where
        K: Clone,
    {
        let mut halves = self.halves();
        if let Some(value) = halves.get(key, self.half) {
            return value;
        }
        let (value, weight) = make();
        halves.insert(key.clone(), value.clone(), weight, self.half);
        value
    }

    /// Takes note that a value became heavier.
    pub fn weigh(&self, key: &K, weight: usize)
    where
        K: Clone,
    {
        let mut halves = self.halves();
        if let Some((value, before)) = halves.young.get(key)
            && *before != weight
        {
            let value = value.clone();
            halves.insert(key.clone(), value, weight, self.half);
        }
    }

    fn halves(&self) -> MutexGuard<'_, Halves<K, V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, V: Clone> Halves<K, V> {
    fn get(&mut self, key: &K, half: usize) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight, half);
        Some(value)
    }

    fn insert(&mut self, key: K, value: V, weight: usize, half: usize) {
        if self.weight + weight > half {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
            if weight > half {
                // One that is too heavy is there alone.
                self.old.retain(|_, (_, weight)| *weight <= half);
            }
        }
        self.weight += weight;
        if let Some((_, before)) = self.young.insert(key, (value, weight)) {
            self.weight -= before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn cache_keeps_used_entries_within_its_bound() {
        let cache = Cache::new(20);
        for key in 0..1000 {
            cache.insert(key, key, 1);
            assert_eq!((cache.get(&0), cache.get(&key)), (Some(0), Some(key)));
        }
        let kept = (0..1000).filter(|key| cache.get(key).is_some()).count();
        assert!((10..=20).contains(&kept), "{kept}");
    }

    #[test]
    fn an_entry_beyond_the_bound_is_kept_until_the_next_insert() {
        let cache = Cache::new(20);
        cache.insert("heavy", 1, 1000);
        assert_eq!(cache.get(&"heavy"), Some(1));
        cache.insert("light", 2, 1);
        cache.insert("heavy too", 3, 1000);
        assert_eq!(
            (cache.get(&"heavy"), cache.get(&"light"), cache.get(&"heavy too")),
            (None, Some(2), Some(3))
        );
    }

    #[test]
    fn an_entry_that_grows_beyond_the_bound_is_evicted_by_the_next_insert() {
        let cache = Cache::new(20);
        cache.insert("a", 1, 1);
        cache.insert("b", 2, 1);
        cache.weigh(&"b", 10);
        assert_eq!((cache.get(&"b"), cache.get(&"a")), (Some(2), Some(1)));
        cache.weigh(&"b", 1000);
        cache.insert("heavy", 3, 1000);
        assert_eq!((cache.get(&"b"), cache.get(&"heavy")), (None, Some(3)));
        cache.weigh(&"unknown", 1);
        assert_eq!(cache.get(&"unknown"), None);
    }

    #[test]
    fn replacing_a_cached_key_does_not_count_it_twice() {
        let cache = Cache::new(20);
        cache.insert(1, 1, 1);
        for value in 0..100 {
            cache.insert(2, value, 1);
        }
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(99)));
    }
}
