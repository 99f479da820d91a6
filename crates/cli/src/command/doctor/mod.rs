//! `holdfast doctor`.

mod deep;

use crate::app::App;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::findings::Findings;
use crate::issue;
use clap::Args;
use holdfast_audit::verify::{self, Trusted};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::{ErrorKind, Timestamp};
use holdfast_gateway::Fault;
use holdfast_gateway::device::Bound;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::shares::Roster;
use holdfast_sdk::{Client, Tenant};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Days before a certificate expires from which on it is said.
const EXPIRY_DAYS: u64 = 30;
/// How far two clocks may be apart, in seconds.
const CLOCKS_APART: u64 = 30;

/// Look for what is wrong between here and a working gateway
///
/// Looks at everything between here and a working gateway, and says for each thing that is wrong what to do.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at this gateway's data directory too, on its own machine
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Look at the directory only, at no gateway
    #[arg(long, requires = "data")]
    offline: bool,
    /// Read everything in the directory, at no gateway: every record, key, batch, entry and tile. Nobody may serve it meanwhile
    #[arg(long, requires = "data")]
    deep: bool,
}

impl Doctor {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, offline, deep } = self;
        let mut findings = Findings::default();
        if !offline && !deep {
            match app.client() {
                Ok(client) => app.block_on(examine_gateway(app, &client, &mut findings)),
                Err(failure) => findings.wrong("settings", &failure),
            }
        }
        if let Some(data) = data {
            examine_directory(app, &data, deep, &mut findings);
        }
        findings.told(app)
    }
}

async fn examine_gateway(app: &App, client: &Client, findings: &mut Findings) {
    let probe = match client.probe().await {
        Ok(probe) => probe,
        Err(error) => return findings.wrong("connection", &error.into()),
    };
    findings
        .fine("connection", format!("{}: {} with {}", client.address(), probe.version, probe.key_exchange));
    let expiry = probe.certificates.first().and_then(|certificate| issue::expiry(certificate));
    examine_expiry("server certificate", expiry, findings);
    match client.date().await {
        Ok(date) => examine_clock(date.as_deref().and_then(clock::http_date), findings),
        Err(error) => findings.wrong("clock", &error.into()),
    }
    match client.ready().await {
        Ok(true) => findings.fine("gateway", "key store, state and log are ready"),
        Ok(false) => findings.wrong(
            "gateway",
            &Failure::new(Exit::Unavailable, "it cannot work now")
                .remedy("ask an operator for `holdfast status`"),
        ),
        Err(error) => findings.wrong("gateway", &error.into()),
    }
    match app.tenant_name() {
        Ok(Some(tenant)) => match client.tenant(tenant.clone()).read().await {
            Ok(_) => {
                findings.fine("caller", format!("known in `{tenant}`, may read its record"));
                examine_keys(&client.tenant(tenant), findings).await;
            }
            // Who is not known is told so; who is refused is known.
            Err(error) if error.kind() == Some(ErrorKind::Denied) => {
                findings.fine("caller", format!("known in `{tenant}`, may not read its record"));
            }
            Err(error) => findings.wrong("caller", &error.into()),
        },
        Ok(None) => findings.watch(
            "caller",
            "no tenant is named",
            "name one with `--tenant` or HOLDFAST_TENANT to see whether you are known there",
        ),
        Err(failure) => findings.wrong("caller", &failure),
    }
}

/// Names that are shown of keys that no verified backup holds.
const SHOWN: usize = 20;

/// Which keys would be lost with the machine. Who may not list keys learns nothing, and nothing is wrong with that.
async fn examine_keys(tenant: &Tenant, findings: &mut Findings) {
    let (mut after, mut all, mut unprotected, mut waiting) = (None, 0_usize, Vec::new(), Vec::new());
    loop {
        let page = match tenant.keys(after.as_ref(), None).await {
            Ok(page) => page.body,
            Err(error) if error.kind() == Some(ErrorKind::Denied) => return,
            Err(error) => return findings.wrong("keys", &error.into()),
        };
        for key in page.keys {
            all += 1;
            if key.waits_for_backup == Some(true) {
                waiting.push(key.name.0.to_string());
            }
            // No backup is to hold what is in an archive alone.
            let is_archived = key.archive.as_ref().is_some_and(|archive| archive.stored.is_some());
            if key.protected == Some(false) && key.state.0 != KeyState::Destroyed && !is_archived {
                unprotected.push(key.name.0.to_string());
            }
        }
        match page.next {
            Some(next) => after = Some(next.0),
            None => break,
        }
    }
    if !waiting.is_empty() {
        findings.watch(
            "keys",
            format!(
                "{} of {all} wait to be put into use until a verified backup holds them: {}",
                waiting.len(),
                some(waiting)
            ),
            "ask an operator to run `holdfast backup`, and its custodians to run `holdfast backup verify`",
        );
    }
    if unprotected.is_empty() {
        return findings.fine("keys", format!("{all}, none of them unprotected"));
    }
    let count = unprotected.len();
    findings.watch(
        "keys",
        format!("{count} of {all} are in no verified backup: {}", some(unprotected)),
        "ask an operator to run `holdfast backup`, and its custodians to run `holdfast backup verify`",
    );
}

/// The first names of a list.
fn some(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Looks when something expires, which is said a month before.
pub(super) fn examine_expiry(what: &str, expires: Option<u64>, findings: &mut Findings) {
    let Some(expires) = expires else {
        return findings.watch(
            what,
            "nobody can tell when it expires",
            "replace it with an X.509 certificate",
        );
    };
    let when = Timestamp::from_micros(expires.saturating_mul(1_000_000));
    let left = expires.saturating_sub(clock::now().seconds()) / 86_400;
    if left >= EXPIRY_DAYS {
        findings.fine(what, format!("valid for {left} more days"));
    } else {
        findings.watch(
            what,
            format!("expires at {when}, in {left} days"),
            "replace it and send SIGHUP to the gateway",
        );
    }
}

fn examine_clock(theirs: Option<u64>, findings: &mut Findings) {
    let Some(theirs) = theirs else {
        return findings.watch(
            "clock",
            "the gateway does not tell its time",
            "compare both machines' clocks by hand",
        );
    };
    let apart = theirs.abs_diff(clock::now().seconds());
    if apart <= CLOCKS_APART {
        findings.fine("clock", format!("{apart} s apart from the gateway's"));
    } else {
        findings.watch(
            "clock",
            format!("{apart} s apart from the gateway's"),
            "synchronise both clocks (NTP): certificates and tokens are judged by them",
        );
    }
}

fn examine_directory(app: &App, data: &Path, deep: bool, findings: &mut Findings) {
    let directory = Directory::at(data);
    let identity = match directory.identity() {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let failure = Failure::new(Exit::State, format!("there is no gateway in `{}`", data.display()))
                .remedy("check the path, or found one with `holdfast init`");
            return findings.wrong("data directory", &failure);
        }
        Err(fault) => return findings.wrong("data directory", &fault.into()),
    };
    findings.fine("data directory", format!("gateway {}", identity.instance));
    examine_mode("data directory's mode", data, 0o700, findings);
    let roster = match directory.roster() {
        Ok(roster) => roster,
        Err(fault) => return findings.wrong("root key", &fault.into()),
    };
    let bound = directory.bound().map_err(Fault::from);
    match bound {
        Ok(None) => match directory.in_tokens() {
            Ok(None) => {}
            Ok(Some(tokens)) => {
                findings.fine(
                    "tokens",
                    format!("the root key is {tokens}; `holdfast status` says which of them are there"),
                );
                if tokens.mac.is_none() {
                    findings.watch(
                        "tokens",
                        "`root.hsm` has no code of the root key: what it says of itself is not believed",
                        BIND,
                    );
                }
            }
            Err(error) => findings.wrong("tokens", &Fault::from(error).into()),
        },
        Ok(Some(bound)) => {
            examine_bound(&bound, roster.is_some(), findings);
            if bound.mac.is_none() {
                findings.watch(
                    "TPM",
                    "`root.tpm` has no code of the root key: what it says of itself is not believed",
                    BIND,
                );
            }
        }
        Err(fault) => findings.wrong("TPM", &fault.into()),
    }
    match &roster {
        None if directory.root_tpm().exists() => {}
        None => examine_mode("root key's mode", &directory.root_key(), 0o600, findings),
        Some(Roster { of, custodians, .. }) => findings.fine(
            "root key",
            format!(
                "in shares, generation {}: {} of {} open it",
                of.generation,
                of.threshold,
                custodians.len()
            ),
        ),
    }
    if roster.as_ref().is_some_and(|roster| roster.mac.is_none()) {
        findings.watch(
            "root key",
            "`root.shares` has no code of the root key: nothing says that its custodians are those who were meant",
            "if an earlier build wrote it, start the gateway once, which adds the code; otherwise look who has changed it",
        );
    }
    if deep {
        return deep::examine(app, (&directory, &identity), roster, findings);
    }
    if data.join("root.next").exists() {
        findings.watch(
            "root key",
            "another root key is being put in force, or that was cut short",
            "a gateway that serves finishes it; if none does, start it",
        );
    }
    let logs = data.join("audit");
    let Ok(entries) = std::fs::read_dir(&logs) else {
        let failure = Failure::new(Exit::Failure, format!("cannot read `{}`", logs.display()))
            .remedy("run as the owner of the data directory");
        return findings.wrong("logs", &failure);
    };
    for entry in entries.flatten() {
        let what = format!("log of {}", entry.file_name().to_string_lossy());
        if !entry.path().join("checkpoint").exists() {
            findings.watch(
                &what,
                "it has no checkpoint yet",
                "one comes within a second of its first entry: look again",
            );
            continue;
        }
        match verify::verify(&entry.path(), &Trusted::default(), |_, _| {}) {
            Ok(report) => findings
                .fine(&what, format!("{} entries verify, by the key beside them", report.checkpoint.size)),
            Err(error) => {
                let failure = Failure::new(Exit::Integrity, error.to_string()).remedy(
                    "stop the gateway, keep a copy of the directory as evidence, and restore a backup",
                );
                findings.wrong(&what, &failure);
            }
        }
    }
}

/// What gives a binding of an earlier build its code.
const BIND: &str = "if an earlier build wrote it, bind the root key anew with `holdfast root bind`; otherwise look who has changed it";

/// Whether the TPM will open the root key at the next start, as far as its registers say.
fn examine_bound(bound: &Bound, has_shares: bool, findings: &mut Findings) {
    let remedy = match has_shares {
        true => {
            "have enough custodians at hand; `holdfast root bind` binds the root key to the machine as it is now"
        }
        false => "bring the machine back to the state that it was in: nothing else opens the root key",
    };
    match bound.changed().as_deref() {
        Ok([]) => findings
            .fine("TPM", format!("the root key is {bound}, and the registers hold what they held then")),
        Ok(changed) => {
            let changed: Vec<_> = changed.iter().map(u8::to_string).collect();
            let detail = format!(
                "the root key is {bound}, and PCR {} changed since: the TPM will not open it",
                changed.join(", ")
            );
            findings.watch("TPM", detail, remedy);
        }
        Err(error) => {
            findings.watch("TPM", format!("the root key is {bound}, and {}", error.detail()), remedy)
        }
    }
    if !has_shares {
        findings.watch(
            "root key",
            "nothing but this machine's TPM opens it, and no backup helps",
            "move to a gateway that was founded with `--shares` as well",
        );
    }
}

fn examine_mode(what: &str, path: &Path, wanted: u32, findings: &mut Findings) {
    match path.metadata() {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & !wanted == 0 {
                return findings.fine(what, format!("{mode:03o}"));
            }
            let failure = Failure::new(
                Exit::Failure,
                format!("`{}` has mode {mode:03o}: others can read it", path.display()),
            )
            .remedy(format!("run `chmod {wanted:o} {}`, and ask who could have read it", path.display()));
            findings.wrong(what, &failure);
        }
        Err(error) => findings.wrong(what, &Failure::file("read", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Verdict;

    #[test]
    fn a_root_key_that_others_can_read_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let verdict = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let mut findings = Findings::default();
            examine_mode("root key", file.path(), 0o600, &mut findings);
            findings.0.pop().unwrap().verdict
        };
        assert_eq!(verdict(0o600), Verdict::Fine);
        assert_eq!(verdict(0o400), Verdict::Fine);
        assert_eq!(verdict(0o640), Verdict::Wrong(Exit::Failure));
    }

    #[test]
    fn an_expiry_is_said_in_time() {
        let verdict = |seconds| {
            let mut findings = Findings::default();
            examine_expiry("certificate", Some(clock::now().seconds() + seconds), &mut findings);
            findings.0.pop().unwrap().verdict
        };
        assert_eq!(verdict(86_400 * 400), Verdict::Fine);
        assert_eq!(verdict(86_400 * 29), Verdict::Watch);
    }
}
