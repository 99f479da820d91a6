//! The functions that make permits are the pipeline's own.
use holdfast_core::pipeline::{Change, Permit, Use};

fn any<T>() -> T {
    unimplemented!()
}

fn own() -> Permit<Change> {
    Permit::own(any(), any(), any(), any())
}

fn conjure() -> Permit<Use> {
    Permit::default()
}

fn main() {}
