//! Answers held against the API document that the gateway serves (OpenAPI 3.1: schemas are JSON Schema 2020-12).

use super::Answer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What only a sealed gateway does (`tests/sealed.rs`), what only one with tokens does (`crates/cli/tests/pool.rs`, `emergency.rs`), and
/// what takes an archive that somebody has opened (`crates/cli/tests/archive.rs`).
const ELSEWHERE: [&str; 11] = [
    "confirm-archive",
    "unarchive-key",
    "adopt-key",
    "give-share",
    "ask-to-seal",
    "order-seal",
    "drain-member",
    "join-member",
    "request-emergency-copy",
    "approve-emergency-copy",
    "end-emergency-copy",
];

/// The document, and which of its operations have been seen to answer.
pub struct Schemas {
    document: Value,
    succeeded: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl Schemas {
    pub fn new(document: Value) -> Self {
        assert_eq!(document["openapi"].as_str().unwrap().split('.').take(2).collect::<Vec<_>>(), ["3", "1"]);
        Self { document, succeeded: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// Checks an answer to a request: status, media type, headers and body are as the document says.
    pub fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let operation = self.operation(method, path).clone();
        let id = operation["operationId"].as_str().unwrap().to_owned();
        let responses = &operation["responses"];
        let exact = &responses[answer.status.to_string()];
        let response = match (exact.is_null(), answer.status) {
            (false, _) => exact,
            (true, 400..=499) => &responses["4XX"],
            (true, 500..=599) => &responses["5XX"],
            (true, status) => panic!("{id}: status {status} is not described"),
        };
        let response = self.resolve(response);
        answer.operation();
        let described = response["content"].as_object().unwrap_or_else(|| panic!("{id}: {response}"));
        let kind = answer.header("content-type").unwrap();
        let schema = described.get(kind.split(';').next().unwrap());
        let schema = schema.unwrap_or_else(|| panic!("{id}: `{kind}` is not described: {described:?}"));
        if kind.contains("json") {
            self.validate(&id, &schema["schema"], &answer.json());
        }
        match answer.status < 400 {
            true => self.succeeded.insert(id),
            false => self.refused.insert(id),
        };
    }

    /// Every authenticated operation has been seen to succeed and to refuse, every open one to succeed.
    pub fn assert_all_seen(&self) {
        for methods in self.document["paths"].as_object().unwrap().values() {
            for operation in methods.as_object().unwrap().values() {
                let Some(id) = operation["operationId"].as_str() else { continue };
                assert!(
                    ELSEWHERE.contains(&id) || self.succeeded.contains(id),
                    "`{id}` has not been seen to succeed"
                );
                let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
                assert!(is_open || self.refused.contains(id), "`{id}` has not been seen to refuse");
            }
        }
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let fits = |template: &str| {
            let (mut template, mut path) = (template.split('/'), path.split('/'));
            loop {
                match (template.next(), path.next()) {
                    (None, None) | (Some("{file}"), Some(_)) => return true,
                    (Some(wanted), Some(got))
                        if wanted == got || (wanted.starts_with('{') && !got.is_empty()) => {}
                    _ => return false,
                }
            }
        };
        let paths = self.document["paths"].as_object().unwrap();
        // A literal segment goes before a parameter.
        let found = paths
            .iter()
            .filter(|(template, _)| fits(template))
            .min_by_key(|(template, _)| template.matches('{').count());
        let (template, methods) = found.unwrap_or_else(|| panic!("`{path}` is not described"));
        let operation = &methods[method.to_lowercase()];
        assert!(!operation.is_null(), "{method} of {template} is not described");
        operation
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => self.document.pointer(pointer.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    fn validate(&self, id: &str, schema: &Value, body: &Value) {
        let root = json!({ "allOf": [schema], "components": self.document["components"] });
        let validator = jsonschema::draft202012::new(&root).unwrap();
        let errors: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{id}: {errors:?}\n{body:#}");
    }
}
