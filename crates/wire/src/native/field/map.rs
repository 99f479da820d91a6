//! Names with values: contexts, labels, and the list of legacy operations.

use super::{LegacyWord, List, Word};
use crate::json::{Fault, Read, Reader};
use holdfast_core::ErrorKind;
use holdfast_core::context::Context;
use holdfast_core::key::{Labels, Legacy};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::collections::BTreeMap;

type Pairs = Vec<(Box<str>, Box<str>)>;

/// Reads an object of texts; its names are the caller's own and never quoted.
fn pairs(reader: &mut Reader<'_>, max: usize) -> Result<Pairs, Fault> {
    let mut pairs = Vec::new();
    reader.object(|reader, name| {
        if pairs.len() == max {
            return Err(Fault::too_large(format!("more than {max} pairs")));
        }
        pairs.push((Box::from(name), Box::from(&*reader.text()?)));
        Ok(())
    })?;
    Ok(pairs)
}

fn described(max: usize, description: &str) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string" },
        "maxProperties": max,
        "description": description,
    })
}

/// An encryption context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextPairs(pub Context);

impl Read for ContextPairs {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let context = Context::new(pairs(reader, Context::MAX_PAIRS)?);
        context.map(Self).map_err(|error| {
            let problem = error.detail().strip_prefix("`context` ").unwrap_or(error.detail()).to_owned();
            if error.kind() == ErrorKind::TooLarge {
                Fault::too_large(problem)
            } else {
                Fault::malformed(problem)
            }
        })
    }
}

impl Serialize for ContextPairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.pairs())
    }
}

impl JsonSchema for ContextPairs {
    fn schema_name() -> Cow<'static, str> {
        "Context".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        described(
            Context::MAX_PAIRS,
            "Encryption context: what a ciphertext is bound to. Not secret: it stands in the audit log. At most 8192 bytes.",
        )
    }
}

/// A key's labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelMap(pub Labels);

const MAX_LABELS: usize = 64;
const MAX_LABEL_NAME: usize = 128;
const MAX_LABEL_VALUE: usize = 256;

impl Read for LabelMap {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut labels = Labels::new();
        for (name, value) in pairs(reader, MAX_LABELS)? {
            let printable = |text: &str| !text.chars().any(char::is_control);
            if name.is_empty() || name.len() > MAX_LABEL_NAME || !printable(&name) {
                return Err(Fault::malformed("expected names of 1 to 128 bytes without control characters"));
            }
            if value.len() > MAX_LABEL_VALUE || !printable(&value) {
                return Err(Fault::malformed(
                    "expected values of at most 256 bytes without control characters",
                ));
            }
            if labels.insert(name, value).is_some() {
                return Err(Fault::malformed("has a name twice"));
            }
        }
        Ok(Self(labels))
    }
}

impl Serialize for LabelMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.0)
    }
}

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for LabelMap {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        described(MAX_LABELS, "Labels that policies can speak of: names up to 128 bytes, values up to 256.")
    }
}

/// The legacy operations that a key was created for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegacyList(pub Legacy);

impl LegacyList {
    fn from_words(words: impl IntoIterator<Item = LegacyWord>) -> Option<Self> {
        let mut legacy = Legacy::default();
        for word in words {
            let slot = match word {
                LegacyWord::RsaPkcs1Decrypt => &mut legacy.rsa_pkcs1_decrypt,
                LegacyWord::Sha1Oaep => &mut legacy.sha1_oaep,
            };
            if *slot {
                return None;
            }
            *slot = true;
        }
        Some(Self(legacy))
    }
}

impl Read for LegacyList {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let words = List::<Word<LegacyWord>>::read(reader)?.0;
        Self::from_words(words.into_iter().map(|word| word.0))
            .ok_or_else(|| Fault::malformed("has a word twice"))
    }
}

impl Serialize for LegacyList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Legacy { rsa_pkcs1_decrypt, sha1_oaep } = self.0;
        let words = [(rsa_pkcs1_decrypt, LegacyWord::RsaPkcs1Decrypt), (sha1_oaep, LegacyWord::Sha1Oaep)];
        serializer.collect_seq(words.into_iter().filter(|(on, _)| *on).map(|(_, word)| Word(word)))
    }
}

impl<'de> Deserialize<'de> for LegacyList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<Word<LegacyWord>>::deserialize(deserializer)?;
        Self::from_words(words.into_iter().map(|word| word.0))
            .ok_or_else(|| de::Error::custom("has a word twice"))
    }
}

impl JsonSchema for LegacyList {
    fn schema_name() -> Cow<'static, str> {
        "LegacyList".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "uniqueItems": true, "items": generator.subschema_for::<Word<LegacyWord>>() })
    }
}
