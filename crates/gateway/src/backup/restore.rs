//! A gateway comes back from a backup.

use super::bundle::{Bundle, KnownLog, Manifest, Root};
use super::opening::Readable;
use super::record::{self, Recorded};
use crate::authentic::Authentic;
use crate::boxed::Boxed;
use crate::config::Config;
use crate::device;
use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::root;
use crate::shares::{Gathering, RootKey, Roster};
use crate::stages::Stages;
use crate::world::SystemWorld;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::port::stop_orders;
use holdfast_audit::reader::LogReader;
use holdfast_audit::verify::{self, Trusted, VerifyError};
use holdfast_core::pipeline::{EarlierLog, OpenIntent, Restoration, Restored};
use holdfast_core::port::World as _;
use holdfast_core::{InstanceId, TenantId};
use holdfast_keystore::root::file as root_file;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a restoration did, to be told to the person who ordered it.
#[derive(Debug)]
pub struct Summary {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// The instance that the gateway is from now on.
    pub instance: InstanceId,
    /// What was suspended, and which stop orders were given again.
    pub restored: Restored,
    /// The logs that are continued, each with the checkpoint that its first entry commits to.
    pub logs: Vec<(TenantId, String)>,
    /// The copies of logs that were verified.
    pub copies: Vec<Copied>,
    /// The stop orders that they hold and the backup may not.
    pub stops: Vec<OpenIntent>,
}

/// A copy of a log that was verified, and continues what the backup knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Whose log.
    pub tenant: TenantId,
    /// Where the copy is.
    pub directory: PathBuf,
    /// The first entry that is younger than the backup's checkpoint.
    pub from: u64,
    /// Entries that were verified.
    pub size: u64,
}

/// A backup that was unpacked into an empty directory, and is no gateway yet.
pub struct Unpacked {
    directory: Directory,
    bundle: Bundle,
    /// What the shares of the backup's custodians gave.
    root: Option<RootKey>,
    /// Whether what was read is the file as a gateway wrote it: one that was decrypted elsewhere is not.
    is_as_written: bool,
    logs: Vec<PathBuf>,
    /// What the copies say, once they were verified.
    continued: Option<Continued>,
}

/// Unpacks a backup into an empty directory. What is cut short from here on is no gateway, and can be removed. `logs` are copies of logs that
/// may be younger than the backup: directories of `holdfast audit mirror`.
///
/// # Errors
/// When the directory is not empty, or the backup is not whole, or not the one that its envelope says.
pub fn unpack(directory: &Directory, backup: Readable, logs: Vec<PathBuf>) -> Result<Unpacked, Fault> {
    directory.prepare()?;
    let Readable { archive, root, says, is_as_written } = backup;
    let bundle = Bundle::read(archive, &directory.path().join("state").join("holdfast.db"))?;
    let said = says.map(|(instance, backup)| (instance.to_string(), backup.to_string()));
    let is = bundle.manifest.backup.clone().map(|backup| (bundle.manifest.instance.clone(), backup));
    // One that was decrypted elsewhere has nothing around it.
    if said.is_some() && said != is {
        return Err(Fault::new("what is sealed in the backup is of another one than is said around it")
            .remedy("give the file as it was written; compare its SHA-256 with the record in the log")
            .damaged());
    }
    // Anybody can encrypt to the key of an envelope: a root key of their own must not take the place of the one that its custodians share.
    let fits = match (&bundle.root, &root) {
        (Root::Custodians, Some(_)) | (Root::Shares { .. } | Root::Tpm(_), None) => true,
        (Root::Key(_) | Root::Custodians | Root::Shares { .. } | Root::Tpm(_), _) => false,
    };
    if said.is_some() && !fits {
        return Err(Fault::new(
            "what is sealed in the backup keeps its root key in another way than its custodians do",
        )
        .remedy(
            "it was put together by somebody else than a gateway: give the file whose SHA-256 the log has",
        )
        .damaged());
    }
    Ok(Unpacked { directory: directory.clone(), bundle, root, is_as_written, logs, continued: None })
}

impl Unpacked {
    /// What the backup says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.bundle.manifest
    }

    /// Takes the logs below a gateway's directory as copies too, which only reads them; gives the tenants whose logs the backup does not know.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn add_logs_of(&mut self, directory: &Directory) -> Result<Vec<(TenantId, PathBuf)>, Fault> {
        self.continued = None;
        let audit = directory.path().join("audit");
        let wrong = |error| Fault::io("cannot read", &audit, error);
        let mut unknown = Vec::new();
        for entry in std::fs::read_dir(&audit).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let Some(Ok(tenant)) = entry.file_name().to_str().map(str::parse::<TenantId>) else { continue };
            match self.bundle.logs.contains_key(&tenant) {
                true => self.logs.push(entry.path()),
                // A log that is being begun has nothing to show yet.
                false if ["log.vkey", "checkpoint"].iter().all(|name| entry.path().join(name).exists()) => {
                    unknown.push((tenant, entry.path()));
                }
                false => {}
            }
        }
        Ok(unknown)
    }

    /// Compares the SHA-256 of the file that was read with what the copies of the gateway's own log have recorded.
    ///
    /// # Errors
    /// When a copy does not continue what the backup knows, or they have not recorded this file.
    pub fn recorded(&mut self, sha256: &[u8; 32]) -> Result<Recorded, Fault> {
        let Self { bundle, logs, continued: known, is_as_written, .. } = self;
        let Continued { copies, .. } = match known {
            Some(known) => known,
            None => known.insert(continued(bundle, logs)?),
        };
        record::compare(copies, sha256, *is_as_written)
    }

    /// What takes the shares of its root key, if the gateway had that in shares: the backup does not have it.
    ///
    /// # Errors
    /// When the list of custodians in the backup is none.
    pub fn gathering(&self) -> Result<Option<Gathering>, Fault> {
        match &self.bundle.root {
            Root::Key(_) | Root::Custodians | Root::Tpm(_) => Ok(None),
            Root::Shares { roster, .. } => {
                Roster::parse(&String::from_utf8_lossy(roster)).map(Gathering::begin).map(Some)
            }
        }
    }

    /// Restores the gateway; with the root key that shares gave, if it is in shares.
    ///
    /// # Errors
    /// When a copy of a log does not continue what the backup knows, the root key is missing or another one, or the directory cannot be written.
    pub fn restore<'a>(
        self,
        root: Option<RootKey>,
        progress: &'a mut (dyn FnMut(u64) + Send),
    ) -> Boxed<'a, Result<Summary, Fault>> {
        Box::pin(begin(self, root, progress))
    }
}

async fn begin(
    unpacked: Unpacked,
    root: Option<RootKey>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Summary, Fault> {
    let Unpacked { directory, bundle, root: shared, is_as_written: _, logs, continued: known } = unpacked;
    let directory = &directory;
    let world = SystemWorld::new();
    let mut entropy = [0; 10];
    world.fill(&mut entropy)?;
    let instance = InstanceId::new(world.now(), entropy);
    let identity = bundle.identity.restored(instance, world.now().to_string());
    let Continued { earlier, stops, copies } = match known {
        Some(known) => known,
        None => continued(&bundle, &logs)?,
    };
    lay_out(directory, &bundle, shared.as_ref())?;
    let root = match root {
        Some(root) => root,
        None => device::root(directory)?,
    };
    let shares = authenticate(directory, &bundle, &root)?;
    let restoration = Restoration {
        instance,
        from: bundle.identity.instance,
        build: crate::BUILD,
        logs: earlier.clone(),
        stops: stops.clone(),
        shares,
    };
    let restored = Box::pin(restored((directory, &identity), root, restoration, progress)).await;
    let restored = restored.map_err(|fault| match fault.is_damage() {
        true => fault.remedy("restore another backup; if the gateway still works, take a new one"),
        false => fault,
    })?;
    // The state authenticates itself, and the manifest does not.
    if restored.commit != bundle.manifest.commit {
        let (is, said) = (restored.commit, bundle.manifest.commit);
        return Err(Fault::new(format!(
            "the state in the backup is of commit {is}, and its manifest says {said}"
        ))
        .remedy(
            "it was put together by somebody else than a gateway: give the file whose SHA-256 the log has",
        )
        .damaged());
    }
    let logs = earlier.into_iter().map(|log| (log.tenant, log.checkpoint)).collect();
    Ok(Summary { manifest: bundle.manifest, instance, restored, logs, copies, stops })
}

/// What each log was, and what its copies hold beyond the backup.
struct Continued {
    earlier: Vec<EarlierLog>,
    stops: Vec<OpenIntent>,
    copies: Vec<Copied>,
}

/// Verifies the copies of the logs.
fn continued(bundle: &Bundle, copies: &[PathBuf]) -> Result<Continued, Fault> {
    let mut newest: BTreeMap<TenantId, Checkpoint> = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for (tenant, KnownLog { checkpoint, vkey }) in &bundle.logs {
        let damaged = || Fault::new(format!("the backup's checkpoint of `{tenant}` is damaged")).damaged();
        let key: VerifierKey = vkey.parse().map_err(|error| damaged().because(error))?;
        let (checkpoint, _) = Checkpoint::open(checkpoint, &key).map_err(|error| damaged().because(error))?;
        newest.insert(tenant.clone(), checkpoint);
        keys.insert(tenant.clone(), key);
    }
    let mut copied = Vec::new();
    // An order may begin in one copy and end in the next.
    let mut beyond: BTreeMap<TenantId, Vec<(LogReader, u64)>> = BTreeMap::new();
    let mut trusted: BTreeMap<TenantId, (Vec<u8>, Option<&Path>)> = BTreeMap::new();
    for (tenant, copy, reader) in by_size(copies, &newest)? {
        let Some(before) = newest.get(&tenant).map(|checkpoint| checkpoint.size) else { continue };
        let (earlier, smaller) = match trusted.remove(&tenant) {
            Some((note, smaller)) => (Some(note), smaller),
            None => (bundle.logs.get(&tenant).map(|known| known.checkpoint.clone()), None),
        };
        let by = Trusted { key: keys.get(&tenant).cloned(), earlier, ..Trusted::default() };
        verify::verify(copy, &by, |_, _| ()).map_err(|error| match smaller {
            Some(smaller) if is_another_history(&error) => two_histories(smaller, copy).because(error),
            _ => strange_copy(copy).because(error),
        })?;
        let checkpoint = reader.checkpoint().clone();
        copied.push(Copied {
            tenant: tenant.clone(),
            directory: copy.to_path_buf(),
            from: before,
            size: checkpoint.size,
        });
        trusted.insert(tenant.clone(), (reader.note().as_bytes().to_vec(), Some(copy)));
        beyond.entry(tenant.clone()).or_default().push((reader, before));
        newest.insert(tenant, checkpoint);
    }
    let mut stops = Vec::new();
    for (tenant, copies) in &beyond {
        stops.extend(stop_orders(copies.iter().map(|(reader, from)| (reader, *from)), tenant)?);
    }
    // A checkpoint says its three lines; an event's context is one line.
    let line = |checkpoint: &Checkpoint| checkpoint.to_text().trim_end().replace('\n', " ");
    let earlier = newest
        .iter()
        .map(|(tenant, checkpoint)| EarlierLog { tenant: tenant.clone(), checkpoint: line(checkpoint) });
    Ok(Continued { earlier: earlier.collect(), stops, copies: copied })
}

/// Opens the copies, each with whose log it is: those of one log together, and the smaller first, since each must continue what the one before it says.
fn by_size<'a>(
    copies: &'a [PathBuf],
    known: &BTreeMap<TenantId, Checkpoint>,
) -> Result<Vec<(TenantId, &'a Path, LogReader)>, Fault> {
    let mut logs: Vec<(TenantId, Vec<(&Path, LogReader)>)> = Vec::new();
    for copy in copies {
        let reader = LogReader::open(copy).map_err(|error| strange_copy(copy).because(error))?;
        let origin = &reader.checkpoint().origin;
        let Some((tenant, _)) = known.iter().find(|(_, checkpoint)| checkpoint.origin == *origin) else {
            return Err(Fault::new(format!(
                "`{}` is of the log `{origin}`, which the backup does not know",
                copy.display()
            ))
            .remedy("give copies of logs of the gateway that the backup is of"));
        };
        match logs.iter_mut().find(|(of, _)| of == tenant) {
            Some((_, copies)) => copies.push((copy, reader)),
            None => logs.push((tenant.clone(), vec![(copy, reader)])),
        }
    }
    let sorted = logs.into_iter().flat_map(|(tenant, mut copies)| {
        copies.sort_by_key(|(_, reader)| reader.checkpoint().size);
        copies.into_iter().map(move |(copy, reader)| (tenant.clone(), copy, reader))
    });
    Ok(sorted.collect())
}

fn is_another_history(error: &VerifyError) -> bool {
    matches!(error, VerifyError::Rewritten { .. } | VerifyError::RolledBack { .. })
}

fn two_histories(smaller: &Path, copy: &Path) -> Fault {
    let (smaller, copy) = (smaller.display(), copy.display());
    Fault::new(format!("`{smaller}` and `{copy}` are copies of one log that do not agree"))
        .remedy("somebody has signed two histories: keep both as evidence, and find out which of them others have, before you restore with that one alone")
        .damaged()
}

fn strange_copy(copy: &Path) -> Fault {
    Fault::new(format!("`{}` does not continue the log that the backup knows", copy.display()))
        .remedy("give a directory of `holdfast audit mirror` that was brought up to date after the backup was taken; keep this one as evidence")
        .damaged()
}

fn lay_out(directory: &Directory, bundle: &Bundle, shared: Option<&RootKey>) -> Result<(), Fault> {
    match &bundle.root {
        Root::Key(key) => write_private(&directory.root_key(), key)?,
        // Where it lay, it lies again.
        Root::Custodians => {
            let root = shared.ok_or_else(|| {
                Fault::new("the root key is not in what was decrypted: it is in the shares around it")
                    .remedy("give the backup as it was written, with the identities of its custodians")
            })?;
            root_file::write(&directory.root_key(), root)?;
        }
        // It opens on the machine that the backup is of, and on no other.
        Root::Tpm(bound) => write_private(&directory.root_tpm(), bound)?,
        Root::Shares { roster, shares } => {
            write_private(&directory.root_shares(), roster)?;
            for (name, share) in shares {
                write_private(&directory.shares().join(format!("{name}.age")), share)?;
            }
        }
    }
    for (name, bytes) in &bundle.tls {
        write_private(&directory.tls().join(name), bytes)?;
    }
    Ok(())
}

/// The list of shares must be one that who had the root key wrote. One from before that could be seen is given its code now: the backup itself is
/// what was recorded, or somebody answers for it. Gives its generation.
fn authenticate(directory: &Directory, bundle: &Bundle, root: &RootKey) -> Result<Option<u32>, Fault> {
    let Root::Shares { roster, .. } = &bundle.root else { return Ok(None) };
    let roster = Roster::parse(&String::from_utf8_lossy(roster))?;
    let generation = roster.of.generation;
    match roster.check(root)? {
        Authentic::Yes => {}
        Authentic::Unknown => {
            let roster = roster.signed_with(root)?;
            write_private(&directory.root_shares(), roster.to_text()?.as_bytes())?;
        }
    }
    Ok(Some(generation))
}

async fn restored(
    (directory, identity): (&Directory, &Identity),
    root: RootKey,
    restoration: Restoration<'_>,
    progress: impl FnMut(u64) + Send,
) -> Result<Restored, Fault> {
    let lock = holdfast_state::DirectoryLock::take(directory.path())?;
    let none = Config::default();
    let opened = root::open((directory, identity, &lock), root, &none, &Stages::default())?;
    let (law, restored) = root::Law::restore(opened.engines, identity.dev, restoration, progress).await?;
    law.engines().log.flush_all()?;
    directory.seal(identity)?;
    Ok(restored)
}
