//! The law of Holdfast: identifiers, key states, operations, proofs, events, the one error, the ports and the pipeline.
//!
//! No I/O, no runtime, no clock and no randomness of its own: the world comes in through [`port`]. Start reading at [`pipeline`].

pub mod action;
pub mod adoption;
pub mod algorithm;
pub mod archive;
pub mod binding;
pub mod caller;
pub mod command;
pub mod context;
pub mod destruction;
pub mod emergency;
pub mod error;
pub mod event;
pub mod frame;
pub mod hashed;
pub mod id;
pub mod import;
pub mod inventory;
pub mod key;
pub mod lifecycle;
pub mod noise;
pub mod operation;
pub mod peer;
pub mod pipeline;
pub mod port;
pub mod protocol;
pub mod query;
pub mod receipt;
pub mod retention;
pub mod schedule;
pub mod sealing_key;
pub mod secret;
pub mod stop;
mod sync;
pub mod tenant;
mod throttled;
pub mod time;
pub mod work;

pub use error::{Error, ErrorKind, Stage};
pub use id::{
    CallerName, Epoch, GroupName, InstanceId, KeyId, KeyName, KeyVersion, MemberName, OperationId, PolicyId,
    TenantId, TokenId,
};
pub use protocol::Protocol;
pub use secret::Secret;
pub use time::Timestamp;
