//! Whose a connection is: the caller's that was served on it, and before that the network's that it comes from. By this nobody has all of what is everybody's.

use crate::shares::network;
use holdfast_core::{CallerName, TenantId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Who has a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Whoever comes from there. All of whom that is not known are one.
    Network(Option<IpAddr>),
    /// A registered caller, wherever it comes from.
    Caller(TenantId, CallerName),
}

impl Who {
    /// Nobody in particular, from this address.
    pub(crate) fn from(source: Option<IpAddr>) -> Self {
        Self::Network(source.map(network))
    }
}

/// One of them, as long as it has a connection or something that came on one.
#[derive(Debug)]
pub(crate) struct Party {
    /// No other one's, and never zero.
    pub(crate) number: u64,
    /// Bytes of bodies that it has among strangers' bodies, among callers' and among stop orders'.
    pub(crate) of_strangers: AtomicUsize,
    pub(crate) of_callers: AtomicUsize,
    pub(crate) of_stops: AtomicUsize,
    who: Who,
    among: Arc<Parties>,
}

impl Drop for Party {
    fn drop(&mut self) {
        let mut known = self.among.known();
        // Somebody may have come again meanwhile.
        if known.parties.get(&self.who).is_some_and(|party| party.strong_count() == 0) {
            known.parties.remove(&self.who);
        }
    }
}

/// All who have a connection.
#[derive(Debug, Default)]
pub(crate) struct Parties(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: u64,
    parties: HashMap<Who, Weak<Party>>,
}

impl Parties {
    /// The one that this is.
    pub(crate) fn party(self: &Arc<Self>, who: Who) -> Arc<Party> {
        let mut known = self.known();
        if let Some(party) = known.parties.get(&who).and_then(Weak::upgrade) {
            return party;
        }
        known.last = known.last.wrapping_add(1).max(1);
        let number = known.last;
        let party = Arc::new(Party {
            number,
            of_strangers: AtomicUsize::new(0),
            of_callers: AtomicUsize::new(0),
            of_stops: AtomicUsize::new(0),
            who: who.clone(),
            among: Arc::clone(self),
        });
        known.parties.insert(who, Arc::downgrade(&party));
        party
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Who {
        Who::from(Some(text.parse().unwrap()))
    }

    #[test]
    fn one_network_is_one_party_however_many_connections_it_has_and_none_is_remembered() {
        let all = Arc::new(Parties::default());
        let first = all.party(from("2001:db8::1"));
        let second = all.party(from("2001:db8::ffff:2"));
        let other = all.party(from("2001:db8:0:1::1"));
        let caller = all.party(Who::Caller("acme".parse().unwrap(), "app".parse().unwrap()));
        assert_eq!(first.number, second.number);
        assert!(first.number != other.number && caller.number != first.number);
        drop(first);
        assert_eq!(all.party(from("2001:db8::3")).number, second.number);
        let number = second.number;
        drop((second, other, caller));
        assert!(all.known().parties.is_empty());
        assert_ne!(all.party(from("2001:db8::1")).number, number);
    }
}
