//! The key under which a pool's keys travel from token to token: what it must be, and whether the token holds to that.
//!
//! It is trusted (CKA_TRUSTED, which only the security officer can set), wraps and unwraps and does nothing else, and whatever it unwraps is
//! private, sensitive and can't leave (CKA_UNWRAP_TEMPLATE). The keys that travel are to be wrapped with trusted keys only
//! (CKA_WRAP_WITH_TRUSTED). A token that does not enforce one of these is not used: it is tried, by attempting what must not work.
//!
//! It may leave under trusted keys itself, since it is brought from member to member, and so it would leave under itself and come back with other uses. Hence it wraps what
//! has a mark that it has not (CKA_WRAP_TEMPLATE): every key that travels begins to be valid on a day long past (CKA_START_DATE). It can't be given that: it is neither changed nor copied.

use super::fault::Fault;
use super::operate::wrapping;
use super::token::{Session, Token};
use aws_lc_rs::digest;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::types::Date;

/// Of the key that wraps (PKCS#11 2.40 §4.9, table 33): what it wraps must have these attributes, and what it unwraps gets those.
const CKA_WRAP_TEMPLATE: u64 = 0x4000_0211;
const CKA_UNWRAP_TEMPLATE: u64 = 0x4000_0212;
const CKA_START_DATE: usize = 0x0110;
const CKA_PRIVATE: usize = 0x0002;
const CKA_SENSITIVE: usize = 0x0103;
const CKA_EXTRACTABLE: usize = 0x0162;

/// Length of a fingerprint in bytes.
pub const FINGERPRINT_LEN: usize = 16;
/// What is wrapped to tell wrapping keys apart.
const FIXED: &[u8; 32] = b"holdfast/kek-fingerprint/v1     ";

/// The day that marks what may travel: year, month, day, as CK_DATE has them.
static MARK: [u8; 8] = *b"20000101";

/// What every key has that travels, and the wrapping key has not.
fn mark() -> Attribute {
    let [y0, y1, y2, y3, m0, m1, d0, d1] = MARK;
    Attribute::StartDate(Date::new([y0, y1, y2, y3], [m0, m1], [d0, d1]))
}

/// An attribute whose value is an array of attributes: type, address and length of each value, as the machine has them. The addresses must hold for as
/// long as somebody has it.
fn array(kind: u64, of: &[(usize, &'static [u8])]) -> Attribute {
    let words = of.iter().map(|(kind, value)| [*kind, value.as_ptr().expose_provenance(), value.len()]);
    let bytes = words.flatten().flat_map(usize::to_ne_bytes).collect();
    Attribute::VendorDefined((AttributeType::VendorDefined(kind), bytes))
}

/// What the wrapping key is made as, or unwrapped as; with its length only where it is made. The best first: not every token knows a CKA_WRAP_TEMPLATE, and without that
/// it can be taken through itself ([`Trial::lets_it_through_itself`]).
pub(super) fn kek_templates(label: &str) -> [Vec<Attribute>; 2] {
    static NO: [u8; 1] = [0];
    static YES: [u8; 1] = [1];
    let template = |more: &[Attribute]| {
        let mut template = vec![
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
            // What it unwraps is private, sensitive and can't leave, whatever is asked for.
            array(CKA_UNWRAP_TEMPLATE, &[(CKA_PRIVATE, &YES), (CKA_SENSITIVE, &YES), (CKA_EXTRACTABLE, &NO)]),
        ];
        template.extend_from_slice(more);
        // Last, since some tokens take nothing after it. Without it any user could let it decrypt.
        template.push(Attribute::Modifiable(false));
        template
    };
    [
        template(&[array(CKA_WRAP_TEMPLATE, &[(CKA_START_DATE, &MARK)]), Attribute::Copyable(false)]),
        template(&[]),
    ]
}

/// What keys are made with that travel.
pub(super) fn travelling(token: &Token) -> Vec<Attribute> {
    let mut said = vec![Attribute::WrapWithTrusted(true)];
    said.extend(token.marks().then(mark));
    said
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

/// What it makes of fixed bytes, and whether those must have the mark for it.
fn wrap_fixed(
    session: &cryptoki::session::Session,
    kek: ObjectHandle,
    private: bool,
) -> Result<(Vec<u8>, bool), Fault> {
    let wrap = |marks: &[Attribute]| -> Result<Vec<u8>, Error> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Private(private),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Value(FIXED.to_vec()),
        ];
        let object = session.create_object(&[&template, marks].concat())?;
        let wrapped = session.wrap_key(&wrapping(false), kek, object);
        session.destroy_object(object)?;
        wrapped
    };
    match wrap(&[]) {
        Ok(wrapped) => Ok((wrapped, false)),
        Err(_) => Ok((wrap(&[mark()])?, true)),
    }
}

/// Tells wrapping keys apart and says nothing of them: a digest of what one makes of fixed bytes.
fn print(wrapped: &[u8]) -> Result<[u8; FINGERPRINT_LEN], Fault> {
    let digest = digest::digest(&digest::SHA256, &[&FIXED[..], wrapped].concat());
    digest.as_ref().first_chunk().copied().ok_or_else(|| Fault::new("a digest is too short"))
}

/// The wrapping key's fingerprint, for the security officer.
pub(super) fn fingerprint(
    session: &cryptoki::session::Session,
    kek: ObjectHandle,
) -> Result<[u8; FINGERPRINT_LEN], Fault> {
    print(&wrap_fixed(session, kek, false)?.0)
}

/// What was found of a wrapping key that may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) fingerprint: [u8; FINGERPRINT_LEN],
    /// Whoever has the user's PIN can take it through itself.
    pub(super) through_itself: bool,
}

/// Looks at the wrapping key, and tries whether the token lets anything out that it must not.
pub(super) fn check(session: &Session) -> Result<Checked, Fault> {
    let label = session.token.kek_label();
    let kek = search(&session.inner, label)?.ok_or_else(|| {
        Fault::new(format!(
            "the token has no wrapping key `{label}`: make one, or bring it from another member, by `holdfast pool kek`"
        ))
    })?;
    let wanted = [
        (AttributeType::Trusted, true),
        (AttributeType::Sensitive, true),
        (AttributeType::WrapWithTrusted, true),
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
    let (wrapped, marked) = wrap_fixed(&session.inner, kek, true)?;
    session.token.wraps_what_is_marked(marked);
    let trial = Trial::begin(session, kek)?;
    trial.run()?;
    let through_itself = trial.lets_it_through_itself();
    Ok(Checked { fingerprint: print(&wrapped)?, through_itself })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, which grows")]
fn flag(attribute: &Attribute) -> Option<bool> {
    match attribute {
        Attribute::Trusted(yes)
        | Attribute::Sensitive(yes)
        | Attribute::WrapWithTrusted(yes)
        | Attribute::Wrap(yes)
        | Attribute::Unwrap(yes)
        | Attribute::Encrypt(yes)
        | Attribute::Decrypt(yes)
        | Attribute::Modifiable(yes) => Some(*yes),
        _ => None,
    }
}

/// An object of an attempt, removed with it.
struct Own<'s> {
    session: &'s Session,
    object: ObjectHandle,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        // It lives no longer than its session.
        drop(self.session.inner.destroy_object(self.object));
    }
}

/// An attempt at getting out what must stay inside, by what whoever has the user's PIN can do, with keys that live as long as it takes. It goes by
/// what comes out: some tokens take an attribute that they then do not heed.
struct Trial<'s> {
    session: &'s Session,
    kek: ObjectHandle,
    /// A key that may travel under trusted keys.
    traveller: Own<'s>,
    /// A wrapping key of ours, which nobody trusts.
    untrusted: Own<'s>,
}

/// What an attacker's wrapping key is.
const KNOWN: [u8; 32] = [0x5a; 32];

/// A wrapping key as its user wishes to have it.
fn trusted() -> [Attribute; 5] {
    [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Wrap(true),
        Attribute::Trusted(true),
    ]
}

fn secret() -> [Attribute; 2] {
    [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)]
}

fn lets(what: &str) -> Result<(), Fault> {
    Err(Fault::new(format!("the token is not to be trusted with keys that travel: it {what}")))
}

impl<'s> Trial<'s> {
    fn begin(session: &'s Session, kek: ObjectHandle) -> Result<Self, Fault> {
        let make = |more: &[Attribute]| -> Result<Own<'s>, Fault> {
            let mut template = vec![
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::ValueLen(32.into()),
            ];
            template.extend_from_slice(more);
            let object = session.inner.generate_key(&Mechanism::AesKeyGen, &template)?;
            Ok(Own { session, object })
        };
        let uses = [Attribute::Extractable(true), Attribute::Encrypt(true)];
        let traveller = make(&[&uses[..], &travelling(&session.token)].concat())?;
        let untrusted = make(&[Attribute::Extractable(false), Attribute::Wrap(true)])?;
        Ok(Self { session, kek, traveller, untrusted })
    }

    fn run(&self) -> Result<(), Fault> {
        self.wraps_under_what_nobody_trusts()?;
        self.lets_its_user_trust()?;
        self.changes_what_is_there()?;
        self.copies()?;
        self.gives_what_it_has()?;
        // And what must work does.
        wrap_fixed(&self.session.inner, self.kek, true).map(drop)
    }

    /// Whether a key comes out under another.
    fn leaves(&self, key: ObjectHandle, under: ObjectHandle) -> bool {
        [false, true].iter().any(|padded| self.session.inner.wrap_key(&wrapping(*padded), under, key).is_ok())
    }

    fn own(&self, made: cryptoki::error::Result<ObjectHandle>) -> Option<Own<'s>> {
        made.ok().map(|object| Own { session: self.session, object })
    }

    /// A copy with some attributes changed, if the token makes one.
    fn copy(&self, of: ObjectHandle, change: &[Attribute]) -> Option<Own<'s>> {
        let template = [&[Attribute::Token(false)], change].concat();
        self.own(self.session.inner.copy_object(of, &template))
    }

    fn decrypts(&self, key: ObjectHandle) -> bool {
        [Mechanism::AesEcb, Mechanism::AesCbc([0; 16])]
            .iter()
            .any(|mechanism| self.session.inner.decrypt(mechanism, key, FIXED).is_ok())
    }

    fn wraps_under_what_nobody_trusts(&self) -> Result<(), Fault> {
        let untrusted = self.untrusted.object;
        if self.leaves(self.traveller.object, untrusted) {
            return lets("wraps a key with CKA_WRAP_WITH_TRUSTED under one that is not trusted");
        }
        if self.leaves(self.kek, untrusted) {
            return lets("wraps the wrapping key itself under one that is not trusted");
        }
        Ok(())
    }

    /// Every way in which a user could come to a trusted key whose value they know, or may know.
    fn lets_its_user_trust(&self) -> Result<(), Fault> {
        let Self { session, kek, traveller, untrusted } = self;
        let inner = &session.inner;
        if inner.update_attributes(untrusted.object, &[Attribute::Trusted(true)]).is_ok() {
            return lets("lets its user set CKA_TRUSTED");
        }
        let known = [Attribute::Value(KNOWN.to_vec())];
        let created = inner.create_object(&[&secret()[..], &trusted(), &known].concat());
        let generated = inner.generate_key(
            &Mechanism::AesKeyGen,
            &[&trusted()[..], &[Attribute::ValueLen(32.into())]].concat(),
        );
        // Whoever has the user's PIN may wrap a key of their own under the trusted one, and take it in again.
        let theirs = [Attribute::Token(false), Attribute::Private(true), Attribute::Extractable(true)];
        let theirs = self.own(inner.create_object(&[&secret()[..], &theirs, &known, &[mark()]].concat()));
        let unwrapped = theirs.and_then(|theirs| {
            let wrapped = inner.wrap_key(&wrapping(false), *kek, theirs.object).ok()?;
            let taken = [&secret()[..], &trusted(), &[Attribute::Extractable(false)]].concat();
            self.own(inner.unwrap_key(&wrapping(false), *kek, &wrapped, &taken))
        });
        let made = [
            ("creates", self.own(created)),
            ("makes", self.own(generated)),
            ("unwraps", unwrapped),
            ("copies", self.copy(untrusted.object, &[Attribute::Trusted(true)])),
        ];
        for (does, own) in &made {
            if own.as_ref().is_some_and(|own| self.leaves(traveller.object, own.object)) {
                return lets(&format!("{does} a key with CKA_TRUSTED for its user, and wraps under it"));
            }
        }
        Ok(())
    }

    fn changes_what_is_there(&self) -> Result<(), Fault> {
        let inner = &self.session.inner;
        if inner.update_attributes(self.traveller.object, &[Attribute::WrapWithTrusted(false)]).is_ok() {
            return lets("lets CKA_WRAP_WITH_TRUSTED be taken away");
        }
        for (change, back) in [
            (Attribute::Decrypt(true), Attribute::Decrypt(false)),
            (Attribute::WrapWithTrusted(false), Attribute::WrapWithTrusted(true)),
        ] {
            if inner.update_attributes(self.kek, std::slice::from_ref(&change)).is_ok() {
                // As far as it goes.
                drop(inner.update_attributes(self.kek, &[back]));
                return lets("lets its user give the wrapping key other uses, or another protection");
            }
        }
        Ok(())
    }

    /// A trusted key that may leave under trusted keys leaves under itself, and comes back with other uses, unless its CKA_WRAP_TEMPLATE stands before it. Not every token has
    /// that, and the standard has nothing against it, so that this is told and refuses no token.
    fn lets_it_through_itself(&self) -> bool {
        let Self { session, kek, .. } = self;
        let inner = &session.inner;
        let wrapped = |key| inner.wrap_key(&wrapping(false), *kek, key).ok();
        let as_it_is = || wrapped(*kek);
        let as_a_copy = || wrapped(self.copy(*kek, &[mark()])?.object);
        let marked = || inner.update_attributes(*kek, &[mark()]).ok().and_then(|()| wrapped(*kek));
        let uses = [Attribute::Token(false), Attribute::Private(true), Attribute::Decrypt(true)];
        let kept = [Attribute::Sensitive(true), Attribute::Extractable(false)];
        let back = [&secret()[..], &uses, &kept].concat();
        let own = as_it_is()
            .or_else(as_a_copy)
            .or_else(marked)
            .and_then(|wrapped| self.own(inner.unwrap_key(&wrapping(false), *kek, &wrapped, &back)));
        own.is_some_and(|own| self.decrypts(own.object))
    }

    /// A copy must be as well protected as what it is one of.
    fn copies(&self) -> Result<(), Fault> {
        let (inner, untrusted) = (&self.session.inner, self.untrusted.object);
        for (name, of) in [("a key that travels", self.traveller.object), ("the wrapping key", self.kek)] {
            let bare = self.copy(of, &[Attribute::WrapWithTrusted(false)]);
            if bare.is_some_and(|copy| self.leaves(copy.object, untrusted)) {
                return lets(&format!("copies {name} without CKA_WRAP_WITH_TRUSTED"));
            }
            let clear = self.copy(of, &[Attribute::Sensitive(false)]);
            if clear.is_some_and(|copy| value(inner, copy.object)) {
                return lets(&format!("copies {name} without CKA_SENSITIVE"));
            }
        }
        let decrypts = self.copy(self.kek, &[Attribute::Decrypt(true)]);
        if decrypts.is_some_and(|copy| self.decrypts(copy.object)) {
            return lets("copies the wrapping key as one that decrypts");
        }
        let open = self.copy(self.kek, &[Attribute::Modifiable(true)]);
        if open.is_some_and(|copy| {
            let given = inner.update_attributes(copy.object, &[Attribute::Decrypt(true)]).is_ok();
            given && self.decrypts(copy.object)
        }) {
            return lets("copies the wrapping key as one that can be changed");
        }
        Ok(())
    }

    fn gives_what_it_has(&self) -> Result<(), Fault> {
        let Self { session, kek, traveller, untrusted } = self;
        let inner = &session.inner;
        if value(inner, traveller.object) || value(inner, *kek) {
            return lets("gives a sensitive key's value");
        }
        if inner.encrypt(&Mechanism::AesEcb, *kek, &FIXED[..]).is_ok() {
            return lets("encrypts with a key that may only wrap");
        }
        if self.decrypts(*kek) {
            return lets("decrypts with a key that may only unwrap");
        }
        let wrapped = inner.wrap_key(&wrapping(false), *kek, traveller.object)?;
        let clear = [
            &secret()[..],
            &[
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
            ],
        ];
        let out = self.own(inner.unwrap_key(&wrapping(false), *kek, &wrapped, &clear.concat()));
        if out.is_some_and(|out| value(inner, out.object) || self.leaves(out.object, untrusted.object)) {
            return lets("unwraps what the wrapping key's CKA_UNWRAP_TEMPLATE says must stay inside");
        }
        Ok(())
    }
}

/// Whether a key's value can be read.
fn value(session: &cryptoki::session::Session, key: ObjectHandle) -> bool {
    let read = session.get_attributes(key, &[AttributeType::Value]).unwrap_or_default();
    read.iter().any(|attribute| matches!(attribute, Attribute::Value(value) if !value.is_empty()))
}
