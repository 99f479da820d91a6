//! Names and identifiers, each parsed once at the edge and trusted from there on.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

/// A text that is not of an identifier's grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    what: &'static str,
    grammar: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a {}: expected {}", self.what, self.grammar)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $grammar:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("What a ", $what, " looks like, in words for a person.")]
            pub const GRAMMAR: &'static str = $grammar;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidId { what: $what, grammar: $grammar })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

/// Lower-case letters, digits and inner hyphens: safe in a path, a host name and a log's origin.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Letters, digits, `.`, `_`, `-`, starting with a letter or digit: safe in a path segment, never `.` or `..`.
fn is_name(text: &str, max: usize) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=max).contains(&text.len())
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

name! {
    /// A tenant: who owns keys. `_gateway` is the gateway's own, which holds no key.
    TenantId, "tenant", "1 to 63 of a-z, 0-9 and inner hyphens",
    |text| text == TenantId::GATEWAY || is_label(text)
}

impl TenantId {
    /// The gateway's own name: its operators, its log. No key can stand in it.
    pub const GATEWAY: &'static str = "_gateway";

    /// The gateway's own tenant.
    pub fn gateway() -> Self {
        Self(Arc::from(Self::GATEWAY))
    }

    /// Whether this is the gateway itself rather than a tenant.
    pub fn is_gateway(&self) -> bool {
        &*self.0 == Self::GATEWAY
    }
}

name! {
    /// A key's name within its tenant; chosen by a custodian, never changed.
    KeyName, "key name", "1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_name(text, 128)
}

name! {
    /// The name of somebody or something that calls, within its tenant.
    CallerName, "caller name", "1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_name(text, 128)
}

name! {
    /// The name of a member of the key store's pool, as the configuration has it.
    MemberName, "member name", "1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_name(text, 128)
}

name! {
    /// A group of callers, within its tenant.
    GroupName, "group name", "1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_name(text, 128)
}

name! {
    /// The id of one policy of a tenant's policy set, as its author wrote it.
    PolicyId, "policy id", "1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| is_name(text, 128)
}

/// Crockford's base 32: no I, L, O, U.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 128 bits as 26 characters of Crockford's base 32, most significant first.
fn encode_128(value: u128) -> [u8; 26] {
    let mut text = [b'0'; 26];
    let mut rest = value;
    for slot in text.iter_mut().rev() {
        let digit = usize::try_from(rest & 31).unwrap_or(0);
        *slot = BASE32.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    text
}

fn decode_128(text: &str) -> Option<u128> {
    // 26 characters hold 130 bits: the first must not carry the two that do not fit.
    if text.len() != 26 || text.as_bytes().first().is_some_and(|b| *b > b'7') {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = BASE32.iter().position(|b| *b == byte)?;
        Some((value << 5) | u128::try_from(digit).ok()?)
    })
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes, big-endian.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes, big-endian.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A new one: 48 bits of milliseconds since 1970, so that ids sort by time, then 80 random bits.
            pub fn new(now: crate::Timestamp, entropy: [u8; 10]) -> Self {
                let mut bytes = [0; 16];
                let millis = (now.micros() / 1000).to_be_bytes();
                let (time, random) = bytes.split_at_mut(6);
                time.copy_from_slice(millis.split_at(2).1);
                random.copy_from_slice(&entropy);
                Self(bytes)
            }

            /// The 26 characters that [`fmt::Display`] prints, without allocating.
            pub fn text(&self) -> [u8; 26] {
                encode_128(u128::from_be_bytes(self.0))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let grammar = "26 characters of Crockford's base 32";
                decode_128(text)
                    .map(|value| Self(value.to_be_bytes()))
                    .ok_or(InvalidId { what: $what, grammar })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.text().iter().try_for_each(|b| fmt::Write::write_char(f, char::from(*b)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id128! {
    /// One operation: in every response, every event and every log line about it.
    OperationId, "operation id"
}
id128! {
    /// A key's identity: stands in ciphertexts, survives nothing but the key. Names can be reused after destruction, ids never.
    KeyId, "key id"
}
id128! {
    /// A gateway instance: one data directory's life under one log origin.
    InstanceId, "instance id"
}
id128! {
    /// A token's public half: what it is called by, worthless without its secret.
    TokenId, "token id"
}

/// A key's version, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyVersion(u32);

impl KeyVersion {
    /// A key's first version.
    pub const FIRST: Self = Self(1);

    /// From its number; `None` for 0.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Its number, from 1.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The version after this one; `None` after 2^32 − 1.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The version before this one; `None` before the first.
    pub fn previous(self) -> Option<Self> {
        Self::new(self.0.saturating_sub(1))
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a record has been written: what a compare-and-set compares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    /// A record that has just been made.
    pub const FIRST: Self = Self(1);

    /// The epoch after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_hold_their_grammar() {
        for good in ["a", "acme", "acme-bank", "0", "_gateway"] {
            assert!(good.parse::<TenantId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "..", "_other", &"a".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
        for bad in ["", ".", "..", ".a", "_a", "a b", "a/b", "ü", &"a".repeat(129)] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
        assert!("Payroll_kek.2026-eu".parse::<KeyName>().is_ok());
    }

    #[test]
    fn ids_sort_by_time() {
        let early = OperationId::new(crate::Timestamp::from_micros(1_000), [0xff; 10]);
        let late = OperationId::new(crate::Timestamp::from_micros(2_000), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn an_id_that_overflows_is_refused() {
        assert!("80000000000000000000000000".parse::<KeyId>().is_err());
        assert!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<KeyId>().is_ok());
    }

    proptest! {
        #[test]
        fn ids_print_and_parse(bytes: [u8; 16]) {
            let id = KeyId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<KeyId>(), Ok(id));
        }
    }
}
