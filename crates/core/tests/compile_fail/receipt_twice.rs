//! A receipt lets one result leave.
use holdfast_core::operation::Answer;
use holdfast_core::pipeline::{Receipt, Withheld};
use holdfast_core::stop::Stops;
use std::sync::Arc;

fn both(one: Withheld<Answer>, two: Withheld<Answer>, receipt: Receipt, stops: &Arc<Stops>) {
    let _first = one.release(receipt, stops);
    let _second = two.release(receipt, stops);
}

fn main() {}
