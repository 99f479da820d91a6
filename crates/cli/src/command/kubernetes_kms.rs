//! `holdfast kubernetes-kms`.

use super::serve::{Signals, Systemd, log_to_stderr};
use crate::app::App;
use crate::failure::Failure;
use crate::kubernetes::clock::since_boot;
use crate::kubernetes::look::keep_looking;
use crate::kubernetes::metrics;
use crate::kubernetes::plugin::Plugin;
use crate::kubernetes::server::{self, Peers};
use crate::kubernetes::socket::{self, Socket};
use crate::kubernetes::standing::{Good, Standing};
use crate::output;
use clap::Args;
use holdfast_gateway::config::{LogFormat, Logging};
use holdfast_sdk::KeyName;
use holdfast_wire::kubernetes::ClusterName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The longest lease: as long as an API server itself keeps a seed at least.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);
/// The longest time between two looks at the key.
const LONGEST_REFRESH: Duration = Duration::from_secs(300);

/// Run the KMS v2 plugin beside an API server of Kubernetes
///
/// Encrypts what an API server writes to etcd, its Secrets first of all, under a key of yours. Runs on the same machine as the API server, and
/// asks the gateway as the caller that `--cert` names. See docs/protocols/kubernetes-kms.md.
///
/// Runs until SIGTERM or SIGINT, and needs no gateway to start. A renewed certificate is taken up by itself; SIGHUP does so at once.
#[derive(Debug, Args)]
pub(crate) struct KubernetesKms {
    /// The socket that the API server connects to; its directory is made if it is not there
    #[arg(long, value_name = "PATH", default_value = "/run/holdfast/kms.sock")]
    socket: PathBuf,
    /// Let this group connect too, by name or number; root and the plugin's own user always may
    #[arg(long, value_name = "GROUP", value_parser = socket::group)]
    socket_group: Option<u32>,
    /// The key
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    key: KeyName,
    /// The cluster, which its ciphertexts are bound to: another one's are not decrypted
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    cluster: ClusterName,
    /// How long a seed may be given again while no gateway can be asked, in memory alone; `0s` for never, 24h at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = |text: &str| time(text, Duration::ZERO..=LONGEST_LEASE))]
    lease: Duration,
    /// How often the key is looked at: how soon a rotation or a stop is noticed; 1s to 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = |text: &str| time(text, Duration::from_secs(1)..=LONGEST_REFRESH))]
    refresh: Duration,
    /// Tell Prometheus what is measured, at /metrics on this loopback address, in clear; such as 127.0.0.1:9444
    #[arg(long, value_name = "ADDRESS", value_parser = metrics::loopback)]
    metrics: Option<SocketAddr>,
}

fn time(text: &str, range: std::ops::RangeInclusive<Duration>) -> Result<Duration, String> {
    let time =
        humantime::parse_duration(text).map_err(|_| "expected a time such as `90s` or `10m`".to_owned())?;
    let (least, most) =
        (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
    range.contains(&time).then_some(time).ok_or_else(|| format!("expected {least} to {most}"))
}

impl KubernetesKms {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { socket, socket_group, key, cluster, lease, refresh, metrics } = self;
        let json = app.printer.is_json();
        let format = if json { LogFormat::Json } else { LogFormat::Text };
        log_to_stderr(&Logging { format, ..Logging::default() })?;
        holdfast_gateway::protect_memory();
        // Two looks that nobody answers are no news yet.
        let grace = lease.max(refresh * 2 + Duration::from_secs(10));
        let plugin = Arc::new(Plugin::new(dial(app)?, key, cluster, lease, grace));
        let endpoint = format!("unix://{}", socket.display());
        let socket = Socket::bind(&socket, socket_group)?;
        let peers = if socket_group.is_some() { Peers::Group } else { Peers::Own };
        let systemd = Systemd::of(app);
        app.block_on(async {
            let mut signals = Signals::new()?;
            let listener = tokio::net::UnixListener::from_std(socket.listener()?).map_err(|error| {
                Failure::new(crate::exit::Exit::Failure, "the socket cannot be listened on").because(&error)
            })?;
            let scraped = match metrics {
                Some(address) => Some(listen(address).await?),
                None => None,
            };
            let ready = ready_line(&plugin, &endpoint, scraped.as_ref(), json);
            let (stop, stopping) = watch::channel(false);
            if let Some(scraped) = scraped {
                tokio::spawn(metrics::serve(scraped, Arc::clone(&plugin), stopping.clone()));
            }
            let serving = tokio::spawn(server::serve(listener, peers, Arc::clone(&plugin), stopping));
            output::show_stdout(format!("{ready}\n").as_bytes())?;
            systemd.tell("READY=1");
            let mut files = app.credential_times();
            // Where the last way led nowhere, or its files have been renewed, another one is tried.
            let again = |is_lost: bool| {
                let now = app.credential_times();
                if is_lost || now != files {
                    match dial(app) {
                        Ok(gateway) => plugin.go_by(gateway),
                        Err(error) => tracing::warn!(%error, "certificate, key and authority stay as they were"),
                    }
                    files = now;
                }
            };
            tokio::select! {
                () = signals.wait(|| dial(app).map(|gateway| { plugin.go_by(gateway); plugin.look.notify_one(); }), &systemd) => {}
                never = plugin.leases.keep_swept(since_boot) => match never {},
                never = keep_looking(&plugin, refresh, again, |standing| tell(&plugin, standing, &systemd)) => match never {},
            }
            systemd.tell("STOPPING=1");
            socket.remove();
            stop.send_replace(true);
            let _served = serving.await;
            plugin.leases.forget();
            Ok(())
        })
    }
}

/// A way to the gateway that repeats nothing by itself: the plugin knows for how long it may.
fn dial(app: &App) -> Result<holdfast_sdk::Tenant, Failure> {
    app.tenant_with(|builder| builder.attempts(1))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::usage(format!("cannot listen on {address}"))
            .because(&error)
            .remedy("name another address with `--metrics`, or leave it out")
    })
}

/// What is said once connections are accepted.
fn ready_line(plugin: &Plugin, endpoint: &str, scraped: Option<&TcpListener>, json: bool) -> String {
    let address = scraped.and_then(|listener| listener.local_addr().ok());
    let metrics = address.map(|address| format!("http://{address}/metrics"));
    let (key, cluster, tenant) = (&plugin.key, &plugin.cluster, plugin.gateway().id().clone());
    match json {
        true => serde_json::json!({
            "endpoint": endpoint, "key": key.to_string(), "tenant": tenant.to_string(), "cluster": cluster.to_string(),
            "metrics": metrics,
        })
        .to_string(),
        false => {
            let metrics = metrics.map_or_else(String::new, |metrics| format!("; metrics at {metrics}"));
            format!("serving {endpoint} for cluster `{cluster}` under key `{key}` of `{tenant}`{metrics}")
        }
    }
}

/// Says a change to those who watch the process.
fn tell(plugin: &Plugin, standing: &Standing, systemd: &Systemd) {
    let key = &plugin.key;
    let status = match standing {
        Standing::Unknown(why) => {
            tracing::warn!(%why, "waiting for the gateway");
            format!("waiting for the gateway: {why}")
        }
        Standing::Good(Good { lost: None, kek_id, .. }) => {
            tracing::info!(%key, key_id = %kek_id, "the key can be used");
            format!("serving under {kek_id}")
        }
        Standing::Good(Good { lost: Some(why), .. }) => {
            tracing::warn!(%why, "no gateway can work; what is leased is given meanwhile");
            format!("no gateway can work: {why}")
        }
        Standing::Stopped(why) => {
            tracing::error!(%why, "the key cannot be used");
            format!("stopped: {why}")
        }
    };
    systemd.tell(&format!("STATUS={}", output::printable(&status)));
}
