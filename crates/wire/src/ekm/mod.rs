//! The EKM Proxy API of Azure Key Vault Managed HSM, version `0.1-preview`: info, metadata, wrapkey, unwrapkey.
//!
//! A proxy is a host, reached by mutual TLS alone, and a prefix of the path, with its own keys and clients. [`path`] finds what is asked, [`message`] reads
//! requests and writes answers, [`error`] has the table of errors. What is wrapped is bound to nothing: the key alone says whose it is.

pub mod error;
pub mod message;
pub mod path;

use holdfast_core::Protocol;

/// The protocol's name in policies, events and metrics.
pub const PROTOCOL: Protocol = Protocol::AzureEkm;
/// The one version of the interface.
pub const API_VERSION: &str = "0.1-preview";
/// The most bytes of a request that are read.
pub const MAX_BODY: usize = 16 << 10;
