//! The composition root: the ports that this gateway is made of, and what opens them.

use crate::authentic::Authenticator;
use crate::backup::{Backups, proof};
use crate::config::Config;
use crate::directory::{Directory, Identity};
use crate::emergency;
use crate::fault::Fault;
use crate::outside::Outside;
use crate::policies::Policies;
use crate::reroot::{self, seeds};
use crate::shares::{self, Roster};
use crate::stages::{Seen, Stages};
use crate::world::SystemWorld;
use holdfast_audit::port::{GatewayLog, Signing};
use holdfast_core::action::Action;
use holdfast_core::pipeline::{Engines, Founding, OpenIntent, Pipeline, Recovery};
use holdfast_core::port::Ports;
use holdfast_core::{Error, Secret, TenantId};
use holdfast_identity::Registrations;
use holdfast_keystore::Custodian;
use holdfast_keystore::pkcs11::TokenStore;
use holdfast_keystore::root::{RootKey, file as root_file};
use holdfast_keystore::software::SoftwareStore;
use holdfast_state::{DirectoryLock, EmbeddedState, Opening, Settings};
use std::sync::Arc;

/// The embedded gateway: custody in software or a token, embedded state, Cedar policies.
#[derive(Debug)]
pub enum Embedded {}

impl Ports for Embedded {
    type Identify = Seen<Registrations>;
    type Decide = Seen<Policies>;
    type Keys = Seen<Custodian<SystemWorld>>;
    type State = EmbeddedState<SystemWorld>;
    type Log = Seen<Log>;
    type Archive = Backups;
    type World = Arc<SystemWorld>;
}

/// The law in force, on the embedded ports.
pub type Law = Pipeline<Embedded>;

/// The audit log behind its port.
pub type Log = GatewayLog<LogSigning>;

/// What each tenant's log signs as: one key a log, all derived from what an instance's first root key gave.
pub struct LogSigning {
    identity: Identity,
    seeds: RootKey,
    root: RootKey,
}

impl LogSigning {
    /// What the secrets of signing tokens are derived from: as the logs' keys, another instance has others.
    fn credentials(&self) -> Result<Secret, Error> {
        self.seeds.derive("holdfast/signing-tokens/v1", self.identity.instance.as_bytes())
    }

    /// The root key in force, for what puts another one in its place.
    pub(crate) fn root(&self) -> &RootKey {
        &self.root
    }
}

impl Signing for LogSigning {
    fn origin(&self, tenant: &TenantId) -> String {
        self.identity.log_origin(tenant)
    }

    fn seed(&self, tenant: &TenantId) -> Result<Secret, Error> {
        self.seeds.derive("log", self.origin(tenant).as_bytes())
    }
}

/// The ports, opened; the lock is held for as long as the state lives.
pub struct Opened {
    /// The ports.
    pub engines: Engines<Embedded>,
    /// What the log found.
    pub recovery: Recovery,
}

/// Opens the ports of a directory with its root key.
///
/// # Errors
/// When it is another root key, or anything that lies there is not what was written.
pub fn open(
    (directory, identity, lock): (&Directory, &Identity, &DirectoryLock),
    root: RootKey,
    config: &Config,
    stages: &Stages,
) -> Result<Opened, Fault> {
    let world = Arc::new(SystemWorld::new());
    open_with((directory, identity, lock), config, world, root, Opening::Existing, stages)
}

/// What the state's rows are authenticated with.
pub(crate) fn state_key(identity: &Identity, root: &RootKey) -> Result<Secret, Error> {
    root.derive("holdfast/state/v1", identity.sealing_instance().as_bytes())
}

/// What the logs are signed with.
pub(crate) fn signing(
    directory: &Directory,
    identity: &Identity,
    root: &RootKey,
) -> Result<LogSigning, Error> {
    let seeds = seeds::of(directory, identity, root)?;
    Ok(LogSigning { identity: identity.clone(), seeds, root: root.again()? })
}

fn open_with(
    (directory, identity, lock): (&Directory, &Identity, &DirectoryLock),
    config: &Config,
    world: Arc<SystemWorld>,
    root: RootKey,
    opening: Opening,
    stages: &Stages,
) -> Result<Opened, Fault> {
    let state_key = state_key(identity, &root)?;
    let signing = signing(directory, identity, &root)?;
    let credentials = signing.credentials()?;
    let (log, recovery) = GatewayLog::open(holdfast_audit::Config::new(directory.path()), signing)?;
    let settings = Settings::default();
    let state = EmbeddedState::open(lock, &state_key, Arc::clone(&world), opening, settings)?;
    let (proofs, lists) = (proof::key(identity.instance, &root)?, Authenticator::new(&root)?);
    let software = SoftwareStore::open(root, Arc::clone(&world))?;
    // Workers come up by themselves: a gateway without its tokens still takes stop orders.
    let pool = config.pool.start(&config.token, directory.path())?;
    let token = pool.map(|pool| {
        TokenStore::beside(&software, pool, config.pool.patience()).adopted_by(config.pool.adopters())
    });
    let keys = Custodian::new(software, token).with_emergency(emergency::custodians(&config.emergency)?);
    let archive = Backups::new(
        (directory, identity),
        (proofs, lists),
        (&config.backup, &config.keys),
        state.copier(),
        Arc::clone(&world),
    )?;
    let engines = Engines {
        identify: Seen::new(Registrations::new(&credentials), &stages.identify),
        decide: Seen::new(Policies::new()?, &stages.decide),
        keys: Seen::new(keys, &stages.perform),
        state,
        log: Seen::new(log, &stages.record),
        archive,
        world,
    };
    Ok(Opened { engines, recovery })
}

/// Founds a gateway in a directory that was prepared, under a root key that is kept already; its identity is written last.
///
/// # Errors
/// When the directory cannot be written, and for a founding that core refuses.
pub async fn found(
    (directory, identity, lock): (&Directory, &Identity, DirectoryLock),
    root: RootKey,
    founding: Founding<'_>,
    config: &Config,
    stages: &Stages,
) -> Result<(Law, DirectoryLock), Fault> {
    let world = Arc::new(SystemWorld::new());
    let Opened { engines, recovery: _ } =
        open_with((directory, identity, &lock), config, world, root, Opening::CreateIfAbsent, stages)?;
    let law = Box::pin(Pipeline::found(engines, identity.dev, founding)).await?;
    let law = law.with_waiting_period(config.destruction.period(identity.dev));
    directory.seal(identity)?;
    Ok((law, lock))
}

/// A founded gateway that was opened: with the list of its root key's shares if there are any, as it was found to be authentic.
pub type Reopened = (Law, DirectoryLock, Option<Roster>);

/// Opens a founded gateway whose root key lies in a file.
///
/// # Errors
/// When another process serves it, the root key is missing or readable by others, and as [`reopen_with`].
pub async fn reopen(
    directory: &Directory,
    identity: &Identity,
    config: &Config,
    outside: &Outside,
    stages: &Stages,
) -> Result<Reopened, Fault> {
    let lock = DirectoryLock::take(directory.path())?;
    directory.has_log()?;
    let root = root_file::load(&directory.root_key())?;
    reopen_with((directory, identity, lock), root, config, outside, stages).await
}

/// Opens a founded gateway with its root key, compares it with what is kept outside, and closes what a crash left open.
///
/// # Errors
/// As [`open`], when a log contradicts what is kept outside, when state and log do not belong together, and when the list of the root key's shares
/// is not the one that was written last.
pub async fn reopen_with(
    (directory, identity, lock): (&Directory, &Identity, DirectoryLock),
    root: RootKey,
    config: &Config,
    outside: &Outside,
    stages: &Stages,
) -> Result<Reopened, Fault> {
    directory.has_log()?;
    let root = reroot::settled((directory, identity, &lock), root)?;
    let Opened { engines, recovery } = open((directory, identity, &lock), root, config, stages)?;
    // Before recovery appends anything: an older copy must not grow into a second history.
    for tenant in engines.state.tenant_ids().await? {
        let named = |open: &OpenIntent| open.subject.as_deref() == Some(tenant.as_str());
        // Its log begins with the creation that is under way.
        let is_created = |open: &OpenIntent| open.action == Action::CreateTenant && named(open);
        if !recovery.intents.iter().any(is_created) {
            engines.log.must_be_begun(&tenant)?;
        }
    }
    Box::pin(outside.compare(directory, identity, &engines.log)).await?;
    let law = Box::pin(Pipeline::open(engines, identity.dev, recovery)).await?;
    let law = law.with_waiting_period(config.destruction.period(identity.dev));
    let recorded = law.recorded_generation();
    let roster = shares::in_force(directory, law.engines().log.signing().root(), recorded)?;
    Ok((law, lock, roster))
}
