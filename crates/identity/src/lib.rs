//! Who asks: proofs of identity in, registered callers out. Pure: registrations, collateral and `now` are arguments.
//!
//! A file per kind of proof: [`certificate`] for mutual TLS, [`bearer`] for tokens that are shown, [`signed`] for those that requests are signed with,
//! [`issued`] for those of issuers that the operator has configured. [`Registrations`] is core's port over all.

mod bearer;
mod certificate;
mod chain;
pub mod issued;
mod named;
mod reason;
mod registry;
mod signed;
mod trust;

pub use certificate::{Facts, certificate_expiry, credential_from_certificate};
pub use chain::is_searchable;
pub use named::{is_named, provider};
pub use reason::Reason;
pub use registry::{Prepared, Registrations};
