//! Names and ids, in core's grammar.

use super::{TextField, as_text};
use core::fmt::Display;
use core::str::FromStr;
use holdfast_core::{
    CallerName, GroupName, KeyId, KeyName, MemberName, OperationId, PolicyId, TenantId, TokenId,
};
use schemars::{Schema, json_schema};
use std::borrow::Cow;

/// A kind of name.
pub trait Grammar: FromStr + Display {
    /// Its name in the API document.
    const NAME: &'static str;
    /// What it looks like, in words.
    const WORDS: &'static str;
    /// The same as a regular expression (ECMA-262, as JSON Schema wants it).
    const PATTERN: &'static str;
}

/// A name as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<T>(pub T);

impl<T: Grammar> TextField for Name<T> {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        text.parse().map(Self).map_err(|_| format!("expected {}", T::WORDS).into())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }

    fn named() -> &'static str {
        T::NAME
    }

    fn described() -> Schema {
        json_schema!({ "type": "string", "pattern": T::PATTERN, "description": format!("{}.", T::WORDS) })
    }
}
as_text!(Name<T> where T: Grammar);

macro_rules! grammar {
    ($type:ty, $name:literal, $words:expr, $pattern:expr) => {
        impl Grammar for $type {
            const NAME: &'static str = $name;
            const WORDS: &'static str = $words;
            const PATTERN: &'static str = $pattern;
        }
    };
}

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$";
const ID: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";
const ID_WORDS: &str = "26 characters of Crockford's base 32";

grammar!(TenantId, "TenantName", Self::GRAMMAR, "^(_gateway|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$");
grammar!(KeyName, "KeyName", Self::GRAMMAR, NAME);
grammar!(CallerName, "CallerName", Self::GRAMMAR, NAME);
grammar!(GroupName, "GroupName", Self::GRAMMAR, NAME);
grammar!(PolicyId, "PolicyId", Self::GRAMMAR, NAME);
grammar!(MemberName, "MemberName", Self::GRAMMAR, NAME);
grammar!(KeyId, "KeyId", ID_WORDS, ID);
grammar!(OperationId, "OperationId", ID_WORDS, ID);
grammar!(TokenId, "TokenId", ID_WORDS, ID);
