//! The KMS v2 plugin, and the provider of the Secrets Store CSI driver: the real binary beside a real gateway, called by stock gRPC (`client.py`,
//! `driver.py`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

#[path = "../common/mod.rs"]
mod common;

mod api_server;
mod calls;
mod control_plane;
mod csi;
mod deploy;
mod end_to_end;
mod loss;
mod order;
mod people;
mod rotation;
mod socket;
mod stop;
