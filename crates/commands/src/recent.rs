//! A cache for values that are used several times in a short life and then hardly ever again, limited in bytes.

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle};
use std::hash::Hash;
use std::sync::Arc;

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

/// A value that may be in use while it is kept.
pub trait Shared {
    /// Whether somebody beside the cache has it.
    fn is_in_use(&self) -> bool;
}

impl<T> Shared for Arc<T> {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// What is in use stays, however little room there is: whoever looks for it meanwhile is to find that one, and not to make another of
/// which the first knows nothing.
pub struct WhileInUse<K, V>(DefaultLifecycle<K, Weighed<V>>);

impl<K, V> Clone for WhileInUse<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V: Shared> Lifecycle<K, Weighed<V>> for WhileInUse<K, V> {
    type RequestState = <DefaultLifecycle<K, Weighed<V>> as Lifecycle<K, Weighed<V>>>::RequestState;

    fn is_pinned(&self, _: &K, entry: &Weighed<V>) -> bool {
        entry.value.is_in_use()
    }

    fn on_evict(&self, state: &mut Self::RequestState, key: K, entry: Weighed<V>) {
        self.0.on_evict(state, key, entry);
    }
}

/// See the module.
pub type Recent<K, V> = Cache<K, Weighed<V>, ByBytes, DefaultHashBuilder, WhileInUse<K, V>>;

/// Keeps values of so many bytes altogether; about `values_expected` of them, when they are ordinary. One that is larger
/// than a part of the cache is not kept at all once nobody uses it.
pub fn recent<K: Eq + Hash, V: Clone + Shared>(bytes_max: u64, values_expected: u64) -> Recent<K, V> {
    let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
    let options = quick_cache::OptionsBuilder::new()
        .estimated_items_capacity(usize::try_from(values_expected).unwrap_or(usize::MAX))
        .weight_capacity(bytes_max)
        // It is rounded up to a power of two.
        .shards(1 << shards.ilog2())
        .hot_allocation(HOT_ALLOCATION)
        .build()
        .expect("both capacities are set");
    Cache::with_options(
        options,
        ByBytes,
        DefaultHashBuilder::default(),
        WhileInUse(DefaultLifecycle::default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY_BYTES: usize = 1_000 - ENTRY_BYTES as usize;

    fn filled(bytes: usize) -> Recent<u32, Arc<()>> {
        let cache = recent(10_000_000, 10_000);
        (0..100_000).for_each(|key| cache.insert(key, Weighed::new(Arc::new(()), bytes)));
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
    fn what_is_in_use_stays_however_large_it_is_and_however_much_comes() {
        for bytes in [ORDINARY_BYTES, 16 * 1024 * 1024] {
            let cache = recent(10_000_000, 10_000);
            let used = Arc::new(());
            cache.insert(u32::MAX, Weighed::new(used.clone(), bytes));
            (0..100_000).for_each(|key| cache.insert(key, Weighed::new(Arc::new(()), ORDINARY_BYTES)));
            assert!(cache.peek(&u32::MAX).is_some_and(|kept| Arc::ptr_eq(&kept.value, &used)), "{bytes}");
            drop(used);
            (0..100_000).for_each(|key| cache.insert(key, Weighed::new(Arc::new(()), ORDINARY_BYTES)));
            assert!(cache.weight() <= 10_000_000, "{bytes}: {}", cache.weight());
        }
    }

    #[test]
    fn the_smallest_cache_has_one_part() {
        assert_eq!(recent::<u32, Arc<()>>(0, 0).num_shards(), 1);
        assert!(recent::<u32, Arc<()>>(1 << 40, 100_000).num_shards() as u64 <= SHARDS_MAX);
    }
}
