//! Writing a backup while the gateway works.

use super::bundle::{Bundle, KnownLog, Manifest, Root, tls_files};
use super::envelope::Envelope;
use super::key_archive::KeyContent;
use super::proof;
use super::turn::{Awaited, Turns, within};
use crate::authentic::{Authentic, Authenticator};
use crate::config::{self, recipient_in};
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::shares::{Custodian, NewCustodian, Roster, check};
use crate::space::free;
use crate::world::SystemWorld;
use age::x25519::Recipient;
use aws_lc_rs::digest::{Context, SHA256};
use holdfast_core::archive::{Bundle as KeyBundle, Bundled};
use holdfast_core::command::VerifiedBackup;
use holdfast_core::pipeline::Intent;
use holdfast_core::port::{Archive, Archived, Committed, World as _};
use holdfast_core::{Error, ErrorKind, InstanceId, Secret, Stage, TenantId, Timestamp};
use holdfast_keystore::root::file as root_file;
use holdfast_state::Copier;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// For how long a backup is waited for. Its intent holds segments of the log meanwhile.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// What the disk of the data directory keeps free when the state is copied: the log's next segments.
const LEFT_FREE: u64 = 128 << 20;

/// What to do where none can be taken.
const REMEDY: &str = "set `backup.custodians` to the names and `age1…` lines of those who may restore together, and restart the gateway";

/// Who opens backups; parsed when the configuration is.
#[derive(Debug, Clone, Default)]
pub enum Readers {
    /// Nobody: there are none.
    #[default]
    Nobody,
    /// Any one of these.
    Anyone(Vec<Recipient>),
    /// So many of these together.
    Custodians {
        /// Each has a share.
        custodians: Vec<NewCustodian>,
        /// How many shares open one.
        threshold: u8,
    },
}

impl Readers {
    /// As the configuration says.
    ///
    /// # Errors
    /// For both kinds of readers at once, a line that is no recipient, and custodians to whom no shares can be handed out.
    pub fn of(settings: &config::Backup) -> Result<Self, Fault> {
        let config::Backup { directory: _, recipients, custodians, threshold, keep_days: _ } = settings;
        if !recipients.is_empty() && !custodians.is_empty() {
            return Err(Fault::new("`backup.recipients` and `backup.custodians` are both set")
                .remedy("keep `backup.custodians`: so many of them together open a backup, as `backup.threshold` says"));
        }
        if custodians.is_empty() {
            let recipients = recipients.iter().map(|line| recipient_in("backup.recipients", line));
            let recipients: Vec<_> = recipients.collect::<Result<_, _>>()?;
            return Ok(if recipients.is_empty() { Self::Nobody } else { Self::Anyone(recipients) });
        }
        let custodians = custodians.iter().map(|custodian| custodian.parse("backup.custodians"));
        let custodians: Vec<_> = custodians.collect::<Result<_, _>>()?;
        check(&custodians, *threshold)?;
        Ok(Self::Custodians { custodians, threshold: *threshold })
    }
}

/// The gateway's backups: where they go, for whom, and of what.
#[derive(Clone)]
pub struct Backups {
    directory: Directory,
    identity: Identity,
    to: PathBuf,
    readers: Readers,
    keep_days: Option<u32>,
    copier: Copier,
    /// What proofs of a verification are made with.
    proofs: Arc<Secret>,
    /// By what the list of the root key's shares is checked: one that nobody could restore by must not be taken along.
    lists: Arc<Authenticator>,
    /// Whether new key versions wait for a verified one.
    holds_back: bool,
    turns: Turns,
    world: Arc<SystemWorld>,
}

/// A backup that is still to be written where backups go. Whatever hangs there has nothing of the gateway's root key: that may go meanwhile.
struct Outgoing {
    to: PathBuf,
    name: String,
    instance: InstanceId,
    readers: Readers,
    keep_days: Option<u32>,
    bundle: Bundle,
    around: Option<(Envelope, Recipient)>,
    /// The state, in the data directory: outside of it nothing lies in clear.
    copy: Leftover,
    at: Committed,
}

impl Backups {
    /// As the configuration says.
    ///
    /// # Errors
    /// When a recipient is none.
    pub(crate) fn new(
        (directory, identity): (&Directory, &Identity),
        (proofs, lists): (Secret, Authenticator),
        (settings, keys): (&config::Backup, &config::Keys),
        copier: Copier,
        world: Arc<SystemWorld>,
    ) -> Result<Self, Fault> {
        let to = match settings.directory.as_os_str().is_empty() {
            true => directory.path().join("backups"),
            false => settings.directory.clone(),
        };
        let readers = Readers::of(settings)?;
        let keep_days = Some(settings.keep_days).filter(|days| *days > 0);
        let (directory, identity, proofs) = (directory.clone(), identity.clone(), Arc::new(proofs));
        let lists = Arc::new(lists);
        let holds_back = match (keys.activate, &readers) {
            (Some(config::Activation::WhenProtected), _) | (None, Readers::Custodians { .. }) => true,
            (Some(config::Activation::AtOnce), _) | (None, Readers::Nobody | Readers::Anyone(_)) => false,
        };
        let turns = Turns::default();
        let backups = Self {
            directory,
            identity,
            to,
            readers,
            keep_days,
            copier,
            proofs,
            lists,
            holds_back,
            turns,
            world,
        };
        sweep(&backups.copies(), "", &[".state"]);
        Ok(backups)
    }

    /// Why none can be taken, if none can.
    pub fn why_not(&self) -> Option<&'static str> {
        match &self.readers {
            Readers::Nobody => Some("no custodians of backups are configured"),
            // In one piece, it would be the finder's: any one of the recipients, or whoever has their identity.
            Readers::Anyone(_) if !self.identity.dev && self.directory.root_key().exists() => Some(
                "any one of `backup.recipients` would have the root key, which lies in a file: outside of a dev directory it takes several",
            ),
            Readers::Anyone(_) | Readers::Custodians { .. } => None,
        }
    }

    /// Where the state is copied to.
    fn copies(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// All that the data directory gives: nothing outside of it is touched yet.
    fn prepare(&self) -> Result<Outgoing, Error> {
        if let Some(why) = self.why_not() {
            return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, why).remedy(REMEDY));
        }
        let taken = self.world.now();
        let end = match &self.readers {
            Readers::Nobody | Readers::Anyone(_) => "age",
            Readers::Custodians { .. } => "tar",
        };
        let instance = self.identity.instance;
        let name = format!("holdfast-{instance}-{}.{end}", compact(&taken.to_string()));
        let copy = Leftover(self.copies().join(format!(".{name}.state")));
        // Before the state is copied: a checkpoint that is older than the state misses nothing, a younger one might.
        let mut bundle = self.gather(taken).map_err(failed)?;
        let around = self.envelope(&bundle.root, &taken.to_string()).map_err(failed)?;
        self.has_room()?;
        let at = self.copier.copy(&copy.0)?;
        bundle.manifest = Manifest::new(instance, taken.to_string(), at, &bundle.root);
        bundle.manifest.backup = around.as_ref().map(|(envelope, _)| envelope.head.of.backup.to_string());
        let (to, readers, keep_days) = (self.to.clone(), self.readers.clone(), self.keep_days);
        Ok(Outgoing { to, name, instance, readers, keep_days, bundle, around, copy, at })
    }

    /// A copy of the state must not take the room in which the log is written.
    fn has_room(&self) -> Result<(), Error> {
        let state = self.copies();
        let of = |name: &str| fs::metadata(state.join(name)).map_or(0, |file| file.len());
        let needed = of("holdfast.db").saturating_add(of("holdfast.db-wal")).saturating_add(LEFT_FREE);
        match free(&self.directory) {
            Some(free) if free < needed => {
                let detail = format!(
                    "the copy of the state would leave the log no room: {free} bytes are free, and {needed} are needed"
                );
                Err(Error::new(ErrorKind::StateUnavailable, Stage::Perform, detail)
                    .remedy("free space in the data directory, as `docs/operate/disk-full.md` says, and take the backup again"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn gather(&self, taken: Timestamp) -> Result<Bundle, Fault> {
        let read = |path: &Path| fs::read(path).map_err(|error| Fault::io("cannot read", path, error));
        let mut tls = BTreeMap::new();
        for name in tls_files() {
            let path = self.directory.tls().join(name);
            if path.exists() {
                tls.insert(name.to_owned(), Zeroizing::new(read(&path)?));
            }
        }
        let mut logs = BTreeMap::new();
        let audit = self.directory.path().join("audit");
        for entry in fs::read_dir(&audit).map_err(|error| Fault::io("cannot read", &audit, error))? {
            let entry = entry.map_err(|error| Fault::io("cannot read", &audit, error))?;
            let Some(Ok(tenant)) = entry.file_name().to_str().map(str::parse::<TenantId>) else { continue };
            let checkpoint = read(&entry.path().join("checkpoint"))?;
            let vkey = String::from_utf8_lossy(&read(&entry.path().join("log.vkey"))?).into_owned();
            logs.insert(tenant, KnownLog { checkpoint, vkey });
        }
        let root = match self.directory.roster()? {
            None if self.directory.root_tpm().exists() => Root::Tpm(read(&self.directory.root_tpm())?),
            None if matches!(self.readers, Readers::Custodians { .. }) => Root::Custodians,
            None => Root::Key(Zeroizing::new(read(&self.directory.root_key())?)),
            Some(roster) => {
                let (Authentic::Yes | Authentic::Unknown) = roster.check_by(&self.lists)?;
                let Roster { custodians, .. } = &roster;
                let mut shares = BTreeMap::new();
                for Custodian { name, .. } in custodians {
                    let path = self.directory.shares().join(format!("{name}.age"));
                    // Custodians have their own: one that was taken away here is missed by nobody.
                    if path.exists() {
                        shares.insert(name.to_string(), read(&path)?);
                    }
                }
                Root::Shares { roster: roster.to_text()?.into_bytes(), shares }
            }
        };
        let none = Committed { sequence: 0, digest: [0; 32] };
        Ok(Bundle {
            manifest: Manifest::new(self.identity.instance, taken.to_string(), none, &root),
            identity: self.identity.clone(),
            root,
            tls,
            logs,
        })
    }

    /// What custodians get of it: shares of a fresh key, and of the root key unless others have shares of that.
    fn envelope(&self, root: &Root, taken: &str) -> Result<Option<(Envelope, Recipient)>, Fault> {
        let Readers::Custodians { custodians, threshold } = &self.readers else { return Ok(None) };
        let root = match root {
            Root::Custodians => Some(root_file::load(&self.directory.root_key())?),
            Root::Key(_) | Root::Shares { .. } | Root::Tpm(_) => None,
        };
        let of = (self.identity.instance, *threshold, taken.to_owned());
        Envelope::make(of, root.as_ref(), custodians, &*self.world).map(Some)
    }
}

impl Outgoing {
    fn write(&self, awaited: &Awaited) -> Result<Archived, Error> {
        let cannot = |error| failed(Fault::io("cannot make", &self.to, error));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.to).map_err(cannot)?;
        // What one of ours that was cut short has left; others may be at work there too.
        sweep(&self.to, &self.instance.to_string(), &[".partial", ".state"]);
        let sealed = self.seal(awaited);
        sealed.map_err(|error| failed(Fault::io("cannot write", &self.to.join(&self.name), error)))
    }

    /// Encrypts to a name that no backup has, and gives it its own when all of it is on disk.
    fn seal(&self, awaited: &Awaited) -> io::Result<Archived> {
        let Self { to, name, readers, keep_days, bundle, around, copy, at, instance: _ } = self;
        let partial = Leftover(to.join(format!(".{name}.partial")));
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial.0)?;
        let encrypt = |to: &[Recipient], file: &mut File| {
            let recipients = to.iter().map(|recipient| recipient as &dyn age::Recipient);
            let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            let mut encrypting = encryptor.wrap_output(file)?;
            bundle.write(&copy.0, &mut encrypting)?;
            encrypting.finish().map(|_| ())
        };
        match (around, readers) {
            (Some((envelope, recipient)), _) => {
                envelope.write(&mut file, |file| encrypt(std::slice::from_ref(recipient), file))?;
            }
            (None, Readers::Anyone(recipients)) => encrypt(recipients, &mut file)?,
            (None, Readers::Nobody | Readers::Custodians { .. }) => {
                return Err(io::Error::other("nobody could open it"));
            }
        }
        file.sync_all()?;
        let (bytes, digest) = digest(&mut file)?;
        // The log has it as failed: what it does not have is no backup.
        if awaited.is_given_up() {
            return Err(io::Error::other("it was given up"));
        }
        fs::rename(&partial.0, to.join(name))?;
        File::open(to)?.sync_all()?;
        Ok(Archived { name: name.as_str().into(), bytes, digest, state: *at, keep_days: *keep_days })
    }
}

fn failed(error: Fault) -> Error {
    Error::new(ErrorKind::StateUnavailable, Stage::Perform, "the backup cannot be written")
        .remedy("see the gateway's own log; free space, or mend the disk, where backups go")
        .because(error)
}

/// Removes what a backup of this instance that was cut short has left; of any, where the text is empty.
fn sweep(directory: &Path, instance: &str, ends: &[&str]) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let begin = format!(".holdfast-{instance}");
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&begin) && ends.iter().any(|end| name.ends_with(end)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Length and SHA-256 of what was written, as it lies there.
fn digest(file: &mut File) -> io::Result<(u64, [u8; 32])> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(read) => hash.update(read),
        }
        bytes += u64::try_from(read).unwrap_or(0);
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok((bytes, sha256))
}

impl Archive for Backups {
    async fn write(&self, _intent: &Intent) -> Result<Archived, Error> {
        let (backups, turn) = (self.clone(), self.turns.take()?);
        let prepared = tokio::task::spawn_blocking(move || backups.prepare()).await;
        let outgoing = prepared.map_err(|error| {
            Error::new(ErrorKind::Internal, Stage::Perform, "the backup was not finished").because(error)
        })??;
        within(PATIENCE, turn, move |awaited| outgoing.write(awaited)).await
    }

    fn enclose(&self, bundled: &Bundled<'_>) -> Result<KeyBundle, Error> {
        let failed = |error: Fault| {
            Error::new(ErrorKind::Internal, Stage::Perform, "the archive cannot be encrypted").because(error)
        };
        let written = |error: io::Error| failed(Fault::new("the archive cannot be written").because(error));
        let content = KeyContent::of(self.identity.instance, bundled).to_json().map_err(failed)?;
        let encrypt = |to: &[Recipient], file: &mut io::Cursor<Vec<u8>>| {
            let recipients = to.iter().map(|recipient| recipient as &dyn age::Recipient);
            let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            let mut encrypting = encryptor.wrap_output(file)?;
            encrypting.write_all(&content)?;
            encrypting.finish().map(|_| ())
        };
        let mut file = io::Cursor::new(Vec::new());
        match &self.readers {
            Readers::Nobody => {
                let detail = "nobody is configured who could open an archive";
                return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail).remedy(REMEDY));
            }
            Readers::Anyone(recipients) => encrypt(recipients, &mut file).map_err(written)?,
            Readers::Custodians { custodians, threshold } => {
                let of = (self.identity.instance, *threshold, bundled.made.to_string());
                // What is in it is worth nothing without the live state, so the root key is none of its business.
                let (envelope, recipient) =
                    Envelope::make(of, None, custodians, &*self.world).map_err(failed)?;
                envelope.write(&mut file, |file| encrypt(&[recipient], file)).map_err(written)?;
            }
        }
        let bytes = file.into_inner();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, &bytes).as_ref());
        Ok(KeyBundle { bytes, digest: sha256, keep_days: self.keep_days })
    }

    fn holds_back(&self) -> bool {
        self.holds_back
    }

    fn check(&self, verified: &VerifiedBackup) -> Result<(), Error> {
        if proof::is_proven(&self.proofs, verified) {
            return Ok(());
        }
        // A backup from before the root key was changed opens with the earlier one.
        let detail = "whoever says that the backup opens did not have this gateway's root key from it, or it is of an earlier root key";
        Err(Error::new(ErrorKind::Integrity, Stage::Perform, detail).remedy(
            "copy the whole line that `holdfast backup verify` printed, of a backup that this gateway wrote; if its root key was changed since, take a new backup and verify that",
        ))
    }
}

/// A time as it can stand in a file's name: `2026-11-24T06:14:43.123456Z` as `20261124T061443.123456Z`.
fn compact(time: &str) -> String {
    time.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// A file that is removed when it is not needed any more, or never was finished.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        // It may have been renamed, or never made.
        let _ = fs::remove_file(&self.0);
    }
}
