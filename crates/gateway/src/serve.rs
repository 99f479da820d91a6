//! Serving: start, run, reload, stop.

use crate::admin;
use crate::azure_ekm::Proxies;
use crate::bodies::Bodies;
use crate::boxed::Boxed;
use crate::config::{Admin, Config};
use crate::conversation::{converse, is_no_http};
use crate::device;
use crate::directory::{Directory, Identity};
use crate::doors::{Doors, Site};
use crate::external_store::Stores;
use crate::fault::Fault;
use crate::google_cse::{self, Services};
use crate::init;
use crate::issuer::{self, Believed};
use crate::listener::{About, Connection, Listener};
use crate::metrics::{Counted, Metrics};
use crate::ms_dke::KeyServices;
use crate::outside::{self, Outside};
use crate::pool;
use crate::process;
use crate::reload::LastReload;
use crate::resealing;
use crate::root::{self, Law};
use crate::scrub::{self, Background};
use crate::sealed::Sealed;
use crate::sealing::{Desk, Orders};
use crate::service;
use crate::shares::Roster;
use crate::sinks::Sinks;
use crate::space::{self, Space};
use crate::stages::Stages;
use crate::status;
use crate::tls::TlsState;
use arc_swap::ArcSwapOption;
use holdfast_core::pipeline::DeviceUnsealing;
use holdfast_core::port::World as _;
use holdfast_keystore::root::RootKey;
use holdfast_wire::native::message::Status;
use hyper::service::service_fn;
use prometheus_client::metrics::gauge::Gauge;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How often what waits is done: stop orders that are not durable yet, and, apart from that, rotations and ends of keys that are due.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// After how many of these noise is summarised: strangers must not fill the log, a thousand entries at a time.
const SUMMARY_EVERY: u32 = 60;
/// How often logs are pruned.
const PRUNING: Duration = Duration::from_secs(86_400);
/// How long a dev token lives.
const DEV_TOKEN_SECONDS: u64 = 30 * 86_400;

/// More connections than there can be at once: whoever holds as many permits knows that there is none.
pub(crate) const ALL_ALIVE: u32 = 1 << 28;

/// A running gateway, shared by everything that answers.
pub struct Gateway {
    pub(crate) law: Arc<Law>,
    pub(crate) directory: Directory,
    pub(crate) identity: Identity,
    pub(crate) config: Config,
    pub(crate) tls: Arc<TlsState>,
    /// Everybody whose tokens are believed.
    pub(crate) issuers: Believed,
    /// The external key stores that it is.
    pub(crate) stores: Stores,
    /// The key services of Double Key Encryption that it is.
    pub(crate) dke: KeyServices,
    /// The key services of Google Workspace that it is.
    pub(crate) cse: Services,
    /// The proxies of Azure Managed HSM's external keys that it is.
    pub(crate) proxies: Proxies,
    pub(crate) metrics: Metrics,
    pub(crate) sinks: Sinks,
    pub(crate) outside: Arc<Outside>,
    /// What reading everything has found.
    pub(crate) scrub: scrub::Findings,
    /// How full the disk is.
    pub(crate) space: Space,
    /// Why its device did not open the root key at this start.
    pub(crate) not_opened: Option<String>,
    /// Requests under way, bounded.
    pub(crate) requests: Arc<Semaphore>,
    /// Bodies that are on their way.
    pub(crate) bodies: Bodies,
    /// Everything that must end before the process may: each connection holds one of these, and each request.
    pub(crate) alive: Arc<Semaphore>,
    /// What the last reload refused of anything but TLS.
    pub(crate) last_reload: LastReload,
    /// Takes orders to seal it.
    pub(crate) desk: Desk,
    /// Those that no log has yet.
    pub(crate) orders: Arc<Orders>,
    /// Backups that are being written.
    pub(crate) backing_up: Gauge,
    /// Whether another root key was ordered.
    pub(crate) rerooting: watch::Sender<bool>,
    /// The last `root.next` that ordered nothing: when it was written, and which file it is.
    pub(crate) refused_root: Mutex<Option<(SystemTime, u64)>>,
    /// Who counts what is nobody's: the law in here, for the listener.
    pub(crate) counting: Arc<ArcSwapOption<Law>>,
}

impl Gateway {
    /// The law in force.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// What an operator sees.
    pub fn status(&self) -> Status {
        status::gather(self)
    }

    /// Whether key store, state and log can all work now, and the state is not known to be damaged.
    pub fn is_ready(&self) -> bool {
        status::is_ready(&self.law) && !self.law.is_sealed() && !self.scrub.is_state_damaged()
    }

    /// What the last reload refused.
    pub(crate) fn refused_reload(&self) -> impl Iterator<Item = Arc<String>> {
        self.tls.refused().into_iter().chain(self.last_reload.refused())
    }

    /// What Prometheus scrapes.
    pub fn metrics_text(&self) -> String {
        let engines = self.law.engines();
        self.outside.measure(&engines.log, engines.world.now());
        let clock_held = self.law.clock_held().is_some();
        self.metrics.set_rotations(self.law.rotations());
        self.metrics.set_destructions(self.law.destructions());
        self.metrics.resealing.set(self.law.sealing_key_changes());
        self.metrics.set_emergency(engines.keys.copies_in_force());
        self.metrics.set_live(self.is_ready(), self.law.pending_stops(), clock_held, self.tls.expires());
        self.metrics.set_reload(self.refused_reload().next().is_some());
        self.metrics.set_log(&engines.log.log().health());
        self.metrics.set_sinks(self.sinks.health());
        self.metrics.set_issuers(self.issuers.conditions(engines.world.ticks()));
        self.metrics.pool.set(&pool::gather(self));
        self.metrics.set_scrub(self.scrub.age(engines.world.ticks()), self.scrub.damages());
        self.metrics.set_space(&self.space.forecast(&self.directory));
        self.metrics.text()
    }
}

impl admin::Answers for Gateway {
    fn metrics_text(&self) -> String {
        Self::metrics_text(self)
    }

    fn status(&self) -> Status {
        Self::status(self)
    }
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// Whether to serve a dev directory, founding it if it is empty.
    pub dev: bool,
}

/// What a dev start wrote for its person: also in `DIR/dev.env`.
#[derive(Debug, Clone)]
pub struct DevEnvironment {
    /// The file, ready to source.
    pub file: PathBuf,
    /// The authority to trust.
    pub ca: PathBuf,
    /// The operator's certificate and key.
    pub operator: (PathBuf, PathBuf),
}

/// A started gateway.
pub struct Running {
    /// The public address.
    pub address: SocketAddr,
    /// The operator's own listener.
    pub admin: Option<SocketAddr>,
    /// What a dev start wrote.
    pub dev: Option<DevEnvironment>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) stop: watch::Sender<bool>,
    /// Give back what they listen on.
    pub(crate) listening: JoinHandle<Listener>,
    pub(crate) admin_listening: Option<JoinHandle<TcpListener>>,
    /// What is done from time to time.
    pub(crate) chores: JoinSet<()>,
    /// What carries checkpoints outside, and the order that it end.
    pub(crate) carrying: (JoinHandle<()>, watch::Sender<bool>),
    pub(crate) background: Background,
    // Declared last, so that it outlives everything that works in the directory.
    pub(crate) lock: holdfast_state::DirectoryLock,
}

/// A gateway after its start.
pub enum Started {
    /// It serves.
    Serving(Box<Running>),
    /// It waits for its root key.
    Sealed(Box<Sealed>),
}

/// Starts a gateway whose root key is at hand.
///
/// # Errors
/// When the directory cannot be served, an address is taken, or the root key is in shares.
pub fn start(options: Options) -> Boxed<'static, Result<Running, Fault>> {
    Box::pin(async {
        match begin(options).await? {
            Started::Serving(running) => Ok(*running),
            Started::Sealed(_) => Err(Fault::new("the root key of this gateway is in shares")
                .remedy("run `holdfast serve`, and have its custodians run `holdfast unseal`")),
        }
    })
}

/// Starts a gateway; one whose root key is in shares is sealed at first.
///
/// # Errors
/// When the directory cannot be served, or an address is taken.
pub fn begin(options: Options) -> Boxed<'static, Result<Started, Fault>> {
    Box::pin(prepare(options))
}

async fn prepare(options: Options) -> Result<Started, Fault> {
    process::protect_memory();
    process::raise_file_limit();
    let Options { mut config, dev } = options;
    if dev && !config.listen.address.ip().is_loopback() {
        return Err(Fault::new(format!("`serve --dev` does not listen on {}", config.listen.address))
            .remedy("use a loopback address, or found a gateway with `holdfast init` and serve that"));
    }
    if dev && config.admin == Admin::default() {
        // Several dev gateways can run at once.
        config.admin.address.set_port(0);
    }
    let directory = Directory::at(&config.data);
    let stages = Stages::default();
    let outside = Arc::new(Outside::new(&config, &directory)?);
    let mut site = Site { config, directory, outside, stages, not_opened: None };
    if let (false, Some(identity)) = (dev, site.directory.identity()?.filter(|identity| !identity.dev)) {
        match device::start(&site.directory, &site.config).await? {
            device::Start::File => {}
            device::Start::Opened(root, by) => {
                let (opened, roster) = Box::pin(opened_by_device(&site, identity, root, by)).await?;
                let doors = Doors::bind(&mut site).await?;
                return Ok(Started::Serving(Box::new(serve(site, opened, doors, roster).await?)));
            }
            device::Start::Sealed(roster, refused) => {
                let sealed = Box::pin(Sealed::begin(site, identity, roster, refused)).await?;
                return Ok(Started::Sealed(Box::new(sealed)));
            }
        }
    }
    let Site { config, directory, outside, stages, not_opened: _ } = &site;
    // There are shares where a root key in one piece has just given way to them.
    let (opened, roster) = Box::pin(open(directory, dev, config, outside, stages)).await?;
    let doors = Doors::bind(&mut site).await?;
    Ok(Started::Serving(Box::new(serve(site, opened, doors, roster).await?)))
}

/// What is served.
type Opened = (Law, holdfast_state::DirectoryLock, Identity);

/// Opens a gateway with the root key that its device gave, and records that.
async fn opened_by_device(
    site: &Site,
    identity: Identity,
    root: RootKey,
    by: DeviceUnsealing,
) -> Result<(Opened, Option<Roster>), Fault> {
    let Site { config, directory, outside, stages, not_opened: _ } = site;
    let lock = holdfast_state::DirectoryLock::take(directory.path())?;
    let place = (directory, &identity, lock);
    let (law, lock, roster) = Box::pin(root::reopen_with(place, root, config, outside, stages)).await?;
    tracing::info!(device = by.device, bound_to = by.bound_to, "the root key was opened by a device");
    if let Err(error) = law.record_device(by).await {
        tracing::warn!(error = error.chain(), "what opened the gateway is not recorded yet; it is retried");
    }
    Ok(((law, lock, identity), roster))
}

/// Serves what has been opened, with shares if it was opened by some.
pub(crate) async fn serve(
    site: Site,
    (law, lock, identity): Opened,
    doors: Doors,
    roster: Option<Roster>,
) -> Result<Running, Fault> {
    let Site { config, directory, outside, stages, not_opened } = site;
    let admin = doors.admin_address();
    let Doors { tls, listener, admin: admin_listener, law: counting, orders } = doors;
    let law = Arc::new(law);
    let sinks = Sinks::start(&config.sink, &law.engines().log.log().feed(), &law.engines().world)?;
    counting.store(Some(Arc::clone(&law)));
    let address = config.listen.address;
    let dev = match identity.dev {
        true => Some(write_dev_environment(&law, &directory, address).await?),
        false => None,
    };
    let requests = Arc::new(Semaphore::new(config.limits.requests));
    let bodies = Bodies::of(&config.limits);
    let believed = google_cse::believed(&config.issuer, &config.google_cse);
    let issuers = Believed::of(&believed, law.engines().world.ticks())?;
    let stores = Stores::of(&config.aws_xks)?;
    let dke = KeyServices::of(&config.ms_dke)?;
    let cse = Services::of(&config.google_cse)?;
    let proxies = Proxies::of(&config.azure_ekm)?;
    // Before the first request is served.
    law.reserve(stores.callers().chain(dke.callers()).chain(cse.callers()).chain(proxies.callers()))
        .map_err(|error| Fault::new("doors cannot be given their callers").because(error))?;
    let (scrub, space) = (scrub::Findings::default(), Space::default());
    let metrics = Metrics::new(&stages, outside.figures(), &scrub);
    let recorded = law.recorded_generation();
    if roster.is_some() {
        directory.keep_mark_ready();
    }
    let alive = Arc::new(Semaphore::new(usize::try_from(ALL_ALIVE).unwrap_or(Semaphore::MAX_PERMITS)));
    let gateway = Arc::new(Gateway {
        law,
        directory,
        identity,
        config,
        tls,
        issuers,
        stores,
        dke,
        cse,
        proxies,
        metrics,
        sinks,
        outside,
        scrub,
        space,
        not_opened,
        requests,
        bodies,
        alive,
        last_reload: LastReload::default(),
        desk: Desk::new(roster, recorded),
        orders,
        backing_up: Gauge::default(),
        rerooting: watch::Sender::new(false),
        refused_root: Mutex::default(),
        counting,
    });

    let (stop, stopping) = watch::channel(false);
    let admin_listening = admin_listener.map(|listener| {
        let (gateway, stopping) = (Arc::clone(&gateway), stopping.clone());
        tokio::spawn(async move {
            admin::run(&listener, gateway, stopping).await;
            listener
        })
    });
    let mut chores = JoinSet::new();
    chores.spawn(housekeep(Arc::clone(&gateway), stopping.clone()));
    chores.spawn(do_what_is_due(Arc::clone(&gateway), stopping.clone()));
    // Stopped by an order of its own, after the log is complete.
    let (last, ending) = watch::channel(false);
    let carrying = {
        let Gateway { law, directory, identity, outside, .. } = &*gateway;
        let site =
            outside::Site { law: Arc::clone(law), directory: directory.clone(), identity: identity.clone() };
        (tokio::spawn(Arc::clone(outside).carry(site, ending)), last)
    };
    chores.spawn(issuer::keep(Arc::clone(&gateway), stopping.clone()));
    chores.spawn(prune_daily(Arc::clone(&gateway), stopping.clone()));
    chores.spawn(pool::sweep(Arc::clone(&gateway), stopping.clone()));
    chores.spawn(resealing::renew(Arc::clone(&gateway), stopping.clone()));
    chores.spawn(space::watch(Arc::clone(&gateway), stopping.clone()));
    let background = Background::start(&gateway, stopping.clone())
        .map_err(|error| Fault::new("a thread cannot be started").because(error))?;
    let serve = {
        let (gateway, stopping) = (Arc::clone(&gateway), stopping.clone());
        move |connection| {
            let living = Arc::clone(&gateway.alive).try_acquire_owned();
            let connection = serve_connection(Arc::clone(&gateway), connection, stopping.clone());
            async move {
                let _living = living;
                connection.await;
            }
        }
    };
    let listening = tokio::spawn(async move {
        listener.run(stopping, serve).await;
        listener
    });
    tracing::info!(%address, instance = %gateway.identity.instance, dev = gateway.identity.dev, "serving");
    Ok(Running {
        address,
        admin,
        dev,
        gateway,
        stop,
        listening,
        admin_listening,
        chores,
        carrying,
        background,
        lock,
    })
}

async fn open(
    directory: &Directory,
    dev: bool,
    config: &Config,
    outside: &Outside,
    stages: &Stages,
) -> Result<(Opened, Option<Roster>), Fault> {
    match (directory.identity()?, dev) {
        (Some(identity), true) if !identity.dev => {
            let problem = format!("`{}` is not a dev directory", directory.path().display());
            Err(Fault::new(problem).remedy("leave `--dev` out, or name another directory"))
        }
        (Some(identity), false) if identity.dev => {
            let problem = format!("`{}` is a dev directory, for ever", directory.path().display());
            Err(Fault::new(problem).remedy(
                "serve it with `--dev`, or found a gateway with `holdfast init` in another directory",
            ))
        }
        (Some(identity), _) => {
            let opened = Box::pin(root::reopen(directory, &identity, config, outside, stages)).await?;
            let (law, lock, roster) = opened;
            Ok(((law, lock, identity), roster))
        }
        (None, true) => Ok((init::init_dev(directory, config, stages).await?, None)),
        (None, false) => {
            let problem = format!("there is no gateway in `{}`", directory.path().display());
            Err(Fault::new(problem)
                .remedy("run `holdfast init` first, or `holdfast serve --dev` to try things"))
        }
    }
}

async fn write_dev_environment(
    law: &Law,
    directory: &Directory,
    address: SocketAddr,
) -> Result<DevEnvironment, Fault> {
    let name = |error: holdfast_core::id::InvalidId| Fault::new("a built-in name is refused").because(error);
    let tenant = init::DEV_TENANT.parse().map_err(name)?;
    let caller = init::DEV_CALLER.parse().map_err(name)?;
    let (id, secret) = law.issue_dev_token(&tenant, &caller, DEV_TOKEN_SECONDS).await?;
    let token = holdfast_wire::native::token::write(id, &secret);
    let ca = directory.tls().join("ca.pem");
    let text = zeroize::Zeroizing::new(format!(
        "export HOLDFAST_URL=https://{address}\nexport HOLDFAST_CACERT={}\nexport HOLDFAST_TENANT={}\nexport HOLDFAST_TOKEN={}\n",
        shell_quoted(&ca.display().to_string()),
        init::DEV_TENANT,
        *token,
    ));
    let file = directory.path().join("dev.env");
    crate::directory::write_private(&file, text.as_bytes())?;
    let operator =
        (directory.credentials().join("operator.pem"), directory.credentials().join("operator.key"));
    Ok(DevEnvironment { file, ca, operator })
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Resolves when the gateway stops, or has gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard that `wait_for` returns must not live any longer.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn housekeep(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let mut ticks = 0_u32;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopped(&mut stop) => break,
        }
        ticks = ticks.wrapping_add(1);
        let done = match ticks % SUMMARY_EVERY {
            0 => gateway.law.housekeep().await,
            _ => gateway.law.keep_up().await,
        };
        let recorded = gateway.orders.record(&gateway.law, None).await;
        gateway.follow_shares().await;
        gateway.look_for_next_root();
        if let Err(error) = done.and(recorded) {
            tracing::warn!(error = error.chain(), remedy = error.remedy_text(), "something waits to be done");
        }
    }
    // A last time, so that what was counted is not forgotten.
    if let Err(error) = gateway.law.housekeep().await {
        tracing::error!(error = error.chain(), "something was left undone at the end");
    }
}

/// Does what is due of keys. Devices are waited for here, and nowhere else: a slow one delays no stop order, and no other chore.
async fn do_what_is_due(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopped(&mut stop) => break,
        }
        if let Err(error) = gateway.law.do_what_is_due(|| !*stop.borrow()).await {
            tracing::warn!(
                error = error.chain(),
                remedy = error.remedy_text(),
                "what is due waits to be done"
            );
        }
    }
}

/// Prunes what no log has to keep any more, at the start and once a day. A pass that has begun is one of the things that must end before the
/// process may; one that does not is gone on with at the next start.
async fn prune_daily(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        let pass = async {
            let _living = Arc::clone(&gateway.alive).try_acquire_owned();
            gateway.law.prune(|tenant| gateway.sinks.needed(tenant)).await
        };
        if let Err(error) = pass.await {
            tracing::warn!(error = error.chain(), remedy = error.remedy_text(), "a log could not be pruned");
        }
        tokio::select! {
            () = tokio::time::sleep(PRUNING) => {}
            () = stopped(&mut stop) => break,
        }
    }
}

/// Serves one connection until it ends, or gracefully to its next pause after `stop`.
async fn serve_connection(gateway: Arc<Gateway>, connection: Connection, stop: watch::Receiver<bool>) {
    let Connection { stream, about } = connection;
    let (is_http2, source) = (about.is_http2, about.source);
    let about: Arc<About> = Arc::new(about);
    let _open = Counted::new(&gateway.metrics.connections);
    let service = {
        let gateway = Arc::clone(&gateway);
        service_fn(move |request| service::answer(Arc::clone(&gateway), Arc::clone(&about), request))
    };
    if let Err(error) = converse((stream, is_http2), &gateway.config.limits, service, stop).await {
        // The library answers by itself, or not at all: nobody's request, so noise.
        if is_no_http(&error) {
            gateway.law.count_noise(source, "not-http");
        }
        tracing::debug!(%error, "a connection ended badly");
    }
}

impl Running {
    /// The gateway itself.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Reads certificate and key again, the authorities of providers, issuers' keys, and the authorities of peers. Of what is refused that stays which is in
    /// force, and nothing else is kept from being read.
    ///
    /// # Errors
    /// For all that is refused.
    pub fn reload(&self) -> Result<(), Fault> {
        let tls = self.gateway.tls.reload();
        Fault::all(
            [tls, self.gateway.last_reload.keep(self.reload_others())]
                .into_iter()
                .filter_map(Result::err)
                .collect(),
        )
    }

    fn reload_others(&self) -> Result<(), Fault> {
        let issuers = self.gateway.issuers.reload(self.gateway.law.engines().world.ticks());
        let peers = self.gateway.cse.reload();
        Fault::all([issuers, peers].into_iter().filter_map(Result::err).collect())
    }
}
