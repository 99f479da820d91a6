//! The end of a key: the order, how it waits, and what is known of its material afterwards.

use super::request;
use crate::native::field::{Bounded, Bytes, Name, Time, Word};
use holdfast_core::MemberName;
use holdfast_core::destruction::{self, WaitingPeriod};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::sealing_key::{SealingKeyId, SealingKeyState};
use holdfast_core::tenant::TakenBackup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

request! {
    /// Destroys a key.
    pub struct DestroyKey {
        required {}
        optional {
            /// How long it waits, in days; left out, as long as the gateway's configuration says, and never shorter.
            after_days: WaitingDays,
        }
    }
}

/// The days that a key waits.
pub type WaitingDays = Bounded<0, { WaitingPeriod::MAX_DAYS as u64 }>;

impl DestroyKey {
    /// For so long.
    pub fn after(period: Option<WaitingPeriod>) -> Self {
        Self { after_days: period.map(|period| Bounded(u64::from(period.days()))) }
    }

    pub(crate) fn into_period(self) -> Option<WaitingPeriod> {
        WaitingPeriod::of_days(u32::try_from(self.after_days?.0).unwrap_or(u32::MAX))
    }
}

/// The order to destroy a key, while it waits. It can be taken back.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Destruction {
    /// When it was ordered.
    pub ordered: Time,
    /// How long it waits, in days.
    pub after_days: u32,
    /// When it is carried out at the earliest: later by as long as the gateway is not up meanwhile.
    pub due: Time,
    /// The state before, to which taking it back leads.
    pub state_before: Word<KeyState>,
}

impl Destruction {
    /// As it is recorded.
    pub(crate) fn new(record: &destruction::Destruction) -> Self {
        let destruction::Destruction { state, resumes_to: _, ordered, period, up: _ } = record;
        Self {
            ordered: Time(*ordered),
            after_days: period.days(),
            due: Time(record.due()),
            state_before: Word(*state),
        }
    }
}

/// A backup that may hold a key that is at its end.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldBy {
    /// Its file's name.
    pub name: String,
    /// When it was taken.
    pub taken: Time,
    /// Until when it is kept, as the gateway's configuration said then; left out where it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// SHA-256 of the file: 32 bytes.
    pub sha256: Bytes,
}

impl HeldBy {
    /// As it is recorded.
    pub(crate) fn new(record: TakenBackup) -> Self {
        let TakenBackup { name, commit: _, taken, expires, sha256 } = record;
        Self {
            name: name.into(),
            taken: Time(taken),
            expires: expires.map(Time),
            sha256: Bytes(sha256.to_vec()),
        }
    }
}

/// A sealing key that destroyed material lay under in software custody: what is left of it anywhere opens with this one alone.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SealingKey {
    /// Its name: 16 hexadecimal digits.
    pub id: String,
    /// `in-force` or `leaving` while the gateway has it still, `retired` once it has not.
    pub state: String,
    /// Since when it is retired; left out while it is not, and where that was too long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Time>,
}

impl SealingKey {
    /// As it is recorded.
    pub(crate) fn new((id, state): (SealingKeyId, SealingKeyState)) -> Self {
        let retired = match state {
            SealingKeyState::InForce | SealingKeyState::Leaving => None,
            SealingKeyState::Retired(retired) => retired.map(Time),
        };
        Self { id: id.to_string(), state: state.name().to_owned(), retired }
    }

    /// Whether the gateway has it no more.
    pub fn is_retired(&self) -> bool {
        self.state == SealingKeyState::Retired(None).name()
    }
}

/// What is known of destroyed material.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Erasure {
    /// When it was destroyed: nobody could use it any more.
    pub destroyed: Time,
    /// The members of the pool that were asked to erase it, and looked: none of it is there.
    pub absent_on: Vec<Name<MemberName>>,
    /// The members that may still hold it, until they are seen and asked.
    pub pending_on: Vec<Name<MemberName>>,
    /// Whoever was in the pool when the key was made and had left before it was destroyed: nobody asks them, and they may hold it still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_with: Vec<Name<MemberName>>,
}

impl Erasure {
    /// As it is recorded.
    pub(crate) fn new(record: &destruction::Erasure) -> Self {
        let destruction::Erasure { destroyed, commit: _, absent, pending, left, sealed_under: _ } = record;
        let names = |members: &[MemberName]| members.iter().cloned().map(Name).collect();
        Self {
            destroyed: Time(*destroyed),
            absent_on: names(absent),
            pending_on: names(pending),
            left_with: names(left),
        }
    }
}
