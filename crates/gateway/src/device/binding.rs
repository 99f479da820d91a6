//! Binding a root key to this machine's TPM, to another state of it, or to tokens, on a gateway that is stopped.

use super::{Bound, InTokens, Pcrs, Place, hsm};
use crate::authentic::Authentic;
use crate::config::Config;
use crate::directory::{Directory, write_private};
use crate::fault::Fault;
use crate::process;
use crate::shares::{Gathering, Roster};
use crate::world::SystemWorld;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, InstanceId};
use holdfast_keystore::root::{RootKey, tpm};
use holdfast_state::DirectoryLock;
use std::io::ErrorKind;
use std::path::Path;

/// A directory whose root key is to be bound.
pub struct Binding {
    directory: Directory,
    instance: InstanceId,
    roster: Option<Roster>,
    // For as long as this takes nobody serves the directory.
    #[expect(dead_code, reason = "held for as long as this takes")]
    lock: DirectoryLock,
}

impl Binding {
    /// Begins with a directory that nobody serves.
    ///
    /// # Errors
    /// When there is no gateway, its root key lies in a file, or another process has it.
    pub fn begin(directory: &Directory) -> Result<Self, Fault> {
        process::protect_memory();
        let shown = directory.path().display();
        let Some(identity) = directory.identity()? else {
            return Err(
                Fault::new(format!("there is no gateway in `{shown}`")).remedy("name its data directory")
            );
        };
        let roster = directory.roster()?;
        if roster.is_none() && !directory.root_tpm().exists() && !directory.root_hsm().exists() {
            return Err(Fault::new(format!("the root key of `{shown}` lies in a file")).remedy(
                "a copy of that file would open it all the same: found a gateway with `holdfast init --root tpm`",
            ));
        }
        if directory.next_root().exists() {
            return Err(Fault::new("another root key is ordered, and not in force yet")
                .remedy("start the gateway, which puts it in force; then stop it and bind that one"));
        }
        let lock = DirectoryLock::take(directory.path())?;
        Ok(Self { directory: directory.clone(), instance: identity.instance, roster, lock })
    }

    /// The root key as its device opens it now. Tokens are those of a configuration.
    ///
    /// # Errors
    /// When none has sealed it, or it does not open it.
    pub async fn opened(&self, config: Option<&Config>) -> Result<RootKey, Fault> {
        let of = self.roster.as_ref().map(|roster| roster.of.root);
        if let Some(bound) = self.directory.bound()? {
            let opened = super::open(&bound, of);
            return Ok(opened.map_err(|error| if of.is_some() { error } else { super::alone(error) })?);
        }
        match (self.directory.in_tokens()?, config) {
            (Some(tokens), Some(config)) if of == Some(tokens.root) => {
                Ok(hsm::open_in_tokens(&tokens, config, &self.directory).await?)
            }
            (_, _) => Err(Fault::new("no device has sealed the root key yet")),
        }
    }

    /// What takes custodians' shares; `None` where there are none.
    pub fn gathering(&self) -> Option<Gathering> {
        self.roster.clone().map(Gathering::begin)
    }

    /// Seals the root key to this TPM as the machine is now, and puts that in force: what was bound earlier is replaced.
    ///
    /// # Errors
    /// When the TPM does not take it, or the file cannot be written: then what was bound earlier stays.
    pub fn bind(
        self,
        root: &RootKey,
        by: Vec<CallerName>,
        place: &Place,
        pcrs: &Pcrs,
    ) -> Result<Bound, Fault> {
        self.is_listed(root)?;
        let sealed = tpm::seal(root, place, pcrs)?;
        let made = SystemWorld::new().now().to_string();
        let (instance, is) = (self.instance, root.id()?);
        let bound = Bound { instance, root: is, made, bound_by: by, sealed, mac: None }.signed(root)?;
        write_private(&self.directory.root_tpm(), bound.to_text()?.as_bytes())?;
        self.leave(&self.directory.root_hsm())?;
        Ok(bound)
    }

    /// The same with the tokens of a configuration, each of which must be there.
    ///
    /// # Errors
    /// When there are no shares beside it, a token does not take it, or the file cannot be written: then what was bound earlier stays.
    pub async fn bind_in_tokens(
        self,
        root: &RootKey,
        by: Vec<CallerName>,
        config: &Config,
    ) -> Result<InTokens, Fault> {
        if self.roster.is_none() {
            return Err(Fault::new("there are no shares of this root key, and tokens fail")
                .remedy("found a gateway with `--root hsm` and `--shares`"));
        }
        self.is_listed(root)?;
        // What can't be read any more was nobody's; what is not known to be ours must not name the keys that go.
        let earlier = self.directory.in_tokens().ok().flatten();
        let earlier = earlier.filter(|earlier| matches!(earlier.check(root), Ok(Authentic::Yes)));
        let made = hsm::seal_in_tokens((self.instance, root), by, config, &self.directory).await?;
        write_private(&self.directory.root_hsm(), made.to_text()?.as_bytes())?;
        self.leave(&self.directory.root_tpm())?;
        if let Some(earlier) = earlier {
            hsm::forget_in_tokens(&earlier, config, &self.directory).await;
        }
        Ok(made)
    }

    /// Whose shares allow it must be those who were meant.
    fn is_listed(&self, root: &RootKey) -> Result<(), Fault> {
        self.roster.as_ref().map_or(Ok(()), |roster| roster.must_be_of(root))
    }

    /// One device has it at a time.
    fn leave(&self, file: &Path) -> Result<(), Fault> {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Fault::io("cannot remove", file, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
