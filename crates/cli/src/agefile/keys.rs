//! Wrapping and unwrapping file keys at the gateway, and what the `age` crate needs of it.

use super::name::{Name, RESERVED};
use super::stanza::FileStanza;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use holdfast_core::ErrorKind;
use holdfast_core::binding::BindingClass;
use holdfast_sdk::{Cause, KeyName, TenantId};
use std::cell::RefCell;
use std::collections::HashSet;

/// What every file key is bound to beside the caller's own pairs: a file key opens nothing else, and nothing else opens as one.
const PURPOSE: (&str, &str) = ("holdfast-purpose", "age-file-key");

/// How often a file is tried to be opened, at most, and how many of its stanzas a campaign takes up: each is a request in the caller's name, and
/// whoever made the file has written them.
pub(crate) const MOST: usize = 32;

/// The gateway, as far as file keys are concerned.
pub(crate) struct KeyService<'a> {
    app: &'a App,
}

impl<'a> KeyService<'a> {
    pub(crate) fn new(app: &'a App) -> Self {
        Self { app }
    }

    /// Wraps a file key: by `encrypt`, or by `wrap` where the key was created for that.
    pub(crate) fn wrap(&self, name: &Name, file_key: &FileKey) -> Result<FileStanza, Failure> {
        let Name { tenant: id, key, context } = name;
        let tenant = self.app.client()?.tenant(id.clone());
        let pairs = bound(context);
        let bytes = file_key.expose_secret();
        let wrapped = self.app.block_on(async {
            match tenant.encrypt(key, bytes, &pairs).await {
                // Said only to callers who may use the key: it was not created to encrypt.
                Err(error) if error.kind() == Some(ErrorKind::Unsupported) => {
                    tenant.wrap(key, bytes, &pairs).await
                }
                answered => answered,
            }
        })?;
        Ok(FileStanza { tenant: id.clone(), key: key.clone(), wrapped: wrapped.body.ciphertext.0 })
    }

    /// Opens a file by the first of its stanzas that opens. These are the pairs that one may be bound to; none leave it alone. What the caller can
    /// do to have fewer of them tried is `narrower`.
    ///
    /// # Errors
    /// With what was wrong with each that was tried: none where no stanza was for us.
    pub(crate) fn open(
        &self,
        stanzas: &[Stanza],
        mut contexts: impl FnMut(&FileStanza) -> Vec<Vec<(String, String)>>,
        narrower: &str,
    ) -> Result<FileKey, Vec<Unopened>> {
        let mut unopened = vec![];
        for (place, stanza) in stanzas.iter().enumerate() {
            let (stanza, contexts) = match FileStanza::read(stanza) {
                None => continue,
                Some(Ok(stanza)) => {
                    let contexts = contexts(&stanza);
                    (Ok(stanza), contexts)
                }
                // Nothing is asked for it; but each is told of.
                Some(Err(problem)) => (Err(problem), vec![vec![]]),
            };
            for context in contexts {
                if unopened.len() == MOST {
                    let problem = format!("after {MOST} attempts to open it nothing more is tried");
                    let remedy = format!("{narrower}, or have the file made anew for fewer keys");
                    let failure = Failure::new(Exit::Usage, problem).remedy(remedy);
                    unopened.push(Unopened { place, named: None, failure });
                    return Err(unopened);
                }
                let (named, NoFileKey { failure, whatever_is_asked }) = match &stanza {
                    Ok(stanza) => match self.unwrap(stanza, &context) {
                        Ok(file_key) => return Ok(file_key),
                        Err(none) => {
                            (Some(format!("key `{}` of tenant `{}`", stanza.key, stanza.tenant)), none)
                        }
                    },
                    Err(problem) => {
                        let failure = Failure::new(Exit::Integrity, problem.as_str())
                            .remedy("get the file again, or use a newer Holdfast");
                        (None, NoFileKey { failure, whatever_is_asked: false })
                    }
                };
                unopened.push(Unopened { place, named, failure });
                if whatever_is_asked {
                    return Err(unopened);
                }
            }
        }
        Err(unopened)
    }

    /// Unwraps a file key.
    fn unwrap(&self, stanza: &FileStanza, context: &[(String, String)]) -> Result<FileKey, NoFileKey> {
        let client = self.app.client().map_err(|failure| NoFileKey { failure, whatever_is_asked: true })?;
        let tenant = client.tenant(stanza.tenant.clone());
        let pairs = bound(context);
        let opened = self.app.block_on(async {
            match stanza.class() {
                Some(BindingClass::Wrapped) => tenant.unwrap(&stanza.key, &stanza.wrapped, &pairs).await,
                Some(BindingClass::Data | BindingClass::DataKey) | None => {
                    tenant.decrypt(&stanza.key, &stanza.wrapped, &pairs).await
                }
            }
        })?;
        let bytes: &[u8; FILE_KEY_BYTES] = opened.plaintext.0.expose().try_into().map_err(|_| {
            let failure = Failure::new(Exit::Integrity, "what the file's header holds is no file key")
                .remedy("get the file again");
            NoFileKey { failure, whatever_is_asked: false }
        })?;
        Ok(FileKey::init_with_mut(|key| key.copy_from_slice(bytes)))
    }
}

/// Why there is no file key.
struct NoFileKey {
    failure: Failure,
    /// No other stanza fares better: nobody answers, or nobody knows the caller.
    whatever_is_asked: bool,
}

impl From<holdfast_sdk::Error> for NoFileKey {
    fn from(error: holdfast_sdk::Error) -> Self {
        let whatever_is_asked = match error.cause() {
            Cause::Problem(_) => error.kind() == Some(ErrorKind::Unauthenticated),
            Cause::Unreachable | Cause::Timeout | Cause::Untrusted | Cause::Settings => true,
            Cause::Integrity | Cause::Unintelligible | Cause::Local => false,
        };
        Self { failure: error.into(), whatever_is_asked }
    }
}

/// A stanza that did not open.
pub(crate) struct Unopened {
    /// Its place among the file's.
    pub(crate) place: usize,
    /// The key that it names, where it can be read.
    named: Option<String>,
    pub(crate) failure: Failure,
}

/// What to tell of a file none of whose stanzas opens: what a caller who might have opened it can do something about, and then the rest.
fn most_telling(mut unopened: Vec<Unopened>) -> Option<Failure> {
    unopened.sort_by_key(|unopened| match unopened.failure.exit() {
        // The same can open later.
        Exit::Unavailable => 0,
        Exit::Unauthenticated => 1,
        // Stopped, destroyed or used up: said only to who may use the key.
        Exit::State => 2,
        // Perhaps it is bound to other pairs.
        Exit::Integrity => 3,
        Exit::Denied => 4,
        Exit::Usage | Exit::Failure | Exit::Ok => 5,
    });
    let mut unopened = unopened.into_iter();
    let first = unopened.next()?.failure;
    let others: Vec<_> = unopened
        .map(|Unopened { named, failure, .. }| match named {
            Some(named) => format!("{named}: {}", failure.problem()),
            None => failure.problem().to_owned(),
        })
        .collect();
    Some(if others.is_empty() { first } else { first.beside(&others) })
}

/// What a file key is bound to, with the caller's own pairs.
pub(crate) fn bound(context: &[(String, String)]) -> Vec<(&str, &str)> {
    debug_assert!(PURPOSE.0.starts_with(RESERVED), "nobody else can give it");
    let mut pairs = crate::input::borrowed(context);
    pairs.push(PURPOSE);
    pairs
}

/// Makes and opens file keys for the `age` crate, whose errors cannot hold ours: the failure is kept here.
pub(crate) struct FileKeys<'a> {
    service: KeyService<'a>,
    /// The key to encrypt to.
    name: Option<Name>,
    /// What may be opened: this tenant's and this key's files only, as far as they are named.
    tenant: Option<TenantId>,
    key: Option<KeyName>,
    context: Vec<(String, String)>,
    failure: RefCell<Option<Failure>>,
}

impl<'a> FileKeys<'a> {
    /// To encrypt to a key.
    pub(crate) fn to(app: &'a App, name: Name) -> Self {
        let context = name.context.clone();
        Self {
            service: KeyService::new(app),
            name: Some(name),
            tenant: None,
            key: None,
            context,
            failure: RefCell::new(None),
        }
    }

    /// To decrypt with whichever key a file names, of this tenant and of this name where they are given.
    pub(crate) fn from(
        app: &'a App,
        tenant: Option<TenantId>,
        key: Option<KeyName>,
        context: Vec<(String, String)>,
    ) -> Self {
        Self { service: KeyService::new(app), name: None, tenant, key, context, failure: RefCell::new(None) }
    }

    /// Why the gateway gave no file key, if that is why `age` failed.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.borrow_mut().take()
    }

    fn keep(&self, failure: Failure) -> std::io::Error {
        let error = std::io::Error::other(failure.to_string());
        self.failure.borrow_mut().get_or_insert(failure);
        error
    }
}

impl age::Recipient for FileKeys<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let Some(name) = &self.name else { return Err(EncryptError::MissingRecipients) };
        match self.service.wrap(name, file_key) {
            Ok(stanza) => Ok((vec![stanza.into_stanza()], HashSet::new())),
            Err(failure) => Err(EncryptError::Io(self.keep(failure))),
        }
    }
}

impl age::Identity for FileKeys<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let mut of_others = None;
        let contexts = |stanza: &FileStanza| {
            let is_other = self.tenant.as_ref().is_some_and(|tenant| *tenant != stanza.tenant)
                || self.key.as_ref().is_some_and(|key| *key != stanza.key);
            if is_other {
                let problem = format!("the file is under key `{}` of tenant `{}`", stanza.key, stanza.tenant);
                let remedy = "leave `--key` out, and name that tenant with `--tenant` or HOLDFAST_TENANT";
                of_others.get_or_insert(Failure::new(Exit::State, problem).remedy(remedy));
                return vec![];
            }
            vec![self.context.clone()]
        };
        let opened = self.service.open(stanzas, contexts, "name the key with `--key`");
        match opened {
            Ok(file_key) => Some(Ok(file_key)),
            Err(unopened) => match most_telling(unopened) {
                Some(failure) => Some(Err(DecryptError::Io(self.keep(failure)))),
                None => {
                    self.keep(of_others?);
                    None
                }
            },
        }
    }
}
