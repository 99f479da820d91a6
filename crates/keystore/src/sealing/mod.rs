//! What any key store gives to the state to keep, and how it stands ready between uses.
//!
//! Each key is for one use: the root key seals every tenant's sealing key, a tenant's sealing key seals its versions ([`SealedBlob`] has
//! the format). [`vault`] has the sealing keys ready, [`held`] the versions, both in a bounded [`cache`].

pub(crate) mod cache;
pub(crate) mod derive;
pub(crate) mod held;
mod reroot;
pub(crate) mod seal;
pub(crate) mod vault;

pub use reroot::Rerooting;
pub use seal::{Kind, SealedBlob};
