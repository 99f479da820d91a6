//! Rotations by schedule, and destructions that wait: which keys are due, found without looking at all keys, and made up for after a standstill.

use super::pending::Pending;
use super::plan::Planned;
use super::protect::Waiting;
use super::{Destructions, Pipeline};
use crate::error::Error;
use crate::id::{KeyName, MemberName, TenantId};
use crate::key::Key;
use crate::lifecycle::KeyState;
use crate::port::{KeyEntry, KeyStore, Ports, State, StateChange, World};
use crate::schedule::{RotationPeriod, Schedule};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

/// How long after it was due a rotation still counts as on schedule, in seconds.
const TOLERANCE: u64 = 3600;
/// How long to wait before one that failed is tried again, in seconds.
pub(super) const AGAIN: u64 = 60;
/// When to look at a key again of which nobody says when something is to be done, in seconds.
const MUCH_LATER: u64 = 3600;
/// How many are made before other things that wait have their turn.
const AT_ONCE: usize = 16;
/// How many of them may be keys whose member has come: rotations do not wait for all that it has to erase.
const OF_ARRIVED: usize = AT_ONCE / 2;
/// How many keys are looked at in one go after a start, and how many times.
const PAGE: usize = 1000;
const PAGES: usize = 8;
/// The most keys that are remembered; the nearest, where there are more.
const MAX_REMEMBERED: usize = 100_000;

/// How scheduled rotations have come out since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotations {
    /// Those made within an hour of being due.
    pub on_schedule: u64,
    /// Those made later.
    pub late: u64,
    /// Attempts that failed; each is repeated.
    pub failed: u64,
}

/// When to look at which key. What stands here is a hint: the key's record decides.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    ahead: Mutex<Ahead>,
    on_schedule: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    /// And what waits to be put into use.
    pub(super) waiting: Waiting,
}

#[derive(Debug, Default)]
struct Ahead {
    at: BTreeSet<(Timestamp, TenantId, KeyName)>,
    /// The same by key.
    of: BTreeMap<(TenantId, KeyName), Timestamp>,
    /// Keys that wait to be destroyed.
    waiting: BTreeSet<(TenantId, KeyName)>,
    /// Keys of whose destroyed material some may still be in a member of a pool.
    erasing: BTreeSet<(TenantId, KeyName)>,
    /// For whom these wait.
    pending: Pending,
    scan: Scan,
    /// When the nearest of those further ahead that had no room would be due: all keys must be looked at again by then.
    forgot: Option<Timestamp>,
}

/// How far all keys have been looked at since the start.
#[derive(Debug, Default)]
enum Scan {
    #[default]
    NotBegun,
    At {
        tenants: Vec<TenantId>,
        after: Option<KeyName>,
    },
    Done,
}

impl Ahead {
    /// A key stands there once, for when it is looked at first: whoever looks enters it again for whatever is left.
    fn insert(&mut self, at: Timestamp, tenant: &TenantId, key: &KeyName) {
        let of = (tenant.clone(), key.clone());
        match self.of.get(&of) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => drop(self.at.remove(&(*later, tenant.clone(), key.clone()))),
            None => {}
        }
        self.at.insert((at, tenant.clone(), key.clone()));
        self.of.insert(of, at);
        if self.at.len() > MAX_REMEMBERED
            && let Some((at, tenant, key)) = self.at.pop_last()
        {
            self.of.remove(&(tenant, key));
            self.forgot = Some(self.forgot.map_or(at, |forgot| forgot.min(at)));
        }
    }

    fn pop(&mut self) -> Option<(TenantId, KeyName)> {
        let (_, tenant, key) = self.at.pop_first()?;
        let of = (tenant, key);
        self.of.remove(&of);
        Some(of)
    }
}

/// Enters a key in a list, or takes it out; a full one takes no more.
fn enter(list: &mut BTreeSet<(TenantId, KeyName)>, of: &(TenantId, KeyName), is_in: bool) {
    if !is_in {
        list.remove(of);
    } else if list.len() < MAX_REMEMBERED {
        list.insert(of.clone());
    }
}

impl Agenda {
    fn ahead<T>(&self, with: impl FnOnce(&mut Ahead) -> T) -> T {
        with(&mut self.ahead.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of a key whose record was written.
    pub(super) fn note(&self, key: &Key) {
        self.waiting.note(key);
        self.note_schedule(key);
        let Key { tenant, name, destruction, erasure, .. } = key;
        self.ahead(|ahead| {
            let of = (tenant.clone(), name.clone());
            enter(&mut ahead.waiting, &of, destruction.is_some());
            enter(&mut ahead.erasing, &of, key.is_to_erase());
            if let Some(order) = destruction {
                ahead.insert(order.due(), tenant, name);
            }
            if let Some(erasure) = erasure.as_ref().filter(|_| key.is_to_erase())
                && !ahead.pending.enter(&erasure.pending, &of)
            {
                ahead.insert(Timestamp::from_micros(0), tenant, name);
            }
        });
    }

    /// Looks at a key as soon as one of these members can be asked; without room for that, in an hour.
    pub(super) fn look_with(&self, members: &[MemberName], now: Timestamp, key: &Key) {
        let Key { tenant, name, .. } = key;
        self.ahead(|ahead| {
            if !ahead.pending.enter(members, &(tenant.clone(), name.clone())) {
                ahead.insert(now.plus_seconds(MUCH_LATER), tenant, name);
            }
        });
    }

    fn note_schedule(&self, key: &Key) {
        if let Some(schedule) = &key.schedule {
            self.look_at(schedule.due, key);
        }
    }

    /// Looks at a key then.
    pub(super) fn look_at(&self, at: Timestamp, key: &Key) {
        self.ahead(|ahead| ahead.insert(at, &key.tenant, &key.name));
    }

    pub(super) fn destructions(&self) -> Destructions {
        self.ahead(|ahead| Destructions { waiting: ahead.waiting.len(), erasing: ahead.erasing.len() })
    }

    /// Has all keys looked at again, one after the other.
    pub(super) fn look_again(&self) {
        self.ahead(|ahead| ahead.scan = Scan::NotBegun);
    }

    fn take_due(&self, now: Timestamp) -> Vec<(TenantId, KeyName)> {
        self.ahead(|ahead| {
            let mut due = Vec::new();
            while due.len() < AT_ONCE
                && let Some((at, _, _)) = ahead.at.first()
                && *at <= now
            {
                due.extend(ahead.pop());
            }
            if ahead.forgot.is_some_and(|at| at <= now || ahead.at.is_empty()) {
                (ahead.forgot, ahead.scan) = (None, Scan::NotBegun);
            }
            due
        })
    }
}

impl<P: Ports> Pipeline<P> {
    /// How scheduled rotations have come out since the start.
    pub fn rotations(&self) -> Rotations {
        let Agenda { ahead: _, on_schedule, late, failed, waiting: _ } = &self.agenda;
        let [on_schedule, late, failed] =
            [on_schedule, late, failed].map(|count| count.load(Ordering::Relaxed));
        Rotations { on_schedule, late, failed }
    }

    /// Rotates and destroys what is due; whatever fails is tried again later.
    pub(super) async fn look_at_due(&self, go_on: impl Fn() -> bool + Sync) -> Result<(), Error> {
        let mut failed = self.look_ahead().await;
        // What a jump of the clock alone makes due waits until the jump is confirmed.
        let now = self.at_earliest(self.engines.world.now());
        self.look_who_came(now);
        for (tenant, key) in self.agenda.take_due(now) {
            if !go_on() {
                self.agenda.ahead(|ahead| ahead.insert(now, &tenant, &key));
                continue;
            }
            if let Err(error) = self.rotate_on_schedule(&tenant, &key, now).await {
                self.agenda.failed.fetch_add(1, Ordering::Relaxed);
                self.agenda.ahead(|ahead| ahead.insert(now.plus_seconds(AGAIN), &tenant, &key));
                failed = failed.and(Err(error));
            }
            if let Err((error, pause)) = self.end_if_due(&tenant, &key, now).await {
                self.agenda.ahead(|ahead| ahead.insert(now.plus_seconds(pause), &tenant, &key));
                failed = failed.and(Err(error));
            }
        }
        failed
    }

    /// Has some of the keys looked at whose members can be asked now.
    fn look_who_came(&self, now: Timestamp) {
        let mut members = self.agenda.ahead(|ahead| ahead.pending.members());
        members.retain(|member| self.engines.keys.can_ask(member));
        self.agenda.ahead(|ahead| {
            for (tenant, key) in ahead.pending.take(&members, OF_ARRIVED) {
                ahead.insert(now, &tenant, &key);
            }
        });
    }

    /// Looks at some more of the keys that were there before the start.
    async fn look_ahead(&self) -> Result<(), Error> {
        for _ in 0..PAGES {
            let next = self.agenda.ahead(|ahead| {
                if matches!(ahead.scan, Scan::NotBegun) {
                    ahead.scan = Scan::At { tenants: self.snapshots.names(), after: None };
                }
                match &ahead.scan {
                    Scan::At { tenants, after } => {
                        tenants.last().cloned().map(|tenant| (tenant, after.clone()))
                    }
                    Scan::NotBegun | Scan::Done => None,
                }
            });
            let Some((tenant, after)) = next else {
                self.agenda.ahead(|ahead| ahead.scan = Scan::Done);
                return Ok(());
            };
            let page = self.engines.state.keys(&tenant, after.as_ref(), PAGE).await?;
            page.rows.iter().for_each(|key| self.agenda.note(key));
            self.agenda.ahead(|ahead| {
                let Scan::At { tenants, after } = &mut ahead.scan else { return };
                *after = page.rows.last().map(|key| key.name.clone()).filter(|_| page.more);
                if after.is_none() {
                    tenants.pop();
                }
            });
        }
        Ok(())
    }

    async fn rotate_on_schedule(
        &self,
        tenant: &TenantId,
        key: &KeyName,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(entry) = self.engines.state.key(tenant, key).await? else { return Ok(()) };
        let Some(Schedule { due, period: _ }) = entry.key.schedule else { return Ok(()) };
        if due > now {
            self.agenda.note_schedule(&entry.key);
            return Ok(());
        }
        // One that is stopped is looked at again when its record changes, as it does when somebody resumes it. So is one whose newest version waits
        // for a backup: another version behind it would never come into use.
        if entry.key.state != KeyState::Active || entry.key.waits {
            return Ok(());
        }
        let was_due = core::str::from_utf8(&due.text()).unwrap_or_default().to_owned();
        let is_late = now > due.plus_seconds(TOLERANCE);
        let alarm = is_late.then(|| format!("rotated late: it was due at {was_due}").into());
        self.rotate_own(tenant, &entry.key, alarm, Some(format!("due {was_due}").into())).await?;
        let count = if is_late { &self.agenda.late } else { &self.agenda.on_schedule };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The schedule of a key whose newest version is made now. No jump of the clock puts off what comes next.
    pub(super) fn schedule_anew(&self, key: &Key, now: Timestamp) -> Option<Schedule> {
        let Schedule { period, due: _ } = key.schedule?;
        Some(Schedule::since(self.at_earliest(now), key.id, period))
    }

    pub(super) async fn plan_schedule(
        &self,
        entry: &KeyEntry,
        period: Option<RotationPeriod>,
    ) -> Result<Planned, Error> {
        let before = &entry.key;
        let schedule = match period {
            None => None,
            Some(period) => {
                super::plan::has_versions(before)?;
                let newest = self.engines.state.version(before.id, before.newest).await?;
                let made = newest.map_or(before.created, |newest| newest.created);
                // One that was made while the clock was ahead says a time that has not come.
                let made = made.min(self.at_earliest(self.engines.world.now()));
                Some(Schedule::since(made, before.id, period))
            }
        };
        let key = Key { schedule, epoch: before.epoch.next(), ..before.clone() };
        let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
        Ok(Planned::key(vec![change], key, std::sync::Arc::clone(&entry.current)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_has_room_and_the_rest_is_found_again_in_time() {
        let (agenda, tenant) = (Agenda::default(), TenantId::gateway());
        let most = u64::try_from(MAX_REMEMBERED).unwrap();
        let key = |number: u64| format!("k{number}").parse::<KeyName>().unwrap();
        agenda.ahead(|ahead| {
            ahead.scan = Scan::Done;
            (0..most + 5).rev().for_each(|at| ahead.insert(Timestamp::from_micros(at), &tenant, &key(at)));
            let forgot = Some(Timestamp::from_micros(most));
            assert_eq!(
                (ahead.at.len(), ahead.of.len(), ahead.forgot),
                (MAX_REMEMBERED, MAX_REMEMBERED, forgot)
            );
        });
        let is_done = || agenda.ahead(|ahead| matches!(ahead.scan, Scan::Done));
        // However often the nearer ones come again.
        for now in [0, most - 1] {
            for (tenant, key) in agenda.take_due(Timestamp::from_micros(now)) {
                agenda.ahead(|ahead| ahead.insert(Timestamp::from_micros(now + 60), &tenant, &key));
            }
            assert!(is_done());
        }
        let taken = agenda.take_due(Timestamp::from_micros(most)).len();
        assert!((1..=AT_ONCE).contains(&taken) && !is_done(), "all keys are looked at again");
    }

    #[test]
    fn a_key_is_there_once_for_when_it_is_first_looked_at() {
        let (agenda, tenant) = (Agenda::default(), TenantId::gateway());
        let key: KeyName = "k".parse().unwrap();
        agenda.ahead(|ahead| {
            for at in [60, 5, 600] {
                ahead.insert(Timestamp::from_micros(at), &tenant, &key);
            }
            assert_eq!(ahead.at.len(), 1);
        });
        assert!(agenda.take_due(Timestamp::from_micros(4)).is_empty());
        assert_eq!(agenda.take_due(Timestamp::from_micros(5)).len(), 1);
        assert!(agenda.take_due(Timestamp::from_micros(1000)).is_empty());
    }
}
