//! The KMS v2 plugin API of Kubernetes, sans-IO: what an API server asks, and what it is answered. And [`csi`], what the Secrets Store CSI driver asks.
//!
//! Source: package `v2` of `k8s.io/kms/apis`, and what `k8s.io/apiserver` requires of its values. In words: `docs/protocols/kubernetes-kms.md`.

pub mod client;
pub mod csi;
pub mod grpc;
mod kek_id;
mod message;
mod protobuf;
mod status;

pub use kek_id::{ClusterName, KekId, context};
pub use message::{
    Call, DecryptRequest, EncryptRequest, MAX_CIPHERTEXT, MAX_KEY_ID, MAX_MESSAGE, MAX_PLAINTEXT, decode,
    decrypt_response, encrypt_response, status_response,
};
pub use status::{Refused, code};
