//! Ordering another root key, on the gateway's machine: by who has the one in force, from its file or from enough of its shares.

use super::next::Next;
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::process;
use crate::shares::{Asked, Ceremony, CeremonyLock, Gathering, NewCustodian, RootKey, Roster};
use crate::world::SystemWorld;
use holdfast_core::CallerName;
use holdfast_core::port::World as _;
use holdfast_keystore::root::{SealerId, file as root_file};
use holdfast_state::DirectoryLock;
use std::time::Duration;

/// How often to look whether it is in force.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A change of the root key that is to be ordered.
pub struct Change {
    directory: Directory,
    identity: Identity,
    roster: Option<Roster>,
    lock: CeremonyLock,
}

/// Who brings the root key in force.
pub enum Begun {
    /// Its file.
    File(Change, RootKey),
    /// Custodians: what takes their shares.
    Shares(Change, Box<Gathering>),
}

impl Change {
    /// Begins.
    ///
    /// # Errors
    /// When there is no gateway, a ceremony is under way, or a change is ordered already.
    pub fn begin(directory: &Directory) -> Result<Begun, Fault> {
        process::protect_memory();
        let shown = directory.path().display();
        let identity = directory.identity()?.ok_or_else(|| {
            Fault::new(format!("there is no gateway in `{shown}`")).remedy("name its data directory")
        })?;
        let lock = CeremonyLock::take(directory)?;
        if directory.next_root().exists() {
            return Err(Fault::new("another root key is ordered already")
                .remedy("let the gateway put it in force: it does as soon as it serves; its own log says what keeps it"));
        }
        let roster = directory.roster()?;
        let change = Self { directory: directory.clone(), identity, roster, lock };
        Ok(match &change.roster {
            Some(roster) => {
                let gathering = Box::new(Gathering::begin(roster.clone()));
                Begun::Shares(change, gathering)
            }
            None if directory.root_tpm().exists() => {
                return Err(Fault::new("the root key of this gateway is sealed by its TPM alone").remedy(
                    "it is changed where it is in a file or in shares; a gateway founded with `--root tpm --shares` has both ways",
                ));
            }
            None => {
                let root = root_file::load(&directory.root_key())?;
                Begun::File(change, root)
            }
        })
    }

    /// Orders a new root key in a file.
    ///
    /// # Errors
    /// When the root key is in shares, and when the order cannot be written.
    pub fn order_file(self, root: &RootKey) -> Result<Ordered, Fault> {
        if self.roster.is_some() {
            return Err(Fault::new("the root key of this gateway is in shares, and so is the next one")
                .remedy(
                    "name its custodians with `--root-custodian`, and how many open it with `--threshold`",
                ));
        }
        let next = Next { root: RootKey::generate(&SystemWorld::new())?, roster: None };
        self.order(root, &next)
    }

    /// Makes a new root key and hands its shares out, each to `DIR/shares.new/NAME.age` for now.
    ///
    /// # Errors
    /// For an impossible threshold, a name or recipient that comes twice, and files that cannot be written.
    pub fn hand_out(
        self,
        root: RootKey,
        shared_by: Vec<CallerName>,
        (threshold, custodians): (u8, &[NewCustodian]),
    ) -> Result<HandedOut, Fault> {
        let world = SystemWorld::new();
        if let Some(roster) = &self.roster {
            roster.must_be_of(&root)?;
        }
        let generation = self.roster.as_ref().map_or(0, |roster| roster.of.generation).checked_add(1);
        let generation = generation.ok_or_else(|| Fault::new("there were too many generations"))?;
        let files = self.directory.new_shares();
        crate::shares::clear(&files)?;
        let next = RootKey::generate(&world)?;
        let of = (self.identity.instance, generation, threshold);
        let mut handed =
            HandedOut { change: Some((self, root, next)), shared_by, files: files.clone(), ceremony: None };
        let Some((_, _, next)) = &handed.change else { return Err(finished()) };
        handed.ceremony = Some(Ceremony::begin(next, of, custodians, &files, &world)?);
        Ok(handed)
    }

    fn order(self, from: &RootKey, next: &Next) -> Result<Ordered, Fault> {
        let Self { directory, identity, roster: _, lock } = self;
        next.order(&directory, &identity, from)?;
        let generation = next.roster.as_ref().map(|roster| roster.of.generation);
        Ok(Ordered { directory, to: next.root.id()?, generation, lock })
    }
}

fn finished() -> Fault {
    Fault::new("the shares were handed out already")
}

/// The shares of a new root key while its custodians prove. What is not finished is removed, and nothing has changed.
pub struct HandedOut {
    change: Option<(Change, RootKey, RootKey)>,
    shared_by: Vec<CallerName>,
    files: std::path::PathBuf,
    ceremony: Option<Ceremony>,
}

impl HandedOut {
    /// What the custodians are asked.
    ///
    /// # Errors
    /// When it was finished.
    pub fn ceremony(&mut self) -> Result<&mut Ceremony, Fault> {
        self.ceremony.as_mut().ok_or_else(finished)
    }

    /// Orders that the new root key be put in force.
    ///
    /// # Errors
    /// While a proof is missing, and when the order cannot be written: then nothing has changed.
    pub fn order(mut self) -> Result<Ordered, Fault> {
        let ceremony = self.ceremony.as_ref().ok_or_else(finished)?;
        if let Some(Asked { name, .. }) = ceremony.open().next() {
            return Err(Fault::new(format!("`{name}` has not proven that they can open their share")));
        }
        let (Some(ceremony), Some((change, from, root))) = (self.ceremony.take(), self.change.take()) else {
            return Err(finished());
        };
        let made = SystemWorld::new().now().to_string();
        let roster = ceremony.finish(made, std::mem::take(&mut self.shared_by))?;
        change.order(&from, &Next { root, roster: Some(roster) })
    }
}

impl Drop for HandedOut {
    fn drop(&mut self) {
        // Ordered already, if it is not there.
        if self.ceremony.is_some() {
            let _ = std::fs::remove_dir_all(&self.files);
        }
    }
}

/// A change that the gateway is to carry out.
pub struct Ordered {
    directory: Directory,
    /// The new root key's public name.
    pub to: SealerId,
    /// Its generation of shares, if it is in shares.
    pub generation: Option<u32>,
    #[expect(dead_code, reason = "held for as long as this takes")]
    lock: CeremonyLock,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is in force.
    InForce,
    /// Nobody serves the directory: whoever does next puts it in force.
    Waiting,
}

impl Ordered {
    /// Waits until the gateway has put it in force.
    ///
    /// # Errors
    /// When it could not.
    pub async fn ended(&self) -> Result<Ended, Fault> {
        loop {
            if !self.directory.next_root().exists() {
                break;
            }
            if DirectoryLock::take(self.directory.path()).is_ok() {
                return Ok(Ended::Waiting);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let in_force = match self.directory.roster()? {
            Some(roster) => roster.of.root,
            None => root_file::load(&self.directory.root_key())?.id()?,
        };
        match in_force == self.to {
            true => Ok(Ended::InForce),
            false => Err(Fault::new(
                "the gateway could not put the new root key in force; the earlier one stays",
            )
            .remedy("look for `the root key is not changed` in the gateway's own log, then order it again")),
        }
    }
}
