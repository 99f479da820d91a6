//! The root key with a device of this machine: it opens by itself at each start, and custodians' shares beside it are the second way.

mod binding;
mod bound;
mod hsm;

pub use binding::Binding;
pub use bound::Bound;
pub use holdfast_keystore::root::tpm::{Pcrs, Place};
pub use hsm::InTokens;
pub(crate) use hsm::{forget_in_tokens, seal_in_tokens};

use crate::config::Config;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::process;
use crate::shares::Roster;
use crate::world::SystemWorld;
use holdfast_core::pipeline::DeviceUnsealing;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_keystore::root::tpm::Sealed;
use holdfast_keystore::root::{RootKey, SealerId, file as root_file};
use tokio::task::JoinHandle;

/// How a device is called in records.
const TPM: &str = "tpm";

/// How a start comes to the root key.
pub(crate) enum Start {
    /// It lies in a file.
    File,
    /// The device has opened it.
    Opened(RootKey, DeviceUnsealing),
    /// Custodians' shares are wanted.
    Sealed(Roster, Refused),
}

/// Why no device has opened the root key, if there is one.
#[derive(Default)]
pub(crate) struct Refused {
    /// What is to be recorded of it.
    pub(crate) told: Option<DeviceUnsealing>,
    /// What ends when it opens the root key after all.
    pub(crate) returning: Option<JoinHandle<(RootKey, DeviceUnsealing)>>,
}

/// Looks how the root key is kept, and has the device open it if one has sealed it.
///
/// # Errors
/// When the device does not open it and there are no shares, and when it is kept in two ways that exclude each other.
pub(crate) async fn start(directory: &Directory, config: &Config) -> Result<Start, Fault> {
    let roster = directory.roster()?;
    // A custodian has sealed it: no device opens it before custodians have.
    if let (true, Some(roster)) = (directory.is_sealed_by_order(), &roster) {
        return Ok(Start::Sealed(roster.clone(), Refused::default()));
    }
    if directory.root_hsm().exists() {
        return hsm::start(directory, roster, config).await;
    }
    if !directory.root_tpm().exists() {
        return Ok(roster.map_or(Start::File, |roster| Start::Sealed(roster, Refused::default())));
    }
    let of = roster.as_ref().map(|roster| roster.of.root);
    let asked = directory.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let bound = asked.bound();
        let root = bound.as_ref().map_err(again).and_then(|bound| match bound {
            Some(bound) => open(bound, of),
            None => root_file::load(&asked.root_key()),
        });
        (bound.ok().flatten(), root)
    });
    let (bound, root) =
        opened.await.map_err(|error| Fault::new("the TPM could not be asked").because(error))?;
    let unsealing = |refused| told(bound.as_ref(), refused);
    match (root, roster) {
        (Ok(root), _) => Ok(Start::Opened(root, unsealing(None))),
        (Err(error), None) => Err(alone(error).into()),
        (Err(error), Some(roster)) => {
            let error = or_by_shares(error);
            tracing::warn!(
                error = error.chain(),
                remedy = error.remedy_text(),
                "the TPM did not open the root key"
            );
            let told = Some(unsealing(Some(error.detail().to_owned())));
            Ok(Start::Sealed(roster, Refused { told, returning: None }))
        }
    }
}

/// The root key of a directory that nobody serves, without anybody being asked: by its device, or from its file.
///
/// # Errors
/// When the device does not open it, or there is no file.
pub(crate) fn root(directory: &Directory) -> Result<RootKey, Error> {
    match directory.bound()? {
        Some(bound) => {
            let roster = directory.roster().map_err(|fault| {
                let detail = "the list of the root key's shares cannot be read";
                Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail).because(fault)
            })?;
            let of = roster.map(|roster| roster.of.root);
            open(&bound, of).map_err(|error| if of.is_some() { error } else { alone(error) })
        }
        None => root_file::load(&directory.root_key()),
    }
}

/// Has the device open it; `of` is the root key that is in shares beside it.
fn open(bound: &Bound, of: Option<SealerId>) -> Result<RootKey, Error> {
    process::protect_memory();
    if of.is_some_and(|of| of != bound.root) {
        let detail = "`root.tpm` is of another root key than the shares beside it";
        return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
            .remedy("put `root.tpm` back as it was written last"));
    }
    bound.open()
}

/// The same once more.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.stage(), error.detail().to_owned())
        .remedy(error.remedy_text().to_owned())
        .because(error.chain())
}

/// Without shares there is no second way.
fn alone(error: Error) -> Error {
    let remedy = format!(
        "{}. There are no shares of this root key: nothing but this TPM, with its registers as they were, opens it",
        error.remedy_text()
    );
    error.remedy(remedy)
}

/// With shares there is.
fn or_by_shares(error: Error) -> Error {
    let remedy = format!(
        "{}. Custodians' shares open it in any case, and `holdfast root bind` binds it to this TPM as it is now",
        error.remedy_text()
    );
    error.remedy(remedy)
}

fn told(bound: Option<&Bound>, refused: Option<String>) -> DeviceUnsealing {
    let at = SystemWorld::new().now();
    match bound {
        // When and by whom it was bound is believed of what opened and has a code.
        Some(Bound { made, bound_by, sealed: Sealed { pcrs, .. }, mac: Some(_), .. })
            if refused.is_none() =>
        {
            DeviceUnsealing {
                at,
                device: TPM,
                bound_to: pcrs.to_string(),
                made: made.clone(),
                bound_by: bound_by.clone(),
                refused,
            }
        }
        // A file that nobody can read says nothing.
        Some(_) | None => DeviceUnsealing {
            at,
            device: TPM,
            bound_to: bound.map(|bound| bound.sealed.pcrs.to_string()).unwrap_or_default(),
            made: String::new(),
            bound_by: vec![],
            refused,
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    (0..text.len())
        .step_by(2)
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .filter(|bytes| is_hex && !bytes.is_empty())
}
