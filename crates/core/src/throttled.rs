//! Requests of known callers beyond a quota: the first of each is recorded as every refusal is, those that follow are counted exactly, in bounded room, and
//! summarised now and then. So nobody fills a log by asking too often, and nothing is refused without standing in it.

use crate::caller::{Authentication, Caller};
use crate::id::{CallerName, TenantId};
use crate::protocol::Protocol;
use crate::sync::Mutex;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::PoisonError;

/// Whose requests of a tenant are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Who {
    caller: CallerName,
    authentication: Authentication,
    protocol: Protocol,
}

/// What was counted of one of them.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// Who asked.
    pub(crate) caller: Caller,
    /// Through which protocol.
    pub(crate) protocol: Protocol,
    /// When the first was refused, which has a record of its own.
    pub(crate) since: Timestamp,
    /// How many after it have none.
    pub(crate) count: u64,
}

/// Counters since the last summary, of each tenant by itself: one's persons take no room of another's.
#[derive(Debug, Default)]
pub(crate) struct Throttled {
    cells: Mutex<HashMap<TenantId, HashMap<Who, Summary>>>,
}

impl Throttled {
    /// How many a tenant may have before further persons of an issuer are counted as one, and further certificates of a name.
    pub(crate) const MAX_CELLS: usize = 1024;

    /// Counts one more refusal; whether it is the first of this caller since the last summary, which is not counted but recorded.
    pub(crate) fn is_first(&self, caller: &Caller, protocol: Protocol, now: Timestamp) -> bool {
        let mut is_first = false;
        self.add(caller, protocol, now, |summary, is_new| {
            is_first = is_new;
            summary.count = summary.count.saturating_add(u64::from(!is_new));
        });
        is_first
    }

    /// Counts a first one after all: its record was not made.
    pub(crate) fn count(&self, caller: &Caller, protocol: Protocol, now: Timestamp) {
        self.add(caller, protocol, now, |summary, _| summary.count = summary.count.saturating_add(1));
    }

    /// Takes what has been counted, and starts anew.
    pub(crate) fn take(&self) -> Vec<Summary> {
        let cells = core::mem::take(&mut *self.cells.lock().unwrap_or_else(PoisonError::into_inner));
        cells.into_values().flat_map(HashMap::into_values).filter(|summary| summary.count > 0).collect()
    }

    /// Puts back what could not be recorded.
    pub(crate) fn restore(&self, summaries: &[Summary]) {
        for Summary { caller, protocol, since, count } in summaries {
            self.add(caller, *protocol, *since, |summary, _| {
                summary.since = summary.since.min(*since);
                summary.count = summary.count.saturating_add(*count);
            });
        }
    }

    fn add(
        &self,
        caller: &Caller,
        protocol: Protocol,
        since: Timestamp,
        change: impl FnOnce(&mut Summary, bool),
    ) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = cells.entry(caller.tenant.clone()).or_default();
        let who = |authentication: &Authentication| Who {
            caller: caller.name().clone(),
            authentication: authentication.clone(),
            protocol,
        };
        let mut own = who(&caller.authentication);
        if cells.len() >= Self::MAX_CELLS && !cells.contains_key(&own) {
            own = who(&of_all(&caller.authentication));
        }
        let is_new = !cells.contains_key(&own);
        let summary = cells.entry(own).or_insert_with_key(|who| Summary {
            caller: Caller { authentication: who.authentication.clone(), ..caller.clone() },
            protocol,
            since,
            count: 0,
        });
        change(summary, is_new);
    }
}

/// What is common to all who come in this way, of which there are as many as are registered or configured. Certificates are neither: providers, and authorities that a
/// tenant believes, issue them at will.
fn of_all(authentication: &Authentication) -> Authentication {
    match authentication {
        Authentication::Issued { issuer, subject: _ } => {
            Authentication::Issued { issuer: issuer.clone(), subject: None }
        }
        Authentication::MutualTls { key_hash: _, matched } => {
            Authentication::MutualTls { key_hash: None, matched: matched.clone() }
        }
        Authentication::Bearer(_)
        | Authentication::Signature(_)
        | Authentication::Open
        | Authentication::Gateway => authentication.clone(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::caller::{CallerKind, CallerRecord};
    use std::sync::Arc;

    fn record(name: CallerName) -> Arc<CallerRecord> {
        Arc::new(CallerRecord {
            name,
            kind: CallerKind::Application,
            groups: vec![],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        })
    }

    /// Whoever has an authority's certificates has as many as they like, each of a key of its own.
    #[test]
    fn certificates_of_one_name_fill_a_bounded_room_and_each_refusal_is_recorded_or_counted() {
        let (throttled, record, now) =
            (Throttled::default(), record("door".parse().unwrap()), Timestamp::from_micros(7));
        let with = |key_hash| Caller {
            tenant: "acme".parse().unwrap(),
            record: Arc::clone(&record),
            authentication: Authentication::MutualTls { key_hash, matched: "cn:pool".into() },
            own: None,
        };
        let certificates = 2_000_u32;
        let mut recorded = 0;
        for number in (0..certificates).chain(0..certificates) {
            let mut key_hash = [0; 32];
            key_hash[..4].copy_from_slice(&number.to_be_bytes());
            recorded += u64::from(throttled.is_first(&with(Some(key_hash)), Protocol::AzureEkm, now));
        }
        let summaries = throttled.take();
        assert_eq!((summaries.len(), recorded), (Throttled::MAX_CELLS + 1, 1025));
        let counted: u64 = summaries.iter().map(|summary| summary.count).sum();
        assert_eq!(recorded + counted, 2 * u64::from(certificates));
        let others = summaries.iter().find(|summary| summary.count > 1).unwrap();
        assert_eq!(others.caller.authentication, with(None).authentication);
    }

    #[test]
    fn persons_fill_a_bounded_room_and_each_refusal_is_recorded_or_counted() {
        let throttled = Throttled::default();
        let record = record("door".parse().unwrap());
        let person_of = |tenant: &str, number: u32| Caller {
            tenant: tenant.parse().unwrap(),
            record: Arc::clone(&record),
            authentication: Authentication::Issued {
                issuer: "https://idp".into(),
                subject: Some(number.to_string().into()),
            },
            own: None,
        };
        let person = |number| person_of("acme", number);
        let persons = 10_000;
        let mut recorded = 0;
        for number in 0..persons {
            for _ in 0..3 {
                let now = Timestamp::from_micros(7);
                recorded += u64::from(throttled.is_first(&person(number), Protocol::MsDke, now));
            }
        }
        // Whoever asks of another tenant is counted by name all the same.
        let now = Timestamp::from_micros(7);
        let of_another = [1, 2, 1, 2, 2].map(|number| person_of("globex", number));
        let firsts = of_another.iter().filter(|it| throttled.is_first(it, Protocol::MsDke, now)).count();
        assert_eq!(firsts, 2);
        let (summaries, others): (Vec<_>, Vec<_>) =
            throttled.take().into_iter().partition(|summary| summary.caller.tenant.as_str() == "acme");
        let mut others: Vec<_> =
            others.into_iter().map(|summary| (summary.count, summary.caller.authentication)).collect();
        others.sort_by_key(|(count, _)| *count);
        assert_eq!(others, [(1, 1), (2, 2)].map(|(count, of)| (count, person(of).authentication)));
        assert_eq!(summaries.len(), Throttled::MAX_CELLS + 1);
        assert_eq!(recorded, 1025, "each that is counted by itself, and one of all others");
        let counted: u64 = summaries.iter().map(|summary| summary.count).sum();
        assert_eq!(recorded + counted, 3 * u64::from(persons));
        let others = summaries.iter().find(|summary| summary.count > 2).unwrap();
        let all = Authentication::Issued { issuer: "https://idp".into(), subject: None };
        assert_eq!(others.caller.authentication, all);
        // What could not be recorded is none the less in the next summary, and those without anything to say are in none.
        throttled.restore(&summaries);
        assert!(!throttled.is_first(&person(0), Protocol::MsDke, Timestamp::from_micros(9)));
        let again: Vec<_> = throttled.take();
        assert_eq!(again.iter().map(|summary| summary.count).sum::<u64>(), counted + 1);
        assert!(again.iter().all(|summary| summary.since == Timestamp::from_micros(7)));
        assert!(throttled.is_first(&person(0), Protocol::MsDke, Timestamp::from_micros(9)));
        assert!(throttled.take().is_empty());
    }
}
