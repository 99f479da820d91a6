//! One suite for each port, run against every implementation; and doubles of the ports, for tests of what stands on them.
//!
//! - [`doubles`]: each port in memory, with faults, stalls and delays on order.
//! - [`rig`]: a founded gateway over any ports, with people in it.
//! - [`task`]: futures polled step by step, so that a test chooses the interleaving.
//! - [`softhsm`]: a device whose module is a real one.
//! - [`keystore`], [`state`], [`audit_log`]: what an implementation of the port MUST do. A suite fails by panicking.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "for tests only, which fail by panicking"
)]

pub mod audit_log;
pub mod doubles;
pub mod keystore;
pub mod rig;
pub mod softhsm;
pub mod state;
pub mod task;
