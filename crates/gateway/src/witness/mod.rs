//! The witness as a process of its own: a directory, a list of logs, two endpoints. What it may sign is the library's
//! to judge (`holdfast_audit::witness`).

mod directory;
mod logs;
mod server;

pub use directory::init;
pub use server::{Options, Running, start};
