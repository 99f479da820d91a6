//! The daemon: configuration, TLS, listeners, and the one place where the ports are put together.
//!
//! A request comes in through [`listener`], is answered by [`service`], and everything in between is core's.

pub mod admin;
mod authentic;
mod authorities;
pub mod azure_ekm;
pub mod backup;
mod bodies;
mod boxed;
mod clock;
pub mod config;
mod conversation;
pub mod credential;
mod detach;
pub mod device;
pub mod directory;
mod doors;
pub mod emergency;
pub mod external_store;
pub mod fault;
pub mod google_cse;
mod https;
pub mod init;
pub mod issuer;
pub mod kek;
mod line;
pub mod listener;
pub mod metrics;
pub mod ms_dke;
pub mod outside;
mod party;
pub mod paths;
mod patience;
mod policies;
mod pool;
mod process;
pub mod proxy;
mod quota;
mod reload;
pub mod reroot;
mod resealing;
pub mod root;
pub mod scrub;
pub mod sealed;
mod sealing;
pub mod serve;
mod service;
pub mod shares;
pub mod sinks;
pub mod space;
pub mod stages;
pub mod status;
mod strangers;
mod tls;
mod token;
pub mod witness;
mod world;

pub use boxed::Boxed;
pub use fault::Fault;
/// The policy engine, for whoever tests a policy without a gateway.
pub use holdfast_policy as policy;
pub use process::protect_memory;
pub use tls::can_be_asked_for;
pub use world::SystemWorld;

/// The build that runs: name and version.
pub const BUILD: &str = concat!("holdfast ", env!("CARGO_PKG_VERSION"));

/// What the process that loads a token's module runs: it serves the gateway that started it, which is at the other end of its stdin. Its memory,
/// which has the PIN, is closed to other processes of the same user.
pub fn hsm_worker() -> std::process::ExitCode {
    process::protect_memory();
    holdfast_keystore::pkcs11::worker::run()
}
