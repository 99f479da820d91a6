//! `holdfast serve`.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, note};
use clap::Args;
use holdfast_gateway::config::{self, Config, LogFormat, Logging};
use holdfast_gateway::sealed::Sealed;
use holdfast_gateway::serve::{self, Options, Running, Started};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The exit code of a gateway that has to be started again: none of those that a service manager takes for a person's mistake.
const START_AGAIN: i32 = 70;

/// Run a gateway
///
/// Runs a gateway until SIGTERM or SIGINT, finishing then what was accepted. SIGHUP reads certificate and key again, and the keys of issuers.
///
/// Writes one line to stdout once it accepts connections; its own log goes to stderr.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Try things: found a directory that is marked for ever, loopback only, with a token that may do everything
    #[arg(long)]
    dev: bool,
    /// The data directory [default: what the configuration says, /var/lib/holdfast]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The public address [default: what the configuration says, 127.0.0.1:8443]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The operator's own address, loopback only; `off` for none [default: what the configuration says; off with --dev]
    #[arg(long, value_name = "ADDRESS|off", value_parser = admin)]
    admin: Option<Admin>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write every setting with its default to stdout, and end
    #[arg(long)]
    print_reference: bool,
}

#[derive(Debug, Clone, Copy)]
enum Admin {
    Off,
    At(SocketAddr),
}

fn admin(text: &str) -> Result<Admin, String> {
    match text {
        "off" => Ok(Admin::Off),
        _ => match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Admin::At(address)),
            Ok(_) => Err("it speaks in clear: use 127.0.0.1 or [::1]".to_owned()),
            Err(_) => Err("expected an address with a port, such as 127.0.0.1:9443, or `off`".to_owned()),
        },
    }
}

impl Serve {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        if self.print_reference {
            return output::show_stdout(config::REFERENCE.as_bytes());
        }
        let dev = self.dev;
        let config = self.configured()?;
        log_to_stderr(&config.log)?;
        let systemd = Systemd::of(app);
        app.block_on(async {
            let mut signals = Signals::new()?;
            let json = app.printer.is_json();
            let mut started = serve::begin(Options { config, dev }).await?;
            loop {
                let (mut running, news) = match started {
                    Started::Serving(running) => (*running, "READY=1"),
                    Started::Sealed(mut sealed) => {
                        output::show_stdout(format!("{}\n", sealed_line(&sealed, json)).as_bytes())?;
                        // It does what it can: whoever waits for more would wait for people.
                        systemd.tell("READY=1\nSTATUS=sealed: waiting for shares of the root key");
                        let reload = sealed.reloading();
                        let unsealed = tokio::select! {
                            unsealed = sealed.unsealed() => unsealed?,
                            () = signals.wait(reload, &systemd) => {
                                systemd.tell("STOPPING=1");
                                sealed.shut_down().await;
                                return Ok(());
                            }
                        };
                        match sealed.open(unsealed).await? {
                            Started::Serving(running) => (*running, "STATUS=serving"),
                            again @ Started::Sealed(_) => {
                                started = again;
                                continue;
                            }
                        }
                    }
                };
                output::show_stdout(format!("{}\n", ready_line(&running, json)).as_bytes())?;
                systemd.tell(news);
                started = loop {
                    tokio::select! {
                        () = signals.wait(|| running.reload(), &systemd) => {
                            systemd.tell("STOPPING=1");
                            return Ok(running.shut_down().await?);
                        }
                        () = running.sealing() => {
                            systemd.tell("STATUS=sealing by order of a custodian of the root key");
                            match running.seal().await {
                                Ok(sealed) => break Started::Sealed(Box::new(sealed)),
                                // At once: a thread that hangs must not keep the process, and the root key with it.
                                Err(fault) => {
                                    let exit = Failure::from(fault).report(json);
                                    std::process::exit(exit.code().into());
                                }
                            }
                        }
                        () = running.rerooting() => match running.reroot().await {
                            Ok(Started::Serving(again)) => running = *again,
                            Ok(sealed @ Started::Sealed(_)) => break sealed,
                            // At once, and so that it is started again: the directory is of one root key or of the other.
                            Err(fault) => {
                                Failure::from(fault).report(json);
                                std::process::exit(START_AGAIN);
                            }
                        },
                    }
                };
            }
        })
    }

    /// The configuration with what was typed on top of it.
    fn configured(self) -> Result<Config, Failure> {
        let Self { dev, data, listen, admin, config, print_reference: _ } = self;
        let from_file = config.is_some();
        let mut config = match config {
            Some(path) => Config::read(&path).map_err(|fault| Failure::from(fault).ending(Exit::Usage))?,
            None => Config::default(),
        };
        if let Some(data) = data {
            config.data = data;
        } else if dev && !from_file {
            return Err(Failure::usage("`--dev` needs a directory")
                .remedy("name one with `--data DIR`; it is made if it is not there"));
        }
        if let Some(listen) = listen {
            config.listen.address = listen;
        }
        match admin {
            Some(Admin::At(address)) => (config.admin.address, config.admin.enabled) = (address, true),
            Some(Admin::Off) => config.admin.enabled = false,
            // Several dev gateways run side by side.
            None if dev && !from_file => config.admin.enabled = false,
            None => {}
        }
        Ok(config)
    }
}

/// What is said once connections are accepted.
fn ready_line(running: &Running, json: bool) -> String {
    let url = format!("https://{}", running.address);
    let admin = running.admin.map(|address| format!("http://{address}"));
    let dev = running.dev.as_ref().map(|dev| dev.file.display().to_string());
    if json {
        return serde_json::json!({ "url": url, "admin": admin, "dev_env": dev }).to_string();
    }
    let mut line = format!("serving {url}");
    if let Some(admin) = admin {
        line.push_str(&format!("; metrics at {admin}/metrics"));
    }
    if let Some(file) = dev {
        line.push_str(&format!("; to use it: source {file}"));
    }
    line
}

/// What is said while it waits for its root key: the console of which custodians learn the fingerprint.
fn sealed_line(sealed: &Sealed, json: bool) -> String {
    let url = format!("https://{}", sealed.address);
    let admin = sealed.admin.map(|address| format!("http://{address}"));
    let (fingerprint, (threshold, of)) = (sealed.fingerprint.to_string(), sealed.shares);
    if json {
        return serde_json::json!({
            "url": url, "admin": admin, "sealed": true, "fingerprint": fingerprint, "threshold": threshold, "shares": of,
        })
        .to_string();
    }
    let mut line = format!("sealed {url}");
    if let Some(admin) = admin {
        line.push_str(&format!("; metrics at {admin}/metrics"));
    }
    line.push_str(&format!("; {threshold} of {of} shares open it; fingerprint {fingerprint}"));
    line
}

pub(super) fn log_to_stderr(log: &Logging) -> Result<(), Failure> {
    let Logging { filter, format } = log;
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("`log.filter` `{filter}` is refused"))
            .because(&error)
            .remedy("use `info`, or a filter such as `info,holdfast_gateway=debug`")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder.with_ansi(output::stderr_is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| Failure::new(Exit::Failure, "the log cannot be written").because(&*error))
}

/// The signals that whoever serves obeys.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::Failure, "signals cannot be received").because(&error))
        };
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// Waits for the order to end, reloading on the way.
    pub(super) async fn wait<E: Into<Failure>>(
        &mut self,
        reload: impl Fn() -> Result<(), E>,
        systemd: &Systemd,
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    systemd.tell("RELOADING=1");
                    match reload() {
                        Ok(()) => systemd.tell_reloaded(),
                        Err(fault) => {
                            let told = fault.into().told();
                            note(&format!("warning: {told}; what was in force there stays in force"));
                            systemd.tell_refused(&told);
                        }
                    }
                }
            }
        }
    }
}

/// The service manager that may wait for readiness (sd_notify(3)).
pub(super) struct Systemd {
    socket: Option<std::ffi::OsString>,
    shown: Mutex<Shown>,
}

/// What it shows of this process.
#[derive(Debug, Default)]
struct Shown {
    status: String,
    /// Whether a reload that was refused stands there instead.
    is_refusal: bool,
}

impl Systemd {
    /// The one that started this process, if one did.
    pub(super) fn of(app: &App) -> Self {
        Self { socket: app.environment.notify_socket.clone(), shown: Mutex::default() }
    }

    /// Tells it a state. What it does not hear changes nothing here.
    pub(super) fn tell(&self, state: &str) {
        if let Some(status) = state.lines().find_map(|line| line.strip_prefix("STATUS=")) {
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
                Shown { status: status.to_owned(), is_refusal: false };
        }
        self.send(state);
    }

    /// Tells it that a reload has ended, and was refused.
    fn tell_refused(&self, why: &str) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).is_refusal = true;
        // Each line is an assignment.
        self.send(&format!("READY=1\nSTATUS=the last reload was refused: {}", why.replace('\n', " ")));
    }

    /// Tells it that a reload has ended; where the refusal of one before stands, what stood there before that is shown again.
    fn tell_reloaded(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut shown.is_refusal) {
            true => self.send(&format!("READY=1\nSTATUS={}", shown.status)),
            false => self.send("READY=1"),
        }
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        let sent =
            address(socket).and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
        if let Err(error) = sent {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn address(socket: &OsStr) -> std::io::Result<UnixAddr> {
    match socket.as_bytes().split_first() {
        Some((b'@', name)) => UnixAddr::from_abstract_name(name),
        Some(_) | None => UnixAddr::from_pathname(socket),
    }
}
