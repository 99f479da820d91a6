//! `holdfast connect`: what a provider needs in the tenant, what is to be pasted where, and a test as that provider. A file or a folder for each
//! provider; what they share is here and in [`tenant`].

mod aws_xks;
mod azure_ekm;
mod configuration;
mod google_cse;
mod issuers;
mod kubernetes;
mod latency;
mod listener;
mod ms_dke;
mod tenant;
mod token;

use crate::app::App;
use crate::failure::Failure;
use crate::findings::Findings;
use crate::output::printable;
use crate::progress;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use std::time::Duration;

/// The providers.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectCommand {
    AwsXks(aws_xks::AwsXks),
    AzureEkm(azure_ekm::AzureEkm),
    GoogleCse(google_cse::GoogleCse),
    Kubernetes(kubernetes::Kubernetes),
    MsDke(ms_dke::MsDke),
}

impl ConnectCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::AwsXks(provider) => provider.run(app),
            Self::AzureEkm(provider) => provider.run(app),
            Self::GoogleCse(provider) => provider.run(app),
            Self::Kubernetes(provider) => provider.run(app),
            Self::MsDke(provider) => provider.run(app),
        }
    }
}

/// How far it goes.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Change nothing: say what is missing
    #[arg(long)]
    check: bool,
    /// Add to the tenant's policy what the provider lacks, instead of showing it; what it permits under conditions already is said
    #[arg(long, conflicts_with = "check")]
    set_policy: bool,
    /// Only test as the provider would; nothing is made, and nothing is shown to be pasted
    #[arg(long, conflicts_with_all = ["check", "set_policy"])]
    self_test_only: bool,
}

/// What came of it.
struct Report {
    findings: Findings,
    pastes: Vec<Paste>,
    bar: ProgressBar,
}

/// Text that somebody takes to another place.
struct Paste {
    to: String,
    text: String,
}

impl Report {
    fn begin() -> Self {
        let bar = progress::bar(None, "{spinner} {msg}");
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { findings: Findings::default(), pastes: vec![], bar }
    }

    /// Says what is being done, to whoever waits for it.
    fn doing(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    fn paste(&mut self, to: impl Into<String>, text: impl Into<String>) {
        self.pastes.push(Paste { to: to.into(), text: text.into() });
    }

    /// Tells all of it, and fails as the first thing that is wrong.
    fn told(self, app: &App) -> Result<(), Failure> {
        let Self { findings, pastes, bar } = self;
        bar.finish_and_clear();
        if app.printer.is_json() {
            let pastes = pastes.iter().map(|Paste { to, text }| json!({ "to": to, "text": text }));
            let pastes: Vec<_> = pastes.collect();
            app.printer.json_value(&json!({ "findings": findings.json(), "paste": pastes }))?;
            return findings.verdict();
        }
        findings.lines(app)?;
        for Paste { to, text } in &pastes {
            app.printer.line(&printable(&format!("\n── {to}\n{}", text.trim_end())))?;
        }
        findings.verdict()
    }
}
