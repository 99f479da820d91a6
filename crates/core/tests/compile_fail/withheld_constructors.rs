//! The functions that withhold are the pipeline's own.
use holdfast_core::operation::Answer;
use holdfast_core::pipeline::{Permit, Use, Withheld};

fn inspect(permit: Permit<Use>, value: Answer) -> Withheld<Answer> {
    Withheld::inspect(permit, value)
}

fn main() {}
