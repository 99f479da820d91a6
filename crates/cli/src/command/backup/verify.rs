//! `holdfast backup verify` and `holdfast backup verified`.

use crate::app::App;
use crate::clock;
use crate::command::drill::{Backup, Means, Report, Scratch, newest, rehearsal};
use crate::failure::Failure;
use crate::output::note;
use clap::Args;
use holdfast_core::ErrorKind;
use holdfast_gateway::backup::proof;
use holdfast_sdk::field::Bytes;
use holdfast_sdk::message::VerifyBackup;
use std::path::PathBuf;

/// Open a backup, read it to its end, and say what it holds
///
/// Restores the backup for a moment into a temporary directory: opens it with the identities of enough custodians, opens every key under its
/// root key, reads everything, and says what it holds and what it misses. What it prints as `verified` shows the gateway that this was done:
/// an operator records it with `holdfast backup verified`, and only then what the backup holds counts as protected. Ends with 6 when
/// something does not verify.
///
/// The temporary directory holds the keys: name a place for it with TMPDIR, best in memory.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup, or a directory whose newest one is taken
    backup: PathBuf,
    /// A file with an age identity that opens it; several times for several custodians
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// Record it at the gateway at once, as an operator
    #[arg(long)]
    record: bool,
}

/// Record that a backup opens, as `holdfast backup verify` said
///
/// An operator's command. From then on what the backup holds counts as protected.
#[derive(Debug, Args)]
pub(crate) struct Verified {
    /// What `holdfast backup verify` or `holdfast drill recovery` printed as `verified`
    #[arg(value_name = "LINE")]
    line: String,
}

impl Verify {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { backup, identities, record } = self;
        // Before anybody is asked for anything.
        let client = record.then(|| app.client()).transpose()?;
        let file = newest::backup(Some(backup), None)?;
        let mut report = Report::new(clock::now().to_string(), Backup::of(&file));
        let scratch = Scratch::make(app, None)?;
        let means = Means { file: file.clone(), identities, logs: vec![], data: None };
        let (verified, removed) = rehearsal(app, means, scratch, &mut report);
        if verified.is_err() {
            return Failure::of_all([verified, removed]);
        }
        let Report { backup, restored, logs, verified, .. } = &report;
        // Keys wait for the record, and for nobody who reads what is printed.
        let recorded = match (&client, verified) {
            (Some(client), Some(line)) => order(line)
                .and_then(|order| app.block_on(client.verify_backup(&order)).map_err(refused))
                .map(|_| note("recorded: what it holds is protected from now on")),
            (None, Some(_)) | (_, None) => Ok(()),
        };
        let told = app.printer.product(&serde_json::json!({
            "backup": file,
            "taken": backup.taken,
            "commit": backup.commit,
            "sha256": backup.sha256,
            "holds": format!("{} versions of {} keys", restored.versions_opened, restored.keys),
            "only_in_their_token": restored.only_in_token.first,
            "without_the_logs_of": logs.without_copy,
            "verified": verified,
        }));
        match (client, verified) {
            (Some(_), Some(_)) => {}
            (None, Some(_)) => note("an operator records it: `holdfast backup verified` with the line above"),
            (_, None) => note("it came from stdin: nothing says which file it was, so it cannot be recorded"),
        }
        Failure::of_all([recorded, removed, told])
    }
}

impl Verified {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { line } = self;
        let order = order(&line)?;
        app.printer.record(&app.block_on(app.client()?.verify_backup(&order)).map_err(refused)?.body)
    }
}

/// The gateway does not tell whose word it does not take, and there is a reason that is nobody's fault.
fn refused(error: holdfast_sdk::Error) -> Failure {
    match error.kind() {
        Some(ErrorKind::Integrity) => Failure::from(error).remedy(
            "copy the whole line that `holdfast backup verify` printed, of a backup of this gateway; if its root key was changed since, take a new backup and verify that",
        ),
        Some(_) | None => Failure::from(error),
    }
}

fn order(line: &str) -> Result<VerifyBackup, Failure> {
    let verified = proof::read(line)?;
    Ok(VerifyBackup {
        sha256: Bytes(verified.sha256.to_vec()),
        bytes: verified.bytes,
        commit: verified.commit,
        proof: Bytes(verified.proof.to_vec()),
    })
}
