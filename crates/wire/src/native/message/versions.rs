//! A key's versions one by one: the orders about them, and what of them is still needed.

use super::request;
use crate::json::Fault;
use crate::native::field::{Bounded, Bytes, List, Time, VersionNumber};
use holdfast_core::inventory::{self, TakenInventory};
use holdfast_core::schedule::{self, RotationPeriod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

request! {
    /// Moves a version of a key to another state.
    pub struct TransitionVersion {
        required {
            /// The version; not the one that new work takes.
            version: VersionNumber,
        }
        optional {
            /// Whether it is done although no inventory says that the version is not needed; it is not unless told.
            without_inventory: bool,
        }
    }
}

request! {
    /// Records what of a key's versions is still needed.
    pub struct RecordInventory {
        required {
            /// The version that new work took before the inventory was begun; refused if it takes another one by now.
            current_version: VersionNumber,
            /// The newest version then, but for one that waits for a backup; refused if there is a newer one by now.
            newest_version: VersionNumber,
            /// The versions that something is still under; the one that new work takes counts as needed in any case.
            needed_versions: List<VersionNumber>,
            /// How many ciphertexts were looked at.
            items: u64,
            /// SHA-256 of the reports that say so: 32 bytes.
            report_sha256: Bytes,
            /// How many bytes those have.
            report_bytes: u64,
        }
        optional {}
    }
}

request! {
    /// Says how often a key is rotated by itself.
    pub struct ScheduleKey {
        required {}
        optional {
            /// How old its newest version may become, in days; left out, as old as it likes.
            every_days: PeriodDays,
        }
    }
}

/// The days of a schedule.
pub type PeriodDays = Bounded<{ RotationPeriod::MIN_DAYS as u64 }, { RotationPeriod::MAX_DAYS as u64 }>;

impl ScheduleKey {
    pub(crate) fn into_period(self) -> Option<RotationPeriod> {
        let days = u32::try_from(self.every_days?.0).unwrap_or(u32::MAX);
        RotationPeriod::of_days(days)
    }
}

/// A key's schedule.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// How old its newest version may become, in days.
    pub every_days: u32,
    /// When the next one is made.
    pub due: Time,
}

impl Schedule {
    /// As it is recorded.
    pub(crate) fn new(record: &schedule::Schedule) -> Self {
        let schedule::Schedule { period, due } = record;
        Self { every_days: period.days(), due: Time(*due) }
    }
}

impl RecordInventory {
    pub(crate) fn into_taken(self) -> Result<TakenInventory, Fault> {
        let Self { current_version, newest_version, needed_versions, items, report_sha256, report_bytes } =
            self;
        let sha256 = report_sha256.0.try_into();
        Ok(TakenInventory {
            current: current_version.0,
            newest: newest_version.0,
            needed: needed_versions.0.into_iter().map(|version| version.0).collect(),
            items,
            sha256: sha256.map_err(|_| Fault::malformed("expected 32 bytes").within("report_sha256"))?,
            bytes: report_bytes,
        })
    }
}

/// The last inventory of a key.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// The newest version that there was when it was begun: of later ones it says nothing.
    pub newest_version: VersionNumber,
    /// The versions that are still needed, that for new work among them.
    pub needed_versions: Vec<VersionNumber>,
    /// How many ciphertexts were looked at.
    pub items: u64,
    /// SHA-256 of the reports that say so.
    pub report_sha256: Bytes,
    /// When it was recorded.
    pub recorded: Time,
}

impl Inventory {
    /// As it is recorded.
    pub(crate) fn new(record: &inventory::Inventory) -> Self {
        let inventory::Inventory { newest, needed, items, sha256, recorded } = record;
        Self {
            newest_version: VersionNumber(*newest),
            needed_versions: needed.iter().copied().map(VersionNumber).collect(),
            items: *items,
            report_sha256: Bytes(sha256.to_vec()),
            recorded: Time(*recorded),
        }
    }
}
