//! A bounded store of what has been worked out before, for many threads.

use core::hash::{BuildHasher, BuildHasherDefault};
use holdfast_core::hashed::Hashed;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::DefaultHasher;
use std::sync::{Mutex, PoisonError};

/// What is remembered, with how many bytes each value takes.
struct Shard<V> {
    values: HashMap<u64, (V, usize), BuildHasherDefault<Hashed>>,
    bytes: usize,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self { values: HashMap::default(), bytes: 0 }
    }
}

/// Values by a keyed hash. One value for each hash: whoever looks compares what they find, and another of the same hash replaces it.
///
/// A shard's lock is held for a look-up only, and a shard that is full is emptied: cheaper, over many entries, than to keep an order.
pub(crate) struct Memo<V> {
    state: RandomState,
    shards: Vec<Mutex<Shard<V>>>,
    shard_capacity: usize,
    shard_bytes: usize,
}

impl<V> Memo<V> {
    const SHARDS: usize = 16;

    /// At most `capacity` values, which take at most so many bytes together.
    pub(crate) fn new(capacity: usize, bytes: usize) -> Self {
        Self {
            state: RandomState::new(),
            shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity: (capacity / Self::SHARDS).max(1),
            shard_bytes: bytes / Self::SHARDS,
        }
    }

    /// The most bytes of a value that is remembered.
    pub(crate) const fn most(&self) -> usize {
        self.shard_bytes
    }

    pub(crate) fn hasher(&self) -> DefaultHasher {
        self.state.build_hasher()
    }

    /// Looks a value up and takes from it what `take` does, if it is the right one.
    pub(crate) fn find<R>(&self, hash: u64, take: impl FnOnce(&V) -> Option<R>) -> Option<R> {
        let shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.values.get(&hash).and_then(|(value, _)| take(value))
    }

    /// Remembers a value that takes about so many bytes; not at all one that alone takes more than there is room for.
    pub(crate) fn put(&self, hash: u64, value: V, bytes: usize) {
        let Some(shard) = self.shard(hash).filter(|_| bytes <= self.shard_bytes) else { return };
        let mut guard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = guard.values.remove(&hash);
        guard.bytes = guard.bytes.saturating_sub(replaced.as_ref().map_or(0, |(_, bytes)| *bytes));
        let full =
            guard.values.len() >= self.shard_capacity || guard.bytes.saturating_add(bytes) > self.shard_bytes;
        let old = if full { core::mem::take(&mut *guard) } else { Shard::default() };
        guard.bytes = guard.bytes.saturating_add(bytes);
        guard.values.insert(hash, (value, bytes));
        drop(guard);
        // Freed outside of the lock.
        drop((old, replaced));
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard<V>>> {
        // The low bits choose the bucket within the shard.
        self.shards.get(usize::try_from(hash >> 60).unwrap_or(0) % Self::SHARDS)
    }

    /// All that is remembered, with its bytes.
    #[cfg(test)]
    pub(crate) fn each(&self, mut look: impl FnMut(&V, usize)) {
        for shard in &self.shards {
            shard.lock().unwrap().values.values().for_each(|(value, bytes)| look(value, *bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;

    #[test]
    fn it_never_holds_more_than_it_may() {
        let hash = |memo: &Memo<u64>, number: u64| {
            let mut hasher = memo.hasher();
            hasher.write_u64(number);
            hasher.finish()
        };
        for (bytes_each, capacity, most) in [(0, 64, 64), (100, 1000, 160)] {
            let memo = Memo::new(capacity, 16_000);
            for number in 0..10_000u64 {
                let hash = hash(&memo, number);
                memo.put(hash, number, bytes_each);
                assert_eq!(memo.find(hash, |found| Some(*found)), Some(number));
                let mut held = 0;
                memo.each(|_, _| held += 1);
                assert!(held <= most, "{held}");
            }
        }
        // What takes more than there is room for is none of it, and what is replaced takes no more room.
        let memo = Memo::new(64, 16_000);
        memo.put(hash(&memo, 1), 1, 1001);
        assert_eq!(memo.find(hash(&memo, 1), |found| Some(*found)), None);
        let (first, second) = (1 << 60, 1 << 60 | 1);
        memo.put(first, 1, 500);
        for number in 0..100 {
            memo.put(second, number, 500);
        }
        assert_eq!(memo.find(first, |found| Some(*found)), Some(1));
    }
}
