//! Objects that other programs have made: found by their own names, looked at, and removed when they are Holdfast's no longer.

use super::super::message::{Buffer, Existing, Id, Object, Reply, Uses};
use super::fault::Fault;
use super::keys;
use super::token::{Class, Session};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};

/// How many ids are told of where several objects are named so.
const MOST_TOLD: usize = 8;

/// Where the token has an object that Holdfast knows by an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    id: Vec<u8>,
    label: String,
    private: bool,
}

impl Place {
    fn new(Object { id, label, private }: Object<'_>) -> Self {
        Self { id: id.to_vec(), label: label.to_owned(), private }
    }

    /// What it is searched by; nothing for a class that it has no object of.
    pub(super) fn template(&self, class: Class) -> Option<Vec<Attribute>> {
        let Self { id, label, private } = self;
        let (id, label) = (id.as_slice(), label.as_str());
        match (class, private) {
            (Class::Secret, false) | (Class::Private, true) => Some(template(class, id, label)),
            (Class::Public, true) => Some(public_template(id, label)),
            (Class::Secret, true) | (Class::Private | Class::Public, false) => None,
        }
    }
}

fn template(class: Class, id: &[u8], label: &str) -> Vec<Attribute> {
    let mut template = vec![Attribute::Token(true), Attribute::Class(class.object())];
    if !id.is_empty() {
        template.push(Attribute::Id(id.to_vec()));
    }
    if !label.is_empty() {
        template.push(Attribute::Label(label.into()));
    }
    template
}

/// Both halves have one CKA_ID (PKCS#11 2.40 §4.7); labels may differ.
fn public_template(id: &[u8], label: &str) -> Vec<Attribute> {
    template(Class::Public, id, if id.is_empty() { label } else { "" })
}

/// Says what the token says of the one object that is named so.
pub(super) fn look_up(
    session: &Session,
    object: Object<'_>,
    number: u32,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let class = if object.private { Class::Private } else { Class::Secret };
    let found = session.inner.find_objects(&template(class, object.id, object.label))?;
    let [key] = found.as_slice() else { return Err(not_one(session, &found)) };
    let mut seen = Seen::default();
    seen.read(session, *key)?;
    // The wrapping key of the pool is no key for anything else.
    if !session.token.kek_label().is_empty() && seen.label == session.token.kek_label() {
        return Err(Fault::NotOne(Vec::new()));
    }
    if object.private {
        let halves = session.inner.find_objects(&public_template(&seen.id, &seen.label))?;
        match halves.as_slice() {
            [] => {}
            [half] => seen.read_public(session, *half)?,
            [..] => return Err(not_one(session, &halves)),
        }
    }
    let Seen { uses, key_type, length, parameters, id, label, public, exponent } = &seen;
    let existing = Existing {
        evidence: keys::evidence(session, *key)?,
        uses: *uses,
        key_type: *key_type,
        length: *length,
        parameters,
        id,
        label,
        public,
        exponent,
    };
    Ok(Reply::Existing(existing).encode(number, reply)?)
}

/// None, or several: then with the CKA_ID of each, a length before each.
fn not_one(session: &Session, found: &[ObjectHandle]) -> Fault {
    let mut ids = Vec::new();
    for object in found.iter().take(MOST_TOLD) {
        let mut seen = Seen::default();
        if let Err(fault) = seen.read(session, *object) {
            return fault;
        }
        let id = seen.id.get(..seen.id.len().min(usize::from(u8::MAX))).unwrap_or_default();
        ids.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
        ids.extend_from_slice(id);
    }
    Fault::NotOne(ids)
}

/// An object's attributes, owned.
#[derive(Default)]
struct Seen {
    uses: Uses,
    key_type: u64,
    length: u32,
    parameters: Vec<u8>,
    id: Vec<u8>,
    label: String,
    public: Vec<u8>,
    exponent: Vec<u8>,
}

impl Seen {
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
    fn read(&mut self, session: &Session, object: ObjectHandle) -> Result<(), Fault> {
        let wanted = [
            AttributeType::KeyType,
            AttributeType::ValueLen,
            AttributeType::EcParams,
            AttributeType::Id,
            AttributeType::Label,
            AttributeType::Encrypt,
            AttributeType::Decrypt,
            AttributeType::Sign,
            AttributeType::Verify,
            AttributeType::Wrap,
            AttributeType::Unwrap,
            AttributeType::Derive,
            AttributeType::Trusted,
        ];
        for attribute in session.inner.get_attributes(object, &wanted)? {
            let used = match attribute {
                Attribute::KeyType(kind) => {
                    self.key_type = *kind;
                    continue;
                }
                Attribute::ValueLen(length) => {
                    self.length = u32::try_from(*length).unwrap_or(u32::MAX);
                    continue;
                }
                Attribute::EcParams(bytes) => {
                    self.parameters = bytes;
                    continue;
                }
                Attribute::Id(bytes) => {
                    self.id = bytes;
                    continue;
                }
                Attribute::Label(bytes) => {
                    self.label = String::from_utf8(bytes).unwrap_or_default();
                    continue;
                }
                Attribute::Encrypt(true) => Uses::ENCRYPT,
                Attribute::Decrypt(true) => Uses::DECRYPT,
                Attribute::Sign(true) => Uses::SIGN,
                Attribute::Verify(true) => Uses::VERIFY,
                Attribute::Wrap(true) => Uses::WRAP,
                Attribute::Unwrap(true) => Uses::UNWRAP,
                Attribute::Derive(true) => Uses::DERIVE,
                Attribute::Trusted(true) => Uses::TRUSTED,
                _ => continue,
            };
            self.uses = self.uses.with(used);
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
    fn read_public(&mut self, session: &Session, half: ObjectHandle) -> Result<(), Fault> {
        let wanted = [AttributeType::Modulus, AttributeType::PublicExponent, AttributeType::EcPoint];
        for attribute in session.inner.get_attributes(half, &wanted)? {
            match attribute {
                Attribute::Modulus(bytes) | Attribute::EcPoint(bytes) => self.public = bytes,
                Attribute::PublicExponent(bytes) => self.exponent = bytes,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Remembers which object is meant by an id, for as long as this process lives. It is looked for when it is first used.
pub(super) fn point_out(session: &Session, id: Id, object: Object<'_>) {
    session.token.point_out(id, Place::new(object));
}

/// Removes an object, with its public half, and looks whether it is gone.
pub(super) fn destroy(session: &Session, id: Id, object: Object<'_>) -> Result<(), Fault> {
    point_out(session, id, object);
    keys::destroy(session, id)
}
