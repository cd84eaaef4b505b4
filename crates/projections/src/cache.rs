//! A bounded cache that names the entries it wants to drop, so that the owner can write them out first.

use hashlink::LruCache;
use std::hash::Hash;

/// Values with a size in bytes; the least recently used are dropped first.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    /// Bounded here, by weight, and not by its own bound, which is of a number.
    entries: LruCache<K, Entry<V>>,
    weight: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { entries: LruCache::new_unbounded(), weight: 0, weight_max }
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.entries.contains_key(&key)
    }

    /// The value, without counting as a use.
    pub(crate) fn peek_mut(&mut self, key: K) -> Option<&mut V> {
        self.entries.peek_mut(&key).map(|entry| &mut entry.value)
    }

    /// The value, which becomes the most recently used.
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(key);
        self.entries.insert(key, Entry { value, weight });
        self.weight += weight;
    }

    /// Corrects the weight of a value that has grown or shrunk.
    pub(crate) fn weigh(&mut self, key: K, weight: usize) {
        if let Some(entry) = self.entries.peek_mut(&key) {
            self.weight = self.weight - entry.weight + weight;
            entry.weight = weight;
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Takes out the least recently used value while there is too much; never the only one.
    pub(crate) fn pop_surplus(&mut self) -> Option<(K, V)> {
        if self.weight <= self.weight_max || self.entries.len() <= 1 {
            return None;
        }
        let (key, entry) = self.entries.remove_lru()?;
        self.weight -= entry.weight;
        Some((key, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_last_one_stays() {
        let mut cache = Cache::new(10);
        for key in 1..=3 {
            cache.insert(key, key * 100, 5);
        }
        assert_eq!(cache.get_mut(1), Some(&mut 100));
        assert_eq!(cache.pop_surplus(), Some((2, 200)));
        assert_eq!(cache.pop_surplus(), None);
        assert!(cache.contains(1) && cache.contains(3) && !cache.contains(2));
        cache.insert(4, 400, 50);
        assert_eq!(cache.pop_surplus(), Some((3, 300)));
        assert_eq!(cache.pop_surplus(), Some((1, 100)));
        assert_eq!(cache.pop_surplus(), None);
        assert_eq!(cache.remove(4), Some(400));
    }

    #[test]
    fn what_has_grown_takes_the_place_of_others() {
        let mut cache = Cache::new(10);
        (1..=3).for_each(|key| cache.insert(key, key * 100, 3));
        cache.weigh(3, 9);
        cache.weigh(4, 1_000);
        assert_eq!(cache.pop_surplus(), Some((1, 100)));
        assert_eq!(cache.pop_surplus(), Some((2, 200)));
        cache.weigh(3, 1);
        cache.insert(4, 400, 9);
        assert_eq!(cache.pop_surplus(), None);
    }
}
