//! What is wrong with a request, in words; and what no such word may hold.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails here is a test")]

use holdfast_core::{Error, ErrorKind};
use holdfast_wire::native::{Refusal, Route, decode_any, routes};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A path of the route with every parameter filled in.
fn path(route: &Route) -> String {
    route
        .path
        .replace("{tenant}", "acme")
        .replace("{token}", "00000000000000000000000000")
        .replace("{version}", "7")
        .replace("{+file}", "checkpoint")
        .replace(['{', '}'], "")
}

fn refusal(method: &str, path: &str, query: &str, body: &[u8]) -> Error {
    match decode_any(method, path, query, body) {
        Err(Refusal::Decode(error)) => error,
        other => panic!("{method} {path}: {other:?}"),
    }
}

fn with_examples() -> impl Iterator<Item = (&'static Route, Value)> {
    routes::all().filter_map(|route| Some((route, serde_json::from_str(route.example?).unwrap())))
}

#[test]
fn every_example_decodes() {
    for (route, example) in with_examples() {
        let body = serde_json::to_vec(&example).unwrap();
        decode_any(route.method.name(), &path(route), "", &body)
            .unwrap_or_else(|error| panic!("{}: {error:?}", route.name));
    }
}

#[test]
fn the_words() {
    const ENCRYPT: &str = "POST /v1/tenants/acme/keys/k/encrypt";
    const KEYS: &str = "POST /v1/tenants/acme/keys";
    for (line, body, words) in [
        (ENCRYPT, "", "the JSON value ends too early"),
        (ENCRYPT, "{", "the JSON value ends too early"),
        (ENCRYPT, "{}", "required field `plaintext` is missing"),
        (ENCRYPT, "[]", "expected an object"),
        (ENCRYPT, "nonsense", "expected an object"),
        (ENCRYPT, "?", "not JSON at byte 0"),
        (ENCRYPT, "{} x", "required field `plaintext` is missing"),
        (ENCRYPT, r#"{"plaintext":""} x"#, "bytes after the end of the JSON value, at 17"),
        (ENCRYPT, r#"{"plaintext":5}"#, "`plaintext`: expected text"),
        (ENCRYPT, r#"{"plaintext":null}"#, "`plaintext`: expected text"),
        (ENCRYPT, r#"{"plaintext":NaN}"#, "`plaintext`: not JSON at byte 13"),
        (ENCRYPT, r#"{"plaintext":"secret!"}"#, "`plaintext`: expected standard base64 with padding"),
        (ENCRYPT, r#"{"plaintext":"","plaintext":""}"#, "`plaintext`: stands there twice"),
        (
            ENCRYPT,
            r#"{"plaintext":"","pliantext":""}"#,
            "unknown field `pliantext`; expected `plaintext`, `context`, `padding`",
        ),
        (ENCRYPT, r#"{"Pa55word":""}"#, "unknown field; expected `plaintext`, `context`, `padding`"),
        (ENCRYPT, r#"{"plaintext":"","context":[]}"#, "`context`: expected an object"),
        (ENCRYPT, r#"{"plaintext":"","context":{"a":1}}"#, "`context`: expected text"),
        (ENCRYPT, r#"{"plaintext":"","context":{"a":"","a":""}}"#, "`context`: has a name twice"),
        (ENCRYPT, r#"{"plaintext":"","context":{"":""}}"#, "`context`: has an empty name"),
        (
            KEYS,
            r#"{"name":"a/b"}"#,
            "`name`: expected 1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
        ),
        (
            KEYS,
            r#"{"name":"a","legacy":["x"]}"#,
            "`legacy[0]`: expected one of `rsa-pkcs1-decrypt`, `sha1-oaep`",
        ),
        (KEYS, r#"{"name":"a","exportable":1}"#, "`exportable`: expected `true` or `false`"),
        (
            "POST /v1/tenants/acme/keys/k/datakey",
            r#"{"length":0}"#,
            "`length`: expected a whole number from 1 to 1024",
        ),
        (
            "POST /v1/tenants/acme/keys/k/datakey",
            r#"{"length":1.5}"#,
            "`length`: expected a whole number without sign, fraction or exponent",
        ),
        ("POST /v1/tenants/acme/keys/k/sign", "{}", "expected exactly one of `message` and `digest`"),
        (
            "POST /v1/tenants/acme/keys/k/sign",
            r#"{"message":"","digest":""}"#,
            "expected exactly one of `message` and `digest`",
        ),
        (
            "POST /v1/tenants/acme/keys/k/decrypt",
            r#"{"ciphertext":"","key_version":0}"#,
            "`key_version`: expected a key version, from 1 to 4294967295",
        ),
        ("POST /v1/tenants/acme/batch", r#"{"items":[]}"#, "`items`: expected at least one item"),
        ("POST /v1/tenants/acme/batch", r#"{"items":[{]}"#, "`items[0]`: not JSON at byte 11"),
        (
            "POST /v1/tenants/ACME/keys/k/encrypt",
            r#"{"plaintext":""}"#,
            "`tenant`: expected 1 to 63 of a-z, 0-9 and inner hyphens",
        ),
        ("POST /v1/tenants/acme/keys/k/suspend", r#"{"why":1}"#, "unknown field `why`"),
        ("GET /v1/tenants/acme/keys", "{}", "this endpoint takes no body"),
        ("GET /v1/tenants/acme/keys?limit=0", "", "`limit`: expected a whole number from 1 to 1000"),
        ("GET /v1/tenants/acme/keys?limit=+1", "", "`limit`: expected a value without percent-encoding"),
        ("GET /v1/tenants/acme/keys?page=2", "", "`query`: unknown field `page`; expected `after`, `limit`"),
        ("GET /v1/tenants/acme/keys/k?x=1", "", "`query`: unknown field `x`"),
        (
            "GET /v1/tenants/acme/keys/k/public-key?version=0",
            "",
            "`version`: expected a key version, from 1 to 4294967295",
        ),
        (
            "GET /v1/tenants/acme/audit/../state.db",
            "",
            "`file`: expected `checkpoint`, `checkpoint.cosigned`, `log.vkey` or `tile/…`",
        ),
        (
            "PUT /v1/tenants/acme/callers/pay",
            r#"{"kind":"root"}"#,
            "`kind`: expected one of `application`, `custodian`, `auditor`, `operator`, `developer`",
        ),
        (
            "POST /v1/tenants",
            r#"{"tenant":"acme","callers":[{"name":"a","kind":"custodian"},{"name":"b","kind":"x"}]}"#,
            "`callers[1].kind`: expected one of `application`, `custodian`, `auditor`, `operator`, `developer`",
        ),
        (
            "PUT /v1/tenants/acme/anchors/ca",
            r#"{"certificate":"-----BEGIN CERTIFICATE-----"}"#,
            "`certificate`: expected one certificate in PEM, or its DER in standard base64",
        ),
        (
            "POST /v1/tenants/acme/callers/pay/tokens",
            r#"{"lifetime_seconds":86401}"#,
            "`lifetime_seconds`: expected a whole number from 1 to 86400",
        ),
    ] {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let error = refusal(method, path, query, body.as_bytes());
        assert_eq!(error.to_string(), words, "{line} {body}");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{line} {body}");
    }
}

#[test]
fn what_is_too_large_says_so() {
    let kind = |path: &str, body: &str| {
        let error = refusal("POST", path, "", body.as_bytes());
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        error.to_string()
    };
    let encrypt = "/v1/tenants/acme/keys/k/encrypt";
    let plaintext = format!(r#"{{"plaintext":"{}"}}"#, "A".repeat(1_398_108));
    assert_eq!(kind(encrypt, &plaintext), "`plaintext`: more than 1048576 bytes");
    // One and two bytes too many are as many characters as the most that fits.
    for end in ["AA=", "AAA"] {
        let plaintext = format!(r#"{{"plaintext":"{}{end}"}}"#, "A".repeat(1_398_104 - end.len()));
        assert_eq!(kind(encrypt, &plaintext), "`plaintext`: more than 1048576 bytes", "{end}");
    }
    assert_eq!(kind(encrypt, &" ".repeat(3 << 20)), "the body has more than 2861744 bytes");
    let pairs: Vec<_> = (0..65).map(|n| format!("\"{n}\":\"\"")).collect();
    assert_eq!(
        kind(encrypt, &format!(r#"{{"context":{{{}}}}}"#, pairs.join(","))),
        "`context`: more than 64 pairs"
    );
    let long = format!(r#"{{"context":{{"a":"{}"}}}}"#, "x".repeat(8192));
    assert_eq!(kind(encrypt, &long), "`context`: has more than 64 pairs or 8192 bytes");
    let items = vec!["{}"; 257].join(",");
    assert_eq!(
        kind("/v1/tenants/acme/batch", &format!(r#"{{"items":[{items}]}}"#)),
        "`items[256]`: more than 256 items"
    );
}

#[test]
fn a_batchs_malformed_item_is_its_own_error() {
    let body = r#"{"items":[
        {"plaintext":"aGk=","operation":"encrypt","key":"a"},
        {"operation":"encrypt","key":"a","plaintext":"?"},
        {"operation":"explode","key":"a"},
        {"operation":"encrypt","key":"../a","plaintext":""},
        {"operation":"encrypt","plaintext":""},
        {"operation":"encrypt","operation":"decrypt","key":"a"},
        {"operation":"encrypt","key":"a","plaintext":"","ciphertext":""},
        5,
        {"operation":"public-key","key":"a","key_version":2},
        {"operation":"encapsulate","key":"a"}
    ]}"#;
    let Ok(holdfast_wire::native::Call::Batch { items, .. }) =
        decode_any("POST", "/v1/tenants/acme/batch", "", body.as_bytes())
    else {
        panic!("no batch");
    };
    let words: Vec<_> = items
        .iter()
        .map(|item| item.as_ref().map_or_else(Error::to_string, |(key, _)| format!("ok {key}")))
        .collect();
    assert_eq!(
        words,
        [
            "ok a",
            "`plaintext`: expected standard base64 with padding",
            "`operation`: expected one of `encrypt`, `decrypt`, `wrap`, `unwrap`, `datakey`, `rewrap`, `sign`, `verify`, `mac`, `verify-mac`, `agree`, `encapsulate`, `decapsulate`, `public-key`",
            "`key`: expected 1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
            "required field `key` is missing",
            "`operation`: stands there twice",
            "unknown field `ciphertext`; expected `plaintext`, `context`, `padding`",
            "expected an object",
            "ok a",
            "ok a",
        ]
    );
}

const MARKER: &str = "hunter2-MARKER";

fn assert_silent(route: &Route, body: &[u8]) {
    let outcome = decode_any(route.method.name(), &path(route), "", body);
    let told = match &outcome {
        Err(Refusal::Decode(error)) => format!("{error} {error:?} {} {}", error.chain(), error.remedy_text()),
        Err(Refusal::Route(_)) => panic!("{} has no route", route.name),
        Ok(holdfast_wire::native::Call::Batch { items, .. }) => items
            .iter()
            .filter_map(|item| item.as_ref().err())
            .map(|error| format!("{error:?} {}", error.chain()))
            .collect(),
        Ok(_) => return,
    };
    assert!(!told.contains("hunter2"), "{}: {told}", route.name);
    assert!(
        !told.contains(&MARKER.as_bytes().iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
        "{}: {told}",
        route.name
    );
}

/// Puts each of `values` in place of each value of a document, however deep, and adds them beside it.
fn variants(document: &Value, values: &[Value]) -> Vec<Value> {
    let mut all = values.to_vec();
    match document {
        Value::Object(members) => {
            for (name, member) in members {
                for variant in variants(member, values) {
                    let mut changed = members.clone();
                    changed.insert(name.clone(), variant);
                    all.push(changed.into());
                }
            }
            for value in values {
                let mut changed = members.clone();
                changed.insert(MARKER.into(), value.clone());
                all.push(changed.into());
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for variant in variants(item, values) {
                    let mut changed = items.clone();
                    changed[index] = variant;
                    all.push(changed.into());
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

#[test]
fn no_error_holds_what_it_refuses() {
    let values = [
        json!(MARKER),
        json!([MARKER]),
        json!({ MARKER: MARKER }),
        json!(-1.5),
        json!(null),
        json!("aHVudGVyMi1NQVJLRVI"),
    ];
    let mut refused = 0;
    for (route, example) in with_examples() {
        for variant in variants(&example, &values) {
            let text = serde_json::to_string(&variant).unwrap();
            assert_silent(route, text.as_bytes());
            assert_silent(route, text.replace("hunter2", "\\u0068unter2").as_bytes());
            for cut in (0..text.len()).step_by(7) {
                assert_silent(route, &text.as_bytes()[..cut]);
            }
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn every_field_stands_once_and_nothing_stands_beside() {
    for (route, example) in with_examples() {
        let Value::Object(members) = example else { panic!("{}", route.name) };
        let body = serde_json::to_string(&members).unwrap();
        for (name, value) in &members {
            let doubled = body.replacen('{', &format!("{{{}:{value},", json!(name)), 1);
            let error = refusal(route.method.name(), &path(route), "", doubled.as_bytes());
            assert_eq!(error.to_string(), format!("`{name}`: stands there twice"), "{}", route.name);
        }
        let comma = if members.is_empty() { "" } else { "," };
        let beside = body.replacen('{', &format!("{{\"unheard_of\":1{comma}"), 1);
        let error = refusal(route.method.name(), &path(route), "", beside.as_bytes());
        assert!(error.to_string().starts_with("unknown field `unheard_of`"), "{}: {error}", route.name);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[A-Za-z0-9+/]{0,8}={0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(
                "(plaintext|context|name|items|key|operation|text|[a-z_]{1,8})",
                inner,
                0..4
            )
            .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(index: prop::sample::Index, query in "[a-z=&0-9%]{0,20}", body: Vec<u8>) {
        let routes: Vec<_> = routes::all().collect();
        let route = routes[index.index(routes.len())];
        let _ = decode_any(route.method.name(), &path(route), &query, &body);
    }

    #[test]
    fn any_json_is_decoded_or_refused(index: prop::sample::Index, body in json_value()) {
        let routes: Vec<_> = routes::all().collect();
        let route = routes[index.index(routes.len())];
        let _ = decode_any(route.method.name(), &path(route), "", &serde_json::to_vec(&body).unwrap());
    }

    #[test]
    fn a_damaged_example_is_decoded_or_refused(index: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let examples: Vec<_> = with_examples().collect();
        let (route, example) = &examples[index.index(examples.len())];
        let mut body = serde_json::to_vec(example).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode_any(route.method.name(), &path(route), "", &body);
    }

    #[test]
    fn any_path_is_routed_or_refused(method in "(GET|POST|PUT|DELETE|\\PC{0,6})", path in "(/(v1|tenants|keys|a|%2e|\\.\\.|encrypt|\\PC{0,3})){0,9}") {
        let _ = decode_any(&method, &path, "", b"{}");
    }
}
