//! A cache for values that are used several times in a short life and then hardly ever again, limited in bytes.

use quick_cache::sync::Cache;
use std::hash::Hash;

/// The part that is for what was used before, and again. By default a cache keeps nearly all of its room for that, and a
/// lot would be gone before its first use.
const HOT_ALLOCATION: f64 = 0.3;
/// What an entry takes beside its value: its place, its lock, its part of the tables, and the overhead of values.
const ENTRY_BYTES: u64 = 384;
/// Each part of the cache with a lock of its own has at least this much room, so that several large values fit.
const SHARD_BYTES_MIN: u64 = 2 * 1024 * 1024;
/// The most such parts.
const SHARDS_MAX: u64 = 64;

/// A value with its size, which never changes: the cache relies on that.
#[derive(Clone)]
pub struct Weighed<V> {
    /// The value.
    pub value: V,
    bytes: u64,
}

impl<V> Weighed<V> {
    /// A value that takes about so many bytes.
    pub fn new(value: V, bytes: usize) -> Self {
        Self { value, bytes: bytes as u64 }
    }
}

/// Weighs what [`Weighed`] says.
#[derive(Clone)]
pub struct ByBytes;

impl<K, V> quick_cache::Weighter<K, Weighed<V>> for ByBytes {
    fn weight(&self, _key: &K, entry: &Weighed<V>) -> u64 {
        entry.bytes + ENTRY_BYTES
    }
}

/// See the module.
pub type Recent<K, V> = Cache<K, Weighed<V>, ByBytes>;

/// Keeps values of so many bytes altogether; about `values_expected` of them, when they are ordinary. One that is larger
/// than a part of the cache is not kept at all.
pub fn recent<K: Eq + Hash, V: Clone>(bytes_max: u64, values_expected: u64) -> Recent<K, V> {
    let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
    let options = quick_cache::OptionsBuilder::new()
        .estimated_items_capacity(usize::try_from(values_expected).unwrap_or(usize::MAX))
        .weight_capacity(bytes_max)
        // It is rounded up to a power of two.
        .shards(1 << shards.ilog2())
        .hot_allocation(HOT_ALLOCATION)
        .build()
        .expect("both capacities are set");
    Cache::with_options(options, ByBytes, Default::default(), Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY_BYTES: usize = 1_000 - ENTRY_BYTES as usize;

    fn filled(bytes: usize) -> Recent<u32, ()> {
        let cache = recent(10_000_000, 10_000);
        (0..100_000).for_each(|key| cache.insert(key, Weighed::new((), bytes)));
        cache
    }

    #[test]
    fn as_many_ordinary_values_are_kept_as_were_asked_for() {
        let kept = filled(ORDINARY_BYTES).len();
        assert!((9_900..=10_000).contains(&kept), "{kept}");
    }

    #[test]
    fn large_values_are_fewer_and_take_no_more_room() {
        let cache = filled(256 * 1024);
        assert!(cache.weight() <= 10_000_000, "{}", cache.weight());
        assert!((20..=38).contains(&cache.len()), "{}", cache.len());
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        assert_eq!(filled(16 * 1024 * 1024).len(), 0);
    }

    #[test]
    fn the_smallest_cache_has_one_part() {
        assert_eq!(recent::<u32, ()>(0, 0).num_shards(), 1);
        assert!(recent::<u32, ()>(1 << 40, 100_000).num_shards() as u64 <= SHARDS_MAX);
    }
}
