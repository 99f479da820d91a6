//! The API as a document: OpenAPI 3.1, made from the table of routes and the messages' schemas.

use super::field::Grammar;
use super::problem::{self, Problem};
use super::route::{Access, BodyKind, Parameter, Route};
use super::routes;
use holdfast_core::{CallerName, Error, ErrorKind, KeyName, OperationId, Stage, TenantId, TokenId};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| serde_json::to_vec(&openapi()).unwrap_or_default());

/// The document as it is served.
pub fn bytes() -> &'static [u8] {
    &DOCUMENT
}

/// The document.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in routes::all() {
        let path = route.path.replace("{+", "{");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = methods {
            methods.insert(route.method.name().to_lowercase(), operation(route, &mut generator));
        }
    }
    let problem = response(
        "A problem (RFC 9457).",
        &json!({ problem::CONTENT_TYPE: {
            "schema": generator.subschema_for::<Problem>(),
            "examples": problems(),
        } }),
    );
    let mut schemas = Value::Object(generator.take_definitions(true));
    without_null(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast native API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Binary values are standard base64 with padding. Unknown and repeated fields are refused. Every response has a `Holdfast-Operation` header.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": "/" }],
        "security": [{ "mutualTLS": [] }, { "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Problem": problem },
            "headers": {
                "Holdfast-Operation": { "description": "The operation's id: what it is found by in the audit log.", "schema": id_schema() },
                "Holdfast-Receipt": { "description": "The log's signed receipt for the operation's record, in base64; only if the request asked for it.", "schema": { "type": "string", "contentEncoding": "base64" } },
                "Retry-After": { "description": "Seconds to wait before sending the same again.", "schema": { "type": "integer" } },
            },
            "parameters": {
                "Holdfast-Receipt": {
                    "name": "Holdfast-Receipt", "in": "header", "required": false,
                    "description": "Asks for the log's signed receipt: of a result, of a refusal, of each item of a batch.",
                    "schema": { "type": "string", "enum": [super::RECEIPT_WANTED] },
                },
            },
            "securitySchemes": {
                "mutualTLS": { "type": "mutualTLS", "description": "A certificate that a custodian of the tenant has registered." },
                "bearer": { "type": "http", "scheme": "bearer", "description": "A token of `POST …/callers/{caller}/tokens`." },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({ "operationId": route.name, "summary": route.summary });
    let mut set = |name: &str, value: Value| {
        if let Value::Object(members) = &mut operation {
            members.insert(name.into(), value);
        }
    };
    if route.access == Access::Open {
        set("security", json!([]));
    }
    // What nobody is asked for leaves no record either.
    let receipt =
        (route.access != Access::Open).then(|| json!({ "$ref": "#/components/parameters/Holdfast-Receipt" }));
    let parameters: Vec<_> = path_parameters(route.path)
        .chain(route.query.iter().map(|query| query_parameter(route, *query)))
        .chain(receipt)
        .collect();
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    if let Some(schema) = route.request {
        let example: Value =
            route.example.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let content = json!({ "application/json": { "schema": schema(generator), "example": example } });
        set("requestBody", json!({ "required": route.body == BodyKind::Json, "content": content }));
    }
    let content = match route.answer {
        Some(schema) => json!({ "application/json": { "schema": schema(generator).to_value() } }),
        // Files of the log: tiles are bytes, the checkpoint and the verifier key are text.
        None => {
            json!({ "application/octet-stream": { "schema": {} }, "text/plain": { "schema": { "type": "string" } } })
        }
    };
    let mut responses = Map::new();
    responses.insert(route.status.to_string(), response("Success.", &content));
    for class in ["4XX", "5XX"] {
        responses.insert(class.into(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    set("responses", responses.into());
    operation
}

fn response(description: &str, content: &Value) -> Value {
    json!({
        "description": description,
        "headers": {
            "Holdfast-Operation": { "$ref": "#/components/headers/Holdfast-Operation" },
            "Holdfast-Receipt": { "$ref": "#/components/headers/Holdfast-Receipt" },
        },
        "content": content,
    })
}

fn path_parameters(path: &'static str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let schema = match name {
            "tenant" => name_schema::<TenantId>(),
            "key" => name_schema::<KeyName>(),
            "token" => name_schema::<TokenId>(),
            "version" => json!({ "type": "integer", "minimum": 1 }),
            "+file" => json!({ "type": "string", "description": "May have slashes." }),
            _ => name_schema::<CallerName>(),
        };
        json!({ "name": name.trim_start_matches('+'), "in": "path", "required": true, "schema": schema })
    })
}

fn query_parameter(route: &Route, parameter: Parameter) -> Value {
    let version = json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
    let (schema, description) = match parameter {
        Parameter::After if route.path.ends_with("/versions") => (version, "Versions after this one."),
        Parameter::After => (name_schema::<KeyName>(), "Keys after this one."),
        Parameter::Limit => {
            let max = holdfast_core::query::MAX_PAGE;
            (
                json!({ "type": "integer", "minimum": 1, "maximum": max, "default": 100 }),
                "At most so many rows.",
            )
        }
        Parameter::Version => (version, "Which version; the newest unless told."),
    };
    json!({ "name": parameter.name(), "in": "query", "required": false, "schema": schema, "description": description })
}

fn name_schema<T: Grammar>() -> Value {
    json!({ "type": "string", "pattern": T::PATTERN })
}

fn id_schema() -> Value {
    name_schema::<OperationId>()
}

/// One problem of each kind, as an unremarkable error of it reads.
fn problems() -> Value {
    let example = |kind: ErrorKind| {
        let error = Error::new(kind, Stage::Decode, kind.row().title);
        let operation = Some(OperationId::from_bytes([0; 16]));
        let value = serde_json::to_value(Problem::new(&error, operation)).unwrap_or_default();
        (kind.code().to_owned(), json!({ "value": value }))
    };
    Value::Object(ErrorKind::ALL.into_iter().map(example).collect())
}

/// A field that is not there is left out, never `null`: schemas of optional fields must not allow it.
fn without_null(schema: &mut Value) {
    let null = json!({ "type": "null" });
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                let before = choices.len();
                choices.retain(|choice| *choice != null);
                if let (true, [Value::Object(only)]) = (choices.len() < before, choices.as_slice()) {
                    let only = only.clone();
                    members.remove("anyOf");
                    members.extend(only);
                }
            }
            members.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
