//! The key under which a pool's keys travel from token to token: what it must be, and whether the token holds to that.
//!
//! It is trusted (CKA_TRUSTED, which only the security officer can set), wraps and unwraps and does nothing else, and whatever it unwraps is
//! private, sensitive and can't leave (CKA_UNWRAP_TEMPLATE). The keys that travel are to be wrapped with trusted keys only
//! (CKA_WRAP_WITH_TRUSTED). A token that does not enforce one of these is not used: it is tried, by attempting what must not work.

use super::fault::Fault;
use super::operate::{wrap_with, wrapping};
use super::token::Session;
use aws_lc_rs::digest;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};

/// CKA_UNWRAP_TEMPLATE (PKCS#11 2.40 §4.9, table 33).
const CKA_UNWRAP_TEMPLATE: u64 = 0x4000_0212;
const CKA_PRIVATE: usize = 0x0002;
const CKA_SENSITIVE: usize = 0x0103;
const CKA_EXTRACTABLE: usize = 0x0162;

/// Length of a fingerprint in bytes.
pub const FINGERPRINT_LEN: usize = 16;
/// What is wrapped to tell wrapping keys apart.
const FIXED: &[u8; 32] = b"holdfast/kek-fingerprint/v1     ";

/// What the wrapping key unwraps is private, sensitive and can't leave, whatever is asked for.
///
/// The attribute's value is an array of attributes: type, address and length of each value, as the machine has them.
fn unwrap_template() -> Attribute {
    // The addresses must hold for as long as somebody has the attribute.
    static NO: u8 = 0;
    static YES: u8 = 1;
    let forced = [(CKA_PRIVATE, &YES), (CKA_SENSITIVE, &YES), (CKA_EXTRACTABLE, &NO)];
    let words = forced.map(|(kind, value)| [kind, core::ptr::from_ref(value).expose_provenance(), 1]);
    let bytes = words.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect();
    Attribute::VendorDefined((AttributeType::VendorDefined(CKA_UNWRAP_TEMPLATE), bytes))
}

/// What the wrapping key is made as, or unwrapped as; with its length only where it is made.
pub(super) fn kek_template(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        // The security officer sees no private objects, and is the one who sets CKA_TRUSTED.
        Attribute::Private(false),
        Attribute::Sensitive(true),
        // So that it can be brought to another member, by the security officer.
        Attribute::Extractable(true),
        Attribute::WrapWithTrusted(true),
        Attribute::Trusted(true),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
        Attribute::Label(label.into()),
        unwrap_template(),
        // Last, since some tokens take nothing after it. Without it any user could let it decrypt.
        Attribute::Modifiable(false),
    ]
}

/// The wrapping key, which was there at the start.
pub(super) fn find(session: &Session) -> Result<ObjectHandle, Fault> {
    search(&session.inner, session.token.kek_label())?.ok_or(Fault::Gone)
}

pub(super) fn search(
    session: &cryptoki::session::Session,
    label: &str,
) -> Result<Option<ObjectHandle>, Fault> {
    let template =
        [Attribute::Token(true), Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.into())];
    match session.find_objects(&template)?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [..] => Err(Fault::new(format!("two objects of the token are called `{label}`"))),
    }
}

/// Tells wrapping keys apart and says nothing of them: a digest of what it makes of fixed bytes.
pub(super) fn fingerprint(
    session: &cryptoki::session::Session,
    kek: ObjectHandle,
    private: bool,
) -> Result<[u8; FINGERPRINT_LEN], Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(private),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Value(FIXED.to_vec()),
    ];
    let object = session.create_object(&template)?;
    let wrapped = session.wrap_key(&wrapping(false), kek, object);
    session.destroy_object(object)?;
    let digest = digest::digest(&digest::SHA256, &[&FIXED[..], &wrapped?].concat());
    digest.as_ref().first_chunk().copied().ok_or_else(|| Fault::new("a digest is too short"))
}

/// Looks at the wrapping key, tries whether the token lets anything out that it must not, and gives the fingerprint.
pub(super) fn check(session: &Session) -> Result<[u8; FINGERPRINT_LEN], Fault> {
    let label = session.token.kek_label();
    let kek = search(&session.inner, label)?.ok_or_else(|| {
        Fault::new(format!(
            "the token has no wrapping key `{label}`: make one, or bring it from another member, by `holdfast pool kek`"
        ))
    })?;
    let wanted = [
        (AttributeType::Trusted, true),
        (AttributeType::Sensitive, true),
        (AttributeType::Wrap, true),
        (AttributeType::Unwrap, true),
        (AttributeType::Encrypt, false),
        (AttributeType::Decrypt, false),
        (AttributeType::Modifiable, false),
    ];
    let kinds = wanted.map(|(kind, _)| kind);
    let read = session.inner.get_attributes(kek, &kinds)?;
    for (kind, must) in wanted {
        let said = read.iter().find(|attribute| attribute.attribute_type() == kind).and_then(flag);
        if said != Some(must) {
            return Err(Fault::new(format!(
                "the wrapping key's {kind} is not {must}: it was not made by `holdfast pool kek`"
            )));
        }
    }
    Trial::begin(session, kek)?.run()?;
    fingerprint(&session.inner, kek, true)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
fn flag(attribute: &Attribute) -> Option<bool> {
    match attribute {
        Attribute::Trusted(yes)
        | Attribute::Sensitive(yes)
        | Attribute::Wrap(yes)
        | Attribute::Unwrap(yes)
        | Attribute::Encrypt(yes)
        | Attribute::Decrypt(yes)
        | Attribute::Modifiable(yes) => Some(*yes),
        _ => None,
    }
}

/// An attempt at getting out what must stay inside, with keys that live as long as it takes.
struct Trial<'s> {
    session: &'s Session,
    kek: ObjectHandle,
    /// A key that may travel under trusted keys.
    traveller: ObjectHandle,
    /// A wrapping key of ours, which nobody trusts.
    untrusted: ObjectHandle,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for object in [self.traveller, self.untrusted] {
            drop(self.session.inner.destroy_object(object));
        }
    }
}

impl<'s> Trial<'s> {
    fn begin(session: &'s Session, kek: ObjectHandle) -> Result<Self, Fault> {
        let make = |more: &[Attribute]| {
            let mut template = vec![
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::ValueLen(32.into()),
            ];
            template.extend_from_slice(more);
            session.inner.generate_key(&Mechanism::AesKeyGen, &template)
        };
        let traveller = make(&[
            Attribute::Extractable(true),
            Attribute::WrapWithTrusted(true),
            Attribute::Encrypt(true),
        ])?;
        let untrusted = match make(&[Attribute::Extractable(false), Attribute::Wrap(true)]) {
            Ok(untrusted) => untrusted,
            Err(error) => {
                drop(session.inner.destroy_object(traveller));
                return Err(error.into());
            }
        };
        Ok(Self { session, kek, traveller, untrusted })
    }

    fn run(&self) -> Result<(), Fault> {
        let Self { session, kek, traveller, untrusted } = self;
        let inner = &session.inner;
        let lets = |what: &str| {
            Err(Fault::new(format!("the token is not to be trusted with keys that travel: it {what}")))
        };
        if inner.wrap_key(&wrapping(false), *untrusted, *traveller).is_ok() {
            return lets("wraps a key with CKA_WRAP_WITH_TRUSTED under one that is not trusted");
        }
        if inner.update_attributes(*untrusted, &[Attribute::Trusted(true)]).is_ok() {
            return lets("lets its user set CKA_TRUSTED");
        }
        if inner.update_attributes(*traveller, &[Attribute::WrapWithTrusted(false)]).is_ok() {
            return lets("lets CKA_WRAP_WITH_TRUSTED be taken away");
        }
        if inner.update_attributes(*kek, &[Attribute::Decrypt(true)]).is_ok() {
            return lets("lets its user give the wrapping key other uses");
        }
        if value(inner, *traveller) {
            return lets("gives a sensitive key's value");
        }
        if inner.encrypt(&Mechanism::AesEcb, *kek, &FIXED[..]).is_ok() {
            return lets("encrypts with a key that may only wrap");
        }
        let wrapped = inner.wrap_key(&wrapping(false), *kek, *traveller)?;
        if inner.decrypt(&Mechanism::AesEcb, *kek, FIXED).is_ok() {
            return lets("decrypts with a key that may only unwrap");
        }
        let clear = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        if let Ok(out) = inner.unwrap_key(&wrapping(false), *kek, &wrapped, &clear) {
            let readable = value(inner, out);
            let leaves = inner.wrap_key(&wrapping(false), *untrusted, out).is_ok();
            inner.destroy_object(out)?;
            if readable || leaves {
                return lets("unwraps what the wrapping key's CKA_UNWRAP_TEMPLATE says must stay inside");
            }
        }
        // And what must work does.
        wrap_with(session, *kek, false, FIXED).map(drop)
    }
}

/// Whether a key's value can be read.
fn value(session: &cryptoki::session::Session, key: ObjectHandle) -> bool {
    let read = session.get_attributes(key, &[AttributeType::Value]).unwrap_or_default();
    read.iter().any(|attribute| matches!(attribute, Attribute::Value(value) if !value.is_empty()))
}
