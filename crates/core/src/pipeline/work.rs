//! From an operation to the key store's work and back: framing, binding, parameters, budget.

use super::Pipeline;
use super::proof::{Permit, Task, Use, Withheld, another_product};
use super::record::{Facts, NamedKey, Scene};
use crate::action::Action;
use crate::algorithm::{Algorithm, Family, Hash, Purpose, RsaPadding, SignatureScheme, Wrapping};
use crate::binding::{Binding, BindingClass};
use crate::error::{Error, ErrorKind, Stage};
use crate::event::{Committed, Committer};
use crate::frame::Header;
use crate::id::{KeyName, KeyVersion};
use crate::key::{Key, KeyMaterial, Version};
use crate::operation::{Answer, MAX_INPUT, MAX_RANDOM, Operation, Output};
use crate::port::{KeyEntry, KeyStore as _, Ports, Resource, State};
use crate::stop::StopEpoch;
use crate::work::{Message, Product, Work};
use std::sync::Arc;

/// Room for what an algorithm adds to its input: the longest nonce and tag, or an RSA-4096 result.
const OVERHEAD: usize = 512;

/// From how many invocations on a key version is rotated.
pub(super) const ROTATE_AT: u64 = budget::ROTATE;
/// What a version's budget is in all: beyond it nothing is sealed.
pub(super) const BUDGET: u64 = budget::REFUSE;

/// NIST SP 800-38D §8.3: at most 2^32 invocations with random 96-bit nonces. Rotation begins at half of that, alarms at a quarter.
mod budget {
    pub(super) const PAGE: u64 = 1 << 30;
    pub(super) const ROTATE: u64 = 1 << 31;
    pub(super) const REFUSE: u64 = 1 << 32;
    /// How often an alarm is repeated past the first, which is a multiple of it.
    pub(super) const REPEAT: u64 = 1 << 24;
}

impl<P: Ports> Pipeline<P> {
    /// Step 6: the operation inside the key store, with its commitments taken.
    pub(super) async fn perform(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        permit: Permit<Use>,
        entry: &KeyEntry,
        operation: &Operation,
    ) -> Result<Withheld<Answer>, Error> {
        let key = &entry.key;
        if operation.input().len() > MAX_INPUT + OVERHEAD {
            return Err(Error::new(ErrorKind::TooLarge, Stage::Resolve, "the input is larger than 1 MiB"));
        }
        if let Operation::Seal { algorithms, .. } | Operation::Open { algorithms, .. } = operation
            && !algorithms.contains(&key.algorithm)
        {
            let names: Vec<_> = algorithms.iter().map(|algorithm| format!("`{algorithm}`")).collect();
            let names = names.join(", ");
            return Err(unsupported(key, &format!("is not of an algorithm that the protocol has: {names}")));
        }
        if let Operation::WrapBare { wrapping, .. } | Operation::UnwrapBare { wrapping, .. } = operation {
            // Nothing but the key says whose such a ciphertext is, and nothing at all which version made it.
            let protocol = scene.inbound.protocol;
            if !(protocol.has_own_keys() && protocol.has_one_version()) {
                let detail = "a protocol wraps without a binding under keys that others use or rotate";
                return Err(Error::new(ErrorKind::Internal, Stage::Perform, detail));
            }
            if !wrapping.fits(key.algorithm) {
                return Err(unsupported(key, "does not wrap by the algorithm that is asked for"));
            }
        }
        if key.algorithm.family() != Family::Aead && !scene.context.is_empty() {
            let detail = format!("algorithm `{}` cannot bind a context", key.algorithm);
            let remedy = "leave `context` out, or use a key with authenticated encryption";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail).remedy(remedy));
        }
        let (version, parsed) = self.choose_version(entry, operation, facts.action).await?;
        facts.key = Some(NamedKey::of(key, Some(version.number)));
        let committer = facts.committer(&self.engines.world)?;
        if !operation.input().is_empty() {
            let takes_ciphertext = matches!(
                operation,
                Operation::Decrypt { .. }
                    | Operation::Open { .. }
                    | Operation::Unwrap { .. }
                    | Operation::UnwrapBare { .. }
            );
            let commit = if takes_ciphertext { Committer::public } else { Committer::guessable };
            facts.input = Some(commit(&committer, "input", operation.input()));
        }
        if let Some(associate) = operation.associate() {
            facts.associated = Some(committer.guessable("associated", associate.brought()));
        }
        let answer = |output| Answer {
            output,
            algorithm: Some(key.algorithm),
            version: Some(version.number),
            integrity: None,
        };
        if let Operation::PublicKey { .. } = operation {
            let public = version.public.as_ref().ok_or_else(|| unsupported(key, "has no public key"))?;
            let output = Output::PublicKey(Arc::clone(public));
            facts.output = commit_output(&committer, &output);
            return Ok(Withheld::inspect(permit, answer(output)));
        }
        if makes_nonce(key, operation) {
            self.spend(scene, facts, key, &version).await?;
        }
        let mut aad = Vec::with_capacity(192);
        let class = match parsed {
            Some((class, _)) => class,
            None => class_of(operation),
        };
        match operation.associate() {
            None => self.binding(scene, key, class, version.number).encode_into(&mut aad),
            Some(associate) => {
                aad = associate.associated(version.number);
                if Binding::is_like(&aad) {
                    let detail = "a protocol binds ciphertexts as another does";
                    return Err(Error::new(ErrorKind::Internal, Stage::Perform, detail));
                }
            }
        }
        let header = Header {
            class,
            algorithm: key.algorithm,
            key: key.id,
            version: version.number,
            commitment: version.commitment,
        };
        let body = parsed.map(|(_, body)| body);
        let task = Task { material: material(scene, key, &version)?, copied: key.emergency_copy };
        let work = || plan(key, header, body, operation, &aad);
        let custody = (&self.engines.keys, scene.inbound.now);
        let withheld = match operation {
            Operation::Seal { checked: true, plaintext, associated, .. } => {
                let integrity = |body: &[u8]| associated.integrity(version.number, body);
                let checks = (plaintext, &*aad, integrity);
                let checked = Withheld::checked(custody, permit, task, work, checks, &mut facts.by_copy);
                let withheld = checked.await.map_err(same_integrity)?;
                withheld.shape(|(product, integrity)| {
                    let output = shape(key, operation, product)?;
                    Ok(Answer { integrity: Some(integrity), ..answer(output) })
                })?
            }
            Operation::Seal { checked: false, .. }
            | Operation::Encrypt { .. }
            | Operation::Decrypt { .. }
            | Operation::Open { .. }
            | Operation::Wrap { .. }
            | Operation::Unwrap { .. }
            | Operation::WrapBare { .. }
            | Operation::UnwrapBare { .. }
            | Operation::DataKey { .. }
            | Operation::Rewrap { .. }
            | Operation::Sign { .. }
            | Operation::Verify { .. }
            | Operation::Mac { .. }
            | Operation::VerifyMac { .. }
            | Operation::Agree { .. }
            | Operation::Encapsulate
            | Operation::Decapsulate { .. }
            | Operation::PublicKey { .. } => {
                let performed = Withheld::perform(custody, permit, task, work, &mut facts.by_copy);
                let withheld = performed.await.map_err(same_integrity)?;
                withheld.shape(|product| shape(key, operation, product).map(answer))?
            }
        };
        facts.output = withheld.commit_to(|answer| commit_output(&committer, &answer.output));
        Ok(withheld)
    }

    /// Decrypts on the source and encrypts on the target, both allowed, the target no more exportable.
    pub(super) async fn rewrap(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        epoch: StopEpoch,
        source: &KeyName,
        ciphertext: &[u8],
        target: Option<&KeyName>,
    ) -> Result<Withheld<Answer>, Error> {
        let from = self.resolve(scene, facts, epoch, source).await?;
        facts.key = Some(NamedKey::of(&from.key, None));
        self.hide_context(scene, facts, &from.key)?;
        let to = match target {
            None => Arc::clone(&from),
            Some(name) => {
                facts.target = Some(NamedKey::unknown(name.clone()));
                self.resolve(scene, facts, epoch, name).await?
            }
        };
        facts.target = Some(NamedKey::of(&to.key, Some(to.current.number)));
        self.hide_context(scene, facts, &to.key)?;
        let asks =
            [(Action::RewrapFrom, Resource::Key(&from.key)), (Action::RewrapTo, Resource::Key(&to.key))];
        let permit: Permit<Use> = self.decide(scene, facts, epoch, &asks)?;
        self.usable(scene, &from, Action::RewrapFrom)?;
        self.usable(scene, &to, Action::RewrapTo)?;
        for key in [&from.key, &to.key] {
            if key.algorithm.family() != Family::Aead {
                return Err(unsupported(key, "cannot be rewrapped from or to"));
            }
        }
        if from.key.purpose != to.key.purpose {
            return Err(unsupported(&to.key, "was created for another purpose than the source"));
        }
        if to.key.exportable && !from.key.exportable {
            return Err(unsupported(&to.key, "is exportable and the source is not"));
        }
        let (version, class, body) = self.parse(&from, ciphertext, Action::RewrapFrom).await?;
        to.current.state.permits(Action::RewrapTo).map_err(|_| version_state(&to.key, to.current.number))?;
        facts.key = Some(NamedKey::of(&from.key, Some(version.number)));
        let committer = facts.committer(&self.engines.world)?;
        facts.input = Some(committer.public("input", ciphertext));
        if to.key.algorithm.has_budget() {
            self.spend(scene, facts, &to.key, &to.current).await?;
        }
        let open_aad = self.binding(scene, &from.key, class, version.number).encode();
        let seal_aad = self.binding(scene, &to.key, class, to.current.number).encode();
        let header = Header {
            class,
            algorithm: to.key.algorithm,
            key: to.key.id,
            version: to.current.number,
            commitment: to.current.commitment,
        };
        let open = Task { material: material(scene, &from.key, &version)?, copied: from.key.emergency_copy };
        let open = (open, || Ok(Work::Open { body, aad: &open_aad }));
        let seal = Task { material: material(scene, &to.key, &to.current)?, copied: to.key.emergency_copy };
        let frame = || header.begin(body.len().saturating_add(OVERHEAD));
        let custody = (&self.engines.keys, scene.inbound.now);
        let withheld =
            Withheld::rewrap(custody, permit, open, (seal, frame, &seal_aad), &mut facts.by_copy).await;
        let withheld = withheld.map_err(same_integrity)?;
        let withheld = withheld.shape(|product| match product {
            Product::Bytes(frame) => Ok(Answer {
                output: Output::Ciphertext(frame),
                algorithm: Some(to.key.algorithm),
                version: Some(to.current.number),
                integrity: None,
            }),
            Product::Secret(_)
            | Product::DataKey { .. }
            | Product::Valid(_)
            | Product::Encapsulated { .. } => Err(another_product()),
        })?;
        facts.output = withheld.commit_to(|answer| commit_output(&committer, &answer.output));
        Ok(withheld)
    }

    fn binding<'a>(
        &self,
        scene: &'a Scene<'_, P>,
        key: &'a Key,
        class: BindingClass,
        version: KeyVersion,
    ) -> Binding<'a> {
        Binding {
            class,
            algorithm: key.algorithm,
            tenant: &key.tenant,
            key: key.id,
            version,
            protocol: scene.inbound.protocol.name(),
            context: scene.context,
        }
    }

    /// The version that an operation uses: what the ciphertext says, what the caller says, or the one for new work. Also splits a framed ciphertext.
    async fn choose_version<'o>(
        &self,
        entry: &KeyEntry,
        operation: &'o Operation,
        action: Action,
    ) -> Result<(Arc<Version>, Option<(BindingClass, &'o [u8])>), Error> {
        match operation {
            Operation::Decrypt { ciphertext, bare: None, .. }
            | Operation::Unwrap { ciphertext, bare: None, .. } => {
                let (version, class, body) = self.parse(entry, ciphertext, action).await?;
                // Data keys are opened by decrypting, and what was wrapped only by unwrapping.
                if (action == Action::Unwrap) == (class == BindingClass::Wrapped) {
                    Ok((version, Some((class, body))))
                } else {
                    Err(integrity())
                }
            }
            Operation::Decrypt { ciphertext, bare: Some(number), .. }
            | Operation::Unwrap { ciphertext, bare: Some(number), .. } => {
                let takes_bare = match entry.key.algorithm.family() {
                    Family::Rsa | Family::KeyWrap => true,
                    Family::Aead | Family::Signature | Family::Hmac | Family::Agreement | Family::Kem => {
                        false
                    }
                };
                if !takes_bare {
                    return Err(unsupported(&entry.key, "takes only ciphertexts with their header"));
                }
                let version = self.version(entry, Some(*number), action).await?;
                Ok((version, Some((class_of(operation), ciphertext))))
            }
            Operation::Open { version, body, .. } => {
                // A version that never was is like any other change of the ciphertext.
                if *version > entry.key.newest {
                    return Err(integrity());
                }
                Ok((self.version(entry, Some(*version), action).await?, Some((BindingClass::Data, body))))
            }
            // Its one version, which new work takes too.
            Operation::UnwrapBare { wrapped, .. } => {
                let version = self.version(entry, None, action).await?;
                Ok((version, Some((BindingClass::Wrapped, wrapped))))
            }
            Operation::Verify { version, .. }
            | Operation::VerifyMac { version, .. }
            | Operation::Agree { version, .. }
            | Operation::Decapsulate { version, .. }
            | Operation::PublicKey { version } => Ok((self.version(entry, *version, action).await?, None)),
            Operation::Encrypt { .. }
            | Operation::Seal { .. }
            | Operation::Wrap { .. }
            | Operation::WrapBare { .. }
            | Operation::DataKey { .. }
            | Operation::Rewrap { .. }
            | Operation::Sign { .. }
            | Operation::Mac { .. }
            | Operation::Encapsulate => Ok((self.version(entry, None, action).await?, None)),
        }
    }

    /// Splits a framed ciphertext and finds its version: another key's, a version that never was and a wrong commitment look alike.
    async fn parse<'c>(
        &self,
        entry: &KeyEntry,
        ciphertext: &'c [u8],
        action: Action,
    ) -> Result<(Arc<Version>, BindingClass, &'c [u8]), Error> {
        let (header, body) = Header::parse(ciphertext)?;
        let Header { class, algorithm, key, version, commitment } = header;
        if key != entry.key.id || algorithm != entry.key.algorithm || version > entry.key.newest {
            return Err(integrity());
        }
        let version = self.version(entry, Some(version), action).await?;
        if commitment != version.commitment {
            return Err(integrity());
        }
        Ok((version, class, body))
    }

    async fn version(
        &self,
        entry: &KeyEntry,
        number: Option<KeyVersion>,
        action: Action,
    ) -> Result<Arc<Version>, Error> {
        let version = match number {
            None => Arc::clone(&entry.current),
            Some(number) if number == entry.current.number => Arc::clone(&entry.current),
            Some(number) => {
                let found = self.engines.state.version(entry.key.id, number).await?;
                found.ok_or_else(|| {
                    let detail = format!("key `{}` has no version {number}", entry.key.name);
                    Error::new(ErrorKind::NotFound, Stage::Resolve, detail)
                })?
            }
        };
        version.state.permits(action).map_err(|_| version_state(&entry.key, version.number))?;
        Ok(version)
    }

    /// Counts what an operation may come to, before it happens.
    async fn spend(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        key: &Key,
        version: &Version,
    ) -> Result<(), Error> {
        // Where the device fails at it, its copy may do it once more, under another nonce.
        let once_more = u64::from(key.emergency_copy);
        let invocations = self.engines.keys.invocations(&version.handle).saturating_add(once_more);
        let used = self.engines.state.count(key.id, version.number, invocations).await?;
        // Of what is refused too: nothing else would ever end that.
        if used >= budget::ROTATE {
            self.unfinished.rotation_is_due(&scene.caller.tenant, &key.name);
        }
        if used > budget::REFUSE {
            let detail =
                format!("version {} of key `{}` has made 2^32 random nonces", version.number, key.name);
            return Err(Error::new(ErrorKind::BudgetExhausted, Stage::Perform, detail)
                .remedy(format!("ask a custodian to run `holdfast key rotate {}`", key.name)));
        }
        let is_repeat = used / budget::REPEAT != used.saturating_sub(invocations) / budget::REPEAT;
        if used >= budget::PAGE && is_repeat {
            facts.alarm =
                Some(format!("{used} of 4294967296 invocations of this key version are used").into());
        }
        Ok(())
    }
}

pub(super) fn material<'a, P: Ports>(
    scene: &'a Scene<'_, P>,
    key: &'a Key,
    version: &'a Version,
) -> Result<KeyMaterial<'a>, Error> {
    let tenant_handle = scene.view.data.record.handle.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Internal, Stage::Perform, "the tenant has no place in the key store")
    })?;
    Ok(KeyMaterial {
        tenant: &key.tenant,
        tenant_handle,
        key: key.id,
        version: version.number,
        algorithm: key.algorithm,
        exportable: key.exportable,
        commitment: &version.commitment,
        handle: &version.handle,
    })
}

fn integrity() -> Error {
    Error::new(ErrorKind::Integrity, Stage::Perform, "the input does not verify")
}

/// The key store's words for it stay in the log: one and the same refusal, whichever check it was.
fn same_integrity(error: Error) -> Error {
    match error.kind() == ErrorKind::Integrity {
        true if error.chain() == integrity().detail() => integrity(),
        true => integrity().because(error),
        false => error,
    }
}

fn unsupported(key: &Key, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        Stage::Resolve,
        format!("key `{}` ({}) {what}", key.name, key.algorithm),
    )
}

fn version_state(key: &Key, version: KeyVersion) -> Error {
    let detail = format!("version {version} of key `{}` can no longer do this", key.name);
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail)
}

fn class_of(operation: &Operation) -> BindingClass {
    match operation {
        Operation::Wrap { .. }
        | Operation::Unwrap { .. }
        | Operation::WrapBare { .. }
        | Operation::UnwrapBare { .. } => BindingClass::Wrapped,
        Operation::DataKey { .. } => BindingClass::DataKey,
        Operation::Encrypt { .. }
        | Operation::Decrypt { .. }
        | Operation::Seal { .. }
        | Operation::Open { .. }
        | Operation::Rewrap { .. }
        | Operation::Sign { .. }
        | Operation::Verify { .. }
        | Operation::Mac { .. }
        | Operation::VerifyMac { .. }
        | Operation::Agree { .. }
        | Operation::Encapsulate
        | Operation::Decapsulate { .. }
        | Operation::PublicKey { .. } => BindingClass::Data,
    }
}

fn makes_nonce(key: &Key, operation: &Operation) -> bool {
    key.algorithm.has_budget()
        && matches!(
            operation,
            Operation::Encrypt { .. }
                | Operation::Seal { .. }
                | Operation::Wrap { .. }
                | Operation::DataKey { .. }
        )
}

/// OAEP with SHA-256 unless told; what the key was not created for is refused.
fn rsa_padding(key: &Key, asked: Option<RsaPadding>, encrypts: bool) -> Result<RsaPadding, Error> {
    let padding = asked.unwrap_or(RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha256 });
    let allowed = match padding {
        RsaPadding::Pkcs1v15 => key.legacy.rsa_pkcs1_decrypt && !encrypts,
        RsaPadding::Oaep { hash: Hash::Sha1, .. } | RsaPadding::Oaep { mgf1: Hash::Sha1, .. } => {
            key.legacy.sha1_oaep
        }
        RsaPadding::Oaep { .. } => true,
    };
    if allowed { Ok(padding) } else { Err(unsupported(key, "was not created for this legacy padding")) }
}

fn no_padding(key: &Key, asked: Option<RsaPadding>) -> Result<(), Error> {
    match asked {
        None => Ok(()),
        Some(_) => Err(unsupported(key, "takes no `padding`")),
    }
}

/// OAEP's label of a framed ciphertext is its binding; a bare one, made with the public key alone, has none.
fn label(bare: Option<KeyVersion>, padding: RsaPadding, aad: &[u8]) -> &[u8] {
    match (bare, padding) {
        (None, RsaPadding::Oaep { .. }) => aad,
        (Some(_), _) | (None, RsaPadding::Pkcs1v15) => &[],
    }
}

fn plan<'a>(
    key: &Key,
    header: Header,
    body: Option<&'a [u8]>,
    operation: &'a Operation,
    aad: &'a [u8],
) -> Result<Work<'a>, Error> {
    let family = key.algorithm.family();
    let body = body.unwrap_or_default();
    let cannot = || unsupported(key, "cannot do this");
    match operation {
        Operation::Encrypt { plaintext, padding, context: _ }
        | Operation::Wrap { bytes: plaintext, padding, context: _ } => {
            let frame = header.begin(plaintext.len().saturating_add(OVERHEAD));
            match family {
                Family::Aead => {
                    no_padding(key, *padding)?;
                    Ok(Work::Seal { frame, plaintext, aad })
                }
                Family::Rsa => {
                    let padding = rsa_padding(key, *padding, true)?;
                    Ok(Work::RsaEncrypt { frame, plaintext, padding, label: aad })
                }
                Family::KeyWrap => {
                    no_padding(key, *padding)?;
                    Ok(Work::WrapKey { frame, bytes: plaintext })
                }
                Family::Signature | Family::Hmac | Family::Agreement | Family::Kem => Err(cannot()),
            }
        }
        Operation::WrapBare { bytes, wrapping } => {
            let frame = Vec::with_capacity(bytes.len().saturating_add(OVERHEAD));
            match *wrapping {
                Wrapping::AesKw | Wrapping::AesKwp => Ok(Work::WrapKey { frame, bytes }),
                Wrapping::RsaOaep(hash) => {
                    let padding = rsa_padding(key, Some(RsaPadding::Oaep { hash, mgf1: hash }), true)?;
                    Ok(Work::RsaEncrypt { frame, plaintext: bytes, padding, label: &[] })
                }
            }
        }
        Operation::UnwrapBare { wrapping, wrapped: _ } => match *wrapping {
            Wrapping::AesKw | Wrapping::AesKwp => Ok(Work::UnwrapKey { body }),
            Wrapping::RsaOaep(hash) => {
                let padding = rsa_padding(key, Some(RsaPadding::Oaep { hash, mgf1: hash }), false)?;
                Ok(Work::RsaDecrypt { body, padding, label: &[] })
            }
        },
        Operation::Seal { plaintext, associated: _, algorithms: _, checked: _ } => {
            let frame = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
            Ok(Work::Seal { frame, plaintext, aad })
        }
        Operation::Open { body: _, version: _, associated: _, algorithms: _ } => Ok(Work::Open { body, aad }),
        Operation::Decrypt { padding, bare, context: _, ciphertext: _ }
        | Operation::Unwrap { padding, bare, context: _, ciphertext: _ } => match family {
            Family::Aead => {
                no_padding(key, *padding)?;
                Ok(Work::Open { body, aad })
            }
            Family::Rsa => {
                let padding = rsa_padding(key, *padding, false)?;
                Ok(Work::RsaDecrypt { body, padding, label: label(*bare, padding, aad) })
            }
            Family::KeyWrap => {
                no_padding(key, *padding)?;
                Ok(Work::UnwrapKey { body })
            }
            Family::Signature | Family::Hmac | Family::Agreement | Family::Kem => Err(cannot()),
        },
        Operation::DataKey { length, with_plaintext: _, context: _ } => match family {
            Family::Aead if (1..=MAX_RANDOM).contains(length) => Ok(Work::SealRandom {
                frame: header.begin(length.saturating_add(OVERHEAD)),
                length: *length,
                aad,
            }),
            Family::Aead => {
                Err(Error::new(ErrorKind::Malformed, Stage::Resolve, "`length` must be 1 to 1024 bytes"))
            }
            Family::KeyWrap
            | Family::Rsa
            | Family::Signature
            | Family::Hmac
            | Family::Agreement
            | Family::Kem => Err(cannot()),
        },
        Operation::Sign { message, is_digest, scheme } => {
            let scheme = scheme_for(key, *scheme)?;
            Ok(Work::Sign { scheme, message: message_of(key, scheme, message, *is_digest)? })
        }
        Operation::Verify { message, is_digest, scheme, signature, version: _ } => {
            let scheme = scheme_for(key, *scheme)?;
            Ok(Work::Verify { scheme, message: message_of(key, scheme, message, *is_digest)?, signature })
        }
        Operation::Mac { message } => Ok(Work::Mac { message }),
        Operation::VerifyMac { message, mac, version: _ } => Ok(Work::VerifyMac { message, mac }),
        Operation::Agree { peer, version: _ } => Ok(Work::Agree { peer }),
        Operation::Encapsulate => Ok(Work::Encapsulate),
        Operation::Decapsulate { ciphertext, version: _ } => Ok(Work::Decapsulate { ciphertext }),
        Operation::Rewrap { .. } | Operation::PublicKey { .. } => Err(cannot()),
    }
}

fn scheme_for(key: &Key, asked: Option<SignatureScheme>) -> Result<SignatureScheme, Error> {
    let scheme = asked.or(SignatureScheme::default_for(key.algorithm));
    scheme.filter(|scheme| scheme.fits(key.algorithm)).ok_or_else(|| {
        let name = asked.map_or("signing", SignatureScheme::name);
        unsupported(key, &format!("cannot do `{name}`"))
    })
}

fn message_of<'a>(
    key: &Key,
    scheme: SignatureScheme,
    message: &'a [u8],
    is_digest: bool,
) -> Result<Message<'a>, Error> {
    match (is_digest, scheme.hash()) {
        (false, _) => Ok(Message::Whole(message)),
        (true, Some(hash)) if message.len() == hash.len() => Ok(Message::Digest(message)),
        (true, Some(hash)) => {
            let detail = format!("`digest` must be {} bytes for {}", hash.len(), scheme.name());
            Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail))
        }
        (true, None) => Err(unsupported(key, "signs whole messages only")),
    }
}

fn shape(key: &Key, operation: &Operation, product: Product) -> Result<Output, Error> {
    match (operation, product) {
        (
            Operation::Encrypt { .. }
            | Operation::Seal { .. }
            | Operation::Wrap { .. }
            | Operation::WrapBare { .. },
            Product::Bytes(frame),
        ) => Ok(Output::Ciphertext(frame)),
        (
            Operation::Decrypt { .. }
            | Operation::Open { .. }
            | Operation::Unwrap { .. }
            | Operation::UnwrapBare { .. },
            Product::Secret(bytes),
        ) => Ok(Output::Plaintext(bytes)),
        (Operation::DataKey { with_plaintext, .. }, Product::DataKey { frame, plaintext }) => {
            Ok(Output::DataKey { ciphertext: frame, plaintext: with_plaintext.then_some(plaintext) })
        }
        (Operation::Sign { scheme, .. }, Product::Bytes(signature)) => {
            Ok(Output::Signature(signature, scheme_for(key, *scheme)?))
        }
        (Operation::Mac { .. }, Product::Bytes(mac)) => Ok(Output::Mac(mac)),
        (Operation::Verify { .. } | Operation::VerifyMac { .. }, Product::Valid(valid)) => {
            Ok(Output::Valid(valid))
        }
        (Operation::Agree { .. } | Operation::Decapsulate { .. }, Product::Secret(secret)) => {
            Ok(Output::SharedSecret(secret))
        }
        (Operation::Encapsulate, Product::Encapsulated { ciphertext, secret }) => {
            Ok(Output::Encapsulated { ciphertext, secret })
        }
        (
            _,
            Product::Bytes(_)
            | Product::Secret(_)
            | Product::DataKey { .. }
            | Product::Valid(_)
            | Product::Encapsulated { .. },
        ) => Err(another_product()),
    }
}

/// What the event says of an output; a bare yes or no is said by the outcome of its own commitment.
pub(super) fn commit_output(committer: &Committer, output: &Output) -> Option<Committed> {
    match output {
        Output::Ciphertext(bytes)
        | Output::Signature(bytes, _)
        | Output::DataKey { ciphertext: bytes, .. } => Some(committer.public("output", bytes)),
        Output::Mac(bytes) => Some(committer.public("output", bytes)),
        Output::Encapsulated { ciphertext, .. } => Some(committer.public("output", ciphertext)),
        Output::PublicKey(bytes) => Some(committer.public("output", bytes)),
        Output::Plaintext(bytes) | Output::SharedSecret(bytes) | Output::Random(bytes) => {
            Some(committer.guessable("output", bytes.expose()))
        }
        Output::Valid(valid) => Some(committer.guessable("output", &[u8::from(*valid)])),
    }
}

/// The purposes that a new key of this algorithm may be given.
pub(super) fn purpose_for(algorithm: Algorithm, asked: Option<Purpose>) -> Result<Purpose, Error> {
    let offered = algorithm.purposes();
    match asked {
        None => offered.first().copied(),
        Some(purpose) => offered.iter().copied().find(|offer| *offer == purpose),
    }
    .ok_or_else(|| {
        let names: Vec<_> = offered.iter().map(|purpose| purpose.name()).collect();
        let detail = format!("algorithm `{algorithm}` can be for {}", names.join(" or "));
        Error::new(ErrorKind::Unsupported, Stage::Resolve, detail)
    })
}
