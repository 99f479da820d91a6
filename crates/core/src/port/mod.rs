//! The ports: everything that core needs of the world, and what it may rely on.
//!
//! Ports return plain data. Only `pipeline/proof.rs` turns such data into proofs.

mod archive;
mod audit_log;
mod decide;
mod identify;
mod key_store;
mod state;
mod world;

pub use archive::{Archive, Archived};
pub use audit_log::{AuditLog, Expiry, Mark, Position, Priority};
pub use decide::{Circumstances, Decide, Decision, Examined, Finding, Question, Resource};
pub use identify::{Identified, Identify};
pub use key_store::{Absence, ChangedSealing, Copies, End, KeyStore, Membership, Remains};
pub use state::{Committed, KeyEntry, Page, State, StateChange};
pub use world::{Jump, World};

/// The seven ports of one gateway, chosen at the root.
pub trait Ports: Send + Sync + 'static {
    /// Who asks.
    type Identify: Identify;
    /// What the policy says.
    type Decide: Decide;
    /// Custody.
    type Keys: KeyStore;
    /// Durable records.
    type State: State;
    /// The audit log.
    type Log: AuditLog;
    /// Backups.
    type Archive: Archive;
    /// Clock and entropy.
    type World: World;
}

/// Whether a port can work now, from its live state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// It cannot; why, in words for the operator.
    Unready(String),
}
