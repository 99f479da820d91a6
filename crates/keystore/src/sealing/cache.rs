//! What is held in memory between uses: a bounded map of ready objects, in shards, evicted by the CLOCK algorithm.
//!
//! A hit takes one shard's lock for a look-up and a reference count; it does not allocate. Objects are loaded outside of any lock and
//! put in afterwards, unless something was forgotten in that shard meanwhile: so a `forget` also reaches what was being loaded.

use core::hash::Hash;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// What a cache is looked up by.
pub(crate) trait CacheKey: Eq + Hash + Clone {
    /// Spreads keys over shards; equal for all that are forgotten together.
    fn spread(&self) -> u64;
}

/// A bounded map.
pub(crate) struct Cache<K, V> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
}

/// What a look-up finds.
pub(crate) enum Lookup<V> {
    /// The object, and a ticket in case it turns out to be another one than is wanted.
    Hit(Arc<V>, Ticket),
    /// Nothing; with this ticket what is loaded now can be put in.
    Miss(Ticket),
}

/// How often the shard had forgotten something at the look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

struct Shard<K, V> {
    index: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    forgotten: u64,
    capacity: usize,
}

struct Slot<K, V> {
    key: K,
    value: Arc<V>,
    used: bool,
}

impl<K: CacheKey, V> Cache<K, V> {
    /// A cache for at least `capacity` objects; each shard takes its share and at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).max(1);
        Self { shards: core::array::from_fn(|_| Mutex::new(Shard::new(capacity))) }
    }

    fn shard(&self, key: &K) -> Option<MutexGuard<'_, Shard<K, V>>> {
        // The remainder is below 16.
        let index = usize::try_from(key.spread() % (SHARDS as u64)).unwrap_or(0);
        // A shard is consistent between any two statements that could panic, so a poisoned one can be used.
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks an object up.
    pub(crate) fn get(&self, key: &K) -> Lookup<V> {
        match self.shard(key) {
            Some(mut shard) => shard.get(key),
            None => Lookup::Miss(Ticket(u64::MAX)),
        }
    }

    /// Puts in what was loaded since the look-up that gave `ticket`, unless something was forgotten since.
    pub(crate) fn insert(&self, key: K, value: Arc<V>, ticket: Ticket) {
        // Dropped after the lock: wiping a key should not make others wait.
        let _evicted = self.shard(&key).and_then(|mut shard| shard.insert(key, value, ticket));
    }

    /// Drops all that are spread like `like` and match, and whatever of that shard is being loaded now.
    pub(crate) fn forget(&self, like: &K, matches: impl Fn(&K) -> bool) {
        let _dropped = self.shard(like).map(|mut shard| shard.forget(matches));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().slots.len()).sum()
    }
}

impl<K: CacheKey, V> Shard<K, V> {
    fn new(capacity: usize) -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), hand: 0, forgotten: 0, capacity }
    }

    fn get(&mut self, key: &K) -> Lookup<V> {
        let slot = self.index.get(key).and_then(|slot| self.slots.get_mut(*slot));
        let ticket = Ticket(self.forgotten);
        match slot {
            Some(slot) => {
                slot.used = true;
                Lookup::Hit(Arc::clone(&slot.value), ticket)
            }
            None => Lookup::Miss(ticket),
        }
    }

    /// Returns what had to make room.
    fn insert(&mut self, key: K, value: Arc<V>, ticket: Ticket) -> Option<Arc<V>> {
        if ticket != Ticket(self.forgotten) {
            return None;
        }
        if let Some(slot) = self.index.get(&key).and_then(|slot| self.slots.get_mut(*slot)) {
            return Some(core::mem::replace(&mut slot.value, value));
        }
        let fresh = Slot { key: key.clone(), value, used: false };
        if self.slots.len() < self.capacity {
            self.index.insert(key, self.slots.len());
            self.slots.push(fresh);
            return None;
        }
        let victim = self.victim();
        let slot = self.slots.get_mut(victim)?;
        let old = core::mem::replace(slot, fresh);
        self.index.remove(&old.key);
        self.index.insert(key, victim);
        Some(old.value)
    }

    /// The next slot that has not been used since the hand last passed it; at most two rounds.
    fn victim(&mut self) -> usize {
        loop {
            let here = self.hand;
            self.hand = (here + 1) % self.slots.len().max(1);
            match self.slots.get_mut(here) {
                Some(slot) if slot.used => slot.used = false,
                Some(_) | None => return here,
            }
        }
    }

    fn forget(&mut self, matches: impl Fn(&K) -> bool) -> Vec<Slot<K, V>> {
        self.forgotten = self.forgotten.wrapping_add(1);
        let (dropped, kept) = self.slots.drain(..).partition(|slot| matches(&slot.key));
        self.slots = kept;
        self.hand = 0;
        self.index.clear();
        self.index.extend(self.slots.iter().enumerate().map(|(index, slot)| (slot.key.clone(), index)));
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl CacheKey for (u64, u32) {
        fn spread(&self) -> u64 {
            self.0
        }
    }

    fn put(cache: &Cache<(u64, u32), u32>, key: (u64, u32), value: u32) {
        if let Lookup::Miss(ticket) = cache.get(&key) {
            cache.insert(key, Arc::new(value), ticket);
        }
    }

    fn peek(cache: &Cache<(u64, u32), u32>, key: (u64, u32)) -> Option<u32> {
        match cache.get(&key) {
            Lookup::Hit(value, _) => Some(*value),
            Lookup::Miss(_) => None,
        }
    }

    #[test]
    fn what_is_forgotten_while_it_is_loaded_stays_out() {
        let cache = Cache::new(64);
        let Lookup::Miss(ticket) = cache.get(&(1, 1)) else { panic!("nothing is in it") };
        cache.forget(&(1, 0), |key| key.0 == 1);
        cache.insert((1, 1), Arc::new(7), ticket);
        assert_eq!(peek(&cache, (1, 1)), None);
        put(&cache, (1, 1), 8);
        assert_eq!(peek(&cache, (1, 1)), Some(8));
    }

    #[test]
    fn forgetting_drops_every_version_of_one_key_at_once() {
        let cache = Cache::new(160);
        for version in 0..5 {
            put(&cache, (1, version), version);
            put(&cache, (17, version), version);
        }
        let held = match cache.get(&(1, 3)) {
            Lookup::Hit(value, _) => Arc::downgrade(&value),
            Lookup::Miss(_) => panic!("it was put in"),
        };
        cache.forget(&(1, 0), |key| key.0 == 1);
        assert!(held.upgrade().is_none(), "the object itself is gone");
        assert!((0..5).all(|version| peek(&cache, (1, version)).is_none()));
        assert!(
            (0..5).all(|version| peek(&cache, (17, version)) == Some(version)),
            "another key of that shard"
        );
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let cache = Cache::new(SHARDS * 4);
        for version in 0..4 {
            put(&cache, (1, version), version);
        }
        assert_eq!(peek(&cache, (1, 2)), Some(2));
        for version in 4..7 {
            put(&cache, (1, version), version);
        }
        assert_eq!(peek(&cache, (1, 2)), Some(2));
        assert_eq!(cache.len(), 4);
    }

    #[test]
    fn an_evicted_object_lives_as_long_as_its_user() {
        let cache = Cache::new(1);
        put(&cache, (1, 0), 0);
        let Lookup::Hit(user, _) = cache.get(&(1, 0)) else { panic!("it was put in") };
        for version in 1..4 {
            put(&cache, (1, version), version);
        }
        assert_eq!(peek(&cache, (1, 0)), None);
        assert_eq!(Arc::strong_count(&user), 1);
    }

    proptest! {
        #[test]
        fn it_never_lies_nor_grows(calls in prop::collection::vec((0u64..40, 0u32..4, any::<bool>()), 0..400)) {
            let cache = Cache::new(SHARDS * 2);
            for (key, version, forget) in calls {
                if forget {
                    cache.forget(&(key, 0), |at| at.0 == key);
                    prop_assert_eq!(peek(&cache, (key, version)), None);
                } else {
                    let value = u32::try_from(key).unwrap() * 10 + version;
                    put(&cache, (key, version), value);
                    prop_assert_eq!(peek(&cache, (key, version)), Some(value));
                }
                prop_assert!(cache.len() <= SHARDS * 2);
            }
        }
    }
}
