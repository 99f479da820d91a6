//! Making keys, finding them again, removing them.

use super::super::message::{Buffer, Evidence, Id, Made, Reply};
use super::curves::{ED25519, P256, P384, P521, X25519};
use super::fault::Fault;
use super::kek;
use super::operate::wrapping;
use super::token::{Class, Session};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use holdfast_core::algorithm::{Algorithm, Hash};
use std::collections::HashMap;
use std::sync::{PoisonError, TryLockError};

/// How a key of an algorithm is made, and what it may do then.
enum Recipe {
    Secret {
        with: Mechanism<'static>,
        length: u64,
        may: [Attribute; 2],
        only: Vec<MechanismType>,
    },
    Pair {
        with: Mechanism<'static>,
        /// What describes the pair to be made.
        parameters: Vec<Attribute>,
        private_may: Vec<Attribute>,
        public_may: Vec<Attribute>,
        only: Vec<MechanismType>,
    },
}

fn recipe(session: &Session, algorithm: Algorithm) -> Result<Recipe, Fault> {
    let aes = |may, only| Recipe::Secret { with: Mechanism::AesKeyGen, length: 32, may, only };
    let wraps = [Attribute::Wrap(true), Attribute::Unwrap(true)];
    let hmac = |hash: Hash, only| Recipe::Secret {
        with: Mechanism::GenericSecretKeyGen,
        length: hash.len() as u64,
        may: [Attribute::Sign(true), Attribute::Verify(true)],
        only: vec![only],
    };
    let rsa = |bits: u64| Recipe::Pair {
        with: Mechanism::RsaPkcsKeyPairGen,
        parameters: vec![
            Attribute::ModulusBits(bits.into()),
            Attribute::PublicExponent(vec![0x01, 0x00, 0x01]),
        ],
        private_may: vec![Attribute::Sign(true), Attribute::Decrypt(true)],
        public_may: vec![Attribute::Verify(true), Attribute::Encrypt(true)],
        only: vec![
            MechanismType::RSA_PKCS,
            MechanismType::RSA_PKCS_PSS,
            MechanismType::RSA_PKCS_OAEP,
            MechanismType::RSA_X_509,
        ],
    };
    let curve = |with, oid: &[u8], only| Recipe::Pair {
        with,
        parameters: vec![Attribute::EcParams(oid.to_vec())],
        private_may: vec![Attribute::Sign(true)],
        public_may: vec![Attribute::Verify(true)],
        only: vec![only],
    };
    let agreement = |with, oid: &[u8]| Recipe::Pair {
        with,
        parameters: vec![Attribute::EcParams(oid.to_vec())],
        private_may: vec![Attribute::Derive(true)],
        public_may: vec![Attribute::Derive(true)],
        only: vec![MechanismType::ECDH1_DERIVE],
    };
    let recipe = match algorithm {
        Algorithm::Aes256Gcm => {
            aes([Attribute::Encrypt(true), Attribute::Decrypt(true)], vec![MechanismType::AES_GCM])
        }
        Algorithm::Aes256Kw => aes(wraps, vec![MechanismType::AES_KEY_WRAP]),
        Algorithm::Aes256Kwp => aes(wraps, vec![MechanismType::AES_KEY_WRAP_PAD]),
        Algorithm::HmacSha256 => hmac(Hash::Sha256, MechanismType::SHA256_HMAC),
        Algorithm::HmacSha384 => hmac(Hash::Sha384, MechanismType::SHA384_HMAC),
        Algorithm::HmacSha512 => hmac(Hash::Sha512, MechanismType::SHA512_HMAC),
        Algorithm::Rsa2048 => rsa(2048),
        Algorithm::Rsa3072 => rsa(3072),
        Algorithm::Rsa4096 => rsa(4096),
        Algorithm::EcdsaP256 => curve(Mechanism::EccKeyPairGen, P256, MechanismType::ECDSA),
        Algorithm::EcdsaP384 => curve(Mechanism::EccKeyPairGen, P384, MechanismType::ECDSA),
        Algorithm::EcdsaP521 => curve(Mechanism::EccKeyPairGen, P521, MechanismType::ECDSA),
        Algorithm::Ed25519 => curve(Mechanism::EccEdwardsKeyPairGen, ED25519, MechanismType::EDDSA),
        Algorithm::EcdhP256 => agreement(Mechanism::EccKeyPairGen, P256),
        Algorithm::EcdhP384 => agreement(Mechanism::EccKeyPairGen, P384),
        Algorithm::X25519 => agreement(Mechanism::EccMontgomeryKeyPairGen, X25519),
        Algorithm::Xaes256Gcm | Algorithm::Aes256GcmSiv | Algorithm::MlDsa65 | Algorithm::MlKem768 => {
            return Err(Fault::Unsupported);
        }
    };
    let (Recipe::Secret { with, only, .. } | Recipe::Pair { with, only, .. }) = &recipe;
    let needed = only.iter().copied().chain([with.mechanism_type()]);
    match needed.into_iter().all(|mechanism| session.token.has(mechanism)) {
        true => Ok(recipe),
        false => Err(Fault::Unsupported),
    }
}

/// Makes a key in the token, and reads back what the token says of it.
#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
pub(super) fn generate(
    session: &Session,
    algorithm: Algorithm,
    (id, label): (Id, &str),
    travels: bool,
    number: u32,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let named = || named(id, label);
    let confined = || {
        let mut template =
            vec![Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(travels)];
        if travels {
            template.extend(kek::travelling(&session.token));
        }
        template
    };
    match recipe(session, algorithm)? {
        Recipe::Secret { with, length, may, only } => {
            let mut template = named();
            template.extend(confined());
            template.push(Attribute::ValueLen(length.into()));
            template.extend(may);
            let (_, key) = limited(&limits(&template, Class::Secret, only), |limits| {
                session.inner.generate_key(&with, &[&template, limits].concat())
            })?;
            session.token.remember(id, Class::Secret, key);
            let evidence = evidence(session, key)?;
            Ok(Reply::Made(Made { evidence, public: &[], exponent: &[] }).encode(number, reply)?)
        }
        Recipe::Pair { with, parameters, private_may, public_may, only } => {
            let mut public_template = named();
            public_template.push(Attribute::Private(false));
            public_template.extend(parameters);
            public_template.extend(public_may);
            let mut private_template = named();
            private_template.extend(confined());
            private_template.extend(private_may);
            let limits = limits(&private_template, Class::Private, only);
            let (_, (public, private)) = limited(&limits, |limits| {
                session.inner.generate_key_pair(
                    &with,
                    &public_template,
                    &[&private_template, limits].concat(),
                )
            })?;
            session.token.remember(id, Class::Private, private);
            let evidence = evidence(session, private)?;
            let wanted = [AttributeType::Modulus, AttributeType::PublicExponent, AttributeType::EcPoint];
            let (mut value, mut exponent) = (Vec::new(), Vec::new());
            for attribute in session.inner.get_attributes(public, &wanted)? {
                match attribute {
                    Attribute::Modulus(bytes) | Attribute::EcPoint(bytes) => value = bytes,
                    Attribute::PublicExponent(bytes) => exponent = bytes,
                    _ => {}
                }
            }
            Ok(Reply::Made(Made { evidence, public: &value, exponent: &exponent }).encode(number, reply)?)
        }
    }
}

/// What keeps a key from doing anything else and from being changed: with CKA_ALLOWED_MECHANISMS where the token knows that, and with every other
/// use denied, since many tokens allow what is not said, and who may both wrap and decrypt with one key can take others out. The best first.
fn limits(template: &[Attribute], class: Class, only: Vec<MechanismType>) -> [Vec<Attribute>; 4] {
    let is_said =
        |other: &Attribute| template.iter().any(|said| said.attribute_type() == other.attribute_type());
    // Which uses there are at all (PKCS#11 2.40 §4.9 and §4.10).
    let uses = match class {
        Class::Secret => vec![
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ],
        Class::Private | Class::Public => vec![
            Attribute::Decrypt(false),
            Attribute::Sign(false),
            Attribute::SignRecover(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ],
    };
    let denied: Vec<_> = uses.into_iter().filter(|other| !is_said(other)).collect();
    // In this order: SoftHSM changes nothing any more of what it unwraps, and leaves an empty object behind where it fails.
    let lasting = [Attribute::Copyable(false), Attribute::Modifiable(false)];
    let mechanisms = [Attribute::AllowedMechanisms(only)];
    [
        // What lasts comes last, since some tokens take nothing after it.
        [&denied[..], &mechanisms, &lasting].concat(),
        [&denied[..], &lasting].concat(),
        [&denied[..], &mechanisms].concat(),
        denied.clone(),
    ]
}

/// Makes a key with the first of some limits that the token goes along with; gives which that was.
pub(super) fn limited<T>(
    limits: &[Vec<Attribute>],
    make: impl Fn(&[Attribute]) -> Result<T, Error>,
) -> Result<(usize, T), Fault> {
    let mut last = None;
    for (place, limits) in limits.iter().enumerate() {
        match make(limits) {
            Err(
                error @ Error::Pkcs11(
                    RvError::AttributeTypeInvalid
                    | RvError::AttributeValueInvalid
                    | RvError::AttributeReadOnly
                    | RvError::TemplateInconsistent,
                    _,
                ),
            ) => last = Some(error),
            made => return Ok((place, made?)),
        }
    }
    Err(last.map_or(Fault::Unsupported, Fault::from))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
pub(super) fn evidence(session: &Session, key: ObjectHandle) -> Result<Evidence, Fault> {
    let wanted = [
        AttributeType::Local,
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
        AttributeType::WrapWithTrusted,
        AttributeType::Destroyable,
    ];
    // What the token does not say counts against it.
    let mut evidence = Evidence {
        local: false,
        sensitive: false,
        always_sensitive: false,
        extractable: true,
        never_extractable: false,
        wrap_with_trusted: false,
        // Older ones have no such attribute, and remove what they are told to.
        undestroyable: false,
    };
    for attribute in session.inner.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::Local(yes) => evidence.local = yes,
            Attribute::Sensitive(yes) => evidence.sensitive = yes,
            Attribute::AlwaysSensitive(yes) => evidence.always_sensitive = yes,
            Attribute::Extractable(yes) => evidence.extractable = yes,
            Attribute::NeverExtractable(yes) => evidence.never_extractable = yes,
            Attribute::WrapWithTrusted(yes) => evidence.wrap_with_trusted = yes,
            Attribute::Destroyable(yes) => evidence.undestroyable = !yes,
            _ => {}
        }
    }
    Ok(evidence)
}

/// Where people and gateways find it.
fn named(id: Id, label: &str) -> Vec<Attribute> {
    vec![Attribute::Token(true), Attribute::Id(id.to_vec()), Attribute::Label(label.into())]
}

/// Wraps a key for another member. A private key is of any length, so that it takes padding.
pub(super) fn wrap_out(session: &Session, id: Id, private: bool) -> Result<Vec<u8>, Fault> {
    let key = find(session, id, if private { Class::Private } else { Class::Secret })?;
    let kek = kek::find(session)?;
    match session.inner.wrap_key(&wrapping(private), kek, key) {
        // What SoftHSM says of an Edwards key.
        Err(Error::Pkcs11(RvError::KeyUnextractable | RvError::KeyNotWrappable, _)) => {
            Err(Fault::Unsupported)
        }
        wrapped => Ok(wrapped?),
    }
}

/// What comes into the token wrapped.
pub(super) struct Wrapped<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) id: Id,
    pub(super) label: &'a str,
    pub(super) travels: bool,
    pub(super) bytes: &'a [u8],
    /// Of an RSA key, for the public half beside it.
    pub(super) modulus: &'a [u8],
    pub(super) exponent: &'a [u8],
}

/// Brings in what another member has wrapped; what is there already makes way.
pub(super) fn unwrap_in(
    session: &Session,
    wrapped: &Wrapped<'_>,
    number: u32,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    // One at a time.
    let mut tried = session.token.bringing.lock().unwrap_or_else(PoisonError::into_inner);
    destroy(session, wrapped.id)?;
    let kek = kek::find(session)?;
    unwrap_under(session, kek, wrapped, &mut tried, number, reply)
}

/// Brings in what the gateway has wrapped for this once, under a key that lives as long as it takes.
pub(super) fn bring_in(
    session: &Session,
    carrier: &[u8],
    wrapped: &Wrapped<'_>,
    number: u32,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let mut tried = session.token.bringing.lock().unwrap_or_else(PoisonError::into_inner);
    destroy(session, wrapped.id)?;
    let carrier = session.inner.create_object(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Value(carrier.to_vec()),
    ])?;
    let brought = unwrap_under(session, carrier, wrapped, &mut tried, number, reply);
    session.inner.destroy_object(carrier)?;
    brought
}

fn unwrap_under(
    session: &Session,
    kek: ObjectHandle,
    wrapped: &Wrapped<'_>,
    tried: &mut HashMap<Algorithm, usize>,
    number: u32,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let Wrapped { algorithm, id, label, travels, bytes, modulus, exponent } = *wrapped;
    let (class, may, only) = match recipe(session, algorithm)? {
        Recipe::Secret { may, only, .. } => (Class::Secret, may.to_vec(), only),
        Recipe::Pair { private_may, only, .. } => (Class::Private, private_may, only),
    };
    let mut template = named(id, label);
    template.extend([
        Attribute::Class(class.object()),
        Attribute::KeyType(key_type(algorithm)?),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(travels),
    ]);
    if travels {
        template.extend(kek::travelling(&session.token));
    }
    template.extend(may);
    let mechanism = wrapping(matches!(class, Class::Private));
    let limits = limits(&template, class, only);
    let unwrap = |keeping: Attribute, limits: &[Attribute]| {
        let template: Vec<_> = template
            .iter()
            .map(|said| match said.attribute_type() == keeping.attribute_type() {
                true => keeping.clone(),
                false => said.clone(),
            })
            .collect();
        session.inner.unwrap_key(&mechanism, kek, bytes, &[&template, limits].concat())
    };
    let place = match tried.get(&algorithm) {
        Some(place) => *place,
        None => {
            // Where some modules refuse they leave half an object behind: it is found out with objects that go with their session.
            let (place, object) = limited(&limits, |limits| unwrap(Attribute::Token(false), limits))?;
            session.inner.destroy_object(object)?;
            *tried.entry(algorithm).or_insert(place)
        }
    };
    let key = unwrap(Attribute::Token(true), limits.get(place).map(Vec::as_slice).unwrap_or_default())?;
    if !modulus.is_empty() {
        let mut public = named(id, label);
        public.extend([
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::Encrypt(true),
            Attribute::Modulus(modulus.to_vec()),
            Attribute::PublicExponent(exponent.to_vec()),
        ]);
        session.inner.create_object(&public)?;
    }
    session.token.remember(id, class, key);
    let evidence = evidence(session, key)?;
    Ok(Reply::Made(Made { evidence, public: &[], exponent: &[] }).encode(number, reply)?)
}

fn key_type(algorithm: Algorithm) -> Result<KeyType, Fault> {
    match algorithm {
        Algorithm::Aes256Gcm | Algorithm::Aes256Kw | Algorithm::Aes256Kwp => Ok(KeyType::AES),
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => Ok(KeyType::GENERIC_SECRET),
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => Ok(KeyType::RSA),
        Algorithm::EcdsaP256
        | Algorithm::EcdsaP384
        | Algorithm::EcdsaP521
        | Algorithm::EcdhP256
        | Algorithm::EcdhP384 => Ok(KeyType::EC),
        Algorithm::Ed25519 => Ok(KeyType::EC_EDWARDS),
        Algorithm::X25519 => Ok(KeyType::EC_MONTGOMERY),
        Algorithm::Xaes256Gcm | Algorithm::Aes256GcmSiv | Algorithm::MlDsa65 | Algorithm::MlKem768 => {
            Err(Fault::Unsupported)
        }
    }
}

/// A key's handle, looked up once.
pub(super) fn find(session: &Session, id: Id, class: Class) -> Result<ObjectHandle, Fault> {
    if let Some(handle) = session.token.handle(id, class) {
        return Ok(handle);
    }
    let Some(handle) = search(session, id, class)? else {
        // Other programs remove their own when they like, and other members what is destroyed: that says nothing of the device.
        let is_missed = session.token.had(id, class) && session.token.place(id).is_none();
        return Err(if is_missed { Fault::Gone } else { Fault::NoSuchKey });
    };
    session.token.remember(id, class, handle);
    Ok(handle)
}

fn search(session: &Session, id: Id, class: Class) -> Result<Option<ObjectHandle>, Fault> {
    let template = match session.token.place(id) {
        Some(place) => match place.template(class) {
            Some(template) => template,
            None => return Ok(None),
        },
        None => vec![Attribute::Token(true), Attribute::Class(class.object()), Attribute::Id(id.to_vec())],
    };
    match session.inner.find_objects(&template)?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        // Ours are random, and another program's was the only one: somebody gave a second object the same name.
        [..] => Err(Fault::new("two objects have one CKA_ID")),
    }
}

/// Whether a key that was there still is, if there was one: a module may answer all by itself, long after its device has gone.
pub(super) fn look(session: &Session) -> Result<(), Fault> {
    if !session.token.kek_label().is_empty() {
        kek::find(session)?;
    }
    let Some((id, class)) = session.token.some_key() else { return Ok(()) };
    let key = match find(session, id, class) {
        // It was there, whoever made it: only another process can tell whether the device is.
        Err(Fault::NoSuchKey) => return Err(Fault::Gone),
        key => key?,
    };
    session.inner.get_attributes(key, &[AttributeType::Class])?;
    Ok(())
}

/// Removes a key and, where a label is given, whatever else has that.
pub(super) fn remove(session: &Session, id: Id, label: &str) -> Result<(), Fault> {
    if !label.is_empty() {
        // What is being brought in under it stands there before it is looked for. That takes as long as its device takes, and whoever waited for it would be
        // taken for one that hangs.
        let _bringing = match session.token.bringing.try_lock() {
            Ok(bringing) => bringing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Fault::Busy),
        };
        remove_labelled(session, label)?;
    }
    // Last, since it looks whether the device is there at all.
    destroy(session, id)
}

fn remove_labelled(session: &Session, label: &str) -> Result<(), Fault> {
    for class in [Class::Secret, Class::Private, Class::Public] {
        let template =
            [Attribute::Token(true), Attribute::Class(class.object()), Attribute::Label(label.into())];
        for object in session.inner.find_objects(&template)? {
            for attribute in session.inner.get_attributes(object, &[AttributeType::Id])? {
                if let Attribute::Id(id) = attribute
                    && let Ok(id) = Id::try_from(id)
                {
                    session.token.forget(id);
                }
            }
            remove_object(session, object, || Ok(!session.inner.find_objects(&template)?.contains(&object)))?;
        }
        if !session.inner.find_objects(&template)?.is_empty() {
            return Err(Fault::new("an object is still there after C_DestroyObject"));
        }
    }
    Ok(())
}

/// Removes a key, both halves, and looks whether it is gone. None is as good as gone, once the device shows that it is still there itself.
pub(super) fn destroy(session: &Session, id: Id) -> Result<(), Fault> {
    session.token.forget(id);
    let mut was_there = false;
    for class in [Class::Secret, Class::Private, Class::Public] {
        if let Some(object) = search(session, id, class)? {
            was_there |= remove_object(session, object, || Ok(search(session, id, class)?.is_none()))?;
        }
    }
    // Where the device has gone, a module finds nothing either.
    if was_there { Ok(()) } else { look(session) }
}

/// Removes an object, and looks whether it is gone. Gives whether it went by this: members of one group are asked at once, and of two that remove one object
/// the later one fails, in whatever words its module has for that.
fn remove_object(
    session: &Session,
    object: ObjectHandle,
    is_gone: impl FnOnce() -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    let removed = session.inner.destroy_object(object);
    match (removed, is_gone()?) {
        (removed, true) => Ok(removed.is_ok()),
        (Ok(()), false) => Err(Fault::new("an object is still there after C_DestroyObject")),
        // The object's own CKA_DESTROYABLE: no fault of the device, which does all else.
        (Err(Error::Pkcs11(RvError::ActionProhibited, _)), false) => Err(Fault::Unsupported),
        (Err(error), false) => Err(error.into()),
    }
}
