//! What using a key gives.

use crate::native::field::{Bytes, SecretBytes, VersionNumber, Word};
use crate::pem;
use holdfast_core::algorithm::{Algorithm, Family, SignatureScheme};
use holdfast_core::operation::{Answer, Output};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! answer {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field:meta])* $field_name:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        pub struct $name {
            $($(#[$field])* pub $field_name: $type,)*
            /// The key's algorithm.
            pub algorithm: Word<Algorithm>,
            /// The version that did it.
            pub key_version: VersionNumber,
        }
    };
}

answer! {
    /// A ciphertext.
    pub struct CiphertextAnswer {
        /// The ciphertext: says itself which key and version opens it.
        ciphertext: Bytes,
    }
}

answer! {
    /// A plaintext, or unwrapped bytes.
    pub struct PlaintextAnswer {
        /// The bytes.
        plaintext: SecretBytes,
    }
}

answer! {
    /// A data key.
    pub struct DataKeyAnswer {
        /// The data key, encrypted: keep it with the data; decrypting it gives the key again.
        ciphertext: Bytes,
        /// The data key in clear, if it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        plaintext: Option<SecretBytes>,
    }
}

answer! {
    /// A signature.
    pub struct SignAnswer {
        /// The signature; ECDSA in ASN.1 DER.
        signature: Bytes,
        /// How it was made.
        scheme: Word<SignatureScheme>,
    }
}

answer! {
    /// Whether a signature or code is right.
    pub struct VerifyAnswer {
        /// Whether it is.
        valid: bool,
    }
}

answer! {
    /// A message authentication code.
    pub struct MacAnswer {
        /// The code.
        mac: Bytes,
    }
}

answer! {
    /// A shared secret.
    pub struct AgreeAnswer {
        /// The secret, to be put through a key derivation function.
        shared_secret: SecretBytes,
    }
}

answer! {
    /// A shared secret with its encapsulation.
    pub struct EncapsulateAnswer {
        /// For the key's holder.
        ciphertext: Bytes,
        /// For the caller.
        shared_secret: SecretBytes,
    }
}

answer! {
    /// A public key.
    pub struct PublicKeyAnswer {
        /// DER SubjectPublicKeyInfo (RFC 5280 §4.1); for ML-KEM the bare encapsulation key (FIPS 203).
        public_key: Bytes,
        /// The same in PEM, where it is a SubjectPublicKeyInfo.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key_pem: Option<String>,
    }
}

/// Random bytes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RandomAnswer {
    /// The bytes.
    pub random: SecretBytes,
}

/// The body of any answer to the use of a key.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "OperationResult")]
pub enum AnswerBody {
    /// A ciphertext.
    Ciphertext(CiphertextAnswer),
    /// A plaintext.
    Plaintext(PlaintextAnswer),
    /// A data key.
    DataKey(DataKeyAnswer),
    /// A signature.
    Sign(SignAnswer),
    /// Whether a signature or code is right.
    Verify(VerifyAnswer),
    /// A message authentication code.
    Mac(MacAnswer),
    /// A shared secret with its encapsulation: before the bare one, whose fields it has too.
    Encapsulate(EncapsulateAnswer),
    /// A shared secret.
    Agree(AgreeAnswer),
    /// A public key.
    PublicKey(PublicKeyAnswer),
    /// Random bytes.
    Random(RandomAnswer),
}

impl AnswerBody {
    /// Core's answer as a body; `None` where it lacks the algorithm or version that only random bytes do without.
    pub(crate) fn new(answer: Answer) -> Option<Self> {
        let Answer { output, algorithm, version, integrity: _ } = answer;
        let by = algorithm.zip(version).map(|(algorithm, version)| (Word(algorithm), VersionNumber(version)));
        Some(match output {
            Output::Random(random) => Self::Random(RandomAnswer { random: SecretBytes(random) }),
            Output::Ciphertext(ciphertext) => {
                let (algorithm, key_version) = by?;
                Self::Ciphertext(CiphertextAnswer { ciphertext: Bytes(ciphertext), algorithm, key_version })
            }
            Output::Plaintext(plaintext) => {
                let (algorithm, key_version) = by?;
                Self::Plaintext(PlaintextAnswer { plaintext: SecretBytes(plaintext), algorithm, key_version })
            }
            Output::DataKey { ciphertext, plaintext } => {
                let (algorithm, key_version) = by?;
                let plaintext = plaintext.map(SecretBytes);
                Self::DataKey(DataKeyAnswer {
                    ciphertext: Bytes(ciphertext),
                    plaintext,
                    algorithm,
                    key_version,
                })
            }
            Output::Signature(signature, scheme) => {
                let (algorithm, key_version) = by?;
                Self::Sign(SignAnswer {
                    signature: Bytes(signature),
                    scheme: Word(scheme),
                    algorithm,
                    key_version,
                })
            }
            Output::Mac(mac) => {
                let (algorithm, key_version) = by?;
                Self::Mac(MacAnswer { mac: Bytes(mac), algorithm, key_version })
            }
            Output::Valid(valid) => {
                let (algorithm, key_version) = by?;
                Self::Verify(VerifyAnswer { valid, algorithm, key_version })
            }
            Output::SharedSecret(secret) => {
                let (algorithm, key_version) = by?;
                Self::Agree(AgreeAnswer { shared_secret: SecretBytes(secret), algorithm, key_version })
            }
            Output::Encapsulated { ciphertext, secret } => {
                let (algorithm, key_version) = by?;
                let (ciphertext, shared_secret) = (Bytes(ciphertext), SecretBytes(secret));
                Self::Encapsulate(EncapsulateAnswer { ciphertext, shared_secret, algorithm, key_version })
            }
            Output::PublicKey(public) => {
                let (algorithm, key_version) = by?;
                let is_spki = !matches!(algorithm.0.family(), Family::Kem);
                let public_key_pem = is_spki.then(|| pem::encode(&public, "PUBLIC KEY"));
                Self::PublicKey(PublicKeyAnswer {
                    public_key: Bytes(public.to_vec()),
                    public_key_pem,
                    algorithm,
                    key_version,
                })
            }
        })
    }

    /// How many bytes the body has at most, and whether any of them is secret.
    pub(crate) fn size(&self) -> (usize, bool) {
        // Names, punctuation, the longest words.
        const FRAME: usize = 192;
        let base64 = |bytes: usize| bytes.div_ceil(3) * 4;
        let secret = |secret: &SecretBytes| base64(secret.0.len());
        let (payload, is_secret) = match self {
            Self::Ciphertext(answer) => (base64(answer.ciphertext.0.len()), false),
            Self::Plaintext(answer) => (secret(&answer.plaintext), true),
            Self::DataKey(answer) => {
                let plaintext = answer.plaintext.as_ref();
                (base64(answer.ciphertext.0.len()) + plaintext.map_or(0, secret), plaintext.is_some())
            }
            Self::Sign(answer) => (base64(answer.signature.0.len()), false),
            Self::Verify(_) => (0, false),
            Self::Mac(answer) => (base64(answer.mac.0.len()), false),
            Self::Encapsulate(answer) => {
                (base64(answer.ciphertext.0.len()) + secret(&answer.shared_secret), true)
            }
            Self::Agree(answer) => (secret(&answer.shared_secret), true),
            Self::PublicKey(answer) => (3 * base64(answer.public_key.0.len()), false),
            Self::Random(answer) => (secret(&answer.random), true),
        };
        (FRAME + payload, is_secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::{KeyVersion, Secret};
    use proptest::prelude::*;

    fn outputs(len: usize) -> Vec<Output> {
        let (bytes, secret) = (|| vec![0xff; len], || Secret::new(vec![0xff; len]));
        vec![
            Output::Ciphertext(bytes()),
            Output::Plaintext(secret()),
            Output::DataKey { ciphertext: bytes(), plaintext: Some(secret()) },
            Output::DataKey { ciphertext: bytes(), plaintext: None },
            Output::Signature(bytes(), SignatureScheme::from_name("rsa-pkcs1-sha-256").unwrap()),
            Output::Mac(bytes()),
            Output::Valid(false),
            Output::SharedSecret(secret()),
            Output::Encapsulated { ciphertext: bytes(), secret: secret() },
            Output::PublicKey(bytes().into()),
            Output::Random(secret()),
        ]
    }

    fn answer(output: Output) -> Answer {
        Answer {
            output,
            algorithm: Some(Algorithm::Aes256GcmSiv),
            version: KeyVersion::new(u32::MAX),
            integrity: None,
        }
    }

    #[test]
    fn only_random_bytes_do_without_a_key() {
        for output in outputs(3) {
            let is_random = matches!(output, Output::Random(_));
            assert_eq!(
                AnswerBody::new(Answer { output, algorithm: None, version: None, integrity: None }).is_some(),
                is_random
            );
        }
    }

    proptest! {
        /// Otherwise a buffer with secrets would have to grow.
        #[test]
        fn no_body_is_larger_than_it_says(len in 0_usize..5000) {
            for output in outputs(len) {
                let body = AnswerBody::new(answer(output)).unwrap();
                let written = serde_json::to_vec(&body).unwrap().len();
                prop_assert!(written <= body.size().0, "{written} bytes of {body:?}");
            }
        }
    }
}
