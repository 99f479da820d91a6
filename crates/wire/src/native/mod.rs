//! The native protocol: JSON over HTTPS (`docs/protocols/native.md`).
//!
//! [`routes`] is the table, one literal an endpoint. A request goes through [`route`], then [`decode()`]; what core says goes through
//! [`encode`]. [`openapi`] is the same table as a document, [`client`] the other side of the wire.

pub mod client;
mod decode;
pub mod encode;
pub mod field;
pub mod message;
pub mod openapi;
pub mod problem;
mod query_string;
mod route;
mod router;
pub mod routes;
pub mod token;

pub use decode::{Call, Refusal, decode, decode_any};
pub use route::{Access, BodyKind, Endpoint, Method, OpenEndpoint, Parameter, Route, SchemaOf};
pub use router::{Matched, RouteError, route};

use holdfast_core::Protocol;

/// This protocol's name in events, policies and metrics.
pub const PROTOCOL: Protocol = Protocol::Native;

/// The header with the operation id, in every response.
pub const OPERATION_HEADER: &str = "holdfast-operation";

/// The header that asks for a signed receipt with the value [`RECEIPT_WANTED`], and that brings it, in base64.
pub const RECEIPT_HEADER: &str = "holdfast-receipt";

/// What [`RECEIPT_HEADER`] says in a request.
pub const RECEIPT_WANTED: &str = "signed";
