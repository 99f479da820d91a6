//! The functions that make intents are the pipeline's own.
use holdfast_core::pipeline::{Change, Intent, Permit, Receipt};

fn recorded(permit: Permit<Change>, receipt: Receipt) -> Intent {
    Intent::recorded(permit, receipt).unwrap()
}

fn own(permit: Permit<Change>) -> Intent {
    Intent::own(permit)
}

fn main() {}
