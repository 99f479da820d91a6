//! Words of a closed vocabulary.

use super::{TextField, as_text};
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Hash, Purpose, RsaPadding, SignatureScheme};
use holdfast_core::caller::{CallerKind, TokenForm};
use holdfast_core::command::Durability;
use holdfast_core::error::Retry;
use holdfast_core::key::Custody;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::protocol::Protocol;
use schemars::{Schema, json_schema};
use std::borrow::Cow;

/// A closed set of words.
pub trait Vocabulary: Copy + 'static {
    /// The set's name in the API document.
    const NAME: &'static str;
    /// Its values with their words.
    fn words() -> Vec<(&'static str, Self)>;
    /// The word of a value.
    fn word(self) -> &'static str;
    /// The value of a word.
    fn from_word(word: &str) -> Option<Self> {
        Self::words().into_iter().find(|(known, _)| *known == word).map(|(_, value)| value)
    }
}

/// A value written as its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<T>(pub T);

impl<T: Vocabulary> TextField for Word<T> {
    fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        T::from_word(text).map(Self).ok_or_else(|| {
            let words: Vec<_> = T::words().iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("expected one of {}", words.join(", ")).into()
        })
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.word().into()
    }

    fn named() -> &'static str {
        T::NAME
    }

    fn described() -> Schema {
        let words: Vec<_> = T::words().iter().map(|(word, _)| *word).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}
as_text!(Word<T> where T: Vocabulary);

macro_rules! vocabulary {
    ($type:ty, $name:literal, $all:expr, $word:expr, $from:expr) => {
        impl Vocabulary for $type {
            const NAME: &'static str = $name;

            fn words() -> Vec<(&'static str, Self)> {
                $all.iter().map(|value| (value.word(), *value)).collect()
            }

            fn word(self) -> &'static str {
                let word: fn(Self) -> &'static str = $word;
                word(self)
            }

            fn from_word(word: &str) -> Option<Self> {
                let from: fn(&str) -> Option<Self> = $from;
                from(word)
            }
        }
    };
}

const PURPOSES: [Purpose; 6] =
    [Purpose::Encrypt, Purpose::Wrap, Purpose::Sign, Purpose::Mac, Purpose::Agree, Purpose::Encapsulate];
const SCHEMES: [SignatureScheme; 11] = [
    SignatureScheme::RsaPss(Hash::Sha256),
    SignatureScheme::RsaPss(Hash::Sha384),
    SignatureScheme::RsaPss(Hash::Sha512),
    SignatureScheme::RsaPkcs1v15(Hash::Sha256),
    SignatureScheme::RsaPkcs1v15(Hash::Sha384),
    SignatureScheme::RsaPkcs1v15(Hash::Sha512),
    SignatureScheme::Ecdsa(Hash::Sha256),
    SignatureScheme::Ecdsa(Hash::Sha384),
    SignatureScheme::Ecdsa(Hash::Sha512),
    SignatureScheme::Ed25519,
    SignatureScheme::MlDsa65,
];
const HASHES: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

vocabulary!(Algorithm, "Algorithm", Self::ALL, Self::name, |word| word.parse().ok());
vocabulary!(Purpose, "Purpose", PURPOSES, Self::name, |word| PURPOSES.into_iter().find(|p| p.name() == word));
vocabulary!(Protocol, "Protocol", Self::OF_KEYS, Self::name, Self::of_key);
vocabulary!(Custody, "Custody", Self::ALL, Self::name, Self::from_name);
vocabulary!(KeyState, "KeyState", Self::ALL, Self::name, Self::from_name);
vocabulary!(CallerKind, "CallerKind", Self::ALL, Self::name, Self::from_name);
vocabulary!(TokenForm, "TokenForm", Self::ALL, Self::name, Self::from_name);
vocabulary!(Action, "Action", Self::ALL, Self::name, Self::from_name);
vocabulary!(SignatureScheme, "SignatureScheme", SCHEMES, Self::name, Self::from_name);

impl Vocabulary for RsaPadding {
    const NAME: &'static str = "RsaPadding";

    fn words() -> Vec<(&'static str, Self)> {
        let pairs = HASHES.into_iter().flat_map(|hash| HASHES.into_iter().map(move |mgf1| (hash, mgf1)));
        pairs
            .map(|(hash, mgf1)| Self::Oaep { hash, mgf1 })
            .chain([Self::Pkcs1v15])
            .map(|padding| (padding.word(), padding))
            .collect()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Oaep { hash, mgf1 } => oaep(hash, mgf1),
            Self::Pkcs1v15 => "pkcs1-v1.5",
        }
    }
}

const fn oaep(hash: Hash, mgf1: Hash) -> &'static str {
    match (hash, mgf1) {
        (Hash::Sha1, Hash::Sha1) => "oaep-sha-1",
        (Hash::Sha1, Hash::Sha256) => "oaep-sha-1-mgf1-sha-256",
        (Hash::Sha1, Hash::Sha384) => "oaep-sha-1-mgf1-sha-384",
        (Hash::Sha1, Hash::Sha512) => "oaep-sha-1-mgf1-sha-512",
        (Hash::Sha256, Hash::Sha1) => "oaep-sha-256-mgf1-sha-1",
        (Hash::Sha256, Hash::Sha256) => "oaep-sha-256",
        (Hash::Sha256, Hash::Sha384) => "oaep-sha-256-mgf1-sha-384",
        (Hash::Sha256, Hash::Sha512) => "oaep-sha-256-mgf1-sha-512",
        (Hash::Sha384, Hash::Sha1) => "oaep-sha-384-mgf1-sha-1",
        (Hash::Sha384, Hash::Sha256) => "oaep-sha-384-mgf1-sha-256",
        (Hash::Sha384, Hash::Sha384) => "oaep-sha-384",
        (Hash::Sha384, Hash::Sha512) => "oaep-sha-384-mgf1-sha-512",
        (Hash::Sha512, Hash::Sha1) => "oaep-sha-512-mgf1-sha-1",
        (Hash::Sha512, Hash::Sha256) => "oaep-sha-512-mgf1-sha-256",
        (Hash::Sha512, Hash::Sha384) => "oaep-sha-512-mgf1-sha-384",
        (Hash::Sha512, Hash::Sha512) => "oaep-sha-512",
    }
}

/// A legacy operation that a key can be created for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyWord {
    /// RSA PKCS#1 v1.5 decryption.
    RsaPkcs1Decrypt,
    /// OAEP with SHA-1.
    Sha1Oaep,
}

impl Vocabulary for LegacyWord {
    const NAME: &'static str = "Legacy";

    fn words() -> Vec<(&'static str, Self)> {
        [Self::RsaPkcs1Decrypt, Self::Sha1Oaep].map(|value| (value.word(), value)).to_vec()
    }

    fn word(self) -> &'static str {
        match self {
            Self::RsaPkcs1Decrypt => "rsa-pkcs1-decrypt",
            Self::Sha1Oaep => "sha1-oaep",
        }
    }
}

/// Whether a change survives power loss.
pub type DurabilityWord = Word<Durability>;

impl Vocabulary for Durability {
    const NAME: &'static str = "Durability";

    fn words() -> Vec<(&'static str, Self)> {
        [Self::Durable, Self::InForce].map(|value| (value.word(), value)).to_vec()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::InForce => "in-force",
        }
    }
}

/// Whether to try again.
pub type RetryWord = Word<Retry>;

impl Vocabulary for Retry {
    const NAME: &'static str = "Retry";

    fn words() -> Vec<(&'static str, Self)> {
        [Self::Never, Self::Later, Self::AfterReading].map(|value| (value.word(), value)).to_vec()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Later => "later",
            Self::AfterReading => "after-reading",
        }
    }
}
