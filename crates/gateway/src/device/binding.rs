//! Binding a root key to this machine's TPM, or to another state of it, on a gateway that is stopped.

use super::{Bound, Pcrs, Place};
use crate::directory::{Directory, write_private};
use crate::fault::Fault;
use crate::process;
use crate::shares::{Gathering, Roster};
use crate::world::SystemWorld;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, InstanceId};
use holdfast_keystore::root::{RootKey, tpm};
use holdfast_state::DirectoryLock;

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
        if roster.is_none() && !directory.root_tpm().exists() {
            return Err(Fault::new(format!("the root key of `{shown}` lies in a file")).remedy(
                "a copy of that file would open it all the same: found a gateway with `holdfast init --root tpm`",
            ));
        }
        let lock = DirectoryLock::take(directory.path())?;
        Ok(Self { directory: directory.clone(), instance: identity.instance, roster, lock })
    }

    /// The root key as its TPM opens it now.
    ///
    /// # Errors
    /// When none has sealed it, or it does not open it.
    pub fn opened(&self) -> Result<RootKey, Fault> {
        let bound = self.directory.bound()?;
        let bound = bound.ok_or_else(|| Fault::new("no TPM has sealed the root key yet"))?;
        let opened = super::open(&bound, self.roster.as_ref().map(|roster| roster.of.root));
        Ok(opened.map_err(|error| if self.roster.is_some() { error } else { super::alone(error) })?)
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
        let sealed = tpm::seal(root, place, pcrs)?;
        let made = SystemWorld::new().now().to_string();
        let bound = Bound { instance: self.instance, root: root.id()?, made, bound_by: by, sealed };
        write_private(&self.directory.root_tpm(), bound.to_text()?.as_bytes())?;
        Ok(bound)
    }
}
