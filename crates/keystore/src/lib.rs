//! Custody back ends: a folder each, a file per operation family.
//!
//! [`software`] keeps keys sealed on disk and in this machine's memory while they are used; [`pkcs11`] has them made and used in the tenant's
//! own tokens; [`root`] is the key that all of it is sealed under, and [`sealing`] how. [`emergency`] has copies of keys in tokens that custodians open. [`Custodian`] is all as one. [`UsersKey`] is none of ours: a private key that a protocol keeps under one.

mod custodian;
pub mod emergency;
pub mod pkcs11;
mod refusal;
pub mod root;
pub mod sealing;
pub mod software;
mod spki;
mod users_key;

pub use custodian::Custodian;
pub use users_key::UsersKey;
