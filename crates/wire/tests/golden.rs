//! What peers read, written down: the API document and one problem of each kind. A change here is a change that somebody notices.
//!
//! After a deliberate change: `cargo test -p holdfast-wire --test golden -- --ignored` writes the files anew; read the difference.

#![expect(clippy::unwrap_used, reason = "what fails here is a test")]

use holdfast_core::{Error, ErrorKind, OperationId, Stage};
use holdfast_wire::native::{encode, openapi};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn golden() -> Vec<(String, Value)> {
    let operation = Some(OperationId::from_bytes(*b"an operation id!"));
    let problem = |kind: ErrorKind| {
        let error = Error::new(kind, Stage::Perform, "what happened to `this`")
            .remedy("what to do next")
            .because("a cause for the log alone");
        let response = encode::problem(&error, operation);
        let headers = serde_json::json!({
            "content-type": response.content_type,
            "retry-after": response.retry_after,
            "www-authenticate": response.authenticate,
        });
        let body: Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        let exchange = serde_json::json!({ "status": response.status, "headers": headers, "body": body });
        (format!("problem-{}.json", kind.code()), exchange)
    };
    let document = ("openapi.json".to_owned(), openapi::openapi());
    ErrorKind::ALL.into_iter().map(problem).chain([document]).collect()
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

#[test]
fn what_peers_read_is_what_is_written_down() {
    for (name, now) in golden() {
        let file = fs::read(path(&name)).unwrap_or_else(|_| panic!("no {name}: see the top of this file"));
        let then: Value = serde_json::from_slice(&file).unwrap();
        assert!(now == then, "{name} has changed: see the top of this file");
    }
    let files = fs::read_dir(path("")).unwrap().count();
    assert_eq!(files, golden().len(), "a file in tests/golden belongs to nothing");
}

#[test]
#[ignore = "writes the golden files"]
fn write() {
    for (name, now) in golden() {
        // The order of members depends on what else is built; what says the same stays as it is.
        let then = fs::read(path(&name)).ok().and_then(|file| serde_json::from_slice::<Value>(&file).ok());
        if then.as_ref() == Some(&now) {
            continue;
        }
        let mut text = serde_json::to_string_pretty(&now).unwrap();
        text.push('\n');
        fs::write(path(&name), text).unwrap();
    }
}
