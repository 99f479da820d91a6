//! The keys of signed notes (C2SP signed-note §Signatures, tlog-cosignature): names, key ids, vkeys, signers.

use crate::text;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::str::FromStr;
use zeroize::Zeroizing;

/// What a key signs, with its C2SP type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// 0x01: Ed25519 over the text of the note. Logs sign so.
    Note,
    /// 0x04: Ed25519 over a time and the text. Witnesses sign so.
    Cosignature,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// Why a verifier key was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `name+hash+base64`.
    #[error("`{0}` is not a verifier key; give one line of the form `name+8 hex digits+base64`")]
    Malformed(String),
    /// The name is empty or holds a space, a control character or `+`.
    #[error(
        "`{0}` is not a key name; use a name without spaces and `+`, such as `audit.example.org/payroll`"
    )]
    Name(String),
    /// Only Ed25519 (types 01 and 04) is read.
    #[error("key type {0:#04x} is not supported; give an Ed25519 key (type 01 or 04)")]
    Kind(u8),
    /// The hash in the text is not the key's.
    #[error("the hash in `{0}` is not that of its name and key; copy the whole line again from its source")]
    Hash(String),
}

/// Whether C2SP allows this as the name of a key: not empty, no white space, no control character, no `+`.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// A public key by which notes are checked; its text form is the C2SP vkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    kind: KeyKind,
    public: [u8; 32],
}

impl VerifierKey {
    /// Joins a name and an Ed25519 public key.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, kind: KeyKind, public: [u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let hashed = [name.as_bytes(), b"\n", &[kind.byte()], &public].concat();
        let id = digest(&SHA256, &hashed).as_ref().first_chunk().copied().unwrap_or_default();
        Ok(Self { name: name.to_owned(), id, kind, public })
    }

    /// The key's name; a log's is its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The four bytes by which signature lines name the key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// What the key signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether both are of one public key, whatever their names.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.public == other.public
    }

    /// Whether `signature` is this key's Ed25519 signature of `message` (RFC 8032).
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut typed = vec![self.kind.byte()];
        typed.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), text::base64(&typed))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed(line.chars().take(400).collect());
        // Base64 may hold a `+`, a name may not.
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let key = text::from_base64(key).ok_or_else(malformed)?;
        let (kind, public) = key.split_first().ok_or_else(malformed)?;
        let kind = match kind {
            1 => KeyKind::Note,
            4 => KeyKind::Cosignature,
            other => return Err(KeyError::Kind(*other)),
        };
        let public = public.try_into().map_err(|_| malformed())?;
        let key = Self::new(name, kind, public)?;
        if format!("{:08x}", u32::from_be_bytes(key.id)) != hash {
            return Err(KeyError::Hash(line.chars().take(400).collect()));
        }
        Ok(key)
    }
}

/// A private Ed25519 key and its name. Never printed; the seed is zeroized by its owner and the key pair by the
/// cryptographic library.
pub struct Signer {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.key.name).finish_non_exhaustive()
    }
}

impl Signer {
    /// The signer of notes (a log's) from the 32-byte seed of RFC 8032 §5.1.5.
    ///
    /// # Errors
    /// [`KeyError::Name`], or [`KeyError::Malformed`] if the library refuses the seed.
    pub fn from_seed(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        Self::with_kind(name, KeyKind::Note, seed)
    }

    /// The signer of cosignatures (a witness's) from its seed.
    ///
    /// # Errors
    /// As [`from_seed`](Self::from_seed).
    pub fn cosigner_from_seed(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        Self::with_kind(name, KeyKind::Cosignature, seed)
    }

    fn with_kind(name: &str, kind: KeyKind, seed: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed(name.to_owned());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| malformed())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| malformed())?;
        let key = VerifierKey::new(name, kind, public)?;
        Ok(Self { pair, key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.key
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}
