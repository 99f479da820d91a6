//! Whether the private half of a pair is that of its public half: before it is destroyed it has to show that itself.

use super::Seen;
use crate::pkcs11::commitment;
use crate::pkcs11::der;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Id, Request, Uses};
use crate::pkcs11::public::Public;
use crate::pkcs11::reference::Paddings;
use crate::pkcs11::store::tokens::{Tokens, Whom};
use crate::refusal;
use crate::software::agreement::{self, AgreementKey};
use crate::software::digest;
use holdfast_core::algorithm::{Algorithm, Family, Hash, SignatureScheme};
use holdfast_core::work::Message;
use holdfast_core::{Error, ErrorKind};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Whether a failure says nothing about the key: its device is slow, say, or gone.
pub(super) fn is_failure(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported)
}

/// Whether a private half is the right one, by what became of the paddings that were tried. Where all that was found out is that nothing could be,
/// nobody may be told that the names are another object's: they would give it others, and the key would count as gone.
fn decrypts(tried: Result<(Paddings, Option<Error>), Error>) -> Result<bool, Error> {
    match tried {
        Ok((paddings, _)) if paddings != Paddings::default() => Ok(true),
        Ok((_, None)) => Ok(false),
        Ok((_, Some(error))) | Err(error) if error.kind() == ErrorKind::Integrity => Ok(false),
        Ok((_, Some(error))) | Err(error) => Err(error),
    }
}

impl Tokens {
    /// Whether what the private half does fits to the public half. A wrong one is no fault of its member: another program put it there.
    ///
    /// # Errors
    /// When it can do nothing that would show it, or the member can't be asked.
    pub(super) async fn is_other_half(
        self: &Arc<Self>,
        member: &Member,
        (algorithm, id): (Algorithm, Id),
        seen: &Seen,
        (spki, public): (&[u8], &Public),
    ) -> Result<bool, Error> {
        let default = SignatureScheme::default_for(algorithm);
        match (algorithm.family(), default) {
            (Family::Agreement, _) => self.agrees(member, id, spki, public).await,
            (Family::Rsa, Some(default)) if seen.uses.has(Uses::SIGN) => {
                for scheme in [default, SignatureScheme::RsaPkcs1v15(Hash::Sha256)] {
                    match self.signs(member, (algorithm, id), public, scheme).await {
                        Err(error) if error.kind() == ErrorKind::Unsupported => {}
                        signs => return signs,
                    }
                }
                // CKA_ALLOWED_MECHANISMS can leave it nothing but to decrypt.
                decrypts(self.try_paddings(Whom::Only(member), id, public.rsa_key()?).await)
            }
            (Family::Rsa, _) => decrypts(self.try_paddings(Whom::Only(member), id, public.rsa_key()?).await),
            (Family::Signature, Some(default)) => self.signs(member, (algorithm, id), public, default).await,
            (Family::Signature | Family::Aead | Family::KeyWrap | Family::Hmac | Family::Kem, _) => {
                Err(refusal::unsupported("the object is no pair that could show which it is"))
            }
        }
    }

    async fn signs(
        self: &Arc<Self>,
        member: &Member,
        (algorithm, id): (Algorithm, Id),
        public: &Public,
        scheme: SignatureScheme,
    ) -> Result<bool, Error> {
        let message = Message::Whole(commitment::TEXT);
        let hashed;
        let input = match scheme.hash() {
            Some(hash) => {
                hashed = digest::of(hash, message)?;
                hashed.as_ref()
            }
            None => &commitment::TEXT[..],
        };
        let made = self.bytes(Whom::Only(member), Request::Sign { id, scheme, input }).await?;
        let signature = match scheme {
            SignatureScheme::Ecdsa(_) => der::ecdsa_signature(made.expose()),
            SignatureScheme::RsaPss(_)
            | SignatureScheme::RsaPkcs1v15(_)
            | SignatureScheme::Ed25519
            | SignatureScheme::MlDsa65 => Some(made.expose().to_vec()),
        };
        match signature {
            Some(signature) => public.verify(algorithm, scheme, message, &signature),
            None => Ok(false),
        }
    }

    /// It agrees with a pair of ours on what we agree on with its public half.
    async fn agrees(
        self: &Arc<Self>,
        member: &Member,
        id: Id,
        spki: &[u8],
        public: &Public,
    ) -> Result<bool, Error> {
        let group = public.group()?;
        let own = agreement::generate(group)?;
        let expected = AgreementKey::new(group, own.material.expose())?.agree(spki)?;
        let own = own.public.unwrap_or_default();
        let peer = agreement::point(group, &own).ok_or_else(agreement::no_peer)?;
        let agreed = self.bytes(Whom::Only(member), Request::Agree { id, peer }).await?;
        Ok(agreed.expose().ct_eq(expected.expose()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_says_nothing_about_whose_half_it_is() {
        let none = Paddings::default;
        let mut one = none();
        one.bare = true;
        let slow = || refusal::device("slow");
        assert!(decrypts(Ok((one, Some(slow())))).unwrap());
        assert!(!decrypts(Ok((none(), Some(refusal::integrity())))).unwrap());
        assert!(!decrypts(Err(refusal::integrity())).unwrap());
        for error in [slow(), refusal::unsupported("this")] {
            let kind = error.kind();
            assert_eq!(decrypts(Ok((none(), Some(error)))).unwrap_err().kind(), kind);
        }
        assert!(is_failure(&slow()));
    }
}
