//! Writing a backup while the gateway works.

use super::bundle::{Bundle, KnownLog, Manifest, Root, tls_files};
use crate::config;
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::shares::{Custodian, Roster};
use crate::world::SystemWorld;
use age::x25519::Recipient;
use aws_lc_rs::digest::{Context, SHA256};
use holdfast_core::pipeline::Intent;
use holdfast_core::port::{Archive, Archived, Committed, World as _};
use holdfast_core::{Error, ErrorKind, Stage, TenantId, Timestamp};
use holdfast_state::Copier;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// For whom backups are encrypted; parsed when the configuration is.
#[derive(Debug, Clone, Default)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Of `age1…` lines.
    ///
    /// # Errors
    /// Names the first line that is none.
    pub fn parse(lines: &[String]) -> Result<Self, Fault> {
        let parse = |line: &String| {
            line.parse::<Recipient>().map_err(|why| {
                Fault::new(format!("`{line}` in `backup.recipients` is no age recipient: {why}"))
                    .remedy("give the line `age1…` that `age-keygen` printed as the public key")
            })
        };
        Ok(Self(lines.iter().map(parse).collect::<Result<_, _>>()?))
    }
}

/// The gateway's backups: where they go, for whom, and of what.
#[derive(Clone)]
pub struct Backups {
    directory: Directory,
    identity: Identity,
    to: PathBuf,
    recipients: Recipients,
    keep_days: Option<u32>,
    copier: Copier,
    world: Arc<SystemWorld>,
}

impl Backups {
    /// As the configuration says.
    ///
    /// # Errors
    /// When a recipient is none.
    pub fn new(
        directory: &Directory,
        identity: &Identity,
        settings: &config::Backup,
        copier: Copier,
        world: Arc<SystemWorld>,
    ) -> Result<Self, Fault> {
        let to = match settings.directory.as_os_str().is_empty() {
            true => directory.path().join("backups"),
            false => settings.directory.clone(),
        };
        let recipients = Recipients::parse(&settings.recipients)?;
        let keep_days = Some(settings.keep_days).filter(|days| *days > 0);
        let (directory, identity) = (directory.clone(), identity.clone());
        Ok(Self { directory, identity, to, recipients, keep_days, copier, world })
    }

    /// Whether one can be taken at all.
    pub fn are_possible(&self) -> bool {
        !self.recipients.0.is_empty()
    }

    fn write_now(&self) -> Result<Archived, Error> {
        if !self.are_possible() {
            let detail = "no recipients of backups are configured";
            return Err(Error::new(ErrorKind::Unsupported, Stage::Perform, detail)
                .remedy("set `backup.recipients` to the `age1…` lines of those who may restore, and restart the gateway"));
        }
        let failed = |error: Fault| {
            Error::new(ErrorKind::StateUnavailable, Stage::Perform, "the backup cannot be written")
                .remedy("see the gateway's own log; free space, or mend the disk, where backups go")
                .because(error)
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.to)
            .map_err(|error| failed(Fault::io("cannot make", &self.to, error)))?;
        self.sweep();
        let taken = self.world.now();
        let name = format!("holdfast-{}-{}.age", self.identity.instance, compact(&taken.to_string()));
        let copy = Leftover(self.to.join(format!(".{name}.state")));
        // Before the state is copied: a checkpoint that is older than the state misses nothing, a younger one might.
        let mut bundle = self.gather(taken).map_err(failed)?;
        let state = self.copier.copy(&copy.0)?;
        bundle.manifest = Manifest::new(self.identity.instance, taken.to_string(), state, &bundle.root);
        let archived = self.seal(&bundle, &copy.0, &name, state);
        archived.map_err(|error| failed(Fault::io("cannot write", &self.to.join(&name), error)))
    }

    /// Removes what a backup that was cut short has left.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.to) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".holdfast-") && (name.ends_with(".partial") || name.ends_with(".state")) {
                let _ = fs::remove_file(entry.path());
            }
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
            None => Root::Key(Zeroizing::new(read(&self.directory.root_key())?)),
            Some(Roster { custodians, .. }) => {
                let mut shares = BTreeMap::new();
                for Custodian { name, .. } in custodians {
                    let path = self.directory.shares().join(format!("{name}.age"));
                    // Custodians have their own: one that was taken away here is missed by nobody.
                    if path.exists() {
                        shares.insert(name.to_string(), read(&path)?);
                    }
                }
                Root::Shares { roster: read(&self.directory.root_shares())?, shares }
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

    /// Encrypts to a name that no backup has, and gives it its own when all of it is on disk.
    fn seal(&self, bundle: &Bundle, state: &Path, name: &str, at: Committed) -> io::Result<Archived> {
        let partial = Leftover(self.to.join(format!(".{name}.partial")));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0)?;
        let mut counted = Counted { file, digest: Context::new(&SHA256), bytes: 0 };
        let recipients = self.recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut encrypting = encryptor.wrap_output(&mut counted)?;
        bundle.write(state, &mut encrypting)?;
        encrypting.finish()?;
        let Counted { file, digest, bytes } = counted;
        file.sync_all()?;
        fs::rename(&partial.0, self.to.join(name))?;
        File::open(&self.to)?.sync_all()?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest.finish().as_ref());
        Ok(Archived { name: name.into(), bytes, digest: sha256, state: at, keep_days: self.keep_days })
    }
}

impl Archive for Backups {
    async fn write(&self, _intent: &Intent) -> Result<Archived, Error> {
        let backups = self.clone();
        let written = tokio::task::spawn_blocking(move || backups.write_now()).await;
        written.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, Stage::Perform, "the backup was not finished").because(error))
        })
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

/// Counts and hashes what goes to the file.
struct Counted {
    file: File,
    digest: Context,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let (written_bytes, _) = bytes.split_at(written);
        self.digest.update(written_bytes);
        self.bytes += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
