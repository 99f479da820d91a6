//! One reading of everything, whether the directory is served or not.

use super::{Damage, Part};
use crate::directory::Directory;
use crate::root::LogSigning;
use crate::world::SystemWorld;
use holdfast_audit::Recovered;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::port::verifier;
use holdfast_audit::scrub::{self, Scrub, Stopped};
use holdfast_core::key::{Key, KeyMaterial, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::State as _;
use holdfast_core::query::MAX_PAGE;
use holdfast_core::tenant::TenantRecord;
use holdfast_core::{Error, TenantId};
use holdfast_keystore::software::SoftwareStore;
use holdfast_state::EmbeddedState;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::runtime::Handle;

/// Whoever looks on ended it.
#[derive(Debug)]
pub(crate) struct Ended;

impl From<Stopped> for Ended {
    fn from(Stopped: Stopped) -> Self {
        Self
    }
}

/// What a reading is made of. Blocks; to be run on no thread of the runtime.
pub(crate) struct Pass<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) runtime: Handle,
    /// Is told of bytes that were read; may take its time, and ends the reading with `false`.
    pub(crate) pace: &'a mut dyn FnMut(u64) -> bool,
    pub(crate) found: &'a mut dyn FnMut(Damage),
    /// Is told of each key, and how many of its versions opened.
    pub(crate) key: &'a mut dyn FnMut(&Key, u64),
}

impl Pass<'_> {
    /// The database: every row, and all of them against the digest. Gives how many records there are.
    pub(crate) fn state(&mut self, state: &EmbeddedState<SystemWorld>) -> Result<u64, Ended> {
        let file = self.database();
        let found = &mut *self.found;
        let read = state.examine(self.pace, &mut |error| found(Damage::of(Part::State, &file, &error)));
        read.map(|read| read.records).ok_or(Ended)
    }

    /// Every sealed key: opened, and forgotten. Gives how many were. Where records are damaged as well, that has been told of the state.
    pub(crate) fn keys(
        &mut self,
        state: &EmbeddedState<SystemWorld>,
        keys: &SoftwareStore<SystemWorld>,
    ) -> Result<u64, Ended> {
        let file = self.database();
        let mut opened = 0;
        let tenants = match self.runtime.block_on(state.tenants()) {
            Ok(tenants) => tenants,
            Err(_) => return Ok(0),
        };
        for record in tenants.iter().map(|tenant| &tenant.record) {
            let mut after = None;
            loop {
                let page = state.keys(&record.id, after.as_ref(), MAX_PAGE);
                let Ok(page) = self.runtime.block_on(page) else { break };
                for key in &page.rows {
                    let versions = self.versions(state, keys, record, key, &file)?;
                    (self.key)(key, versions);
                    opened += versions;
                }
                after = page.rows.last().map(|key| key.name.clone());
                if !page.more {
                    break;
                }
            }
        }
        Ok(opened)
    }

    fn versions(
        &mut self,
        state: &EmbeddedState<SystemWorld>,
        keys: &SoftwareStore<SystemWorld>,
        tenant: &TenantRecord,
        key: &Key,
        file: &Path,
    ) -> Result<u64, Ended> {
        let (mut opened, mut after) = (0, None);
        loop {
            let Ok(page) = self.runtime.block_on(state.versions(key.id, after, MAX_PAGE)) else { break };
            let is_there = |version: &&Version| {
                // What is in an archive is not here.
                version.state != KeyState::Destroyed && !version.handle.as_bytes().is_empty()
            };
            for version in page.rows.iter().filter(is_there) {
                match open(keys, tenant, key, version) {
                    Ok(()) => opened += 1,
                    Err(error) => {
                        let mut damage = Damage::of(Part::Keys, file, &error);
                        let (name, number) = (&key.name, version.number);
                        damage.problem = format!(
                            "version {number} of key `{name}` of `{}`: {}",
                            tenant.id, damage.problem
                        );
                        (self.found)(damage);
                    }
                }
                let len = u64::try_from(version.handle.as_bytes().len()).unwrap_or(0);
                self.took(len)?;
            }
            after = page.rows.last().map(|version| version.number);
            if !page.more {
                break;
            }
        }
        Ok(opened)
    }

    /// Every log, of the tenants and of the gateway itself, and what is noted beside them of their lengths. Given what is in the write-ahead
    /// file, where nobody serves the directory, they are held to that, as by the next start. Gives how many entries they have.
    pub(crate) fn logs(
        &mut self,
        signing: &LogSigning,
        tenants: &[TenantId],
        wal: Option<&Recovered>,
    ) -> Result<u64, Ended> {
        let known = scrub::known(self.directory.path());
        let known = known.map_err(|refusal| (self.found)(Damage::of_log(Part::Log, refusal))).ok();
        let mut names: BTreeSet<String> = tenants.iter().map(|tenant| tenant.as_str().to_owned()).collect();
        names.extend(names_in(&self.directory.path().join("audit")));
        let mut entries = 0;
        for name in names {
            let dir = self.directory.path().join("audit").join(&name);
            // What is no tenant's is verified by what lies beside it.
            let key = match name.parse().ok().map(|tenant| verifier(signing, &tenant)).transpose() {
                Ok(key) => key,
                Err(error) => {
                    (self.found)(Damage::of(Part::Log, &dir, &error));
                    continue;
                }
            };
            let found = &mut *self.found;
            let mut wrong = |refusal| found(Damage::of_log(Part::Log, refusal));
            let read = Scrub::new(self.pace, &mut wrong).log(&dir, key.as_ref())?;
            let Some(Checkpoint { size, .. }) = read else { continue };
            entries += size;
            if let (Some(wal), Ok(log)) = (wal, name.parse()) {
                let held = wal.next_index(&log, &dir, size).and_then(|next| match &known {
                    Some(known) => known.check(&log, &dir, next),
                    None => Ok(()),
                });
                held.unwrap_or_else(wrong);
            }
        }
        Ok(entries)
    }

    /// The openings, of which nothing more can be said than whether they can be read: what was erased is zeros too.
    pub(crate) fn openings(&mut self) -> Result<(), Ended> {
        let openings = self.directory.path().join("openings");
        let mut files = Vec::new();
        crate::space::walk(&openings, &mut |path, _| files.push(path.to_path_buf()));
        let found = &mut *self.found;
        let mut wrong = |refusal| found(Damage::of_log(Part::Openings, refusal));
        let mut scrub = Scrub::new(self.pace, &mut wrong);
        files.iter().try_for_each(|file| scrub.file(file))?;
        Ok(())
    }

    fn database(&self) -> std::path::PathBuf {
        self.directory.path().join("state").join("holdfast.db")
    }

    pub(crate) fn took(&mut self, bytes: u64) -> Result<(), Ended> {
        if (self.pace)(bytes) { Ok(()) } else { Err(Ended) }
    }
}

fn open(
    keys: &SoftwareStore<SystemWorld>,
    tenant: &TenantRecord,
    key: &Key,
    version: &Version,
) -> Result<(), Error> {
    let Some(tenant_handle) = &tenant.handle else { return Ok(()) };
    keys.examine(KeyMaterial {
        tenant: &tenant.id,
        tenant_handle,
        key: key.id,
        version: version.number,
        algorithm: key.algorithm,
        exportable: key.exportable,
        commitment: &version.commitment,
        handle: &version.handle,
    })
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
