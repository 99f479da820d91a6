//! `holdfast emergency`.

use super::key::version;
use super::unseal::{ask, fingerprint};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_core::emergency::{MAX_REASON, MAX_SECONDS};
use holdfast_gateway::emergency::custodian;
use holdfast_gateway::shares::{Fingerprint, Recipient};
use holdfast_sdk::field::{Bounded, Bytes, List, Name, ReasonText, VersionNumber};
use holdfast_sdk::message::{ApproveCopy, CopyInForce, CopyRequest, CopyShare, EmergencyCopy, RequestCopy};
use holdfast_sdk::{KeyName, KeyVersion};
use std::path::PathBuf;

const HOUR: u64 = 3600;

#[derive(Debug, Subcommand)]
pub(crate) enum EmergencyCommand {
    Activate(Activate),
    Approve(Approve),
    /// Show who has allowed the use of a key's copies so far, and until when they are in force
    Show(Named),
    /// End the use of a key's copies at once, and a request for it
    End(Named),
}

/// One key.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The key
    key: KeyName,
}

/// Ask the custodians of a key's emergency copies to allow their use
///
/// The request waits for an hour. The gateway's console shows its fingerprint: tell the custodians, by a way that you trust, which then run
/// `holdfast emergency approve`. The copies are used only while no member of the pool can do the work, in memory alone: a restart forgets them.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// The key, which was created with `--emergency-copy`
    key: KeyName,
    /// For how long, from when enough of them have allowed it; 72 at most
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS / HOUR))]
    hours: u64,
    /// Why; it stands in the audit log, and the custodians see it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: ReasonText,
    /// This version's copy alone; several times for several [default: the newest 16]
    #[arg(long = "key-version", value_name = "VERSION", value_parser = version)]
    versions: Vec<KeyVersion>,
}

/// Allow it, as a custodian of the copies
///
/// Compares the request's own key with the fingerprint that the gateway's console shows, opens your shares with your age identity, encrypts them
/// to that key and gives them. With enough of you the copies are in force.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The key
    key: KeyName,
    /// The file with your age identity
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// What the gateway's console shows, learned from somebody who sees it; asked for on a terminal
    #[arg(long, value_parser = fingerprint)]
    fingerprint: Option<Fingerprint>,
}

fn reason(text: &str) -> Result<ReasonText, String> {
    let is_one = !text.trim().is_empty() && text.chars().count() <= MAX_REASON;
    is_one
        .then(|| ReasonText(text.into()))
        .ok_or_else(|| format!("expected a reason, 1 to {MAX_REASON} characters"))
}

impl EmergencyCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Activate(activate) => activate.run(app),
            Self::Approve(approve) => app.block_on(approve.run(app)),
            Self::Show(Named { key }) => {
                let tenant = app.tenant()?;
                tell(app, &app.block_on(tenant.emergency_copy(&key))?.body)
            }
            Self::End(Named { key }) => {
                let tenant = app.tenant()?;
                tell(app, &app.block_on(tenant.end_copy(&key))?.body)
            }
        }
    }
}

impl Activate {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, hours, reason, versions } = self;
        let versions: Vec<_> = versions.into_iter().map(VersionNumber).collect();
        let request = RequestCopy {
            seconds: Bounded(hours.saturating_mul(HOUR)),
            reason,
            versions: (!versions.is_empty()).then_some(List(versions)),
        };
        let tenant = app.tenant()?;
        tell(app, &app.block_on(tenant.request_copy(&key, &request))?.body)
    }
}

impl Approve {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, identity, fingerprint } = self;
        let tenant = app.tenant()?;
        let Some(request) = tenant.emergency_copy(&key).await?.body.request else {
            return Err(Failure::new(Exit::State, format!("nobody asks for the emergency copies of `{key}`"))
                .remedy("run `holdfast emergency activate` first: a request waits for an hour, and a restart forgets it"));
        };
        let CopyRequest { recipient, seconds, reason, versions, shares, .. } = request;
        let versions: Vec<_> = versions.into_iter().map(|version| version.0).collect();
        note(&format!(
            "`{key}`, {}, is to work in software for {}: {reason}",
            named(&versions),
            hours(seconds)
        ));
        let shown = match fingerprint {
            Some(fingerprint) => fingerprint,
            None => ask().await?,
        };
        let to: Recipient = match recipient.parse() {
            Ok(to) if Fingerprint::of(&recipient) == shown => to,
            Ok(_) | Err(_) => {
                let problem = "the key that was offered is not the one that the gateway's console shows";
                return Err(Failure::new(Exit::Integrity, problem).remedy(
                    "your shares were not opened. Look at the console again: each request has another fingerprint; \
                     if it is the same, somebody stands between you and the gateway",
                ));
            }
        };
        let of = |wanted: &KeyVersion| {
            let those = shares.iter().filter(|CopyShare { version, .. }| version.0 == *wanted);
            those.map(|CopyShare { share, .. }| share.0.as_slice()).collect::<Vec<_>>()
        };
        let given = custodian::answer(versions.iter().map(of), &identity, &to)?;
        tell(app, &tenant.approve_copy(&key, &ApproveCopy { shares: Bytes(given) }).await?.body)
    }
}

/// `version 1`, `versions 1, 2`.
fn named(versions: &[KeyVersion]) -> String {
    let numbers: Vec<_> = versions.iter().map(ToString::to_string).collect();
    let noun = if numbers.len() == 1 { "version" } else { "versions" };
    format!("{noun} {}", numbers.join(", "))
}

fn hours(seconds: u64) -> String {
    match seconds / HOUR {
        1 => "an hour".to_owned(),
        hours if hours.saturating_mul(HOUR) == seconds => format!("{hours} hours"),
        _ => format!("{seconds} seconds"),
    }
}

/// How it stands, in words.
fn tell(app: &App, copy: &EmergencyCopy) -> Result<(), Failure> {
    if app.printer.is_json() {
        return app.printer.record(copy);
    }
    let EmergencyCopy { key: Name(key), request, in_force, durability: _ } = copy;
    if let Some(CopyInForce { versions, since: _, until, approved }) = in_force {
        let versions: Vec<_> = versions.iter().map(|version| version.0).collect();
        let by = list(approved);
        app.printer.entry(&format!(
            "emergency copies of `{key}`, {}: in force until {}, allowed by {by}",
            named(&versions),
            until.0
        ))?;
    }
    match request {
        Some(CopyRequest { fingerprint, expires, threshold, approved, .. }) => {
            let so_far = if approved.is_empty() { String::new() } else { format!(": {}", list(approved)) };
            app.printer.entry(&format!("{} of {threshold} custodians{so_far}", approved.len()))?;
            note(&format!(
                "custodians run `holdfast emergency approve {key}` until {}; the gateway's console shows {fingerprint} too",
                expires.0
            ));
        }
        None if in_force.is_none() => {
            app.printer
                .entry(&format!("emergency copies of `{key}`: none in force, and nobody asks for them"))?;
        }
        None => {}
    }
    Ok(())
}

fn list<T: std::fmt::Display>(names: &[Name<T>]) -> String {
    names.iter().map(|name| name.0.to_string()).collect::<Vec<_>>().join(", ")
}
