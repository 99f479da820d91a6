//! One primitive operation with one key: what is done at once, and what goes to the pool.

use super::aead::AeadKey;
use super::agreement::AgreementKey;
use super::kem::KemKey;
use super::key_wrap::WrapKey;
use super::mac::MacKey;
use super::material::Ready;
use super::rsa::RsaKey;
use super::signature::SignatureKey;
use crate::refusal;
use aws_lc_rs::digest::Digest;
use holdfast_core::algorithm::{RsaPadding, SignatureScheme};
use holdfast_core::port::World;
use holdfast_core::work::{Message, Product, Work};
use holdfast_core::{Error, Secret};

/// AES key wrap of more than this many bytes goes to the pool: six AES blocks for every eight bytes.
const WRAP_INLINE: usize = 16 << 10;

/// How far an operation got on the caller's own thread.
pub(crate) enum Step {
    /// To its end.
    Done(Product),
    /// To where it takes long; it owns what it needs.
    Slow(Slow),
}

/// The slow part of an operation.
pub(crate) enum Slow {
    /// RSA's private operation.
    RsaDecrypt { body: Vec<u8>, padding: RsaPadding, label: Vec<u8> },
    /// RSA's private operation.
    RsaSign { scheme: SignatureScheme, digest: Digest },
    /// A lattice signature.
    Sign { scheme: SignatureScheme, message: Secret },
    /// Its check.
    Verify { scheme: SignatureScheme, message: Secret, signature: Vec<u8> },
    /// AES key wrap of many bytes.
    WrapKey { frame: Vec<u8>, bytes: Secret },
    /// AES key unwrap of many bytes.
    UnwrapKey { body: Vec<u8> },
}

impl Ready {
    /// Does what can be done at once.
    ///
    /// # Errors
    /// As [`holdfast_core::port::KeyStore::perform`].
    pub(crate) fn begin<W: World>(&self, world: &W, work: Work<'_>) -> Result<Step, Error> {
        let product = match work {
            Work::Seal { frame, plaintext, aad } => {
                Product::Bytes(self.aead()?.seal(world, frame, plaintext.expose(), aad)?)
            }
            Work::SealRandom { frame, length, aad } => {
                let key = self.aead()?;
                let plaintext = Secret::fill_with(length, |out| world.fill(out))?;
                let frame = key.seal(world, frame, plaintext.expose(), aad)?;
                Product::DataKey { frame, plaintext }
            }
            Work::Open { body, aad } => Product::Secret(self.aead()?.open(body, aad)?),
            Work::WrapKey { frame, bytes } => {
                let key = self.wrap()?;
                if bytes.len() > WRAP_INLINE {
                    return Ok(Step::Slow(Slow::WrapKey { frame, bytes: Secret::from(bytes.expose()) }));
                }
                Product::Bytes(key.wrap(frame, bytes.expose())?)
            }
            Work::UnwrapKey { body } => {
                let key = self.wrap()?;
                if body.len() > WRAP_INLINE {
                    return Ok(Step::Slow(Slow::UnwrapKey { body: body.to_vec() }));
                }
                Product::Secret(key.unwrap(body)?)
            }
            Work::RsaEncrypt { frame, plaintext, padding, label } => {
                Product::Bytes(self.rsa()?.encrypt(frame, padding, label, plaintext.expose())?)
            }
            Work::RsaDecrypt { body, padding, label } => {
                self.rsa()?;
                return Ok(Step::Slow(Slow::RsaDecrypt {
                    body: body.to_vec(),
                    padding,
                    label: label.to_vec(),
                }));
            }
            Work::Sign { scheme, message } => return self.begin_sign(scheme, message),
            Work::Verify { scheme, message, signature } => {
                return self.begin_verify(scheme, message, signature);
            }
            Work::Mac { message } => Product::Bytes(self.mac()?.mac(message)),
            Work::VerifyMac { message, mac } => Product::Valid(self.mac()?.verify(message, mac)),
            Work::Agree { peer } => Product::Secret(self.agreement()?.agree(peer)?),
            Work::Encapsulate => {
                let (ciphertext, secret) = self.kem()?.encapsulate()?;
                Product::Encapsulated { ciphertext, secret }
            }
            Work::Decapsulate { ciphertext } => Product::Secret(self.kem()?.decapsulate(ciphertext)?),
        };
        Ok(Step::Done(product))
    }

    fn begin_sign(&self, scheme: SignatureScheme, message: Message<'_>) -> Result<Step, Error> {
        match (self.signer()?, message) {
            // Hashed here, where the message is: the pool gets the digest.
            (Signer::Rsa(key), message) => {
                key.digest(scheme, message).map(|digest| Step::Slow(Slow::RsaSign { scheme, digest }))
            }
            (Signer::Other(key), Message::Whole(message)) if key.is_slow() => {
                Ok(Step::Slow(Slow::Sign { scheme, message: Secret::from(message) }))
            }
            (Signer::Other(key), message) => {
                key.sign(scheme, message).map(|made| Step::Done(Product::Bytes(made)))
            }
        }
    }

    fn begin_verify(
        &self,
        scheme: SignatureScheme,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<Step, Error> {
        let valid = match (self.signer()?, message) {
            (Signer::Rsa(key), message) => key.verify(scheme, message, signature)?,
            (Signer::Other(key), Message::Whole(message)) if key.is_slow() => {
                let (message, signature) = (Secret::from(message), signature.to_vec());
                return Ok(Step::Slow(Slow::Verify { scheme, message, signature }));
            }
            (Signer::Other(key), message) => key.verify(scheme, message, signature)?,
        };
        Ok(Step::Done(Product::Valid(valid)))
    }

    /// Does the rest, on the pool.
    pub(crate) fn finish(&self, slow: Slow) -> Result<Product, Error> {
        match slow {
            Slow::RsaDecrypt { body, padding, label } => {
                self.rsa()?.decrypt(padding, &label, &body).map(Product::Secret)
            }
            Slow::RsaSign { scheme, digest } => self.rsa()?.sign(scheme, &digest).map(Product::Bytes),
            Slow::Sign { scheme, message } => {
                self.signature()?.sign(scheme, Message::Whole(message.expose())).map(Product::Bytes)
            }
            Slow::Verify { scheme, message, signature } => {
                let message = Message::Whole(message.expose());
                self.signature()?.verify(scheme, message, &signature).map(Product::Valid)
            }
            Slow::WrapKey { frame, bytes } => self.wrap()?.wrap(frame, bytes.expose()).map(Product::Bytes),
            Slow::UnwrapKey { body } => self.wrap()?.unwrap(&body).map(Product::Secret),
        }
    }

    fn aead(&self) -> Result<&AeadKey, Error> {
        let Self::Aead(key) = self else {
            return Err(refusal::unsupported("the key does not encrypt"));
        };
        Ok(key)
    }

    fn wrap(&self) -> Result<&WrapKey, Error> {
        let Self::Wrap(key) = self else {
            return Err(refusal::unsupported("the key does not wrap by AES key wrap"));
        };
        Ok(key)
    }

    fn rsa(&self) -> Result<&RsaKey, Error> {
        let Self::Rsa(key) = self else {
            return Err(refusal::unsupported("the key is not an RSA key"));
        };
        Ok(key)
    }

    fn signature(&self) -> Result<&SignatureKey, Error> {
        let Self::Signature(key) = self else {
            return Err(refusal::unsupported("the key does not sign"));
        };
        Ok(key)
    }

    fn signer(&self) -> Result<Signer<'_>, Error> {
        match self {
            Self::Rsa(key) => Ok(Signer::Rsa(key)),
            Self::Signature(key) => Ok(Signer::Other(key)),
            Self::Aead(_) | Self::Wrap(_) | Self::Mac(_) | Self::Agreement(_) | Self::Kem(_) => {
                Err(refusal::unsupported("the key does not sign"))
            }
        }
    }

    fn mac(&self) -> Result<&MacKey, Error> {
        let Self::Mac(key) = self else {
            return Err(refusal::unsupported("the key makes no message authentication codes"));
        };
        Ok(key)
    }

    fn agreement(&self) -> Result<&AgreementKey, Error> {
        let Self::Agreement(key) = self else {
            return Err(refusal::unsupported("the key does not agree on secrets"));
        };
        Ok(key)
    }

    fn kem(&self) -> Result<&KemKey, Error> {
        let Self::Kem(key) = self else {
            return Err(refusal::unsupported("the key does not encapsulate"));
        };
        Ok(key)
    }
}

/// The two families that sign.
enum Signer<'a> {
    Rsa(&'a RsaKey),
    Other(&'a SignatureKey),
}
