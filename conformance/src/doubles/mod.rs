//! The ports in memory. Each is a handle: clones share one world, so that a test keeps hold of what it hands to the pipeline, and a
//! pipeline that is opened again finds what the earlier one left.

mod copies;
mod decide;
mod gate;
mod identify;
mod journal;
mod keys;
mod records;
mod vault;
mod world;

pub use decide::{ALLOW_EVERYTHING, Rules, SLOW};
pub use gate::Gate;
pub use identify::{Registry, certificate, token};
pub use journal::{Entry, Fate, Journal, JournalTicket};
pub use keys::{KeyFault, Keys};
pub use records::{CommitFault, Records};
pub use vault::{PROOF, Vault};
pub use world::Sim;

use core::marker::PhantomData;
use holdfast_core::port::{AuditLog, KeyStore, Ports, State};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Doubles for all ports but those that are named.
#[derive(Debug)]
pub struct TestPorts<K = Keys, S = Records, L = Journal>(Of<(K, S, L)>);

type Of<T> = PhantomData<fn() -> T>;

impl<K: KeyStore, S: State, L: AuditLog> Ports for TestPorts<K, S, L> {
    type Identify = Registry;
    type Decide = Rules;
    type Keys = K;
    type State = S;
    type Log = L;
    type Archive = Vault;
    type World = Sim;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SHA-256 over parts, each behind its length.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap().to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap()
}
