//! A permit is not made of its parts.
use holdfast_core::pipeline::{Permit, Use};

fn any<T>() -> T {
    unimplemented!()
}

fn forge() -> Permit<Use> {
    Permit { operation: any(), ..any() }
}

fn main() {}
