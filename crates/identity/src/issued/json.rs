//! JSON as tokens hold it: no name twice, anywhere (RFC 7515 §4, RFC 7519 §4), and the members in their order.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The members of an object, in their order.
pub(super) type Members = Vec<(Box<str>, Value)>;

/// The most members of the whole: strangers' are looked through for each that is added.
const MAX_MEMBERS: usize = 256;

/// Reads a whole document that is an object of at most so many members; `None` for anything else.
pub(super) fn members(bytes: &[u8]) -> Option<Members> {
    // What it says of its error quotes what it read.
    serde_json::from_slice::<Object>(bytes).ok().map(|Object(members)| members)
}

/// A member's value.
pub(super) fn member<'a>(members: &'a [(Box<str>, Value)], name: &str) -> Option<&'a Value> {
    members.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
}

struct Object(Members);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Members::new();
                while let Some(name) = map.next_key::<Box<str>>()? {
                    if members.len() == MAX_MEMBERS {
                        return Err(A::Error::custom("more members than any token has"));
                    }
                    if member(&members, &name).is_some() {
                        return Err(A::Error::custom("a name stands there twice"));
                    }
                    members.push((name, map.next_value_seed(Strict)?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Whole)
    }
}

/// Any value in which no object has a name twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is none"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = vec![];
        while let Some(value) = seq.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom("a name stands there twice"));
            }
            let value = map.next_value_seed(Strict)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_no_name_stands_twice() {
        let found = members(br#"{"upn":1,"email":[true,null,{"a":-1.5}],"aud":"x"}"#).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["upn", "email", "aud"]);
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"a":1}{}"#,
            r#"{"a":1} x"#,
            r#"["a"]"#,
            r#"{"a":NaN}"#,
            r#"{"a":01}"#,
            "",
        ] {
            assert!(members(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(members(b"{\"a\":\"\xff\"}").is_none(), "not UTF-8");
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|it| format!("\"{it}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(members(many(MAX_MEMBERS).as_bytes()).unwrap().len(), MAX_MEMBERS);
        assert!(members(many(MAX_MEMBERS + 1).as_bytes()).is_none());
        assert!(members(format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000)).as_bytes()).is_none());
    }
}
