//! Another generation of shares of the same root key, whether or not the gateway serves meanwhile: one that does follows the list.

use super::together::{CeremonyLock, clear};
use super::{Ceremony, Gathering, NewCustodian, Roster};
use crate::directory::{Directory, write_private};
use crate::fault::Fault;
use crate::reroot::swap_shares;
use crate::world::SystemWorld;
use holdfast_core::CallerName;
use holdfast_core::port::World as _;
use holdfast_keystore::root::RootKey;

/// A directory whose shares are to be replaced.
pub struct Rotation {
    directory: Directory,
    roster: Roster,
    lock: CeremonyLock,
}

impl Rotation {
    /// Begins.
    ///
    /// # Errors
    /// When there is no gateway whose root key is in shares, another ceremony is under way, or another root key is being put in force.
    pub fn begin(directory: &Directory) -> Result<Self, Fault> {
        let shown = directory.path().display();
        if directory.identity()?.is_none() {
            return Err(
                Fault::new(format!("there is no gateway in `{shown}`")).remedy("name its data directory")
            );
        }
        let lock = CeremonyLock::take(directory)?;
        if directory.next_root().exists() {
            return Err(Fault::new("another root key is being put in force")
                .remedy("let the gateway finish that: it does as soon as it serves"));
        }
        let roster = directory.roster()?.ok_or_else(|| {
            Fault::new(format!("the root key of `{shown}` is not in shares")).remedy(
                "bring it into shares with `holdfast root rotate --threshold N --root-custodian NAME=age1…`",
            )
        })?;
        Ok(Self { directory: directory.clone(), roster, lock })
    }

    /// What takes shares of the generation in force.
    pub fn gathering(&self) -> Gathering {
        Gathering::begin(self.roster.clone())
    }

    /// Hands the next generation out, each share to `DIR/shares.new/NAME.age` for now.
    ///
    /// # Errors
    /// For an impossible threshold, a name or recipient that comes twice, files that cannot be written, and when `root.shares` is not as it was
    /// written.
    pub fn hand_out(
        self,
        root: &RootKey,
        shared_by: Vec<CallerName>,
        threshold: u8,
        custodians: &[NewCustodian],
    ) -> Result<HandedOut, Fault> {
        let Self { directory, roster, lock } = self;
        roster.must_be_of(root)?;
        let generation = roster
            .of
            .generation
            .checked_add(1)
            .ok_or_else(|| Fault::new("there were too many generations"))?;
        let files = directory.new_shares();
        clear(&files)?;
        let mut handed = HandedOut { directory, lock, shared_by, ceremony: None };
        let of = (roster.of.instance, generation, threshold);
        handed.ceremony = Some(Ceremony::begin(root, of, custodians, &files, &SystemWorld::new())?);
        Ok(handed)
    }
}

/// The next generation while its custodians prove. What is not finished is removed, and the generation in force stays.
pub struct HandedOut {
    directory: Directory,
    #[expect(dead_code, reason = "held for as long as this takes")]
    lock: CeremonyLock,
    shared_by: Vec<CallerName>,
    ceremony: Option<Ceremony>,
}

impl HandedOut {
    /// What the custodians are asked.
    ///
    /// # Errors
    /// When it was finished.
    pub fn ceremony(&mut self) -> Result<&mut Ceremony, Fault> {
        self.ceremony.as_mut().ok_or_else(|| Fault::new("the shares were handed out already"))
    }

    /// Puts the next generation in force; from the moment at which its list is written, the earlier shares are refused.
    ///
    /// # Errors
    /// While a proof is missing, and when the list cannot be written: then the earlier generation stays in force.
    pub fn finish(mut self) -> Result<Roster, Fault> {
        let ceremony =
            self.ceremony.take().ok_or_else(|| Fault::new("the shares were handed out already"))?;
        let made = SystemWorld::new().now().to_string();
        let roster = ceremony.finish(made, std::mem::take(&mut self.shared_by))?;
        write_private(&self.directory.root_shares(), roster.to_text()?.as_bytes())?;
        swap_shares(&self.directory);
        Ok(roster)
    }
}

impl Drop for HandedOut {
    fn drop(&mut self) {
        // Renamed already, if it was finished.
        if self.ceremony.is_some() {
            let _ = std::fs::remove_dir_all(self.directory.new_shares());
        }
    }
}
