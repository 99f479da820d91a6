//! What the process asks of the kernel for itself.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no other process of the same user may read this one's memory. Best effort: what fails is logged.
pub fn protect_memory() {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, nothing) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process's memory could not be protected from others of its user");
    }
}

/// Raises the limit of open files to the most that is allowed: every connection is one.
pub(crate) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
