//! No result leaves without the receipt of its record.
use holdfast_core::operation::Answer;
use holdfast_core::pipeline::{Released, Withheld};
use holdfast_core::stop::Stops;
use std::sync::Arc;

fn release(withheld: Withheld<Answer>, stops: &Arc<Stops>) -> Released<Answer> {
    withheld.release(stops).unwrap()
}

fn main() {}
