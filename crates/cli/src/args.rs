//! The command line.

use crate::command::Command;
use clap::{Args, Parser};
use std::path::PathBuf;

/// Keys that you hold, used through a gateway that you run.
///
/// Data goes to stdout, everything else to stderr. Exit codes and environment variables are in docs/cli.md. To try it: `holdfast demo`.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the gateway is, and as whom to speak to it. Secrets never stand on a command line: a token comes from a file or HOLDFAST_TOKEN.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Gateway and caller")]
pub(crate) struct Global {
    /// The gateway's address, such as https://keys.example.org:8443 [env: HOLDFAST_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The authority that the gateway is trusted by, PEM [env: HOLDFAST_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Your certificate, PEM [env: HOLDFAST_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM [env: HOLDFAST_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert_key: Option<PathBuf>,
    /// A file with your bearer token, instead of a certificate [env: HOLDFAST_TOKEN, the token itself]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "cert")]
    pub(crate) token_file: Option<PathBuf>,
    /// The tenant [env: HOLDFAST_TENANT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Ask for the log's signed receipts and append them to this file; `holdfast audit check` takes it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// How long one call may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// Write JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}
