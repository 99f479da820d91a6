//! Binary values: standard base64 with padding (RFC 4648 §4), canonical.

use crate::base64_secret;
use crate::json::{Fault, Read, Reader};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use holdfast_core::Secret;
use holdfast_core::operation::MAX_INPUT;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use zeroize::Zeroize;

const EXPECTED: &str = "expected standard base64 with padding";

/// Bytes that anybody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// Bytes that nobody may see: decoded straight into memory that is wiped.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretBytes(pub Secret);

impl Bytes {
    pub(super) fn decode(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok().map(Self)
    }
}

impl SecretBytes {
    pub(super) fn decode(text: &str) -> Option<Self> {
        base64_secret::decode(&STANDARD, text).map(Self)
    }
}

/// Writes base64 piece by piece, wiping each piece where the bytes are secret.
struct Encoded<'a> {
    bytes: &'a [u8],
    secret: bool,
}

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut piece = [0; 1024];
        // Multiples of three bytes join without padding between them.
        for bytes in self.bytes.chunks(768) {
            let len = STANDARD.encode_slice(bytes, &mut piece).map_err(|_| fmt::Error)?;
            let written = piece.get_mut(..len).ok_or(fmt::Error)?;
            let outcome =
                core::str::from_utf8(written).map_err(|_| fmt::Error).and_then(|text| f.write_str(text));
            if self.secret {
                written.zeroize();
            }
            outcome?;
        }
        Ok(())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Encoded { bytes: &self.0, secret: false })
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Encoded { bytes: self.0.expose(), secret: true })
    }
}

macro_rules! reads {
    ($type:ident, $name:literal, $what:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Base64;
                impl de::Visitor<'_> for Base64 {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("standard base64 with padding")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        $type::decode(text).ok_or_else(|| E::custom(EXPECTED))
                    }
                }
                deserializer.deserialize_str(Base64)
            }
        }

        impl Read for $type {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                let text = reader.text()?;
                let too_large = || Fault::too_large(format!("more than {MAX_INPUT} bytes"));
                // Four characters hold three bytes; the exact length is known only after decoding.
                if text.len().div_ceil(4) > MAX_INPUT.div_ceil(3) {
                    return Err(too_large());
                }
                let value = $type::decode(&text).ok_or_else(|| Fault::malformed(EXPECTED))?;
                if value.0.len() <= MAX_INPUT { Ok(value) } else { Err(too_large()) }
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "contentEncoding": "base64",
                    "description": $what,
                    "maxLength": MAX_INPUT.div_ceil(3) * 4
                })
            }
        }
    };
}
reads!(Bytes, "Bytes", "Standard base64 with padding (RFC 4648 §4).");
reads!(
    SecretBytes,
    "SecretBytes",
    "Standard base64 with padding (RFC 4648 §4). Secret: keep it out of logs."
);
