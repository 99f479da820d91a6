//! Handing shares out: it ends when each custodian has proven that they can open theirs.

use super::roster::{Custodian, Roster};
use super::seal;
use crate::authentic::Authenticator;
use crate::directory::write_private;
use crate::fault::Fault;
use age::armor::Format;
use age::x25519::Recipient;
use holdfast_core::port::World;
use holdfast_core::{CallerName, InstanceId};
use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::share::{self, Share, Sharing};
use holdfast_keystore::root::spoken::{Challenge, Proof};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Somebody who is to get a share.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCustodian {
    /// What the custodian is called here.
    pub name: CallerName,
    /// Their own age recipient: nobody else has its identity.
    pub recipient: Recipient,
}

impl FromStr for NewCustodian {
    type Err = String;

    /// Of `NAME=age1…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, recipient) = text.split_once('=').ok_or("expected NAME=age1…")?;
        let name = name.parse().map_err(|error: holdfast_core::id::InvalidId| error.to_string())?;
        let recipient = recipient.parse().map_err(|why| {
            format!("`{recipient}` is no age recipient ({why}): give the line `age1…` that `age-keygen` printed as the public key")
        })?;
        Ok(Self { name, recipient })
    }
}

/// What a custodian is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who.
    pub name: CallerName,
    /// The file with their share.
    pub file: PathBuf,
    /// What they must answer.
    pub challenge: Challenge,
}

/// Shares that are being handed out. The root key itself is not in here; nothing of it is on disk but what is encrypted to its custodian.
pub struct Ceremony {
    of: Sharing,
    /// For the list.
    by: Authenticator,
    handed: Vec<Handed>,
}

struct Handed {
    asked: Asked,
    recipient: Recipient,
    share: Share,
    proven: bool,
}

impl Ceremony {
    /// Shares a root key, and writes each share to `files/NAME.age`.
    ///
    /// # Errors
    /// For an impossible threshold, a name or a recipient that comes twice, and files that cannot be written.
    pub fn begin<W: World>(
        root: &RootKey,
        (instance, generation, threshold): (InstanceId, u32, u8),
        custodians: &[NewCustodian],
        files: &Path,
        world: &W,
    ) -> Result<Self, Fault> {
        check(custodians, threshold)?;
        let of = Sharing { instance, generation, threshold, root: root.id()? };
        let count = u8::try_from(custodians.len()).unwrap_or(u8::MAX);
        let shares = share::make(root, &of, count, world)?;
        let mut handed = Vec::with_capacity(shares.len());
        for (NewCustodian { name, recipient }, share) in custodians.iter().zip(shares) {
            let file = files.join(format!("{name}.age"));
            write_private(&file, &seal(&share, recipient, Format::AsciiArmor)?)?;
            let asked = Asked { name: name.clone(), file, challenge: Challenge::new(world)? };
            handed.push(Handed { asked, recipient: recipient.clone(), share, proven: false });
        }
        Ok(Self { of, by: Authenticator::new(root)?, handed })
    }

    /// What those are asked who have not answered yet.
    pub fn open(&self) -> impl Iterator<Item = &Asked> {
        self.handed.iter().filter(|handed| !handed.proven).map(|handed| &handed.asked)
    }

    /// How many have answered, of how many.
    pub fn progress(&self) -> (usize, usize) {
        (self.handed.iter().filter(|handed| handed.proven).count(), self.handed.len())
    }

    /// Takes a custodian's answer. A wrong one changes nothing and may be tried again.
    ///
    /// # Errors
    /// When there is no such custodian, or the proof is not of their share and this challenge.
    pub fn prove(&mut self, name: &str, proof: &str) -> Result<(), Fault> {
        let Some(handed) = self.handed.iter_mut().find(|handed| handed.asked.name.as_str() == name) else {
            return Err(Fault::new(format!("`{name}` is none of the custodians"))
                .remedy("answer with `NAME PROOF`, with a name that was given on the command line"));
        };
        let Handed { asked, share, proven, .. } = handed;
        let proof: Proof = proof.parse().map_err(|error: holdfast_core::Error| {
            Fault::new(format!("`{name}`: {}", error.detail())).remedy(error.remedy_text().to_owned())
        })?;
        if !share.is_proven(&asked.challenge, &proof) {
            let problem =
                format!("the proof of `{name}` is wrong: of another share, or of another challenge");
            return Err(Fault::new(problem).remedy(format!(
                "`{name}` runs `holdfast share prove --identity FILE {} --challenge {}` again",
                asked.file.display(),
                asked.challenge
            )));
        }
        *proven = true;
        Ok(())
    }

    /// The public list, once everybody has proven; from here on the shares are with their custodians alone.
    ///
    /// # Errors
    /// While a proof is missing.
    pub fn finish(self, made: String, shared_by: Vec<CallerName>) -> Result<Roster, Fault> {
        if let Some(asked) = self.open().next() {
            return Err(Fault::new(format!(
                "`{}` has not proven that they can open their share",
                asked.name
            ))
            .remedy("begin again, and do not end before each custodian has answered"));
        }
        let custodian = |Handed { asked, recipient, share, proven: _ }| Custodian {
            name: asked.name,
            recipient,
            number: share.number(),
            commitment: share.commitment(),
        };
        let Self { of, by, handed } = self;
        let custodians = handed.into_iter().map(custodian).collect();
        Ok(Roster { of, made, shared_by, custodians, mac: None }.signed(&by)?)
    }
}

/// Whether shares can be handed out so.
///
/// # Errors
/// For an impossible threshold, and a name or a recipient that comes twice.
pub(crate) fn check(custodians: &[NewCustodian], threshold: u8) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    let mut recipients = BTreeSet::new();
    for NewCustodian { name, recipient } in custodians {
        if !names.insert(name.as_str().to_ascii_lowercase()) {
            return Err(Fault::new(format!("two custodians are called `{name}`"))
                .remedy("give each another name, one that differs in more than capital letters"));
        }
        if !recipients.insert(recipient.to_string()) {
            return Err(Fault::new(format!("the recipient of `{name}` is another custodian's as well"))
                .remedy("have each custodian make an identity of their own with `age-keygen`"));
        }
    }
    let most = usize::from(share::MAX_SHARES);
    if threshold < share::MIN_THRESHOLD
        || custodians.len() < usize::from(threshold)
        || custodians.len() > most
    {
        return Err(Fault::new(format!("{threshold} of {} shares cannot be", custodians.len())).remedy(
            format!("choose a threshold from 2 to the number of custodians, and at most {most} of them"),
        ));
    }
    Ok(())
}
