//! An intent is not made of its parts.
use holdfast_core::pipeline::{Change, Intent, Permit};

fn any<T>() -> T {
    unimplemented!()
}

fn forge(permit: Permit<Change>) -> Intent {
    Intent { permit, ..any() }
}

fn main() {}
