//! What a log's directory says.

use holdfast_audit::reader::LogReader;
use serde_json::Value;
use std::path::Path;

/// Its events, in order.
pub fn events(log: &Path) -> Vec<Value> {
    let reader = LogReader::open(log).unwrap();
    reader.entries(0).map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap()).collect()
}

/// The events that close an operation; each operation has one.
pub fn closing(log: &Path) -> Vec<Value> {
    events(log).into_iter().filter(|event| event["outcome"] != "intent").collect()
}
