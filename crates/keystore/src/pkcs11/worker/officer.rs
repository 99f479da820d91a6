//! The ceremony by which every member of a pool gets the same wrapping key: what a token's security officer does, in a process of its own.
//!
//! ```text
//! one member                                   another member
//! make: generate the wrapping key
//!                                              offer: a transport key, for as long as the process lives
//!          ◄──────── its public half ──────────
//! send: trust it, wrap the wrapping key        (people compare the public half's fingerprint)
//!          ──────── wrapped, RSA-OAEP ────────►
//!                                              receive: unwrap it as trusted
//!                                              (and compare the wrapping key's fingerprint)
//! ```
//!
//! The transport key's private half is never outside of its token and is gone at the end. Whoever could put another public half in its place
//! would be given the wrapping key, and anybody can encrypt one of their own to the right one: hence both comparisons.

use super::super::der;
use super::fault::Fault;
use super::kek::{self, FINGERPRINT_LEN};
use super::keys::limited;
use super::operate::{hash_mechanism, mgf};
use super::token::find;
use aws_lc_rs::digest;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::rsa::{PkcsOaepParams, PkcsOaepSource};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use holdfast_core::algorithm::Hash;
use holdfast_core::{Error, ErrorKind, Secret, Stage};

/// Length of a transport key's modulus in bytes.
const TRANSPORT_LEN: usize = 384;

/// A token with its security officer logged in.
pub struct Officer {
    session: Session,
}

/// A transport key, in the token that it will bring something to.
pub struct Transport {
    private: ObjectHandle,
    offer: Offer,
}

/// A transport key's public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    spki: Vec<u8>,
}

/// Tells keys apart for people: groups of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_LEN]);

impl Fingerprint {
    /// From its bytes.
    pub const fn new(bytes: [u8; FINGERPRINT_LEN]) -> Self {
        Self(bytes)
    }
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (place, pair) in self.0.as_chunks::<2>().0.iter().enumerate() {
            let [high, low] = pair;
            write!(f, "{}{high:02x}{low:02x}", if place == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

impl core::str::FromStr for Fingerprint {
    type Err = Error;

    /// As it is shown; other separators and capitals are taken too.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::Malformed, Stage::Decode, "not a fingerprint")
                .remedy("type it as it is shown: eight groups of four hexadecimal digits")
        };
        let digits: Vec<_> = text.chars().filter(|letter| !matches!(letter, '-' | ':' | ' ')).collect();
        let mut bytes = [0; FINGERPRINT_LEN];
        if digits.len() != 2 * FINGERPRINT_LEN {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let value = |digit: char| digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
            let [high, low] = *pair;
            *byte = value(high).zip(value(low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl Offer {
    /// From DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// `malformed` for anything but an RSA key of 3072 bits.
    pub fn parse(spki: &[u8]) -> Result<Self, Error> {
        der::rsa_parts(spki, TRANSPORT_LEN).map(|_| Self { spki: spki.to_owned() }).ok_or_else(|| {
            Error::new(ErrorKind::Malformed, Stage::Decode, "this is no transport key")
                .remedy("give the file that `holdfast pool kek receive` wrote")
        })
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = digest::digest(&digest::SHA256, &self.spki);
        Fingerprint(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

impl Officer {
    /// Loads a module and logs the security officer of one of its tokens in.
    ///
    /// # Errors
    /// `key-store-unavailable`, with what the module said.
    pub fn open(module: &str, token: &str, pin: &Secret) -> Result<Self, Error> {
        let open = || -> Result<Self, Fault> {
            let pkcs11 = Pkcs11::new(module)?;
            match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) | Err(ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
                Err(error) => return Err(error.into()),
            }
            let session = pkcs11.open_rw_session(find(&pkcs11, token)?)?;
            session.login_with_raw(UserType::So, &Box::new(pin.expose().to_vec()).into())?;
            Ok(Self { session })
        };
        open().map_err(failed)
    }

    /// Makes the wrapping key of a new pool.
    ///
    /// # Errors
    /// `already-exists` where there is one; `key-store-unavailable`.
    pub fn make(&self, label: &str) -> Result<Fingerprint, Error> {
        self.has_none(label)?;
        let make = || -> Result<Fingerprint, Fault> {
            let length = [Attribute::ValueLen(32.into())];
            let (_, kek) = limited(&kek::kek_templates(label), |template| {
                self.session.generate_key(&Mechanism::AesKeyGen, &[&length, template].concat())
            })?;
            kek::fingerprint(&self.session, kek).map(Fingerprint)
        };
        make().map_err(failed)
    }

    /// The fingerprint of the wrapping key.
    ///
    /// # Errors
    /// `not-found` where there is none; `key-store-unavailable`.
    pub fn fingerprint(&self, label: &str) -> Result<Fingerprint, Error> {
        kek::fingerprint(&self.session, self.kek(label)?).map(Fingerprint).map_err(failed)
    }

    /// Makes a transport key for a wrapping key that shall come here.
    ///
    /// # Errors
    /// `already-exists` where there is a wrapping key; `key-store-unavailable`.
    pub fn transport(&self, label: &str) -> Result<Transport, Error> {
        self.has_none(label)?;
        let make = || -> Result<Transport, Fault> {
            let own = [Attribute::Token(false), Attribute::Private(false)];
            let public = [
                &own[..],
                &[
                    Attribute::ModulusBits((8 * TRANSPORT_LEN as u64).into()),
                    Attribute::PublicExponent(vec![1, 0, 1]),
                    Attribute::Wrap(true),
                ],
            ];
            let private = [
                &own[..],
                &[Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Unwrap(true)],
            ];
            let (public, private) = self.session.generate_key_pair(
                &Mechanism::RsaPkcsKeyPairGen,
                &public.concat(),
                &private.concat(),
            )?;
            let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
            let (mut modulus, mut exponent) = (vec![], vec![]);
            for attribute in self.session.get_attributes(public, &wanted)? {
                if let Attribute::Modulus(bytes) = attribute {
                    modulus = bytes;
                } else if let Attribute::PublicExponent(bytes) = attribute {
                    exponent = bytes;
                }
            }
            Ok(Transport { private, offer: Offer { spki: der::rsa_spki(&modulus, &exponent) } })
        };
        make().map_err(failed)
    }

    /// Wraps the wrapping key for a transport key whose fingerprint was compared.
    ///
    /// # Errors
    /// `not-found` where there is none; `key-store-unavailable`.
    pub fn send(&self, label: &str, to: &Offer) -> Result<Vec<u8>, Error> {
        let kek = self.kek(label)?;
        let send = || -> Result<Vec<u8>, Fault> {
            let (modulus, exponent) = der::rsa_parts(&to.spki, TRANSPORT_LEN).unwrap_or_default();
            let public = self.session.create_object(&[
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(KeyType::RSA),
                Attribute::Token(false),
                Attribute::Private(false),
                Attribute::Modulus(modulus.to_vec()),
                Attribute::PublicExponent(exponent.to_vec()),
                Attribute::Wrap(true),
                Attribute::Trusted(true),
            ])?;
            Ok(either(|hash| self.session.wrap_key(&oaep(hash), public, kek))?)
        };
        send().map_err(failed)
    }

    /// Unwraps the wrapping key that was sent here, whose fingerprint is known from where it was made. Another one does not stay.
    ///
    /// # Errors
    /// `integrity` where it was not sent to this transport key, or is another one; `key-store-unavailable`.
    pub fn receive(
        &self,
        label: &str,
        (transport, wrapped): (&Transport, &[u8]),
        expected: Fingerprint,
    ) -> Result<Fingerprint, Error> {
        self.has_none(label)?;
        let receive = || -> Result<(ObjectHandle, Fingerprint), Fault> {
            let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
            let (_, kek) = either(|hash| {
                limited(&kek::kek_templates(label), |template| {
                    let template = [&kind, template].concat();
                    self.session.unwrap_key(&oaep(hash), transport.private, wrapped, &template)
                })
            })?;
            match kek::fingerprint(&self.session, kek) {
                Ok(fingerprint) => Ok((kek, Fingerprint(fingerprint))),
                Err(fault) => {
                    self.session.destroy_object(kek)?;
                    Err(fault)
                }
            }
        };
        let (kek, fingerprint) = receive().map_err(failed)?;
        if fingerprint == expected {
            return Ok(fingerprint);
        }
        let fate = match self.session.destroy_object(kek) {
            Ok(()) => "was removed again",
            Err(_) => "COULD NOT BE REMOVED: remove it with the token's own tools before anything else",
        };
        let detail = format!("what came is another wrapping key, {fingerprint}, and {fate}");
        Err(Error::new(ErrorKind::Integrity, Stage::Perform, detail).remedy(
            "somebody may have put their own in its place: find out who had the line; then receive it anew, with the fingerprint that `holdfast pool kek show` tells where it was made",
        ))
    }

    fn kek(&self, label: &str) -> Result<ObjectHandle, Error> {
        kek::search(&self.session, label).map_err(failed)?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                Stage::Perform,
                format!("the token has no wrapping key `{label}`"),
            )
            .remedy("make the first one by `holdfast pool kek make`")
        })
    }

    fn has_none(&self, label: &str) -> Result<(), Error> {
        match kek::search(&self.session, label).map_err(failed)? {
            None => Ok(()),
            Some(_) => {
                let detail = format!("the token has a wrapping key `{label}` already");
                Err(Error::new(ErrorKind::AlreadyExists, Stage::Perform, detail).remedy(
                    "use it if it is the pool's, whose keys come to no member without it: `holdfast pool kek show` tells its fingerprint. Otherwise remove it with the vendor's tools",
                ))
            }
        }
    }
}

impl Transport {
    /// What is given to the other side.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }
}

fn oaep(hash: Hash) -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash_mechanism(hash), mgf(hash), PkcsOaepSource::empty()))
}

/// By OAEP with SHA-256, or with SHA-1 where a token has no other.
fn either<T, E>(attempt: impl Fn(Hash) -> Result<T, E>) -> Result<T, E> {
    attempt(Hash::Sha256).or_else(|_| attempt(Hash::Sha1))
}

fn failed(fault: Fault) -> Error {
    let error = |why: String| {
        Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, "the token failed").because(why)
    };
    match fault {
        Fault::Integrity => {
            Error::new(ErrorKind::Integrity, Stage::Perform, "what came was not sent to this transport key")
                .remedy("send it again, to the key whose fingerprint is shown here")
        }
        Fault::Malformed => error("it does not take input of this form".to_owned()),
        Fault::Unsupported => error("it has no such operation".to_owned()),
        Fault::NoSuchKey | Fault::NotOne(_) | Fault::Gone => error("the key is not there".to_owned()),
        Fault::Busy => error("something is being brought in".to_owned()),
        Fault::Pin(why) => {
            Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, "the token does not take the PIN")
                .because(why)
                .remedy("give the security officer's PIN; tokens lock themselves after a few wrong ones")
        }
        Fault::Token { why, .. } => error(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_people_type_it() {
        let bytes = core::array::from_fn(|place| u8::try_from(place * 17 % 256).unwrap_or(0));
        let shown = Fingerprint(bytes).to_string();
        assert_eq!(shown, "0011-2233-4455-6677-8899-aabb-ccdd-eeff");
        for typed in [shown.clone(), shown.to_uppercase(), shown.replace('-', " "), shown.replace('-', "")] {
            assert_eq!(typed.parse::<Fingerprint>().unwrap(), Fingerprint(bytes));
        }
        for wrong in [
            "",
            "0011",
            "0011-2233-4455-6677-8899-aabb-ccdd-eefg",
            "0011-2233-4455-6677-8899-aabb-ccdd-eeff0",
        ] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
