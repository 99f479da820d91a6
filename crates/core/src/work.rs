//! What a key store does with one key version: the primitive operations, free of framing, policy and protocol.

use crate::algorithm::{RsaPadding, SignatureScheme};
use crate::secret::Secret;

/// What is signed or verified.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// The message itself; the scheme hashes it.
    Whole(&'a [u8]),
    /// A digest that the caller computed with the scheme's hash; its length is checked.
    Digest(&'a [u8]),
}

/// One primitive operation with its input.
#[derive(Debug)]
pub enum Work<'a> {
    /// Authenticated encryption: appends nonce ‖ ciphertext ‖ tag to `frame`. The store chooses the nonce.
    Seal {
        /// The header, with room for the rest.
        frame: Vec<u8>,
        /// What to encrypt.
        plaintext: &'a Secret,
        /// Associated data.
        aad: &'a [u8],
    },
    /// The same for random bytes that the store makes: a data key.
    SealRandom {
        /// The header, with room for the rest.
        frame: Vec<u8>,
        /// How many random bytes.
        length: usize,
        /// Associated data.
        aad: &'a [u8],
    },
    /// Authenticated decryption of nonce ‖ ciphertext ‖ tag.
    Open {
        /// The frame's body.
        body: &'a [u8],
        /// Associated data.
        aad: &'a [u8],
    },
    /// AES key wrap (RFC 3394, RFC 5649): appends the wrapped bytes to `frame`.
    WrapKey {
        /// The header, with room for the rest.
        frame: Vec<u8>,
        /// What to wrap.
        bytes: &'a Secret,
    },
    /// AES key unwrap.
    UnwrapKey {
        /// The frame's body.
        body: &'a [u8],
    },
    /// RSA encryption with the public half: appends the result to `frame`.
    RsaEncrypt {
        /// The header, with room for the rest.
        frame: Vec<u8>,
        /// What to encrypt.
        plaintext: &'a Secret,
        /// How.
        padding: RsaPadding,
        /// OAEP's label (RFC 8017 §7.1.1).
        label: &'a [u8],
    },
    /// RSA decryption.
    RsaDecrypt {
        /// One modulus length of bytes.
        body: &'a [u8],
        /// How.
        padding: RsaPadding,
        /// OAEP's label.
        label: &'a [u8],
    },
    /// A signature.
    Sign {
        /// How.
        scheme: SignatureScheme,
        /// Of what.
        message: Message<'a>,
    },
    /// A signature's check.
    Verify {
        /// How.
        scheme: SignatureScheme,
        /// Of what.
        message: Message<'a>,
        /// The signature.
        signature: &'a [u8],
    },
    /// A message authentication code, of the hash's full length.
    Mac {
        /// Of what.
        message: &'a [u8],
    },
    /// Its check, in constant time.
    VerifyMac {
        /// Of what.
        message: &'a [u8],
        /// The code.
        mac: &'a [u8],
    },
    /// The shared secret with a peer's public key: the x-coordinate, or X25519's output, not all zero.
    Agree {
        /// The peer's key: DER SubjectPublicKeyInfo, an uncompressed point, or 32 bytes for X25519.
        peer: &'a [u8],
    },
    /// A new shared secret and the ciphertext that only this key opens.
    Encapsulate,
    /// The shared secret inside such a ciphertext.
    Decapsulate {
        /// The ciphertext.
        ciphertext: &'a [u8],
    },
}

/// What comes of it.
#[derive(Debug)]
pub enum Product {
    /// The completed frame, a signature, a code.
    Bytes(Vec<u8>),
    /// Plaintext, unwrapped bytes, a shared secret.
    Secret(Secret),
    /// A data key: the frame and its plaintext.
    DataKey {
        /// The completed frame.
        frame: Vec<u8>,
        /// The data key itself.
        plaintext: Secret,
    },
    /// Whether a signature or code is right.
    Valid(bool),
    /// An encapsulation.
    Encapsulated {
        /// For the holder of the key.
        ciphertext: Vec<u8>,
        /// For the caller.
        secret: Secret,
    },
}
