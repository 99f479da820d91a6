//! Whole numbers with their range.

use crate::json::{Fault, Read, Reader};
use holdfast_core::KeyVersion;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Bounded<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The number as a size in memory.
    pub(crate) fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Read for Bounded<MIN, MAX> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let number = reader.integer()?;
        if !(MIN..=MAX).contains(&number) {
            return Err(Fault::malformed(format!("expected a whole number from {MIN} to {MAX}")));
        }
        Ok(Self(number))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Bounded<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// The number of a key's version, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionNumber(pub KeyVersion);

impl VersionNumber {
    fn new(number: u64) -> Option<Self> {
        u32::try_from(number).ok().and_then(KeyVersion::new).map(Self)
    }
}

impl Read for VersionNumber {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        Self::new(reader.integer()?)
            .ok_or_else(|| Fault::malformed("expected a key version, from 1 to 4294967295"))
    }
}

impl Serialize for VersionNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.get())
    }
}

impl<'de> Deserialize<'de> for VersionNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| de::Error::custom("expected a key version, from 1 to 4294967295"))
    }
}

impl JsonSchema for VersionNumber {
    fn schema_name() -> Cow<'static, str> {
        "KeyVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX, "description": "A key's version, counted from 1." })
    }
}
