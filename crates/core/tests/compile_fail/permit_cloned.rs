//! A permit is for one time.
use holdfast_core::pipeline::{Permit, Use};

fn twice(permit: &Permit<Use>) -> Permit<Use> {
    permit.clone()
}

fn main() {}
