//! How much a door lets in: of all, and of each person.

use holdfast_core::{Error, ErrorKind, Stage};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const MICROS: u64 = 1_000_000;
/// A second in nanoseconds: the longest time that what was let in takes.
const SECOND: u64 = 1000 * MICROS;

/// Nanoseconds that each of so many a second takes; 0: there is no quota.
fn each(per_second: u32) -> u64 {
    SECOND.checked_div(u64::from(per_second)).map_or(0, |each| each.max(1))
}

/// When all that were let in have taken theirs, with one more; `None` if that one is too many: a second's worth is let in at once after a pause (the generic cell
/// rate algorithm, ITU-T I.371).
fn one_more(each: u64, busy_until: u64, now: u64) -> Option<u64> {
    let until = busy_until.max(now).saturating_add(each);
    (until <= now.saturating_add(SECOND)).then_some(until)
}

/// So many a second of all.
#[derive(Debug)]
pub(crate) struct Quota {
    each: u64,
    busy_until: AtomicU64,
}

impl Quota {
    pub(crate) fn of(per_second: u32) -> Self {
        Self { each: each(per_second), busy_until: AtomicU64::new(0) }
    }

    /// Whether one more is let in at this moment, in microseconds on a clock that never steps back.
    pub(crate) fn take(&self, ticks: u64) -> bool {
        if self.each == 0 {
            return true;
        }
        let now = ticks.saturating_mul(1000);
        let more = |until| one_more(self.each, until, now);
        self.busy_until.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether one more would be let in, which takes nothing.
    fn has_room(&self, ticks: u64) -> bool {
        let until = self.busy_until.load(Ordering::Relaxed);
        self.each == 0 || one_more(self.each, until, ticks.saturating_mul(1000)).is_some()
    }
}

/// So many a second of each person, in bounded room. Nobody has to be remembered longer than a second: whoever came before that has nothing left to wait for.
#[derive(Debug)]
struct Persons {
    each: u64,
    /// Persons are remembered by a hash that nobody outside can foretell.
    hashed: RandomState,
    lately: Mutex<Lately>,
}

/// When those let in have taken theirs: of who came since `began`, and of who came in the second before it and not since.
#[derive(Debug, Default)]
struct Lately {
    began: u64,
    now: HashMap<u64, u64>,
    before: HashMap<u64, u64>,
}

impl Persons {
    /// How many are remembered at most of a second. Where more come than that, the quota of all holds those who came last.
    const MAX: usize = 4096;

    fn of(per_second: u32) -> Self {
        Self { each: each(per_second), hashed: RandomState::new(), lately: Mutex::default() }
    }

    fn take(&self, person: (&str, &str), ticks: u64) -> bool {
        if self.each == 0 {
            return true;
        }
        let (now, person) = (ticks.saturating_mul(1000), self.hashed.hash_one(person));
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let Lately { began, now: current, before } = &mut *lately;
        let age = now.saturating_sub(*began);
        if age >= SECOND {
            let last = core::mem::take(current);
            *before = if age < 2 * SECOND { last } else { HashMap::new() };
            *began = now;
        }
        let known = current.get(&person).or_else(|| before.get(&person)).copied();
        let Some(until) = one_more(self.each, known.unwrap_or_default(), now) else { return false };
        // Whoever comes back is one more of this second.
        if current.contains_key(&person) || current.len() < Self::MAX {
            current.insert(person, until);
        }
        true
    }
}

/// Whose share of a door a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share<'a> {
    /// A person's, by issuer and name.
    Person(&'a str, &'a str),
    /// That of all whose task is to ask much at once: a migration, an administrator's import or export. It is one, so that they leave the rest to persons.
    Bulk,
    /// None but everybody's.
    Everybodys,
}

/// What a door for many persons lets in: of each, so that nobody uses up what is everybody's, of what comes in bulk, and of all.
#[derive(Debug)]
pub(crate) struct Quotas {
    persons: Persons,
    bulk: Quota,
    all: Quota,
}

impl Quotas {
    /// Where nothing comes in bulk.
    pub(crate) fn of(all: u32, each: u32) -> Self {
        Self::with_bulk(all, each, 0)
    }

    pub(crate) fn with_bulk(all: u32, each: u32, bulk: u32) -> Self {
        Self { persons: Persons::of(each), bulk: Quota::of(bulk), all: Quota::of(all) }
    }

    /// Lets one more in, which takes this share.
    ///
    /// # Errors
    /// `throttled`, with whose quota it is that is used up.
    pub(crate) fn take(&self, share: Share<'_>, ticks: u64) -> Result<(), Error> {
        let refused = |whose, setting| {
            Err(Error::new(ErrorKind::Throttled, Stage::Receive, format!("{whose} quota is used up"))
                .remedy(format!("slow down, or have an operator raise `{setting}` of the service")))
        };
        // Nobody pays for what the service does not let in, nor the service for what the person may not.
        if !self.all.has_room(ticks) {
            return refused("the service's", "requests_per_second");
        }
        match share {
            Share::Person(issuer, name) if !self.persons.take((issuer, name), ticks) => {
                return refused("the person's", "requests_per_second_each");
            }
            Share::Bulk if !self.bulk.take(ticks) => {
                return refused("the administrators' and migrations'", "requests_per_second_bulk");
            }
            Share::Person(..) | Share::Bulk | Share::Everybodys => {}
        }
        match self.all.take(ticks) {
            true => Ok(()),
            false => refused("the service's", "requests_per_second"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_lets_in_its_number_a_second_and_no_more() {
        let (quota, persons) = (Quota::of(100), Persons::of(100));
        let at = |ticks: u64| (0..1000).filter(|_| quota.take(ticks)).count();
        let of = |name: &str, ticks: u64| (0..1000).filter(|_| persons.take(("idp", name), ticks)).count();
        for (ticks, let_in) in
            [(5 * MICROS, 100), (5 * MICROS + 10_000, 1), (5 * MICROS + 500_000, 49), (60 * MICROS, 100)]
        {
            assert_eq!((at(ticks), of("ana", ticks), of("bo", ticks)), (let_in, let_in, let_in), "{ticks}");
        }
        // Whether or not others have come meanwhile, and a second is over.
        assert_eq!(of("ana", 60 * MICROS + 900_000), 90);
        assert_eq!(of("bo", 61 * MICROS), 100);
        assert_eq!(of("ana", 61 * MICROS), 10);
        assert!((0..10_000).all(|_| Quota::of(0).take(1) && Persons::of(0).take(("idp", "ana"), 1)));
    }

    #[test]
    fn nobody_uses_up_what_is_everybodys() {
        let quotas = Quotas::of(100, 20);
        let of = |share| (0..1000).filter(|_| quotas.take(share, 5 * MICROS).is_ok()).count();
        assert_eq!(of(Share::Person("idp", "ana")), 20);
        let why = quotas.take(Share::Person("idp", "ana"), 5 * MICROS).unwrap_err();
        assert!(why.remedy_text().contains("`requests_per_second_each`"), "{why:?}");
        assert_eq!((of(Share::Person("other", "ana")), of(Share::Person("idp", "bo"))), (20, 20));
        assert_eq!(of(Share::Everybodys), 40);
        let why = quotas.take(Share::Person("idp", "eve"), 5 * MICROS).unwrap_err();
        assert!(why.remedy_text().contains("`requests_per_second`"), "{why:?}");
    }

    #[test]
    fn what_comes_in_bulk_has_one_share_and_leaves_the_rest_to_persons() {
        let quotas = Quotas::with_bulk(200, 20, 100);
        let of = |share| (0..1000).filter(|_| quotas.take(share, 5 * MICROS).is_ok()).count();
        assert_eq!(of(Share::Bulk), 100);
        let why = quotas.take(Share::Bulk, 5 * MICROS).unwrap_err();
        assert!(why.remedy_text().contains("`requests_per_second_bulk`"), "{why:?}");
        for name in ["ana", "bo", "eve", "ida", "leo"] {
            assert_eq!(of(Share::Person("idp", name)), 20);
        }
        // And no more than the service lets in, where there is no share of its own.
        let quotas = Quotas::of(50, 20);
        assert_eq!((0..1000).filter(|_| quotas.take(Share::Bulk, 5 * MICROS).is_ok()).count(), 50);
    }

    #[test]
    fn nobody_pays_for_what_the_service_does_not_let_in() {
        let quotas = Quotas::of(100, 2);
        let take = |share, ticks| quotas.take(share, ticks).is_ok();
        assert!((0..100).all(|_| take(Share::Everybodys, 5 * MICROS)));
        assert!((0..2).all(|_| !take(Share::Person("idp", "ana"), 5 * MICROS)));
        assert!(take(Share::Person("idp", "ana"), 5 * MICROS + 10_000));
    }

    #[test]
    fn persons_take_bounded_room_and_whoever_is_remembered_is_held() {
        let persons = Persons::of(1);
        let room = || {
            let lately = persons.lately.lock().unwrap();
            lately.now.len() + lately.before.len()
        };
        for number in 0..10_000 {
            assert!(persons.take(("idp", &number.to_string()), 5 * MICROS));
        }
        assert_eq!(room(), Persons::MAX);
        assert!(!persons.take(("idp", "0"), 5 * MICROS + 1));
        for number in 0..10_000 {
            persons.take(("other", &number.to_string()), 6 * MICROS);
        }
        assert_eq!(room(), 2 * Persons::MAX);
        // Those who come back take no more room than others.
        assert!(persons.take(("other", "0"), 7 * MICROS));
        for number in 0..Persons::MAX {
            persons.take(("third", &number.to_string()), 7 * MICROS);
        }
        for number in 0..10_000 {
            persons.take(("other", &number.to_string()), 7 * MICROS);
        }
        assert_eq!(room(), 2 * Persons::MAX);
        persons.take(("idp", "0"), 9 * MICROS);
        assert_eq!(room(), 1);
        // Nor is any of them let in more often where there is no room left.
        let persons = Persons::of(2);
        let take = |number: usize| persons.take(("idp", &number.to_string()), 5 * MICROS);
        assert!((0..Persons::MAX).all(take));
        assert!(take(0) && !take(0));
    }
}
