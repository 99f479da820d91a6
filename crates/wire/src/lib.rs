//! Protocols, sans-IO: bytes to core's calls, and core's answers to bytes.
//!
//! A folder a protocol. Nothing here reads a socket, a clock or a file; every function is pure, so each decoder can be fuzzed and each
//! exchange can be recorded.

mod base64_secret;
pub mod cse;
pub mod dke;
pub mod ekm;
mod json;
pub mod kubernetes;
pub mod native;
mod pem;
mod rsa;
pub mod sigv4;
pub mod xks;
