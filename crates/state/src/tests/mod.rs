//! The store as a whole, a file for each promise.

mod body;
mod budget;
mod cache;
mod damage;
mod disk;
mod forgotten;
mod model;
mod rekey;
mod restart;
mod rules;

use holdfast_core::Error;

/// The kind's code, for short assertions.
fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> &'static str {
    outcome.unwrap_err().kind().code()
}
