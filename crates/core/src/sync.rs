//! Atomics and locks, replaced by loom's when interleavings are explored.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// `SeqCst` accesses stand in one total order by themselves; loom takes them for `AcqRel` and has to be told.
#[cfg(loom)]
pub(crate) fn total_order() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}
#[cfg(not(loom))]
pub(crate) fn total_order() {}
