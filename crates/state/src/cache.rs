//! A bounded cache that many look into and one writer keeps true.
//!
//! A look that hits takes one shared lock for a few instructions, allocates nothing and marks the entry as recently used (CLOCK, Corbató
//! 1968). A look that misses gets a [`Miss`], reads the database and offers what it read; the offer is declined if the writer has changed
//! anything in that part of the cache meanwhile, so an old row never covers a newer one.

use holdfast_core::hashed::Hashed;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Parts of the cache, each with a lock of its own: a power of two.
const SHARDS: usize = 64;

/// A cache of values that know their own key: an entry is found by the key's hash and then asked whether it is the right one.
pub(crate) struct Cache<V> {
    hasher: RandomState,
    shards: Box<[RwLock<Shard<V>>]>,
}

struct Shard<V> {
    /// Raised by every change of the writer.
    generation: u64,
    /// Slot by hash. Of two keys with one hash, only the last has a place.
    index: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    slots: Vec<Slot<V>>,
    capacity: usize,
    hand: usize,
}

struct Slot<V> {
    hash: u64,
    value: V,
    recent: AtomicBool,
}

/// A look that found nothing: where to offer what is read, and since when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Miss {
    hash: u64,
    generation: u64,
}

impl<V: Clone> Cache<V> {
    /// An empty cache for about `capacity` entries, rounded up; memory is taken as entries come.
    pub(crate) fn new(capacity: usize) -> Self {
        let shard = || {
            RwLock::new(Shard {
                generation: 0,
                index: HashMap::default(),
                slots: Vec::new(),
                capacity: capacity.div_ceil(SHARDS).max(1),
                hand: 0,
            })
        };
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// The entry of `key`, if `is_it` recognises it.
    pub(crate) fn get(&self, key: &impl Hash, is_it: impl FnOnce(&V) -> bool) -> Result<V, Miss> {
        let hash = self.hasher.hash_one(key);
        let Some(shard) = self.shard(hash) else { return Err(Miss { hash, generation: 0 }) };
        let shard = read(shard);
        match shard.index.get(&hash).and_then(|slot| shard.slots.get(*slot)).filter(|slot| is_it(&slot.value))
        {
            Some(slot) => {
                // A store only where it changes something: the line stays shared between processors.
                if !slot.recent.load(Ordering::Relaxed) {
                    slot.recent.store(true, Ordering::Relaxed);
                }
                Ok(slot.value.clone())
            }
            None => Err(Miss { hash, generation: shard.generation }),
        }
    }

    /// Offers what was read after a miss.
    pub(crate) fn offer(&self, miss: Miss, value: V) {
        let Miss { hash, generation } = miss;
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = write(shard);
        if shard.generation == generation {
            shard.insert(hash, value);
        }
    }

    /// What the writer has committed: replaces the entry if there is one, and makes every read that is under way decline.
    pub(crate) fn commit(&self, key: &impl Hash, value: V) {
        let hash = self.hasher.hash_one(key);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = write(shard);
        shard.generation = shard.generation.wrapping_add(1);
        let slot = shard.index.get(&hash).copied();
        if let Some(slot) = slot.and_then(|slot| shard.slots.get_mut(slot)) {
            slot.value = value;
        }
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard<V>>> {
        // The map inside a shard uses the lowest and the highest bits.
        usize::try_from((hash >> 32) & 0xffff).ok().and_then(|bits| self.shards.get(bits % SHARDS))
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).slots.len()).sum()
    }
}

impl<V> Shard<V> {
    fn insert(&mut self, hash: u64, value: V) {
        let slot = Slot { hash, value, recent: AtomicBool::new(false) };
        let at = match self.index.get(&hash) {
            Some(at) => *at,
            None if self.slots.len() < self.capacity => {
                self.index.insert(hash, self.slots.len());
                self.slots.push(slot);
                return;
            }
            None => self.victim(),
        };
        if let Some(old) = self.slots.get_mut(at) {
            self.index.remove(&old.hash);
            self.index.insert(hash, at);
            *old = slot;
        }
    }

    /// The first slot from the hand on that nobody has looked at since the hand last passed.
    fn victim(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = if at.saturating_add(1) < self.slots.len() { at.saturating_add(1) } else { 0 };
            match self.slots.get(at) {
                Some(slot) if slot.recent.swap(false, Ordering::Relaxed) => {}
                Some(_) | None => return at,
            }
        }
    }
}

// A lock is poisoned only by a panic, and nothing here leaves a shard half changed.
fn read<V>(shard: &RwLock<Shard<V>>) -> RwLockReadGuard<'_, Shard<V>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<V>(shard: &RwLock<Shard<V>>) -> RwLockWriteGuard<'_, Shard<V>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Cache<(u32, u32)>;

    fn get(cache: &Pairs, key: u32) -> Result<u32, Miss> {
        cache.get(&key, |(found, _)| *found == key).map(|(_, value)| value)
    }

    fn fill(cache: &Pairs, key: u32, value: u32) {
        if let Err(miss) = get(cache, key) {
            cache.offer(miss, (key, value));
        }
    }

    #[test]
    fn what_is_offered_is_found() {
        let cache = Pairs::new(1000);
        (0..100).for_each(|key| fill(&cache, key, key + 1));
        assert!((0..100).all(|key| get(&cache, key).is_ok_and(|value| value == key + 1)));
    }

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Pairs::new(256);
        fill(&cache, 7, 7);
        for key in 1000..50_000 {
            assert_eq!(get(&cache, 7).ok(), Some(7), "used all the time, so never the victim (key {key})");
            fill(&cache, key, 0);
        }
        assert_eq!(cache.len(), 256);
    }

    #[test]
    fn a_read_that_a_commit_overtook_is_not_kept() {
        let cache = Pairs::new(1000);
        let miss = get(&cache, 1).unwrap_err();
        cache.commit(&1u32, (1, 2));
        cache.offer(miss, (1, 1));
        assert!(get(&cache, 1).is_err(), "the old value must not have been kept");
        fill(&cache, 1, 2);
        assert_eq!(get(&cache, 1).ok(), Some(2));
    }

    #[test]
    fn a_commit_replaces_what_is_there() {
        let cache = Pairs::new(1000);
        fill(&cache, 1, 1);
        cache.commit(&1u32, (1, 2));
        assert_eq!(get(&cache, 1).ok(), Some(2));
    }

    #[test]
    fn an_entry_that_is_another_keys_is_a_miss() {
        let cache = Pairs::new(1000);
        fill(&cache, 1, 1);
        assert!(cache.get(&1u32, |_| false).is_err());
    }
}
