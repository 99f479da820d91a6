//! The clock of leases.

use std::time::Duration;

/// Time since the machine was booted. No step of the wall clock changes it, and a machine that sleeps ages too.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
