//! A bounded store of what has been worked out before, for many threads.

use core::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::DefaultHasher;
use std::sync::{Mutex, PoisonError};

/// Hashes in here are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Shard<V> = Mutex<HashMap<u64, V, BuildHasherDefault<Identity>>>;

/// Values by a keyed hash. One value for each hash: whoever looks compares what they find, and another of the same hash replaces it.
///
/// A shard's lock is held for a look-up only, and a shard that is full is emptied: cheaper, over many entries, than to keep an order.
pub(crate) struct Memo<V> {
    state: RandomState,
    shards: Vec<Shard<V>>,
    shard_capacity: usize,
}

impl<V> Memo<V> {
    const SHARDS: usize = 16;

    /// At most `capacity` values.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            state: RandomState::new(),
            shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity: (capacity / Self::SHARDS).max(1),
        }
    }

    pub(crate) fn hasher(&self) -> DefaultHasher {
        self.state.build_hasher()
    }

    /// Looks a value up and takes from it what `take` does, if it is the right one.
    pub(crate) fn find<R>(&self, hash: u64, take: impl FnOnce(&V) -> Option<R>) -> Option<R> {
        let shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.get(&hash).and_then(take)
    }

    pub(crate) fn put(&self, hash: u64, value: V) {
        let Some(shard) = self.shard(hash) else { return };
        let mut values = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = values.len() >= self.shard_capacity && !values.contains_key(&hash);
        let old = if full { core::mem::take(&mut *values) } else { HashMap::default() };
        let replaced = values.insert(hash, value);
        drop(values);
        // Freed outside of the lock.
        drop((old, replaced));
    }

    fn shard(&self, hash: u64) -> Option<&Shard<V>> {
        // The low bits choose the bucket within the shard.
        self.shards.get(usize::try_from(hash >> 60).unwrap_or(0) % Self::SHARDS)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_it_may() {
        let memo = Memo::new(64);
        for number in 0..10_000u64 {
            let mut hasher = memo.hasher();
            hasher.write_u64(number);
            let hash = hasher.finish();
            memo.put(hash, number);
            assert_eq!(memo.find(hash, |found| Some(*found)), Some(number));
            assert!(memo.len() <= 64);
        }
    }
}
