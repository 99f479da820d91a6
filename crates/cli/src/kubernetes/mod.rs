//! The KMS v2 plugin beside an API server of Kubernetes: gRPC on a Unix socket at the one side, a gateway at the other.
//!
//! What is said on the socket is read and written by `holdfast_wire::kubernetes`. Here: [`socket`] (made so that only the API server connects) in its [`directory`],
//! [`server`] (HTTP/2 on it), [`plugin`] (what each call is answered), [`standing`] (what is known of the key, which Status says), [`look`] (how that is
//! learned), [`lease`] (seeds that are kept for a bounded time), [`metrics`] (what is measured), [`verdict`] (what a failure of the gateway means).
//! On such a socket, too: [`provider`], what a pod's volume has for the Secrets Store CSI driver.

pub(crate) mod clock;
mod directory;
pub(crate) mod lease;
pub(crate) mod look;
pub(crate) mod metrics;
pub(crate) mod plugin;
pub(crate) mod provider;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod standing;
mod verdict;
