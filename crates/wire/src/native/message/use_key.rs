//! Requests that use a key.

use super::request;
use crate::json::Fault;
use crate::native::field::{Bounded, Bytes, ContextPairs, Name, SecretBytes, VersionNumber, Word};
use holdfast_core::KeyName;
use holdfast_core::algorithm::{RsaPadding, SignatureScheme};
use holdfast_core::operation::{MAX_RANDOM, Operation};

/// How many bytes a data key or a random request can have.
pub type RandomLength = Bounded<1, { MAX_RANDOM as u64 }>;
/// The length of a data key unless told: a 256-bit key.
const DATA_KEY_LENGTH: u64 = 32;

request! {
    /// Encrypts bytes.
    pub struct Encrypt {
        required {
            /// What to encrypt.
            plaintext: SecretBytes,
        }
        optional {
            /// What to bind it to; the same is needed to decrypt.
            context: ContextPairs,
            /// RSA: how; `oaep-sha-256` unless told.
            padding: Word<RsaPadding>,
        }
    }
}

request! {
    /// Decrypts a ciphertext, or opens a data key.
    pub struct Decrypt {
        required {
            /// What encryption gave.
            ciphertext: Bytes,
        }
        optional {
            /// What it was bound to.
            context: ContextPairs,
            /// RSA: how; `oaep-sha-256` unless told.
            padding: Word<RsaPadding>,
            /// RSA: the version whose public key made a bare ciphertext, one without Holdfast's header.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Wraps bytes that the caller brings.
    pub struct Wrap {
        required {
            /// The bytes.
            plaintext: SecretBytes,
        }
        optional {
            /// What to bind them to; the same is needed to unwrap.
            context: ContextPairs,
            /// RSA: how; `oaep-sha-256` unless told.
            padding: Word<RsaPadding>,
        }
    }
}

request! {
    /// Unwraps them again.
    pub struct Unwrap {
        required {
            /// What wrapping gave.
            ciphertext: Bytes,
        }
        optional {
            /// What it was bound to.
            context: ContextPairs,
            /// RSA: how; `oaep-sha-256` unless told.
            padding: Word<RsaPadding>,
            /// RSA and AES key wrap: the version that made a bare ciphertext, one without Holdfast's header.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Makes a data key.
    pub struct DataKey {
        required {}
        optional {
            /// Its length in bytes; 32 unless told.
            length: RandomLength,
            /// Whether the answer holds it in clear too; it does unless told.
            with_plaintext: bool,
            /// What to bind it to; the same is needed to open it.
            context: ContextPairs,
        }
    }
}

request! {
    /// Encrypts anew what was encrypted before, inside the key store.
    pub struct Rewrap {
        required {
            /// What encryption gave.
            ciphertext: Bytes,
        }
        optional {
            /// What it was bound to, and will be.
            context: ContextPairs,
            /// The key to encrypt under, in its newest version; the same key unless told.
            target_key: Name<KeyName>,
        }
    }
}

request! {
    /// Signs a message or its digest: exactly one of the two is given.
    pub struct Sign {
        required {}
        optional {
            /// The message.
            message: Bytes,
            /// Its digest, by the scheme's hash.
            digest: Bytes,
            /// How; the algorithm's default unless told.
            scheme: Word<SignatureScheme>,
        }
    }
}

request! {
    /// Verifies a signature of a message or its digest: exactly one of the two is given.
    pub struct Verify {
        required {
            /// The signature.
            signature: Bytes,
        }
        optional {
            /// The message.
            message: Bytes,
            /// Its digest, by the scheme's hash.
            digest: Bytes,
            /// How it was made; the algorithm's default unless told.
            scheme: Word<SignatureScheme>,
            /// The version that made it; the newest unless told.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Computes a message authentication code.
    pub struct Mac {
        required {
            /// The message.
            message: Bytes,
        }
        optional {}
    }
}

request! {
    /// Verifies a message authentication code.
    pub struct VerifyMac {
        required {
            /// The message.
            message: Bytes,
            /// The code.
            mac: Bytes,
        }
        optional {
            /// The version that made it; the newest unless told.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Agrees on a shared secret with a peer.
    pub struct Agree {
        required {
            /// The peer's public key: DER SubjectPublicKeyInfo.
            peer_public_key: Bytes,
        }
        optional {
            /// The version whose public key the peer has; the newest unless told.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Makes a shared secret for the key's holder: an empty object, or no body at all.
    pub struct Encapsulate {
        required {}
        optional {}
    }
}

request! {
    /// Opens an encapsulated shared secret.
    pub struct Decapsulate {
        required {
            /// The encapsulation.
            ciphertext: Bytes,
        }
        optional {
            /// The version that it was made for; the newest unless told.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Random bytes from the key store.
    pub struct Random {
        required {
            /// How many.
            length: RandomLength,
        }
        optional {}
    }
}

request! {
    /// Reads the public half, as an item of a batch.
    pub struct PublicKey {
        required {}
        optional {
            /// Of which version; the newest unless told.
            key_version: VersionNumber,
        }
    }
}

request! {
    /// Nothing: an empty object, or no body at all.
    pub struct Empty {
        required {}
        optional {}
    }
}

/// Exactly one of a message and its digest, and whether it is the digest.
fn message_or_digest(message: Option<Bytes>, digest: Option<Bytes>) -> Result<(Vec<u8>, bool), Fault> {
    match (message, digest) {
        (Some(message), None) => Ok((message.0, false)),
        (None, Some(digest)) => Ok((digest.0, true)),
        (Some(_), Some(_)) | (None, None) => {
            Err(Fault::malformed("expected exactly one of `message` and `digest`"))
        }
    }
}

/// What such a request asks of core.
pub(crate) trait IntoOperation {
    /// The operation with its input.
    fn into_operation(self) -> Result<Operation, Fault>;
}

macro_rules! into_operation {
    ($type:ident { $($field:ident),* } => $operation:expr) => {
        impl IntoOperation for $type {
            fn into_operation(self) -> Result<Operation, Fault> {
                let Self { $($field),* } = self;
                Ok($operation)
            }
        }
    };
}

into_operation!(Encrypt { plaintext, context, padding } => Operation::Encrypt {
    plaintext: plaintext.0,
    context: context.unwrap_or_default().0,
    padding: padding.map(|word| word.0),
});
into_operation!(Decrypt { ciphertext, context, padding, key_version } => Operation::Decrypt {
    ciphertext: ciphertext.0,
    context: context.unwrap_or_default().0,
    padding: padding.map(|word| word.0),
    bare: key_version.map(|version| version.0),
});
into_operation!(Wrap { plaintext, context, padding } => Operation::Wrap {
    bytes: plaintext.0,
    context: context.unwrap_or_default().0,
    padding: padding.map(|word| word.0),
});
into_operation!(Unwrap { ciphertext, context, padding, key_version } => Operation::Unwrap {
    ciphertext: ciphertext.0,
    context: context.unwrap_or_default().0,
    padding: padding.map(|word| word.0),
    bare: key_version.map(|version| version.0),
});
into_operation!(DataKey { length, with_plaintext, context } => Operation::DataKey {
    length: length.unwrap_or(Bounded(DATA_KEY_LENGTH)).size(),
    with_plaintext: with_plaintext.unwrap_or(true),
    context: context.unwrap_or_default().0,
});
into_operation!(Rewrap { ciphertext, context, target_key } => Operation::Rewrap {
    ciphertext: ciphertext.0,
    context: context.unwrap_or_default().0,
    target: target_key.map(|name| name.0),
});
into_operation!(Sign { message, digest, scheme } => {
    let (message, is_digest) = message_or_digest(message, digest)?;
    Operation::Sign { message, is_digest, scheme: scheme.map(|word| word.0) }
});
into_operation!(Verify { signature, message, digest, scheme, key_version } => {
    let (message, is_digest) = message_or_digest(message, digest)?;
    Operation::Verify {
        message,
        is_digest,
        scheme: scheme.map(|word| word.0),
        signature: signature.0,
        version: key_version.map(|version| version.0),
    }
});
into_operation!(Mac { message } => Operation::Mac { message: message.0 });
into_operation!(VerifyMac { message, mac, key_version } => Operation::VerifyMac {
    message: message.0,
    mac: mac.0,
    version: key_version.map(|version| version.0),
});
into_operation!(Agree { peer_public_key, key_version } => Operation::Agree {
    peer: peer_public_key.0,
    version: key_version.map(|version| version.0),
});
into_operation!(Encapsulate {} => Operation::Encapsulate);
into_operation!(PublicKey { key_version } => Operation::PublicKey { version: key_version.map(|version| version.0) });
into_operation!(Decapsulate { ciphertext, key_version } => Operation::Decapsulate {
    ciphertext: ciphertext.0,
    version: key_version.map(|version| version.0),
});
