//! Software custody: keys are in this machine's memory while they are used, and sealed on disk.
//!
//! Three layers, each key for one use: the [`RootKey`] seals every tenant's sealing key, a tenant's sealing key seals its versions'
//! material ([`sealing`](crate::sealing)). Nothing lies in the store itself: handles are the sealed blobs, which the state keeps. What is
//! in use stands ready in a bounded cache; `forget` drops it, and it is wiped when its last user is done.
//!
//! Symmetric operations, elliptic curves, ML-KEM and public RSA operations finish on the caller's thread; RSA private operations, ML-DSA
//! and the making of RSA keys run on a few threads of the store's own and are awaited.
//!
//! One file per operation family: `aead` (with `xaes`), `key_wrap`, `rsa` (with `ffi`), `signature`, `mac`, `agreement`, `kem`.

mod aead;
pub(crate) mod agreement;
pub(crate) mod digest;
pub(crate) mod ffi;
pub(crate) mod import;
mod kem;
pub(crate) mod key_wrap;
mod mac;
pub(crate) mod material;
pub(crate) mod operate;
mod pool;
pub(crate) mod rsa;
pub(crate) mod signature;
mod store;
mod xaes;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod shake;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use crate::root::{ROOT_KEY_LEN, RootKey, SealerId};
pub use store::{Options, SoftwareStore};
