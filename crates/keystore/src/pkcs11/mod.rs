//! Custody in the tenant's own tokens, over PKCS#11 (OASIS, 2.40 and 3.x).
//!
//! ```text
//! gateway                                       │ worker: a process for each member
//! store ─► pool ─► member ─► exchange ═ socket ═╪═► threads ─► sessions ─► the vendor's module ─► token
//! ```
//!
//! A vendor's module is other people's code: it crashes, hangs, leaks and forks badly. So each member has a process of its own
//! ([`worker`]), the same binary started again, which alone loads the module and alone knows the PIN. Between the two there is a
//! socket of packets, from which the worker's sessions take short requests, and a few lanes for what is long or makes keys: a lane is a stream
//! on which one request is under way at a time ([`message`] has the bytes). What comes back is not trusted: it is
//! bounded, parsed, and a signature is verified before it leaves.
//!
//! Keys are generated in the token, sensitive and not extractable, and are found again by their CKA_ID, which the sealed handle holds.

mod commitment;
mod confinement;
mod der;
mod exchange;
mod incoming;
mod lane;
mod member;
pub mod message;
mod oaep;
mod pool;
mod public;
mod reference;
pub mod root_key;
mod store;
pub mod worker;

pub use confinement::Confinement;
pub use member::{About, Condition, Launch, Member, NoReply, Report};
pub use pool::{Answered, Distribution, MAX_MEMBERS, Pool, Quantiles};
pub(crate) use store::{Copied, can_hold, copy_of};
pub use store::{Patience, TokenStore};
