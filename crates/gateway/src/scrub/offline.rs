//! A reading of a directory that nobody serves.

use super::{Damage, Ended, Part, Pass};
use crate::authentic::Authentic;
use crate::device;
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::reroot::{self, Cut};
use crate::root;
use crate::shares;
use crate::space;
use crate::world::SystemWorld;
use holdfast_audit::port::recovery;
use holdfast_audit::scrub::write_ahead_file;
use holdfast_core::key::Key;
use holdfast_core::pipeline;
use holdfast_core::port::State as _;
use holdfast_keystore::root::RootKey;
use holdfast_keystore::software::SoftwareStore;
use holdfast_state::{DirectoryLock, EmbeddedState, Opening, Settings};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records of the state.
    pub records: u64,
    /// Sealed keys that opened.
    pub keys: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Batches of the write-ahead file so far.
    pub batches: u64,
    /// How far a change of the root key has come that was cut short, if one was.
    pub cut: Option<Cut>,
    /// Bytes of a torn write at its end, which the next start cuts off. Nobody was told that they were durable.
    pub torn: u64,
}

/// Bytes that there are to read, about.
pub fn extent(directory: &Directory) -> u64 {
    space::Used::measure(directory).total()
}

/// Reads everything, and takes the directory's lock for that long. Changes no record and no log; the database's own write-ahead file is
/// brought in, as by any start. `root` is the root key where it is in shares and no device opens it. `progress` is told of bytes, `found` of each damage, `key` of each key and how many of its versions opened. Blocks; to be called on no thread of the runtime.
///
/// # Errors
/// When somebody serves the directory.
pub fn offline(
    (directory, identity): (&Directory, &Identity),
    root: Option<RootKey>,
    runtime: Handle,
    progress: &mut dyn FnMut(u64),
    found: &mut dyn FnMut(Damage),
    key: &mut dyn FnMut(&Key, u64),
) -> Result<Summary, Fault> {
    let lock = DirectoryLock::take(directory.path())?;
    let mut pace = |bytes| {
        progress(bytes);
        true
    };
    let mut pass = Pass { directory, runtime, pace: &mut pace, found, key };
    let mut summary = Summary::default();
    // Nobody ends it.
    let _: Result<(), Ended> = read(&mut pass, (identity, &lock), root, &mut summary);
    Ok(summary)
}

fn read(
    pass: &mut Pass<'_>,
    (identity, lock): (&Identity, &DirectoryLock),
    root: Option<RootKey>,
    summary: &mut Summary,
) -> Result<(), Ended> {
    let directory = pass.directory;
    let path = match (directory.root_tpm(), directory.root_shares()) {
        (path, _) if path.exists() => path,
        (_, path) if path.exists() => path,
        (_, _) => directory.root_key(),
    };
    let root = root.map_or_else(|| device::root(directory), Ok).map_err(Fault::from);
    let opened = root.and_then(|root| {
        if let Some(list) = directory.roster()? {
            let (Authentic::Yes | Authentic::Unknown) = list.check(&root)?;
        }
        // As the next start, which finishes what was cut short.
        let (root, cut) = reroot::standing((directory, identity, lock), root)?;
        summary.cut = cut;
        let signing = root::signing(directory, identity, &root)?;
        let state_key = root::state_key(identity, &root)?;
        let keys = SoftwareStore::open(root, Arc::new(SystemWorld::new()))?;
        Ok((signing, state_key, keys))
    });
    let (signing, state_key, keys) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Without it nothing else can be judged.
            (pass.found)(Damage::of_fault(Part::RootKey, &path, &error));
            return Ok(());
        }
    };
    let wal = directory.path().join("wal");
    let recovered = write_ahead_file(directory.path());
    let recovered = recovered.map_err(|refusal| (pass.found)(Damage::of_log(Part::WriteAheadFile, refusal)));
    let recovered = recovered.ok();
    let log = recovered.as_ref().and_then(|recovered| {
        summary.batches = recovered.next_batch;
        summary.torn = recovered.cut_bytes;
        let log = recovery(recovered);
        log.map_err(|error| (pass.found)(Damage::of(Part::WriteAheadFile, &wal, &error))).ok()
    });
    pass.took(space::size_of(&wal))?;
    let database = directory.path().join("state").join("holdfast.db");
    let world = Arc::new(SystemWorld::new());
    let mut tenants = Vec::new();
    match EmbeddedState::open(lock, &state_key, world, Opening::Existing, Settings::default()) {
        Ok(state) => {
            summary.records = pass.state(&state)?;
            if let Some(log) = log
                && let Err(error) = pass.runtime.block_on(pipeline::agree(&state, &log))
            {
                (pass.found)(Damage::of(Part::State, &database, &error));
            }
            summary.keys = pass.keys(&state, &keys)?;
            let known = pass.runtime.block_on(state.tenants()).unwrap_or_default();
            if let Some(problem) =
                known.iter().find_map(|tenant| shares::passed(directory, tenant.record.shares))
            {
                (pass.found)(Damage::of_fault(Part::RootKey, &directory.root_shares(), &problem));
            }
            tenants.extend(known.into_iter().map(|tenant| tenant.record.id));
        }
        Err(error) => (pass.found)(Damage::of(Part::State, &database, &error)),
    }
    summary.entries = pass.logs(&signing, &tenants, recovered.as_ref())?;
    pass.openings()
}
