//! A tenant's log as it lies, read with the offline reader.

use holdfast_audit::reader::LogReader;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Every event of a tenant's log; complete after a shutdown.
pub fn events(directory: &Path, tenant: &str) -> Vec<Value> {
    let reader = LogReader::open(&directory.join("audit").join(tenant)).unwrap();
    reader.entries(0).map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap()).collect()
}

/// The events of one operation.
pub fn of<'a>(events: &'a [Value], operation: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["operation"] == operation).collect()
}

/// The one event that closes an operation.
#[track_caller]
pub fn closing<'a>(events: &'a [Value], operation: &str) -> &'a Value {
    let closing: Vec<_> =
        of(events, operation).into_iter().filter(|event| event["outcome"] != "intent").collect();
    assert_eq!(closing.len(), 1, "{operation}: {closing:?}");
    closing[0]
}

/// Every file under a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}
