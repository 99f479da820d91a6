//! What the documents show is what the code takes and gives.

use holdfast_core::ErrorKind;
use holdfast_wire::cse::check::Check;
use holdfast_wire::native::{Access, BodyKind, client, decode_any, message, openapi, problem, routes};
use serde_json::Value;

/// A path of the document with every parameter filled in.
fn instance(path: &str) -> String {
    path.replace("{tenant}", "acme")
        .replace("{token}", "00000000000000000000000000")
        .replace("{version}", "7")
        .replace("{file}", "checkpoint")
        .replace(['{', '}'], "")
}

#[test]
fn the_api_document_has_every_route_and_nothing_else() {
    let document: Value = serde_json::from_slice(openapi::bytes()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let body = if example.is_null() { vec![] } else { serde_json::to_vec(example).unwrap() };
            let outcome = decode_any(&method.to_uppercase(), &instance(path), "", &body);
            assert!(outcome.is_ok(), "{method} {path}: {outcome:?}");
        }
    }
    assert_eq!(operations, routes::all().count());
    for route in routes::all() {
        let operation = &document["paths"][route.path.replace("{+", "{")][route.method.name().to_lowercase()];
        assert_eq!(operation["operationId"], route.name);
        assert_eq!(operation["requestBody"].is_null(), route.body == BodyKind::None, "{}", route.name);
        assert!(operation["responses"][route.status.to_string()].is_object(), "{}", route.name);
        let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
        // What is recorded can be asked for with a receipt.
        let receipt = usize::from(route.access != Access::Open);
        let expected = route.path.matches('{').count() + route.query.len() + receipt;
        assert_eq!(parameters, expected, "{}", route.name);
        for parameter in route.query {
            let value = if parameter.name() == "limit" { "5" } else { "3" };
            let query = format!("{}={value}", parameter.name());
            let path = instance(&route.path.replace("{+", "{"));
            assert!(decode_any(route.method.name(), &path, &query, b"").is_ok(), "{} {query}", route.name);
        }
    }
    let names: std::collections::BTreeSet<_> = routes::all().map(|route| route.name).collect();
    assert_eq!(names.len(), operations, "two routes have one name");
}

#[test]
fn every_reference_of_the_api_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let ("$ref", Value::String(target)) = (name.as_str(), member) {
                        found.push(target.clone());
                    }
                    references(member, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = openapi::openapi();
    let mut found = vec![];
    references(&document, &mut found);
    assert!(found.len() > 100);
    for target in found {
        assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
    }
    assert!(!document.to_string().contains("\"null\""), "a field that is not there is left out");
}

#[test]
fn the_page_for_people_is_right() {
    let page = include_str!("../../../docs/protocols/native.md");
    let (mut requests, mut answers, mut blocks) = (0, 0, 0);
    let mut says: Option<&str> = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            says = Some(comment);
        }
        if line != "```json" {
            continue;
        }
        blocks += 1;
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        let (kind, rest) =
            says.take().expect("a block without a word on what it is").split_once(": ").unwrap();
        match kind {
            "request" => {
                requests += 1;
                let (method, path) = rest.split_once(' ').unwrap();
                let outcome = decode_any(method, path, "", block.as_bytes());
                assert!(outcome.is_ok(), "{rest}: {outcome:?}");
                if let Ok(holdfast_wire::native::Call::Batch { items, .. }) = outcome {
                    assert!(items.iter().all(Result::is_ok), "{items:?}");
                }
            }
            "answer" => {
                answers += 1;
                parse_answer(rest, block.as_bytes());
            }
            other => panic!("{other}"),
        }
    }
    assert!(requests >= 10 && answers >= 8 && blocks == requests + answers, "{requests} {answers} {blocks}");
}

fn parse_answer(name: &str, body: &[u8]) {
    macro_rules! parse {
        ($($type:ident),+) => {
            match name {
                $(stringify!($type) => {
                    client::parse::<message::$type>(200, body).unwrap_or_else(|error| panic!("{name}: {error}"));
                })+
                "Problem" => {
                    serde_json::from_slice::<problem::Problem>(body).unwrap();
                }
                other => panic!("no answer is called {other}"),
            }
        };
    }
    parse!(
        Key,
        CiphertextAnswer,
        PlaintextAnswer,
        VerifyAnswer,
        BatchAnswer,
        TokenIssued,
        PolicyDone,
        Explanation
    );
}

#[test]
fn the_page_lists_every_kind_with_its_status() {
    let page = include_str!("../../../docs/protocols/native.md");
    let rows: Vec<_> =
        page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
    for kind in ErrorKind::ALL {
        let (status, code) = (format!("| {} |", problem::status(kind)), format!("`{}`", kind.code()));
        assert!(
            rows.iter().any(|row| row.starts_with(&status) && row.contains(&code)),
            "{code} with {status}"
        );
    }
}

#[test]
fn the_page_lists_every_check_of_the_key_service() {
    let page = include_str!("../../../docs/protocols/google-cse.md");
    for check in Check::ALL {
        let row = format!("| `{}` | ", check.name());
        assert!(page.lines().any(|line| line.starts_with(&row)), "no row {row}");
    }
}
