//! A client for Holdfast: every endpoint of the native API, typed, over one pool of connections.
//!
//! ```no_run
//! # async fn example() -> Result<(), holdfast_sdk::Error> {
//! use holdfast_sdk::Client;
//!
//! let client = Client::builder("https://keys.example.org:8443")
//!     .ca_pem(std::fs::read("ca.pem").unwrap_or_default())
//!     .identity_pem(std::fs::read("me.pem").unwrap_or_default(), std::fs::read("me.key").unwrap_or_default())
//!     .connect()?;
//! let acme = client.tenant("acme".parse()?);
//! let key = "payroll".parse()?;
//!
//! let sealed = acme.encrypt(&key, b"a record", &[("employee", "4711")]).await?;
//! let opened = acme.decrypt(&key, &sealed.ciphertext.0, &[("employee", "4711")]).await?;
//! assert_eq!(opened.plaintext.0.expose(), b"a record");
//! # Ok(())
//! # }
//! ```
//!
//! Requests and answers are those of `holdfast_wire::native::message`; an error is the gateway's own problem with its remedy, or says
//! what is wrong with the way there.

mod builder;
mod client;
mod error;
mod mirror;
mod probe;
mod tenant;
mod tiles;

pub use builder::ClientBuilder;
pub use client::{Answered, Client, Repeat, Reply};
pub use error::{Cause, Error};
pub use mirror::{Mirrored, Progress};
pub use probe::Probe;
pub use tenant::Tenant;

pub use holdfast_core::{CallerName, GroupName, KeyName, KeyVersion, OperationId, Secret, TenantId, TokenId};
pub use holdfast_wire::native::field;
pub use holdfast_wire::native::message;
pub use holdfast_wire::native::problem::Problem;
