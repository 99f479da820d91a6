//! Departures are counted by the stops alone.
use holdfast_core::stop::{Departing, Stops};
use std::sync::Arc;

fn forge(stops: Arc<Stops>) -> Departing {
    Departing { stops, phase: 0 }
}

fn main() {}
