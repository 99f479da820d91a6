//! Nothing is changed without an intent; a permit is none.
use holdfast_core::Error;
use holdfast_core::pipeline::{Change, Permit};
use holdfast_core::port::{Committed, State, StateChange};

async fn commit<S: State>(state: &S, changes: Vec<StateChange>) -> Result<Committed, Error> {
    state.commit(changes).await
}

async fn commit_with<S: State>(state: &S, permit: &Permit<Change>, changes: Vec<StateChange>) -> Result<Committed, Error> {
    state.commit(permit, changes).await
}

fn main() {}
