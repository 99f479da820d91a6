//! What a caller can ask of a key, and what it gets.

use crate::action::Action;
use crate::algorithm::{Algorithm, RsaPadding, SignatureScheme, Wrapping};
use crate::context::Context;
use crate::id::{KeyName, KeyVersion};
use crate::secret::Secret;
use core::fmt;
use std::sync::Arc;

/// The most bytes that one operation takes in a single field.
pub const MAX_INPUT: usize = 1 << 20;
/// The most items in a batch.
pub const MAX_BATCH: usize = 256;
static EMPTY: Context = Context::EMPTY;
/// The most bytes of a data key, and of one random request.
pub const MAX_RANDOM: usize = 1024;

/// What a protocol with ciphertexts of its own form binds them to.
///
/// Such a ciphertext has no header of ours and comes in pieces, so the version stands where the protocol has a place for it. What is given here MUST
/// hold the version, and MUST NOT begin like a [`Binding`](crate::binding::Binding): core refuses that, since a ciphertext
/// of one protocol opens through no other.
pub trait Associate: fmt::Debug + Send + Sync {
    /// The associated data of a ciphertext of this version.
    fn associated(&self, version: KeyVersion) -> Vec<u8>;

    /// What the caller brought for it: the event commits to it.
    fn brought(&self) -> &[u8];

    /// A value over a ciphertext of this version, nonce ‖ ciphertext ‖ tag, by which whoever gets it finds out that a bit was lost on the way. It is
    /// taken before that very ciphertext is tried, so it covers up nothing that happens later.
    fn integrity(&self, version: KeyVersion, body: &[u8]) -> [u8; 32];
}

/// One operation with its input.
#[derive(Debug)]
pub enum Operation {
    /// Encrypt bytes into a ciphertext of the protocol's own form: nonce ‖ ciphertext ‖ tag come out, without our header.
    Seal {
        /// What to encrypt.
        plaintext: Secret,
        /// What to bind it to.
        associated: Box<dyn Associate>,
        /// Of which algorithms the key may be: those for which the protocol has a form.
        algorithms: &'static [Algorithm],
        /// Whether it is decrypted again, and compared, before anybody gets it.
        checked: bool,
    },
    /// Decrypt such a ciphertext.
    Open {
        /// Nonce ‖ ciphertext ‖ tag.
        body: Vec<u8>,
        /// The version that made it.
        version: KeyVersion,
        /// What it was bound to.
        associated: Box<dyn Associate>,
        /// Of which algorithms the key may be: those for which the protocol has a form.
        algorithms: &'static [Algorithm],
    },
    /// Encrypt bytes.
    Encrypt {
        /// What to encrypt.
        plaintext: Secret,
        /// What to bind it to.
        context: Context,
        /// For RSA: how; OAEP with SHA-256 unless told.
        padding: Option<RsaPadding>,
    },
    /// Decrypt bytes, or open a data key.
    Decrypt {
        /// The ciphertext.
        ciphertext: Vec<u8>,
        /// What it was bound to.
        context: Context,
        /// For RSA: how.
        padding: Option<RsaPadding>,
        /// For RSA: the version whose public half made a bare ciphertext, without our header.
        bare: Option<KeyVersion>,
    },
    /// Wrap bytes that the caller brings.
    Wrap {
        /// The bytes.
        bytes: Secret,
        /// What to bind them to.
        context: Context,
        /// For RSA: how.
        padding: Option<RsaPadding>,
    },
    /// Unwrap them.
    Unwrap {
        /// The ciphertext.
        ciphertext: Vec<u8>,
        /// What it was bound to.
        context: Context,
        /// For RSA: how.
        padding: Option<RsaPadding>,
        /// For RSA and AES key wrap: the version that made a bare ciphertext, without our header.
        bare: Option<KeyVersion>,
    },
    /// Wrap bytes in a protocol's own form: no header, bound to nothing. Only for protocols whose keys are theirs alone and have one version.
    WrapBare {
        /// The bytes.
        bytes: Secret,
        /// How.
        wrapping: Wrapping,
    },
    /// Unwrap them.
    UnwrapBare {
        /// What the wrapping gave.
        wrapped: Vec<u8>,
        /// How.
        wrapping: Wrapping,
    },
    /// Make a data key.
    DataKey {
        /// How many bytes.
        length: usize,
        /// Whether the caller wants the plaintext too.
        with_plaintext: bool,
        /// What to bind it to.
        context: Context,
    },
    /// Encrypt anew under the newest version of this key or of another.
    Rewrap {
        /// The ciphertext.
        ciphertext: Vec<u8>,
        /// What it was bound to, and will be.
        context: Context,
        /// The target; the same key unless told.
        target: Option<KeyName>,
    },
    /// Sign.
    Sign {
        /// The message, or its digest.
        message: Vec<u8>,
        /// Whether it is a digest.
        is_digest: bool,
        /// How; the algorithm's default unless told.
        scheme: Option<SignatureScheme>,
    },
    /// Verify a signature.
    Verify {
        /// The message, or its digest.
        message: Vec<u8>,
        /// Whether it is a digest.
        is_digest: bool,
        /// How.
        scheme: Option<SignatureScheme>,
        /// The signature.
        signature: Vec<u8>,
        /// The version that made it; the newest unless told.
        version: Option<KeyVersion>,
    },
    /// Compute a message authentication code.
    Mac {
        /// The message.
        message: Vec<u8>,
    },
    /// Verify one.
    VerifyMac {
        /// The message.
        message: Vec<u8>,
        /// The code.
        mac: Vec<u8>,
        /// The version that made it; the newest unless told.
        version: Option<KeyVersion>,
    },
    /// Agree on a shared secret.
    Agree {
        /// The peer's public key.
        peer: Vec<u8>,
        /// The version whose public half the peer has; the newest unless told.
        version: Option<KeyVersion>,
    },
    /// Make a shared secret for the holder of this key.
    Encapsulate,
    /// Open one.
    Decapsulate {
        /// The encapsulation.
        ciphertext: Vec<u8>,
        /// The version that it was made for; the newest unless told.
        version: Option<KeyVersion>,
    },
    /// Read the public half.
    PublicKey {
        /// Of which version; the newest unless told.
        version: Option<KeyVersion>,
    },
}

impl Operation {
    /// The action that the policy is asked about.
    pub const fn action(&self) -> Action {
        match self {
            Self::Encrypt { .. } | Self::Seal { .. } => Action::Encrypt,
            Self::Decrypt { .. } | Self::Open { .. } => Action::Decrypt,
            Self::Wrap { .. } | Self::WrapBare { .. } => Action::Wrap,
            Self::Unwrap { .. } | Self::UnwrapBare { .. } => Action::Unwrap,
            Self::DataKey { .. } => Action::DataKey,
            Self::Rewrap { .. } => Action::RewrapFrom,
            Self::Sign { .. } => Action::Sign,
            Self::Verify { .. } => Action::Verify,
            Self::Mac { .. } => Action::Mac,
            Self::VerifyMac { .. } => Action::VerifyMac,
            Self::Agree { .. } => Action::Agree,
            Self::Encapsulate => Action::Encapsulate,
            Self::Decapsulate { .. } => Action::Decapsulate,
            Self::PublicKey { .. } => Action::PublicKey,
        }
    }

    /// The context, empty where an operation has none.
    pub fn context(&self) -> &Context {
        match self {
            Self::Encrypt { context, .. }
            | Self::Decrypt { context, .. }
            | Self::Wrap { context, .. }
            | Self::Unwrap { context, .. }
            | Self::DataKey { context, .. }
            | Self::Rewrap { context, .. } => context,
            Self::Seal { .. }
            | Self::Open { .. }
            | Self::WrapBare { .. }
            | Self::UnwrapBare { .. }
            | Self::Sign { .. }
            | Self::Verify { .. }
            | Self::Mac { .. }
            | Self::VerifyMac { .. }
            | Self::Agree { .. }
            | Self::Encapsulate
            | Self::Decapsulate { .. }
            | Self::PublicKey { .. } => &EMPTY,
        }
    }

    /// What a protocol binds its own form of ciphertext to, where this is one.
    pub fn associate(&self) -> Option<&dyn Associate> {
        match self {
            Self::Seal { associated, .. } | Self::Open { associated, .. } => Some(&**associated),
            Self::Encrypt { .. }
            | Self::Decrypt { .. }
            | Self::Wrap { .. }
            | Self::Unwrap { .. }
            | Self::WrapBare { .. }
            | Self::UnwrapBare { .. }
            | Self::DataKey { .. }
            | Self::Rewrap { .. }
            | Self::Sign { .. }
            | Self::Verify { .. }
            | Self::Mac { .. }
            | Self::VerifyMac { .. }
            | Self::Agree { .. }
            | Self::Encapsulate
            | Self::Decapsulate { .. }
            | Self::PublicKey { .. } => None,
        }
    }

    /// The bytes that the event commits to.
    pub fn input(&self) -> &[u8] {
        match self {
            Self::Encrypt { plaintext, .. } | Self::Seal { plaintext, .. } => plaintext.expose(),
            Self::Open { body, .. } => body,
            Self::Wrap { bytes, .. } | Self::WrapBare { bytes, .. } => bytes.expose(),
            Self::Decrypt { ciphertext, .. }
            | Self::Unwrap { ciphertext, .. }
            | Self::UnwrapBare { wrapped: ciphertext, .. }
            | Self::Rewrap { ciphertext, .. }
            | Self::Decapsulate { ciphertext, .. } => ciphertext,
            Self::Sign { message, .. }
            | Self::Verify { message, .. }
            | Self::Mac { message }
            | Self::VerifyMac { message, .. } => message,
            Self::Agree { peer, .. } => peer,
            Self::DataKey { .. } | Self::Encapsulate | Self::PublicKey { .. } => &[],
        }
    }
}

/// What an operation gives.
#[derive(Debug)]
pub enum Output {
    /// A ciphertext; without our header where the protocol has a form of its own.
    Ciphertext(Vec<u8>),
    /// A plaintext, or unwrapped bytes.
    Plaintext(Secret),
    /// A data key.
    DataKey {
        /// Wrapped.
        ciphertext: Vec<u8>,
        /// In clear, if it was asked for.
        plaintext: Option<Secret>,
    },
    /// A signature.
    Signature(Vec<u8>, SignatureScheme),
    /// A message authentication code.
    Mac(Vec<u8>),
    /// Whether a signature or code is right.
    Valid(bool),
    /// A shared secret.
    SharedSecret(Secret),
    /// An encapsulated shared secret.
    Encapsulated {
        /// For the key's holder.
        ciphertext: Vec<u8>,
        /// For the caller.
        secret: Secret,
    },
    /// A public key: DER SubjectPublicKeyInfo, or the raw encapsulation key.
    PublicKey(Arc<[u8]>),
    /// Random bytes.
    Random(Secret),
}

/// An operation's answer.
#[derive(Debug)]
pub struct Answer {
    /// What it gives.
    pub output: Output,
    /// The key's algorithm; `None` for random bytes.
    pub algorithm: Option<Algorithm>,
    /// The version that did it.
    pub version: Option<KeyVersion>,
    /// Of a ciphertext that was checked: what the protocol made of it before that ([`Associate::integrity`]).
    pub integrity: Option<[u8; 32]>,
}
