//! A request, done in a session.

use super::super::commitment;
use super::super::message::{Buffer, Id, NONCE_LEN, NotAFrame, Reply, Request};
use super::existing;
use super::fault::Fault;
use super::keys::{self, Wrapped, find};
use super::token::{Class, Session};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use holdfast_core::Secret;
use holdfast_core::algorithm::{Hash, RsaPadding, SignatureScheme};

const TAG_BITS: u64 = 128;
const BLOCK: usize = 8;

impl From<NotAFrame> for Fault {
    fn from(_: NotAFrame) -> Self {
        Self::new("the token gave more than a frame can hold")
    }
}

/// Does it and writes the reply.
pub(super) fn perform(
    session: &Session,
    number: u32,
    request: &Request<'_>,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let done = match *request {
        Request::Generate { algorithm, id, label, travels } => {
            return keys::generate(session, algorithm, (id, label), travels, number, reply);
        }
        Request::UnwrapIn { algorithm, id, label, wrapped, modulus, exponent } => {
            let wrapped = Wrapped { algorithm, id, label, travels: false, bytes: wrapped, modulus, exponent };
            return keys::unwrap_in(session, &wrapped, number, reply);
        }
        Request::BringIn { algorithm, id, label, travels, carrier, wrapped, modulus, exponent } => {
            let wrapped = Wrapped { algorithm, id, label, travels, bytes: wrapped, modulus, exponent };
            return keys::bring_in(session, carrier, &wrapped, number, reply);
        }
        Request::LookUp { object } => return existing::look_up(session, object, number, reply),
        Request::PointOut { id, object } => {
            existing::point_out(session, id, object);
            Ok(Secret::new(Vec::new()))
        }
        Request::DestroyExisting { id, object } => {
            existing::destroy(session, id, object).map(|()| Secret::new(Vec::new()))
        }
        Request::WrapOut { id, private } => keys::wrap_out(session, id, private).map(Secret::new),
        Request::Destroy { id, label } => keys::remove(session, id, label).map(|()| Secret::new(Vec::new())),
        // Not what the module may know by itself: the device has to answer.
        Request::Probe => {
            match session.inner.generate_random_vec(8) {
                Ok(_) => {}
                Err(Error::Pkcs11(RvError::RandomNoRng | RvError::FunctionNotSupported, _)) => {
                    session.inner.get_session_info()?;
                }
                Err(error) => return Err(error.into()),
            }
            keys::look(session).map(|()| Secret::new(Vec::new()))
        }
        Request::Random { length } => Ok(Secret::new(session.inner.generate_random_vec(length)?)),
        Request::Seal { id, nonce, aad, plaintext } => {
            let key = find(session, id, Class::Secret)?;
            seal(session, key, nonce, aad, plaintext).map(Secret::new)
        }
        Request::Open { id, nonce, aad, ciphertext } => {
            let key = find(session, id, Class::Secret)?;
            open(session, key, nonce, aad, ciphertext).map_err(|fault| {
                fault.unless(|| {
                    let text = commitment::TEXT;
                    let seal = || seal(session, key, commitment::NONCE, commitment::DOMAIN, text);
                    session.token.samples.opens(id, seal, |sample| {
                        let (nonce, ciphertext) = sample.split_first_chunk().ok_or(Fault::Malformed)?;
                        Ok(open(session, key, *nonce, commitment::DOMAIN, ciphertext)?.expose() == text)
                    })
                })
            })
        }
        Request::Wrap { id, padded, bytes } => wrap(session, id, padded, bytes),
        Request::Unwrap { id, padded, body } => unwrap(session, id, padded, body),
        Request::RsaDecrypt { id, padding, label, body } => {
            let key = find(session, id, Class::Private)?;
            let mechanism = encryption(padding, label);
            let decrypt = |body: &[u8]| -> Result<Secret, Fault> {
                Ok(Secret::new(session.inner.decrypt(&mechanism, key, body)?))
            };
            decrypt(body).map_err(|fault| {
                fault.unless(|| {
                    let public = find(session, id, Class::Public)?;
                    let text = commitment::DOMAIN;
                    let sealed = session.inner.encrypt(&mechanism, public, text)?;
                    Ok(decrypt(&sealed)?.expose() == text)
                })
            })
        }
        Request::RsaBare { id, body } => {
            let key = find(session, id, Class::Private)?;
            session.inner.decrypt(&Mechanism::RsaX509, key, body).map(Secret::new).map_err(Fault::from)
        }
        Request::Sign { id, scheme, input } => sign(session, id, scheme, input),
        Request::Mac { id, hash, message } => {
            let key = find(session, id, Class::Secret)?;
            let mechanism = match hash {
                Hash::Sha1 => return Err(Fault::Unsupported),
                Hash::Sha256 => Mechanism::Sha256Hmac,
                Hash::Sha384 => Mechanism::Sha384Hmac,
                Hash::Sha512 => Mechanism::Sha512Hmac,
            };
            Ok(Secret::new(session.inner.sign(&mechanism, key, message)?))
        }
        Request::Agree { id, peer } => {
            let key = find(session, id, Class::Private)?;
            let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), peer));
            // Of an uncompressed point, one coordinate; an X25519 key is one itself.
            let length = if peer.len() == 32 { 32 } else { peer.len() / 2 };
            let length = u64::try_from(length).unwrap_or(0);
            let mut template = readable();
            template.push(Attribute::ValueLen(length.into()));
            let secret = session.inner.derive_key(&mechanism, key, &template)?;
            read_and_remove(session, secret)
        }
    }?;
    Ok(Reply::Done(done.expose()).encode(number, reply)?)
}

fn seal(
    session: &Session,
    key: ObjectHandle,
    mut nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Fault> {
    let parameters = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
    let sealed = session.inner.encrypt(&Mechanism::AesGcm(parameters), key, plaintext)?;
    // Some devices choose the nonce: it is theirs that was used.
    Ok([&nonce[..], &sealed].concat())
}

fn open(
    session: &Session,
    key: ObjectHandle,
    mut nonce: [u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Secret, Fault> {
    let parameters = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
    Ok(Secret::new(session.inner.decrypt(&Mechanism::AesGcm(parameters), key, ciphertext)?))
}

fn encryption(padding: RsaPadding, label: &[u8]) -> Mechanism<'_> {
    match padding {
        RsaPadding::Oaep { hash, mgf1 } => {
            let source = match label {
                [] => PkcsOaepSource::empty(),
                label => PkcsOaepSource::data_specified(label),
            };
            Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash_mechanism(hash), mgf(mgf1), source))
        }
        RsaPadding::Pkcs1v15 => Mechanism::RsaPkcs,
    }
}

/// A session object whose value is for our caller.
fn readable() -> Vec<Attribute> {
    vec![
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

fn read_and_remove(session: &Session, object: ObjectHandle) -> Result<Secret, Fault> {
    let read = session.inner.get_attributes(object, &[AttributeType::Value]);
    session.inner.destroy_object(object)?;
    let value = read?.into_iter().find_map(|attribute| {
        let Attribute::Value(value) = attribute else { return None };
        Some(Secret::new(value))
    });
    value.ok_or_else(|| Fault::new("a session object has no CKA_VALUE"))
}

pub(super) const fn wrapping(padded: bool) -> Mechanism<'static> {
    match padded {
        false => Mechanism::AesKeyWrap,
        true => Mechanism::AesKeyWrapPad,
    }
}

/// What tokens wrap is an object: the bytes become one for as long as it takes.
fn wrap(session: &Session, id: Id, padded: bool, bytes: &[u8]) -> Result<Secret, Fault> {
    let fits = match padded {
        true => !bytes.is_empty(),
        false => bytes.len() >= 2 * BLOCK && bytes.len().is_multiple_of(BLOCK),
    };
    if !fits {
        return Err(Fault::Malformed);
    }
    let key = find(session, id, Class::Secret)?;
    wrap_with(session, key, padded, bytes).map(Secret::new)
}

pub(super) fn wrap_with(
    session: &Session,
    key: ObjectHandle,
    padded: bool,
    bytes: &[u8],
) -> Result<Vec<u8>, Fault> {
    let mut template = readable();
    template.push(Attribute::Value(bytes.to_vec()));
    let object = session.inner.create_object(&template)?;
    let wrapped = session.inner.wrap_key(&wrapping(padded), key, object);
    session.inner.destroy_object(object)?;
    Ok(wrapped?)
}

fn unwrap(session: &Session, id: Id, padded: bool, body: &[u8]) -> Result<Secret, Fault> {
    let shortest = if padded { 2 * BLOCK } else { 3 * BLOCK };
    if body.len() < shortest || !body.len().is_multiple_of(BLOCK) {
        return Err(Fault::Integrity);
    }
    let key = find(session, id, Class::Secret)?;
    let unwrap = |body: &[u8]| {
        let object = session.inner.unwrap_key(&wrapping(padded), key, body, &readable())?;
        read_and_remove(session, object)
    };
    unwrap(body).map_err(|fault| {
        fault.unless(|| {
            let wrapped = wrap_with(session, key, padded, commitment::TEXT)?;
            Ok(unwrap(&wrapped)?.expose() == commitment::TEXT)
        })
    })
}

fn sign(session: &Session, id: Id, scheme: SignatureScheme, input: &[u8]) -> Result<Secret, Fault> {
    let key = find(session, id, Class::Private)?;
    let sign = |mechanism: Mechanism<'_>, input: &[u8]| -> Result<Secret, Fault> {
        Ok(Secret::new(session.inner.sign(&mechanism, key, input)?))
    };
    match scheme {
        SignatureScheme::RsaPss(hash) => {
            let parameters = PkcsPssParams {
                hash_alg: hash_mechanism(hash),
                mgf: mgf(hash),
                s_len: (hash.len() as u64).into(),
            };
            sign(Mechanism::RsaPkcsPss(parameters), input)
        }
        SignatureScheme::RsaPkcs1v15(hash) => sign(Mechanism::RsaPkcs, &[digest_info(hash), input].concat()),
        SignatureScheme::Ecdsa(_) => sign(Mechanism::Ecdsa, input),
        SignatureScheme::Ed25519 => {
            sign(Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), input)
        }
        SignatureScheme::MlDsa65 => Err(Fault::Unsupported),
    }
}

/// What stands before the digest in an EMSA-PKCS1-v1_5 encoding (RFC 8017 §9.2, note 1).
const fn digest_info(hash: Hash) -> &'static [u8] {
    match hash {
        Hash::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
        Hash::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
        Hash::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
        Hash::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
    }
}

pub(super) const fn hash_mechanism(hash: Hash) -> MechanismType {
    match hash {
        Hash::Sha1 => MechanismType::SHA1,
        Hash::Sha256 => MechanismType::SHA256,
        Hash::Sha384 => MechanismType::SHA384,
        Hash::Sha512 => MechanismType::SHA512,
    }
}

pub(super) const fn mgf(hash: Hash) -> PkcsMgfType {
    match hash {
        Hash::Sha1 => PkcsMgfType::MGF1_SHA1,
        Hash::Sha256 => PkcsMgfType::MGF1_SHA256,
        Hash::Sha384 => PkcsMgfType::MGF1_SHA384,
        Hash::Sha512 => PkcsMgfType::MGF1_SHA512,
    }
}
