//! The values that messages are made of: each parsed once, each with its schema, each saying what it expected.

mod bytes;
mod map;
mod name;
mod number;
mod text;
mod word;

pub use bytes::{Bytes, SecretBytes};
pub use map::{ContextPairs, LabelMap, LegacyList};
pub use name::{Grammar, Name};
pub use number::{Bounded, VersionNumber};
pub use text::{
    CertificateBytes, CredentialText, CrlBytes, ObjectLabel, PolicyText, ReasonText, SecretText, Time,
};
pub use word::{DurabilityWord, LegacyWord, RetryWord, Vocabulary, Word};

use crate::json::{Fault, Read, Reader};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A value that stands as text.
trait TextField: Sized {
    /// From its text. The reason of a refusal MUST NOT hold the text.
    fn parse(text: &str) -> Result<Self, Cow<'static, str>>;
    /// Its text.
    fn text(&self) -> Cow<'_, str>;
    /// Its schema's name.
    fn named() -> &'static str;
    /// Its schema.
    fn described() -> Schema;
}

/// Reads and writes a [`TextField`] as JSON.
macro_rules! as_text {
    ($type:ty $(where $($param:tt)+)?) => {
        impl $(<$($param)+>)? serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$crate::native::field::TextField::text(self))
            }
        }

        impl<'de, $($($param)+)?> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                $crate::native::field::TextField::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl $(<$($param)+>)? $crate::json::Read for $type {
            fn read(reader: &mut $crate::json::Reader<'_>) -> Result<Self, $crate::json::Fault> {
                $crate::native::field::TextField::parse(&*reader.text()?).map_err($crate::json::Fault::malformed)
            }
        }

        impl $(<$($param)+>)? schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <Self as $crate::native::field::TextField>::named().into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <Self as $crate::native::field::TextField>::described()
            }
        }
    };
}
use as_text;

impl Read for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.boolean()
    }
}

impl Read for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.integer()
    }
}

/// The most elements of a list in a request, batches aside.
pub const MAX_LIST: usize = 256;

/// A list of a request.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

impl<T: Read> Read for List<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut items = Vec::new();
        reader.array(|reader, index| {
            if index == MAX_LIST {
                return Err(Fault::too_large(format!("more than {MAX_LIST} elements")));
            }
            items.push(T::read(reader)?);
            Ok(())
        })?;
        Ok(Self(items))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "maxItems": MAX_LIST, "items": generator.subschema_for::<T>() })
    }
}

#[cfg(test)]
mod tests;
