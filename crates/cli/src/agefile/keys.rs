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
use holdfast_sdk::{KeyName, TenantId};
use std::cell::RefCell;
use std::collections::HashSet;

/// What every file key is bound to beside the caller's own pairs: a file key opens nothing else, and nothing else opens as one.
const PURPOSE: (&str, &str) = ("holdfast-purpose", "age-file-key");

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

    /// Unwraps a file key.
    pub(crate) fn unwrap(
        &self,
        stanza: &FileStanza,
        context: &[(String, String)],
    ) -> Result<FileKey, Failure> {
        let tenant = self.app.client()?.tenant(stanza.tenant.clone());
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
            Failure::new(Exit::Integrity, "what the file's header holds is no file key")
                .remedy("get the file again")
        })?;
        Ok(FileKey::init_with_mut(|key| key.copy_from_slice(bytes)))
    }
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
        let kept = |failure| Some(Err(DecryptError::Io(self.keep(failure))));
        let stanza = match FileStanza::read(stanza)? {
            Ok(stanza) => stanza,
            Err(problem) => {
                let remedy = "get the file again, or use a newer Holdfast";
                return kept(Failure::new(Exit::Integrity, problem).remedy(remedy));
            }
        };
        let is_other = self.tenant.as_ref().is_some_and(|tenant| *tenant != stanza.tenant)
            || self.key.as_ref().is_some_and(|key| *key != stanza.key);
        if is_other {
            let problem = format!("the file is under key `{}` of tenant `{}`", stanza.key, stanza.tenant);
            let remedy = "leave `--key` out, and name that tenant with `--tenant` or HOLDFAST_TENANT";
            self.keep(Failure::new(Exit::State, problem).remedy(remedy));
            return None;
        }
        match self.service.unwrap(&stanza, &self.context) {
            Ok(file_key) => Some(Ok(file_key)),
            Err(failure) => kept(failure),
        }
    }
}
