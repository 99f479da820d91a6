//! `holdfast witness`.

use super::serve::{Signals, Systemd, log_to_stderr};
use crate::app::App;
use crate::failure::Failure;
use crate::output;
use clap::{Args, Subcommand};
use holdfast_gateway::config::Logging;
use holdfast_gateway::witness::{self, Options, Running};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A witness of logs.
#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    Init(Init),
    Serve(Serve),
}

impl WitnessCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(app),
            Self::Serve(serve) => serve.run(app),
        }
    }
}

/// Make a witness: its directory and its key
///
/// Prints the witness's verifier key: gateways are configured with it, and `holdfast audit verify --witness` checks by it.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The witness's name for ever, such as `witness.example.org/w1`: a URL without its scheme
    #[arg(long)]
    name: String,
}

impl Init {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, name } = self;
        let key = witness::init(&data, &name)?;
        match app.printer.is_json() {
            true => app.printer.record(&serde_json::json!({ "name": key.name(), "vkey": key.to_string() })),
            false => app.printer.line(&key.to_string()),
        }
    }
}

/// Run a witness
///
/// Cosigns the newest checkpoint of each log that it is told of, and only what continues the one before (C2SP
/// tlog-witness). Run it on another machine than the gateway, and by other people.
///
/// Runs until SIGTERM or SIGINT. SIGHUP reads the list of logs again, and certificate and key.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The witness's directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// A log's verifier key, the one line of its `log.vkey`; several times for several
    #[arg(long = "log", value_name = "VKEY", required_unless_present = "logs_file")]
    logs: Vec<String>,
    /// A file of logs' verifier keys, one a line; lines with `#` are comments
    #[arg(long = "logs", value_name = "FILE")]
    logs_file: Option<PathBuf>,
    /// The certificate chain, PEM; without it the witness speaks in clear, which is enough behind a proxy
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Serve {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, listen, logs, logs_file, tls_cert, tls_key } = self;
        log_to_stderr(&Logging::default())?;
        let options = Options { data, listen, logs, logs_file, tls: tls_cert.zip(tls_key) };
        let systemd = Systemd::of(app);
        app.block_on(async {
            let mut signals = Signals::new()?;
            let running = witness::start(options).await?;
            output::show_stdout(format!("{}\n", ready_line(&running, app.printer.is_json())).as_bytes())?;
            systemd.tell("READY=1");
            signals.wait(|| running.reload(), &systemd).await;
            systemd.tell("STOPPING=1");
            running.shut_down().await;
            Ok(())
        })
    }
}

/// What is said once connections are accepted.
fn ready_line(running: &Running, json: bool) -> String {
    let scheme = if running.is_tls { "https" } else { "http" };
    let (url, key) = (format!("{scheme}://{}", running.address), running.verifier());
    match json {
        true => serde_json::json!({ "url": url, "vkey": key.to_string(), "logs": running.log_count() })
            .to_string(),
        false => format!("witnessing {} logs at {url} as {key}", running.log_count()),
    }
}
