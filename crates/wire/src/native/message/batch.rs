//! What can be done with a key by `POST …/keys/{key}/<verb>`, and many of that at once.

use super::use_key::IntoOperation;
use super::{
    Agree, DataKey, Decapsulate, Decrypt, Encapsulate, Encrypt, Fields, Mac, PublicKey, Rewrap, Sign, Unwrap,
    Verify, VerifyMac, Wrap,
};
use crate::json::{Fault, Read, Reader};
use crate::native::field::{Bytes, Name, SecretBytes, VersionNumber, Word};
use crate::native::problem::Problem;
use holdfast_core::algorithm::{Algorithm, SignatureScheme};
use holdfast_core::operation::{MAX_BATCH, Operation};
use holdfast_core::{Error, KeyName, OperationId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $name:literal;)+) => {
        /// What can be done with a key: the last segment of the path, and `operation` in a batch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Verb { $($(#[$doc])* $verb,)+ }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$verb),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$verb => $name,)+ }
            }

            /// Reads its request from an object that may have other fields beside.
            pub(crate) fn read(self, reader: &mut Reader<'_>, beside: &[&str]) -> Result<Operation, Fault> {
                match self { $(Self::$verb => $verb::read_beside(reader, beside)?.into_operation(),)+ }
            }

            fn schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$verb => $verb::json_schema(generator),)+ }
            }
        }

        /// Any request that uses a key.
        #[derive(Debug, Serialize)]
        #[serde(tag = "operation")]
        pub enum UseRequest { $($(#[$doc])* #[serde(rename = $name)] $verb($verb),)+ }
    };
}

verbs! {
    /// Encrypt bytes.
    Encrypt = "encrypt";
    /// Decrypt bytes, or open a data key.
    Decrypt = "decrypt";
    /// Wrap bytes that the caller brings.
    Wrap = "wrap";
    /// Unwrap them again.
    Unwrap = "unwrap";
    /// Make a data key.
    DataKey = "datakey";
    /// Encrypt anew under the newest version, or another key.
    Rewrap = "rewrap";
    /// Sign.
    Sign = "sign";
    /// Verify a signature.
    Verify = "verify";
    /// Compute a message authentication code.
    Mac = "mac";
    /// Verify one.
    VerifyMac = "verify-mac";
    /// Agree on a shared secret.
    Agree = "agree";
    /// Make a shared secret for the key's holder.
    Encapsulate = "encapsulate";
    /// Open one.
    Decapsulate = "decapsulate";
    /// Read the public half.
    PublicKey = "public-key";
}

/// One item of a batch.
#[derive(Debug, Serialize)]
pub struct BatchItem {
    /// The key.
    pub key: Name<KeyName>,
    /// What to do with it, beside the key in one object.
    #[serde(flatten)]
    pub request: UseRequest,
}

impl JsonSchema for BatchItem {
    fn schema_name() -> Cow<'static, str> {
        "BatchItem".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = |verb: &Verb| {
            let mut schema = verb.schema(generator);
            let key = generator.subschema_for::<Name<KeyName>>();
            let object = schema.ensure_object();
            let member =
                |name: &str, kind: serde_json::Value| object.entry(name.to_owned()).or_insert(kind).take();
            let (mut properties, mut required) = members(member);
            properties.insert("key".into(), key.to_value());
            properties.insert("operation".into(), serde_json::json!({ "const": verb.name() }));
            required.extend(["key".into(), "operation".into()]);
            object.insert("properties".into(), properties.into());
            object.insert("required".into(), required.into());
            schema
        };
        let items: Vec<_> = Verb::ALL.iter().map(item).collect();
        json_schema!({ "oneOf": items, "description": "What the single operation takes, with `key` and `operation` beside it." })
    }
}

/// The properties and required names of an object's schema, taken out of it.
fn members(
    mut take: impl FnMut(&str, serde_json::Value) -> serde_json::Value,
) -> (serde_json::Map<String, serde_json::Value>, Vec<serde_json::Value>) {
    use serde_json::Value;
    let properties = match take("properties", Value::Object(serde_json::Map::new())) {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            serde_json::Map::new()
        }
    };
    let required = match take("required", Value::Array(Vec::new())) {
        Value::Array(list) => list,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Vec::new(),
    };
    (properties, required)
}

/// Many operations in one request: each is decided and recorded alone.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Batch {
    /// The operations, at most 256.
    #[schemars(length(min = 1, max = 256))]
    pub items: Vec<BatchItem>,
}

/// A batch's items as they are decoded: each by itself.
pub(crate) type BatchItems = Vec<Result<(KeyName, Operation), Error>>;

/// Reads a batch. Only what is no JSON, or no list of at most 256, is a fault of the whole.
pub(crate) fn decode_items(body: &[u8]) -> Result<BatchItems, Fault> {
    let mut reader = Reader::new(body)?;
    let mut items: Option<Items> = None;
    reader.object(|reader, name| match name {
        "items" => reader.field("items", &mut items),
        _ => Err(Fault::unknown(name, &["items"])),
    })?;
    reader.finish()?;
    Ok(super::required(items, "items")?.0)
}

struct Items(BatchItems);

impl Read for Items {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut items = Vec::new();
        reader.array(|reader, index| {
            if index == MAX_BATCH {
                return Err(Fault::too_large(format!("more than {MAX_BATCH} items")));
            }
            items.push(item(reader.skip()?).map_err(Fault::into_error));
            Ok(())
        })?;
        if items.is_empty() {
            return Err(Fault::malformed("expected at least one item"));
        }
        Ok(Self(items))
    }
}

/// Reads one item in two passes: which key and operation, then the operation's own fields, which may stand before them.
fn item(text: &str) -> Result<(KeyName, Operation), Fault> {
    let mut key: Option<Name<KeyName>> = None;
    let mut verb: Option<VerbName> = None;
    Reader::of(text).object(|reader, name| match name {
        "key" => reader.field("key", &mut key),
        "operation" => reader.field("operation", &mut verb),
        _ => reader.skip().map(drop),
    })?;
    let key = super::required(key, "key")?;
    let verb = super::required(verb, "operation")?;
    let operation = verb.0.read(&mut Reader::of(text), &["key", "operation"])?;
    Ok((key.0, operation))
}

struct VerbName(Verb);

impl Read for VerbName {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let name = reader.text()?;
        Verb::ALL.iter().find(|verb| verb.name() == &*name).copied().map(Self).ok_or_else(|| {
            let names: Vec<_> = Verb::ALL.iter().map(|verb| format!("`{}`", verb.name())).collect();
            Fault::malformed(format!("expected one of {}", names.join(", ")))
        })
    }
}

/// A batch's answer: as many items as were asked, in their order.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BatchAnswer", bound = "T: JsonSchema")]
pub struct BatchAnswer<T = OperationResult> {
    /// The items' answers.
    pub items: Vec<BatchResult<T>>,
}

/// One item's answer: either a result or a problem.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BatchResult", bound = "T: JsonSchema")]
pub struct BatchResult<T = OperationResult> {
    /// The item's own operation id.
    pub operation_id: Name<OperationId>,
    /// The status that the operation alone would have had.
    pub status: u16,
    /// What it gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
    /// Why it gives nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The log's signed receipt, if the request asked for receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// A result as a client reads it: the fields of whichever operation it was.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OperationResult {
    /// A ciphertext or an encapsulation.
    pub ciphertext: Option<Bytes>,
    /// A plaintext or a data key in clear.
    pub plaintext: Option<SecretBytes>,
    /// A signature.
    pub signature: Option<Bytes>,
    /// How it was made.
    pub scheme: Option<Word<SignatureScheme>>,
    /// A message authentication code.
    pub mac: Option<Bytes>,
    /// Whether a signature or code is right.
    pub valid: Option<bool>,
    /// A shared secret.
    pub shared_secret: Option<SecretBytes>,
    /// A public key.
    pub public_key: Option<Bytes>,
    /// The same in PEM.
    pub public_key_pem: Option<String>,
    /// The key's algorithm.
    pub algorithm: Option<Word<Algorithm>>,
    /// The version that did it.
    pub key_version: Option<VersionNumber>,
}
