//! Opening a backup: with the identity of a recipient, or with the shares of enough custodians.

use super::envelope::{Envelope, HEAD, Head, Holder, SealedPart, identity};
use crate::fault::Fault;
use crate::process;
use crate::shares::{fresh, identities, open_text};
use age::x25519::Identity;
use holdfast_core::{CallerName, InstanceId};
use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::backup::{BackupId, BackupShare, MAX_TEXT, combine};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// How an age file begins.
const AGE: &[u8] = b"age-encryption.org/";

/// A backup as it was found.
pub enum Found {
    /// Decrypted elsewhere.
    Clear(Readable),
    /// An age file that any one of its recipients opens.
    Anyone(Box<dyn Read + Send>),
    /// For custodians.
    Custodians(Opening),
}

/// A backup that can be read.
pub struct Readable {
    pub(super) archive: Box<dyn Read + Send>,
    pub(super) root: Option<RootKey>,
    /// What was said of it in clear, where something was.
    pub(super) says: Option<(InstanceId, BackupId)>,
    /// Whether it was opened here, from the file as it was written.
    pub(super) is_as_written: bool,
}

impl Found {
    /// Looks at how a backup begins.
    ///
    /// # Errors
    /// When it cannot be read, or is cut or damaged before what is sealed.
    pub fn of(mut backup: Box<dyn Read + Send>) -> Result<Self, Fault> {
        let mut head = Vec::with_capacity(AGE.len());
        let unreadable = |error: io::Error| Fault::new("the backup cannot be read").because(error);
        let limit = u64::try_from(AGE.len()).unwrap_or(0);
        (&mut backup).take(limit).read_to_end(&mut head).map_err(unreadable)?;
        let (is_age, is_envelope) = (head == AGE, head.starts_with(HEAD.as_bytes()));
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(head).chain(backup));
        Ok(match (is_age, is_envelope) {
            (true, _) => Self::Anyone(whole),
            (false, true) => Self::Custodians(Opening::begin(whole)?),
            (false, false) => {
                Self::Clear(Readable { archive: whole, root: None, says: None, is_as_written: false })
            }
        })
    }
}

/// Opens a backup that any one of its recipients opens.
///
/// # Errors
/// When no identity is given, or none of them opens it.
pub fn open_for_anyone(backup: Box<dyn Read + Send>, with: &[PathBuf]) -> Result<Readable, Fault> {
    if with.is_empty() {
        return Err(Fault::new("the backup is encrypted")
            .remedy("give the file with the age identity that opens it, with `--identity`"));
    }
    let mut found = Vec::new();
    for path in with {
        found.extend(identities(path).map_err(|fault| {
            fault.remedy(
                "give the file that `age-keygen` wrote; decrypt with `age -d` and give `-` for one in hardware",
            )
        })?);
    }
    let closed = |error: age::DecryptError| {
        let is_damage = !matches!(error, age::DecryptError::NoMatchingKeys);
        let fault = Fault::new("the backup does not open")
            .remedy(
                "give the identity of one of the recipients that the configuration named when it was taken",
            )
            .because(error);
        if is_damage { fault.damaged() } else { fault }
    };
    let decryptor = age::Decryptor::new_buffered(BufReader::new(backup)).map_err(closed)?;
    let found = found.iter().map(|identity| &**identity as &dyn age::Identity);
    let archive = Box::new(decryptor.decrypt(found).map_err(closed)?);
    Ok(Readable { archive, root: None, says: None, is_as_written: true })
}

/// A backup for custodians, and their shares as they come in: by an identity that is here, or encrypted to a key of this process alone.
/// Shares are in memory only, and wiped when this is dropped.
pub struct Opening {
    envelope: Envelope,
    sealed: SealedPart,
    identity: Identity,
    recipient: String,
    held: BTreeMap<u8, (CallerName, BackupShare)>,
}

impl Opening {
    fn begin(backup: Box<dyn Read + Send>) -> Result<Self, Fault> {
        process::protect_memory();
        let (envelope, sealed) = Envelope::read(backup)?;
        let (identity, recipient, _) = fresh();
        Ok(Self { envelope, sealed, identity, recipient, held: BTreeMap::new() })
    }

    /// The fresh key's recipient, to which custodians encrypt.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// How many shares open it.
    pub fn threshold(&self) -> usize {
        usize::from(self.envelope.head.of.threshold)
    }

    /// Whose shares are in.
    pub fn given(&self) -> Vec<CallerName> {
        self.held.values().map(|(name, _)| name.clone()).collect()
    }

    /// Who has a share.
    pub fn custodians(&self) -> Vec<CallerName> {
        self.envelope.head.custodians.iter().map(|holder| holder.name.clone()).collect()
    }

    /// Whether enough are in.
    pub fn is_complete(&self) -> bool {
        self.held.len() >= self.threshold()
    }

    /// Opens a custodian's share with their identity; says whose it is.
    ///
    /// # Errors
    /// When the file holds no identity, or it opens no share, or what it opens is not the share that was handed out.
    pub fn open_with(&mut self, file: &Path) -> Result<CallerName, Fault> {
        let share = of_identity(&self.envelope, file)?;
        self.take(share)
    }

    /// Takes a share that was encrypted to the fresh key; says whose it is. The same one again changes nothing.
    ///
    /// # Errors
    /// Says whose share it is and what is wrong with it; nothing else has changed then.
    pub fn give(&mut self, sealed: &[u8]) -> Result<CallerName, Fault> {
        let own = std::iter::once(&self.identity as &dyn age::Identity);
        let text = open_text(sealed, own, MAX_TEXT).map_err(|error| {
            Fault::new("what came is not encrypted to this command's fresh key")
                .remedy("the key is another each time: give what `holdfast backup share` prints for the key that is shown now")
                .because(error)
        })?;
        let share = BackupShare::parse(text.expose())?;
        self.take(share)
    }

    fn take(&mut self, share: BackupShare) -> Result<CallerName, Fault> {
        let name = check(&self.envelope.head, &share)?.name.clone();
        self.held.entry(share.number()).or_insert((name.clone(), share));
        Ok(name)
    }

    /// What the shares open.
    ///
    /// # Errors
    /// When they are fewer than the threshold, or what is sealed does not open.
    pub fn finish(self) -> Result<Readable, Fault> {
        let Self { envelope: Envelope { head, shares: _ }, sealed, held, .. } = self;
        let (key, root) = combine(held.values().map(|(_, share)| share))?;
        let identity = identity(&key)?;
        let closed = |error: age::DecryptError| {
            Fault::new("the backup does not open with the key that its shares give")
                .remedy("give the file as it was written; compare its SHA-256 with the record in the log")
                .because(error)
                .damaged()
        };
        let decryptor = age::Decryptor::new_buffered(BufReader::new(sealed)).map_err(closed)?;
        let archive = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(closed)?;
        let says = Some((head.of.instance, head.of.backup));
        Ok(Readable { archive: Box::new(archive), root, says, is_as_written: true })
    }
}

/// A custodian's share of a backup, opened on their own machine to be given to somebody who restores or verifies.
pub struct OwnShare {
    share: BackupShare,
    holder: Holder,
    taken: String,
}

impl OwnShare {
    /// Opens it, reading no more of the backup than its beginning.
    ///
    /// # Errors
    /// When that is no backup for custodians, or the identity opens no share of it.
    pub fn open(backup: &Path, file: &Path) -> Result<Self, Fault> {
        process::protect_memory();
        let from = std::fs::File::open(backup).map_err(|error| Fault::io("cannot read", backup, error))?;
        match Found::of(Box::new(BufReader::new(from)))? {
            Found::Custodians(Opening { envelope, .. }) => {
                let share = of_identity(&envelope, file)?;
                let holder = check(&envelope.head, &share)?.clone();
                Ok(Self { share, holder, taken: envelope.head.taken })
            }
            Found::Anyone(_) | Found::Clear(_) => {
                Err(Fault::new(format!("`{}` is no backup for custodians", backup.display())).remedy(
                    "nobody has a share of it: it opens with the identity of any one of its recipients",
                ))
            }
        }
    }

    /// The same share for somebody's fresh key.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn seal_to(&self, recipient: &age::x25519::Recipient) -> Result<Vec<u8>, Fault> {
        crate::shares::seal_text(&self.share.to_text(), recipient, age::armor::Format::Binary)
    }

    /// In words: whose share of which backup.
    pub fn about(&self) -> String {
        let of = self.share.of();
        let Holder { name, number, .. } = &self.holder;
        format!("share {number}, of `{name}`, of the backup of gateway {} taken {}", of.instance, self.taken)
    }
}

/// The share that an identity opens.
fn of_identity(envelope: &Envelope, file: &Path) -> Result<BackupShare, Fault> {
    let found = identities(file)?;
    for Holder { name, number, .. } in &envelope.head.custodians {
        let Some(sealed) = envelope.shares.get(number) else { continue };
        let own = found.iter().map(|identity| &**identity as &dyn age::Identity);
        match open_text(sealed, own, MAX_TEXT) {
            Ok(text) => return Ok(BackupShare::parse(text.expose())?),
            Err(age::DecryptError::NoMatchingKeys) => {}
            Err(error) => {
                return Err(Fault::new(format!("the share of `{name}` in the backup is damaged"))
                    .remedy("use another copy of the backup, or shares of other custodians")
                    .because(error)
                    .damaged());
            }
        }
    }
    let names: Vec<_> = envelope.head.custodians.iter().map(|holder| holder.name.as_str()).collect();
    Err(Fault::new(format!("`{}` opens no share of the backup", file.display()))
        .remedy(format!("give the identity of one of its custodians: {}", names.join(", "))))
}

/// Whose it is, if it is the one that was handed out.
fn check<'a>(head: &'a Head, share: &BackupShare) -> Result<&'a Holder, Fault> {
    let number = share.number();
    if *share.of() != head.of {
        let problem = format!(
            "share {number} is of another backup, {} of gateway {}",
            share.of().backup,
            share.of().instance
        );
        return Err(Fault::new(problem).remedy(format!(
            "give a share of this one, {} of gateway {}",
            head.of.backup, head.of.instance
        )));
    }
    let holder = head.holder(share).ok_or_else(|| {
        Fault::new(format!("share {number} is nobody's"))
            .remedy("use another copy of the backup, or shares of other custodians")
            .damaged()
    })?;
    if share.is(&holder.commitment) {
        return Ok(holder);
    }
    Err(Fault::new(format!(
        "share {number}, of `{}`, is not the one that was handed out: its SHA-256 differs",
        holder.name
    ))
    .remedy("use another copy of the backup, or shares of other custodians")
    .damaged())
}
