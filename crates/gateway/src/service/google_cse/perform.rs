//! What was asked, done: keys are used through the law, each use with its decision and its record.

use super::Refused;
use super::tokens::Asked;
use crate::google_cse::Failure;
use crate::root::Embedded;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Hash, SignatureScheme};
use holdfast_core::operation::{Answer, Operation, Output};
use holdfast_core::pipeline::{Call, Held, Recognised, Released};
use holdfast_core::{Error, ErrorKind, KeyName, KeyVersion, Secret, Stage};
use holdfast_keystore::UsersKey;
use holdfast_wire::cse::check::Check;
use holdfast_wire::cse::claim::Authorization;
use holdfast_wire::cse::format::{ALGORITHMS, Blob, Bound, Kind};
use holdfast_wire::cse::hash::resource_key_hash;
use holdfast_wire::cse::jws::{self, Delegation, PublicKey};
use holdfast_wire::cse::message::Asks;
use holdfast_wire::cse::{error, message};
use holdfast_wire::native::encode::Response;

type Caller<'a> = Recognised<'a, Embedded>;

/// Why nothing came of it, and what the log has of that.
enum Broken {
    /// All of it: the law refused, or was told.
    Recorded(Refused),
    /// Nothing yet. What fails in any other way than the two others is this, so that no refusal is forgotten.
    Unrecorded(Refused),
    /// That a key was used; not that nothing came of it.
    Afterwards(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Unrecorded(error.into())
    }
}

/// What the law has refused, it has recorded.
fn recorded(error: Error) -> Broken {
    Broken::Recorded(error.into())
}

/// Does it; each refusal stands in the log.
pub(super) async fn perform(
    asked: &Asked<'_>,
    caller: &Caller<'_>,
    about: (Action, &KeyName),
    asks: Asks,
) -> Result<Response, Refused> {
    let broken = match attempt(asked, caller, asks).await {
        Ok(response) => return Ok(response),
        Err(broken) => broken,
    };
    Err(match broken {
        Broken::Recorded(refused) => refused,
        Broken::Unrecorded(refused) => asked.turn_away(caller, about, refused).await,
        Broken::Afterwards(error) => asked.afterwards(caller, about, error).await.into(),
    })
}

async fn attempt(asked: &Asked<'_>, caller: &Caller<'_>, asks: Asks) -> Result<Response, Broken> {
    match asks {
        Asks::Wrap(key) => {
            let Authorization { resource, perimeter, .. } = asked.google()?;
            let sealed = asked.seal(caller, Kind::Key, (resource, perimeter), key).await?;
            let (blob, _receipt, _departing) = sealed.into_parts();
            Ok(message::wrapped_key(blob))
        }
        Asks::Unwrap(blob) => {
            let resource = &asked.google()?.resource;
            let (key, _receipt, _departing) = asked.open(caller, blob, resource).await?.into_parts();
            Ok(message::key(key))
        }
        Asks::PrivilegedWrap { key, resource, perimeter } => {
            let sealed = asked.seal(caller, Kind::Key, (&resource, &perimeter), key).await?;
            let (blob, _receipt, _departing) = sealed.into_parts();
            Ok(message::wrapped_key(blob))
        }
        Asks::PrivilegedUnwrap { blob, resource } => {
            let (key, _receipt, _departing) = asked.open(caller, blob, &resource).await?.into_parts();
            Ok(message::key(key))
        }
        Asks::Digest(blob) => {
            let resource = &asked.google()?.resource;
            let perimeter = blob.perimeter.clone();
            let (key, _receipt, _departing) = asked.open(caller, blob, resource).await?.into_parts();
            Ok(message::resource_key_hash(resource_key_hash(&key, resource, &perimeter).to_vec()))
        }
        Asks::Delegate => delegate(asked, caller).await,
        Asks::Rewrap { original, wrapped } => rewrap(asked, caller, &original, &wrapped).await,
        Asks::WrapPrivateKey { key, hash, perimeter } => {
            let copy = Secret::from(key.expose());
            let kind = Kind::PrivateKey(hash);
            let (blob, held) = asked.seal(caller, kind, ("", &perimeter), key).await?.hold();
            // Whether its numbers fit together takes a while to tell, and whoever may not wrap has nobody look.
            let examine = move || match UsersKey::new(&copy)?.spki_hash()? == hash {
                true => Ok(()),
                false => Err(malformed("`private_key`: is written otherwise than its numbers are read")),
            };
            asked.compute(examine).await.map_err(Broken::Afterwards)?;
            let _departing = held.depart().map_err(Broken::Afterwards)?;
            Ok(message::wrapped_private_key(blob))
        }
        Asks::Sign { key: (blob, _), algorithm, digest, salt } => {
            let scheme = match signature(&algorithm, salt, digest.len()) {
                Ok(scheme) => scheme,
                Err(error) => return Err(asked.refuse_to_open(caller, &blob, error).await),
            };
            // What a user's key does takes its time, and may have to wait for a thread: no stop waits for that.
            let (key, held) = asked.open(caller, blob, "").await?.hold();
            let signed = asked.compute(move || UsersKey::new(&key)?.sign(scheme, &digest)).await;
            let signed = signed.map_err(Broken::Afterwards)?;
            let _departing = held.depart().map_err(Broken::Afterwards)?;
            Ok(message::signature(signed))
        }
        Asks::Decrypt { key: (blob, _), algorithm, ciphertext, label, hash: _ } => {
            let padding = match encryption(&algorithm) {
                Ok(padding) => padding,
                Err(error) => return Err(asked.refuse_to_open(caller, &blob, error).await),
            };
            let (key, held) = asked.open(caller, blob, "").await?.hold();
            let decrypt = move || {
                let key = UsersKey::new(&key)?;
                match padding {
                    None => key.decrypt_pkcs1(&ciphertext),
                    Some(Hash::Sha1) => key.decrypt_oaep((Hash::Sha1, Hash::Sha1), &label, &ciphertext),
                    // Which hash is inside of MGF1 the names do not say: in Java SHA-1, elsewhere the same one.
                    Some(hash) => key
                        .decrypt_oaep((hash, hash), &label, &ciphertext)
                        .or_else(|_| key.decrypt_oaep((hash, Hash::Sha1), &label, &ciphertext)),
                }
            };
            let decrypted = asked.compute(decrypt).await.map_err(Broken::Afterwards)?;
            let _departing = held.depart().map_err(Broken::Afterwards)?;
            Ok(message::data_encryption_key(decrypted))
        }
    }
}

/// How a user's key signs, by the names of Java.
fn signature(name: &str, salt: Option<u64>, digest: usize) -> Result<(Hash, bool), Error> {
    let (hash, is_pss) = match name {
        "SHA256withRSA" => (Hash::Sha256, false),
        "SHA384withRSA" => (Hash::Sha384, false),
        "SHA512withRSA" => (Hash::Sha512, false),
        "SHA256withRSA/PSS" => (Hash::Sha256, true),
        "SHA384withRSA/PSS" => (Hash::Sha384, true),
        "SHA512withRSA/PSS" => (Hash::Sha512, true),
        _ => return Err(malformed("`algorithm`: is none that is known here")),
    };
    if digest != hash.len() {
        return Err(malformed("`digest`: is not as long as the algorithm's"));
    }
    let length = u64::try_from(hash.len()).unwrap_or(u64::MAX);
    match is_pss && salt.is_some_and(|salt| salt != length) {
        true => Err(malformed("`rsa_pss_salt_length`: expected the length of the digest")),
        false => Ok((hash, is_pss)),
    }
}

/// How it decrypts: OAEP with this hash, or PKCS#1 v1.5.
fn encryption(name: &str) -> Result<Option<Hash>, Error> {
    match name {
        "RSA/ECB/PKCS1Padding" => Ok(None),
        "RSA/ECB/OAEPwithSHA-1andMGF1Padding" => Ok(Some(Hash::Sha1)),
        "RSA/ECB/OAEPwithSHA-256andMGF1Padding" => Ok(Some(Hash::Sha256)),
        "RSA/ECB/OAEPwithSHA-512andMGF1Padding" => Ok(Some(Hash::Sha512)),
        _ => Err(malformed("`algorithm`: is none that is known here")),
    }
}

fn malformed(detail: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Decode, detail)
}

async fn delegate(asked: &Asked<'_>, caller: &Caller<'_>) -> Result<Response, Broken> {
    let Authorization { delegated_to, resource, .. } = asked.google()?;
    let (Some((claims, user)), Some(to)) = (asked.user, delegated_to) else { return Err(defect().into()) };
    let shown =
        asked.service.claims.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
    let shown = shown.collect();
    let says = Delegation {
        email: user.email.as_deref(),
        google_email: user.google_email.as_deref(),
        delegated_to: to,
        resource,
        issuer: claims.issuer(),
        claims: &shown,
    };
    let now = asked.received.now.seconds();
    let issuer = &asked.service.issuer;
    let (token, held) =
        asked.sign(caller, &|key: &PublicKey| jws::delegated(key.id(), issuer, says, now)).await?;
    let _departing = held.depart().map_err(Broken::Afterwards)?;
    Ok(message::delegated_authentication(&token))
}

/// Gets a key from the peer that has wrapped it, and wraps it anew.
async fn rewrap(
    asked: &Asked<'_>,
    caller: &Caller<'_>,
    original: &str,
    wrapped: &[u8],
) -> Result<Response, Broken> {
    let Authorization { resource, perimeter, .. } = asked.google()?;
    let peer = asked.service.peer(original).ok_or_else(|| Check::Peer.refuse())?;
    let law = &asked.gateway.law;
    let now = asked.received.now.seconds();
    let issuer = &asked.service.issuer;
    let part_of = asked.received.operation.to_string();
    let inbound = asked.inbound(law.new_operation()?, Some(&part_of));
    let signer = law.recognise(&inbound)?;
    let input = |key: &PublicKey| jws::asking(key.id(), issuer, (peer, resource), now);
    let signed = asked.sign(&signer, &input).await;
    // Whatever is recorded of the signature, what was asked for is recorded as what failed.
    let (token, held) = signed.map_err(|broken| {
        let (Broken::Recorded(Refused { error, .. })
        | Broken::Unrecorded(Refused { error, .. })
        | Broken::Afterwards(error)) = broken;
        Error::new(error.kind(), error.stage(), error.detail().to_owned())
    })?;
    let body = message::ask_peer(&token, asked.reason, resource, wrapped);
    // It leaves now.
    drop(held.depart()?);
    let key = asked.service.ask(peer, body).await.map_err(|failure| {
        let (status, why) = match failure {
            Failure::Late => (error::PEER_LATE, "it did not answer in time".to_owned()),
            Failure::Wrong(why) => (error::PEER_FAILED, why),
        };
        let detail = "the other key service gave no key";
        let error = Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail).because(why);
        Broken::Unrecorded(Refused { error, status: Some(status) })
    })?;
    let hash = resource_key_hash(&key, resource, perimeter);
    let sealed = asked.seal(caller, Kind::Key, (resource, perimeter), key).await?;
    let (blob, _receipt, _departing) = sealed.into_parts();
    Ok(message::rewrapped(hash.to_vec(), blob))
}

fn defect() -> Error {
    Error::new(ErrorKind::Internal, Stage::Answer, "what was checked is not there")
}

fn another() -> Error {
    Error::new(ErrorKind::Internal, Stage::Answer, "an output that this protocol does not have")
}

impl Asked<'_> {
    /// Google's word; there is one wherever this is asked.
    fn google(&self) -> Result<&Authorization, Error> {
        self.authorization.ok_or_else(defect)
    }

    /// What a user's key does takes its time: elsewhere, so that nobody else waits for it.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.gateway.law.engines().keys.with_users_key(work).await
    }

    async fn use_key(
        &self,
        caller: &Caller<'_>,
        key: &KeyName,
        operation: Operation,
    ) -> Result<Released<Answer>, Broken> {
        let call = Call::Key { key: key.clone(), operation };
        self.gateway.law.use_key_as(caller, call).await.map_err(recorded)
    }

    /// Wraps, for a resource and a perimeter; what was made is opened once before it leaves.
    async fn seal(
        &self,
        caller: &Caller<'_>,
        kind: Kind,
        (resource, perimeter): (&str, &str),
        plaintext: Secret,
    ) -> Result<Released<Vec<u8>>, Broken> {
        let key = self.service.key(perimeter);
        // Where there is no key, the law says so.
        let called = self.service.called(&self.gateway.law.engines().state, key).await?.unwrap_or_default();
        let bound = Bound { kind, key: called, perimeter: perimeter.into(), resource: resource.into() };
        let associated = Box::new(bound.clone());
        let operation = Operation::Seal { plaintext, associated, algorithms: ALGORITHMS, checked: true };
        let sealed = self.use_key(caller, key, operation).await?.map(|answer| match answer {
            Answer { output: Output::Ciphertext(body), version: Some(version), .. } => {
                Ok(bound.blob(version, &body))
            }
            Answer { .. } => Err(another()),
        });
        sealed.map_err(Broken::Afterwards)
    }

    /// Unwraps what was wrapped for this resource.
    async fn open(
        &self,
        caller: &Caller<'_>,
        blob: Blob,
        resource: &str,
    ) -> Result<Released<Secret>, Broken> {
        let associated = Box::new(blob.bound(resource));
        let Blob { kind: _, key, version, perimeter, body } = blob;
        let operation = Operation::Open { body, version, associated, algorithms: ALGORITHMS };
        let key = self.service.opens(&self.gateway.law.engines().state, key, &perimeter).await?;
        let opened = self.use_key(caller, key, operation).await?;
        let plaintext = opened.map(|answer| {
            let Answer { output: Output::Plaintext(plaintext), .. } = answer else { return Err(another()) };
            Ok(plaintext)
        });
        plaintext.map_err(Broken::Afterwards)
    }

    /// Refuses to unwrap for what was wrong with the request, which whoever may not is not told.
    async fn refuse_to_open(&self, caller: &Caller<'_>, blob: &Blob, error: Error) -> Broken {
        let law = &self.gateway.law;
        match self.service.opens(&law.engines().state, blob.key, &blob.perimeter).await {
            Ok(key) => recorded(law.refuse_use(caller, (Action::Decrypt, key), error).await),
            Err(error) => error.into(),
        }
    }

    /// Signs a token of our own. It says by which key, before that signs; where the key is rotated in between, nobody gets the token.
    async fn sign(
        &self,
        caller: &Caller<'_>,
        input: &(dyn Fn(&PublicKey) -> Option<String> + Sync),
    ) -> Result<(String, Held), Broken> {
        let law = &self.gateway.law;
        let state = &law.engines().state;
        let Some((name, public)) = self.service.signs_with(state).await? else {
            let detail = "the key service has no key that can sign its tokens";
            let error = Error::new(ErrorKind::KeyState, Stage::Resolve, detail);
            let about = (Action::Sign, self.service.signing_key());
            return Err(recorded(law.turn_away(caller, about, error).await));
        };
        let text = input(&public).ok_or_else(defect)?;
        let operation = Operation::Sign {
            message: text.clone().into_bytes(),
            is_digest: false,
            scheme: Some(SignatureScheme::RsaPkcs1v15(Hash::Sha256)),
        };
        let (answer, held) = self.use_key(caller, &name, operation).await?.hold();
        let Answer { output: Output::Signature(signature, _), version, .. } = answer else {
            return Err(Broken::Afterwards(another()));
        };
        match self.is_of(&public, version).await.map_err(Broken::Afterwards)? {
            true => Ok((jws::signed(text, &signature), held)),
            false => Err(Broken::Afterwards(Error::new(
                ErrorKind::KeyStoreUnavailable,
                Stage::Answer,
                "the key that signs was rotated meanwhile",
            ))),
        }
    }

    /// Whether this version of the signing key has that public half.
    async fn is_of(&self, public: &PublicKey, version: Option<KeyVersion>) -> Result<bool, Error> {
        let state = &self.gateway.law.engines().state;
        let now = self.service.signs_with(state).await?;
        Ok(version.is_some() && now.is_some_and(|(_, now)| now == *public))
    }

    /// Records a refusal that the law has not made, and tells it. The status is the refusal's own, so long as it is that which is told.
    pub(super) async fn turn_away(
        &self,
        caller: &Caller<'_>,
        (action, key): (Action, &KeyName),
        Refused { error, status }: Refused,
    ) -> Refused {
        let kind = error.kind();
        let error = self.gateway.law.turn_away(caller, (action, Some(key)), error).await;
        Refused { status: status.filter(|_| error.kind() == kind), error }
    }

    /// A key was used, and that is recorded; that nothing came of it is recorded as well, as a part of the same request.
    async fn afterwards(
        &self,
        caller: &Caller<'_>,
        (action, key): (Action, &KeyName),
        error: Error,
    ) -> Error {
        let law = &self.gateway.law;
        let about = (action, Some(key));
        let Ok(operation) = law.new_operation() else {
            return law.turn_away(caller, about, error).await;
        };
        let part_of = self.received.operation.to_string();
        let inbound = self.inbound(operation, Some(&part_of));
        match law.recognise(&inbound) {
            Ok(part) => law.turn_away(&part, about, error).await,
            // No longer known: the request's own recognition is what there is.
            Err(_unknown) => law.turn_away(caller, about, error).await,
        }
    }
}
