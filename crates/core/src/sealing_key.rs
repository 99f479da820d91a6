//! What a tenant's key material is sealed under: a sealing key, and another one in its place when destroyed material was under it.

use crate::time::Timestamp;
use core::fmt;

/// A sealing key's public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingKeyId([u8; 8]);

impl SealingKeyId {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// 16 lower-case hexadecimal digits.
impl fmt::Display for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A tenant's sealing keys, as far as they have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealingKeys {
    /// When material was destroyed first that lay under the newest one: it is to be retired. None where nothing was.
    pub due: Option<Timestamp>,
    /// The newest one, under which everything new is sealed; `None` while the tenant has its first.
    pub newest: Option<SealingKeyId>,
    /// The one that is being retired: versions are taken from it to the newest one.
    pub leaving: Option<SealingKeyId>,
    /// Those that were retired, at most [`SealingKeys::MAX_REMEMBERED`], the newest last.
    pub retired: Vec<RetiredSealingKey>,
}

/// A sealing key that the gateway has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetiredSealingKey {
    /// Its public name.
    pub id: SealingKeyId,
    /// Since when.
    pub retired: Timestamp,
    /// How many versions were under the newest one then: all that the tenant had.
    pub versions: u64,
}

/// What has become of a sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealingKeyState {
    /// It opens what other versions are made of: it is to be retired, and is not yet.
    InForce,
    /// Versions are being taken from it.
    Leaving,
    /// The gateway has it no more; since when, if that is remembered.
    Retired(Option<Timestamp>),
}

impl SealingKeyState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Leaving => "leaving",
            Self::Retired(_) => "retired",
        }
    }
}

impl SealingKeys {
    /// How many retired ones are remembered.
    pub const MAX_REMEMBERED: usize = 100;

    /// Whether something is to be done about them.
    pub fn are_at_work(&self) -> bool {
        self.due.is_some() || self.leaving.is_some()
    }

    /// Whether a destruction of material under these asks for another one. What lies under the leaving one alone does not: it is leaving.
    pub fn must_change(&self, under: &[SealingKeyId]) -> bool {
        self.due.is_none() && under.iter().any(|id| Some(*id) != self.leaving)
    }

    /// What has become of one that a version was sealed under.
    pub fn state_of(&self, id: SealingKeyId) -> SealingKeyState {
        let Self { due: _, newest, leaving, retired } = self;
        if let Some(known) = retired.iter().rev().find(|known| known.id == id) {
            return SealingKeyState::Retired(Some(known.retired));
        }
        match newest {
            _ if *leaving == Some(id) => SealingKeyState::Leaving,
            // Before any change there is one only.
            None => SealingKeyState::InForce,
            Some(newest) if *newest == id => SealingKeyState::InForce,
            Some(_) => SealingKeyState::Retired(None),
        }
    }

    /// The same, where one takes the place of the newest.
    #[must_use]
    pub fn changed(&self, leaving: SealingKeyId, newest: SealingKeyId) -> Self {
        Self { due: None, newest: Some(newest), leaving: Some(leaving), retired: self.retired.clone() }
    }

    /// The same, when the leaving one is retired.
    #[must_use]
    pub fn retired(&self, now: Timestamp, versions: u64) -> Self {
        let Self { due, newest, leaving, retired } = self.clone();
        let more = leaving.map(|id| RetiredSealingKey { id, retired: now, versions });
        let mut retired: Vec<_> = retired.into_iter().chain(more).collect();
        let forgotten = retired.len().saturating_sub(Self::MAX_REMEMBERED);
        retired.drain(..forgotten);
        Self { due, newest, leaving: None, retired }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SealingKeyId {
        SealingKeyId::from_bytes([byte; 8])
    }

    #[test]
    fn one_is_in_force_until_it_is_retired_and_forgotten_ones_are_retired() {
        let at = Timestamp::from_micros;
        let mut keys = SealingKeys::default();
        assert_eq!(keys.state_of(id(1)), SealingKeyState::InForce);
        keys = keys.changed(id(1), id(2));
        assert_eq!([1, 2].map(|n| keys.state_of(id(n)).name()), ["leaving", "in-force"]);
        keys = keys.retired(at(5), 7);
        assert_eq!(keys.state_of(id(1)), SealingKeyState::Retired(Some(at(5))));
        assert_eq!(keys.state_of(id(2)), SealingKeyState::InForce);
        for n in 2..=101 {
            keys = keys.changed(id(n), id(n + 1)).retired(at(u64::from(n)), 1);
        }
        assert_eq!(keys.retired.len(), SealingKeys::MAX_REMEMBERED);
        assert_eq!(keys.state_of(id(1)), SealingKeyState::Retired(None));
        assert_eq!(keys.state_of(id(102)), SealingKeyState::InForce);
    }

    #[test]
    fn what_lies_under_the_leaving_one_alone_asks_for_nothing_more() {
        let keys = SealingKeys::default();
        assert!(keys.must_change(&[id(1)]) && !keys.must_change(&[]));
        let keys = keys.changed(id(1), id(2));
        assert!(!keys.must_change(&[id(1)]));
        assert!(keys.must_change(&[id(1), id(2)]));
        let due = SealingKeys { due: Some(Timestamp::from_micros(1)), ..keys };
        assert!(!due.must_change(&[id(2)]), "it is to change already");
    }
}
