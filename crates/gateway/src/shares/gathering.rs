//! Taking shares back: each is checked at once, and enough of them give the root key.

use super::roster::{Custodian, Roster};
use super::{Closed, fresh, open};
use crate::authentic::Authentic;
use crate::process;
use age::x25519::Identity;
use holdfast_core::{CallerName, Error, ErrorKind, Stage};
use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::share::{self, Mismatch, Share};
use holdfast_keystore::root::spoken::Fingerprint;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long shares wait for the others: a quarter of an hour from the first.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Shares that come in, encrypted to a key of this process alone. Key and shares are in memory only, and wiped when this is dropped.
pub struct Gathering {
    roster: Roster,
    identity: Identity,
    recipient: String,
    fingerprint: Fingerprint,
    held: BTreeMap<u8, (CallerName, Share)>,
    /// When the first of those came.
    since: Option<u64>,
    /// In microseconds.
    patience: u64,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which generation's shares are wanted.
    pub generation: u32,
    /// How many.
    pub threshold: u8,
    /// Whose are in.
    pub given: Vec<CallerName>,
    /// Whether the list that says so has a code. Whether that is right shows when the root key is there.
    pub has_code: bool,
}

impl Progress {
    /// Whose are in, in words.
    pub fn names(&self) -> String {
        self.given.iter().map(CallerName::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What a good share led to.
pub enum Given {
    /// More are needed.
    More(Progress),
    /// The root key, and whose shares gave it.
    Root(RootKey, Progress),
}

impl Gathering {
    /// Begins, with a fresh key.
    pub fn begin(roster: Roster) -> Self {
        Self::with_patience(roster, PATIENCE)
    }

    /// The same; shares wait for so long.
    pub(crate) fn with_patience(roster: Roster, patience: Duration) -> Self {
        process::protect_memory();
        let (identity, recipient, fingerprint) = fresh();
        let patience = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        Self { roster, identity, recipient, fingerprint, held: BTreeMap::new(), since: None, patience }
    }

    /// The fresh key's recipient, to which custodians encrypt.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Takes shares of another generation from now on, if it is another: those that are in are of none any more.
    pub fn renew(&mut self, roster: Roster) {
        if roster != self.roster {
            tracing::warn!(generation = roster.of.generation, "another list of shares is in force");
            self.forget();
            self.roster = roster;
        }
    }

    /// What the fresh key is recognised by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// How far it is; `now` on a clock that never steps back, in microseconds.
    pub fn progress(&mut self, now: u64) -> Progress {
        self.expire(now);
        Progress {
            generation: self.roster.of.generation,
            threshold: self.roster.of.threshold,
            given: self.held.values().map(|(name, _)| name.clone()).collect(),
            has_code: self.roster.mac.is_some(),
        }
    }

    /// Forgets shares that have waited for too long; says when to look again, if any are waiting.
    pub fn expire(&mut self, now: u64) -> Option<u64> {
        let end = self.since?.saturating_add(self.patience);
        if now < end {
            return Some(end);
        }
        tracing::warn!(shares = self.held.len(), "the shares were not complete in time and are wiped");
        self.forget();
        None
    }

    #[cfg(test)]
    pub(crate) fn holds(&self) -> usize {
        self.held.len()
    }

    /// Whose shares it takes.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Wipes the shares that are in.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
        self.since = None;
    }

    /// Takes a share that was encrypted to the fresh key. The same one again changes nothing.
    ///
    /// # Errors
    /// `malformed`, which says whose share it is and what is wrong with it; nothing else has changed then. `key-store-unavailable` when all
    /// shares are right and give another root key, and `conflict` when the list of them is not as it was written: they are forgotten.
    pub fn give(&mut self, sealed: &[u8], now: u64) -> Result<Given, Error> {
        self.expire(now);
        let share = match open(sealed, std::iter::once(&self.identity as &dyn age::Identity)) {
            Ok(share) => share,
            Err(Closed::Share(error)) => return Err(error),
            Err(Closed::Age(error)) => {
                return Err(refused("what came is not encrypted to this start's fresh key".to_owned())
                    .remedy("the key is another after each start: run `holdfast unseal` again, with the fingerprint that is shown now")
                    .because(error));
            }
        };
        let name = self.check(&share)?;
        self.held.entry(share.number()).or_insert((name, share));
        self.since.get_or_insert(now);
        let progress = self.progress(now);
        if self.held.len() < usize::from(progress.threshold) {
            return Ok(Given::More(progress));
        }
        let root = share::combine(self.held.values().map(|(_, share)| share));
        self.forget();
        let root = root?;
        match self.roster.check(&root) {
            // What a list without a code is good for is up to whoever wants the root key.
            Ok(Authentic::Yes | Authentic::Unknown) => Ok(Given::Root(root, progress)),
            // The shares are right: their custodians are to know why they open nothing.
            Err(error) => Err(Error::new(ErrorKind::Conflict, error.stage(), error.detail().to_owned())
                .remedy(format!("tell the operator of the gateway: {}", error.remedy_text()))),
        }
    }

    /// Whose it is, if it is the one that was handed out.
    fn check(&self, share: &Share) -> Result<CallerName, Error> {
        let number = share.number();
        let generation = self.roster.of.generation;
        let holder = self.roster.holder(share);
        let whose = match holder {
            // A number says whose it is in its own generation alone.
            Some(Custodian { name, .. }) if share.of().generation == generation => {
                format!("share {number}, of `{name}`,")
            }
            Some(_) | None => format!("share {number}"),
        };
        // Without a commitment it differs before its bytes are compared, or it is none of this generation's.
        let commitment = holder.map_or([0; 32], |holder| holder.commitment);
        match (share.check(&self.roster.of, &commitment), holder) {
            (Ok(()), Some(holder)) => Ok(holder.name.clone()),
            (Err(Mismatch::Instance), _) => {
                Err(refused(format!("share {number} is of another gateway, {}", share.of().instance))
                    .remedy(format!("give a share of gateway {}", self.roster.of.instance)))
            }
            (Err(Mismatch::Generation(other)), _) => Err(refused(format!(
                "{whose} is of generation {other}, and generation {generation} is in force"
            ))
            .remedy("use the file that the newest `holdfast share rotate` wrote, and destroy the older one")),
            (Err(Mismatch::Sharing), _) => {
                Err(refused(format!("{whose} is of another root key or another threshold"))
                    .remedy("use the file that was proven at the ceremony"))
            }
            (Err(Mismatch::Bytes) | Ok(()), _) => Err(refused(format!(
                "{whose} is not the one that was handed out: its commitment differs"
            ))
            .remedy(
                "use the file that was proven at the ceremony; if it is that, look who changed `root.shares`",
            )),
        }
    }
}

fn refused(detail: String) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Start, detail)
}
