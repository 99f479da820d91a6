//! What a key is: its algorithm, and which operations such a key is made for.

use core::fmt;
use core::str::FromStr;

/// What a key's holder may do with it, one bit each: a key's purpose is fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Encrypt, decrypt, data keys, rewrap.
    Encrypt,
    /// Wrap and unwrap bytes that the caller brings.
    Wrap,
    /// Sign and verify.
    Sign,
    /// Message authentication codes.
    Mac,
    /// Key agreement: a shared secret with a peer's public key.
    Agree,
    /// Key encapsulation: a shared secret that only this key can open.
    Encapsulate,
}

impl Purpose {
    /// Its name in records, policies and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Wrap => "wrap",
            Self::Sign => "sign",
            Self::Mac => "mac",
            Self::Agree => "agree",
            Self::Encapsulate => "encapsulate",
        }
    }
}

macro_rules! algorithms {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, [$($purpose:ident),+];)+) => {
        /// A key's algorithm, parameters included. The code stands in ciphertexts and AAD and never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Algorithm {
            $($(#[$doc])* $variant = $code,)+
        }

        impl Algorithm {
            /// Every algorithm, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in the API, in records and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Its one-byte code.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// From its one-byte code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// What keys of this algorithm can be for; the first is what they are for unless created otherwise.
            pub const fn purposes(self) -> &'static [Purpose] {
                match self { $(Self::$variant => &[$(Purpose::$purpose),+],)+ }
            }
        }

        impl FromStr for Algorithm {
            type Err = UnknownAlgorithm;

            fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
                match text { $($name => Ok(Self::$variant),)+ _ => Err(UnknownAlgorithm) }
            }
        }
    };
}

algorithms! {
    /// XAES-256-GCM (C2SP): 192-bit random nonces, no budget. The default for encryption in software custody.
    Xaes256Gcm = 1, "xaes-256-gcm", [Encrypt, Wrap];
    /// AES-256-GCM with random 96-bit nonces (NIST SP 800-38D): at most 2^32 invocations a version.
    Aes256Gcm = 2, "aes-256-gcm", [Encrypt, Wrap];
    /// AES-256-GCM-SIV (RFC 8452).
    Aes256GcmSiv = 3, "aes-256-gcm-siv", [Encrypt, Wrap];
    /// AES-256 key wrap (RFC 3394): multiples of 8 bytes, no context.
    Aes256Kw = 4, "aes-256-kw", [Wrap];
    /// AES-256 key wrap with padding (RFC 5649): no context.
    Aes256Kwp = 5, "aes-256-kwp", [Wrap];
    /// RSA-2048: OAEP, or PSS and PKCS#1 v1.5 signatures (RFC 8017).
    Rsa2048 = 16, "rsa-2048", [Sign, Encrypt, Wrap];
    /// RSA-3072.
    Rsa3072 = 17, "rsa-3072", [Sign, Encrypt, Wrap];
    /// RSA-4096.
    Rsa4096 = 18, "rsa-4096", [Sign, Encrypt, Wrap];
    /// ECDSA over P-256 (FIPS 186-5).
    EcdsaP256 = 32, "ecdsa-p256", [Sign];
    /// ECDSA over P-384.
    EcdsaP384 = 33, "ecdsa-p384", [Sign];
    /// ECDSA over P-521.
    EcdsaP521 = 34, "ecdsa-p521", [Sign];
    /// Ed25519 (RFC 8032).
    Ed25519 = 35, "ed25519", [Sign];
    /// ML-DSA-65 (FIPS 204).
    MlDsa65 = 36, "ml-dsa-65", [Sign];
    /// HMAC with SHA-256 (FIPS 198-1).
    HmacSha256 = 48, "hmac-sha-256", [Mac];
    /// HMAC with SHA-384.
    HmacSha384 = 49, "hmac-sha-384", [Mac];
    /// HMAC with SHA-512.
    HmacSha512 = 50, "hmac-sha-512", [Mac];
    /// ECDH over P-256 (NIST SP 800-56A rev. 3).
    EcdhP256 = 64, "ecdh-p256", [Agree];
    /// ECDH over P-384.
    EcdhP384 = 65, "ecdh-p384", [Agree];
    /// X25519 (RFC 7748).
    X25519 = 66, "x25519", [Agree];
    /// ML-KEM-768 (FIPS 203).
    MlKem768 = 80, "ml-kem-768", [Encapsulate];
}

/// The family decides which parameters an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Authenticated encryption with associated data.
    Aead,
    /// AES key wrap: no associated data.
    KeyWrap,
    /// RSA.
    Rsa,
    /// Elliptic-curve or lattice signatures.
    Signature,
    /// HMAC.
    Hmac,
    /// Diffie–Hellman.
    Agreement,
    /// Key encapsulation.
    Kem,
}

impl Algorithm {
    /// Its family.
    pub const fn family(self) -> Family {
        match self {
            Self::Xaes256Gcm | Self::Aes256Gcm | Self::Aes256GcmSiv => Family::Aead,
            Self::Aes256Kw | Self::Aes256Kwp => Family::KeyWrap,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Family::Rsa,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 | Self::Ed25519 | Self::MlDsa65 => {
                Family::Signature
            }
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => Family::Hmac,
            Self::EcdhP256 | Self::EcdhP384 | Self::X25519 => Family::Agreement,
            Self::MlKem768 => Family::Kem,
        }
    }

    /// Whether invocations of each version must be counted: random 96-bit nonces (NIST SP 800-38D §8.3).
    pub const fn has_budget(self) -> bool {
        matches!(self, Self::Aes256Gcm)
    }

    /// Whether there is a public half.
    pub const fn is_asymmetric(self) -> bool {
        match self.family() {
            Family::Rsa | Family::Signature | Family::Agreement | Family::Kem => true,
            Family::Aead | Family::KeyWrap | Family::Hmac => false,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no algorithm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAlgorithm;

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such algorithm; expected one of ")?;
        for (index, algorithm) in Algorithm::ALL.iter().enumerate() {
            write!(f, "{}`{algorithm}`", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownAlgorithm {}

/// A hash function, where a scheme lets the caller choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1: only inside OAEP, for peers that know nothing newer.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Digest length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|h| h.name() == text)
            .ok_or(())
    }
}

/// How RSA encrypts or decrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RsaPadding {
    /// OAEP (RFC 8017 §7.1) with its hash and its mask generation function's hash.
    Oaep {
        /// Hash of the label.
        hash: Hash,
        /// Hash inside MGF1, by default the same.
        mgf1: Hash,
    },
    /// PKCS#1 v1.5 (RFC 8017 §7.2): decryption only, and only for keys created for it.
    Pkcs1v15,
}

/// How a protocol wraps keys where nothing stands before the result, and nothing is bound into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrapping {
    /// AES-256 key wrap (RFC 3394).
    AesKw,
    /// AES-256 key wrap with padding (RFC 5649).
    AesKwp,
    /// RSAES-OAEP (RFC 8017 §7.1) with this hash, in MGF1 too, and no label.
    RsaOaep(Hash),
}

impl Wrapping {
    /// Whether keys of this algorithm do it. A key does what it was made for: devices are tried for that alone, and what one of them calls key wrap with
    /// padding another's cannot open.
    pub const fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::AesKw => matches!(algorithm, Algorithm::Aes256Kw),
            Self::AesKwp => matches!(algorithm, Algorithm::Aes256Kwp),
            Self::RsaOaep(_) => matches!(algorithm.family(), Family::Rsa),
        }
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// RSASSA-PSS (RFC 8017 §8.1), salt as long as the hash.
    RsaPss(Hash),
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1v15(Hash),
    /// ECDSA over a hash, signature in ASN.1 DER (RFC 3279 §2.2.3).
    Ecdsa(Hash),
    /// Ed25519, pure.
    Ed25519,
    /// ML-DSA-65, pure, empty context string.
    MlDsa65,
}

impl SignatureScheme {
    /// What an algorithm signs with unless told; `None` where it signs nothing.
    pub const fn default_for(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Rsa2048 | Algorithm::Rsa3072 => Some(Self::RsaPss(Hash::Sha256)),
            Algorithm::Rsa4096 => Some(Self::RsaPss(Hash::Sha512)),
            Algorithm::EcdsaP256 => Some(Self::Ecdsa(Hash::Sha256)),
            Algorithm::EcdsaP384 => Some(Self::Ecdsa(Hash::Sha384)),
            Algorithm::EcdsaP521 => Some(Self::Ecdsa(Hash::Sha512)),
            Algorithm::Ed25519 => Some(Self::Ed25519),
            Algorithm::MlDsa65 => Some(Self::MlDsa65),
            Algorithm::Xaes256Gcm
            | Algorithm::Aes256Gcm
            | Algorithm::Aes256GcmSiv
            | Algorithm::Aes256Kw
            | Algorithm::Aes256Kwp
            | Algorithm::HmacSha256
            | Algorithm::HmacSha384
            | Algorithm::HmacSha512
            | Algorithm::EcdhP256
            | Algorithm::EcdhP384
            | Algorithm::X25519
            | Algorithm::MlKem768 => None,
        }
    }

    /// Whether keys of this algorithm can make such signatures.
    pub const fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            // 2048 bits hold every offered hash with its salt.
            Self::RsaPss(hash) | Self::RsaPkcs1v15(hash) => {
                matches!(algorithm.family(), Family::Rsa) && !matches!(hash, Hash::Sha1)
            }
            Self::Ecdsa(hash) => matches!(
                (algorithm, hash),
                (Algorithm::EcdsaP256, Hash::Sha256)
                    | (Algorithm::EcdsaP384, Hash::Sha384)
                    | (Algorithm::EcdsaP521, Hash::Sha512)
            ),
            Self::Ed25519 => matches!(algorithm, Algorithm::Ed25519),
            Self::MlDsa65 => matches!(algorithm, Algorithm::MlDsa65),
        }
    }

    /// Its name in the API: `rsa-pss-sha-256`, `ecdsa-sha-256`, `ed25519`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaPss(Hash::Sha1) => "rsa-pss-sha-1",
            Self::RsaPss(Hash::Sha256) => "rsa-pss-sha-256",
            Self::RsaPss(Hash::Sha384) => "rsa-pss-sha-384",
            Self::RsaPss(Hash::Sha512) => "rsa-pss-sha-512",
            Self::RsaPkcs1v15(Hash::Sha1) => "rsa-pkcs1-sha-1",
            Self::RsaPkcs1v15(Hash::Sha256) => "rsa-pkcs1-sha-256",
            Self::RsaPkcs1v15(Hash::Sha384) => "rsa-pkcs1-sha-384",
            Self::RsaPkcs1v15(Hash::Sha512) => "rsa-pkcs1-sha-512",
            Self::Ecdsa(Hash::Sha1) => "ecdsa-sha-1",
            Self::Ecdsa(Hash::Sha256) => "ecdsa-sha-256",
            Self::Ecdsa(Hash::Sha384) => "ecdsa-sha-384",
            Self::Ecdsa(Hash::Sha512) => "ecdsa-sha-512",
            Self::Ed25519 => "ed25519",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }

    /// From its name in the API.
    pub fn from_name(text: &str) -> Option<Self> {
        let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
        hashes
            .into_iter()
            .flat_map(|hash| [Self::RsaPss(hash), Self::RsaPkcs1v15(hash), Self::Ecdsa(hash)])
            .chain([Self::Ed25519, Self::MlDsa65])
            .find(|scheme| scheme.name() == text)
    }

    /// The hash that is applied to the message; `None` where the scheme takes the message itself.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Self::RsaPss(hash) | Self::RsaPkcs1v15(hash) | Self::Ecdsa(hash) => Some(hash),
            Self::Ed25519 | Self::MlDsa65 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_lead_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_code(algorithm.code()), Some(*algorithm));
            assert_eq!(algorithm.name().parse(), Ok(*algorithm));
            assert!(!algorithm.purposes().is_empty());
            if let Some(scheme) = SignatureScheme::default_for(*algorithm) {
                assert!(scheme.fits(*algorithm));
                assert_eq!(SignatureScheme::from_name(scheme.name()), Some(scheme));
            }
        }
    }

    #[test]
    fn only_random_96_bit_nonces_are_counted() {
        let counted: Vec<_> = Algorithm::ALL.iter().filter(|a| a.has_budget()).collect();
        assert_eq!(counted, [&Algorithm::Aes256Gcm]);
    }
}
