//! The second directory: of each log the highest published checkpoint, on another path than the log itself.
//!
//! ```text
//! ANCHOR/INSTANCE/TENANT/checkpoint
//! ```

use super::aside::aside;
use super::figures::Figures;
use super::{Discord, Site, names};
use crate::directory::{Directory, Identity, write_private};
use crate::fault::Fault;
use crate::root::Log;
use holdfast_audit::Continuity;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::reader::LogReader;
use holdfast_core::TenantId;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the start waits for it. A network's file system may hang for ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// After how long it is said that it does not answer.
const SLOW: Duration = Duration::from_secs(30);

/// The second directory.
pub(super) struct Anchor {
    dir: PathBuf,
    figures: Figures,
    memory: Mutex<Memory>,
    /// Somebody works there, or hangs.
    busy: AtomicBool,
}

#[derive(Default)]
struct Memory {
    /// What this process wrote last of each log.
    written: HashMap<TenantId, Vec<u8>>,
    /// Why it could not be written; forgotten once it can.
    trouble: Option<String>,
}

/// How a log stands to what lies there.
enum Judged {
    Continues,
    /// Not to be told yet.
    Unsettled,
    Contradicts(Discord),
}

impl Anchor {
    pub(super) fn new(dir: &Path, data: &Directory, figures: &Figures) -> Result<Self, Fault> {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if canonical(dir).starts_with(canonical(data.path())) {
            return Err(Fault::new(format!("`anchor.directory` {} lies in the data directory", dir.display()))
                .remedy("name a directory on another disk or machine: whoever puts the one back must not put back both"));
        }
        let memory = Mutex::default();
        Ok(Self { dir: dir.to_path_buf(), figures: figures.clone(), memory, busy: AtomicBool::new(false) })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Why it cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        self.memory().trouble.clone()
    }

    fn file(&self, identity: &Identity, tenant: &TenantId) -> PathBuf {
        self.dir.join(identity.instance.to_string()).join(tenant.as_str()).join("checkpoint")
    }

    /// Compares all logs with what lies there. Gives what could not be compared.
    pub(super) async fn compare(
        self: &Arc<Self>,
        data: &Directory,
        identity: &Identity,
        log: &Log,
        logs: &[TenantId],
    ) -> Result<Vec<String>, Fault> {
        let (anchor, of) = (Arc::clone(self), identity.clone());
        let kept = match aside(PATIENCE, move || anchor.read(&of)).await {
            Some(Ok(kept)) => kept,
            Some(Err(error)) => {
                return Ok(vec![format!(
                    "the anchor directory `{}` cannot be read ({error}): the logs were not compared with it",
                    self.dir.display()
                )]);
            }
            None => {
                return Ok(vec![format!(
                    "the anchor directory `{}` does not answer: the logs were not compared with it",
                    self.dir.display()
                )]);
            }
        };
        for (tenant, bytes) in &kept {
            if let Judged::Contradicts(discord) = self.judge(data, identity, log, tenant, bytes)? {
                return Err(discord.fault());
            }
        }
        let known: HashSet<&TenantId> = kept.iter().map(|(tenant, _)| tenant).collect();
        let mut bare = Vec::new();
        for tenant in logs.iter().filter(|tenant| !known.contains(tenant)) {
            if log.reach(tenant)? > 0 {
                bare.push(tenant.as_str());
            }
        }
        if bare.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "the anchor directory `{}` holds no checkpoint of {}: taken as found, and kept there from now on",
            self.dir.display(),
            bare.join(", ")
        )])
    }

    /// What lies there, of this instance's logs.
    fn read(&self, identity: &Identity) -> std::io::Result<Vec<(TenantId, Vec<u8>)>> {
        // A file system that is not mounted looks like an empty directory at best; never make it.
        self.dir.read_dir()?;
        let mut kept = Vec::new();
        for tenant in names(&self.dir.join(identity.instance.to_string()))? {
            match std::fs::read(self.file(identity, &tenant)) {
                Ok(bytes) => kept.push((tenant, bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    /// Whether a log continues what lies there.
    fn judge(
        &self,
        data: &Directory,
        identity: &Identity,
        log: &Log,
        tenant: &TenantId,
        kept: &[u8],
    ) -> Result<Judged, Fault> {
        let file = self.file(identity, tenant);
        let (file, own) = (file.display(), data.log(tenant).join("checkpoint"));
        let own = own.display();
        let (known, _) = Checkpoint::open(kept, &log.verifier(tenant)?).map_err(|error| {
            Fault::new(format!("`{file}` is no checkpoint of this gateway's log"))
                .remedy("restore the file from its newest copy; without one, remove it, and have auditors compare the log with theirs")
                .because(error)
        })?;
        let problem = match log.continuity(tenant, &known)? {
            Continuity::Continues => return Ok(Judged::Continues),
            Continuity::Unsettled => return Ok(Judged::Unsettled),
            Continuity::Shorter(size) => format!(
                "`{file}` covers {} entries, and the log of `{own}` has {size}: an older copy of the data directory was put back",
                known.size
            ),
            Continuity::Differs => format!(
                "the log of `{own}` does not continue `{file}`: among its first {} entries are others than those",
                known.size
            ),
        };
        Ok(Judged::Contradicts(Discord::contradicts(problem)))
    }

    /// Keeps the newest checkpoints of these logs there; gives those that could not be kept. Waits for both disks.
    fn keep(&self, site: &Site, tenants: Vec<TenantId>) -> Vec<TenantId> {
        let mut left = Vec::new();
        let mut trouble = None;
        for tenant in tenants {
            match self.keep_one(site, &tenant) {
                Ok(true) => {}
                Ok(false) => left.push(tenant),
                Err(fault) => {
                    self.figures.anchor_failures.inc();
                    let cause = std::error::Error::source(&fault).map(|cause| format!(": {cause}"));
                    trouble = Some(format!("{fault}{}", cause.unwrap_or_default()));
                    left.push(tenant);
                }
            }
        }
        self.tell(trouble);
        left
    }

    fn tell(&self, trouble: Option<String>) {
        let mut memory = self.memory();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| Some(*trouble) != memory.trouble.as_ref()) {
            tracing::warn!("a checkpoint cannot be kept in the anchor directory: {trouble}");
        }
        memory.trouble = trouble;
    }

    /// Gives whether the log's newest checkpoint lies there now.
    fn keep_one(&self, site: &Site, tenant: &TenantId) -> Result<bool, Fault> {
        let Site { directory, identity, .. } = site;
        let file = self.file(identity, tenant);
        let reader = LogReader::open(&directory.log(tenant))?;
        if reader.checkpoint().size == 0 {
            return Ok(true);
        }
        self.dir.read_dir().map_err(|error| Fault::io("cannot read", &self.dir, error))?;
        let kept = match std::fs::read(&file) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Fault::io("cannot read", &file, error)),
        };
        // Who else writes there serves a copy of this gateway, or has put an older file back.
        let is_ours = self.memory().written.get(tenant) == kept.as_ref();
        if let Some(kept) = kept.filter(|_| !is_ours) {
            match self.judge(directory, identity, site.log(), tenant, &kept)? {
                Judged::Continues => {}
                Judged::Unsettled => return Ok(false),
                Judged::Contradicts(discord) => {
                    discord.alarm(site.log());
                    return Err(discord.fault());
                }
            }
        }
        let note = reader.note().as_bytes().to_vec();
        write_private(&file, &note)?;
        self.memory().written.insert(tenant.clone(), note);
        Ok(true)
    }

    /// Keeps the newest checkpoints there; gives those that are left to do.
    pub(super) async fn advance(self: Arc<Self>, site: Arc<Site>, tenants: Vec<TenantId>) -> Vec<TenantId> {
        // One at a time: where one hangs, the next would too.
        if self.busy.swap(true, Ordering::AcqRel) {
            return tenants;
        }
        let (anchor, these) = (Arc::clone(&self), tenants.clone());
        let kept = aside(SLOW, move || {
            let left = anchor.keep(&site, these);
            // The gateway ends when nothing of it is in use any more.
            drop(site);
            anchor.busy.store(false, Ordering::Release);
            left
        });
        match kept.await {
            Some(left) => left,
            None => {
                self.figures.anchor_failures.inc();
                self.tell(Some(format!("`{}` does not answer", self.dir.display())));
                tenants
            }
        }
    }
}
