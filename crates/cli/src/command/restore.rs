//! `holdfast restore`.

use super::backup::open::{self, Table, told};
use super::share::gather_all;
use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use crate::progress;
use clap::Args;
use holdfast_gateway::backup::{self, Found, Recorded, Summary, Summed};
use holdfast_gateway::directory::Directory;
use std::path::PathBuf;

/// Bring a gateway back from a backup, in an empty directory on this machine
///
/// Brings a gateway back from a backup: as another instance whose logs begin anew and commit to the earlier ones. Every key is suspended
/// until a custodian resumes it. Stop orders that were given after the backup are given again from copies of the logs.
///
/// A backup for custodians opens with the identities of as many of them as its threshold says; for those that are not here, the command shows
/// a fresh key, and takes what each prints with `holdfast backup share` on a machine of their own. Where the root key itself is in shares, its
/// custodians give theirs as for `holdfast share rotate`.
///
/// With a copy of the gateway's own log a file is refused whose SHA-256 that log has not recorded: it ends with 6.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup, or `-` for stdin: as it was written, or decrypted with `age -d`
    backup: PathBuf,
    /// A file with an age identity that opens it; several times for several custodians
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A copy of a tenant's log, as `holdfast audit mirror` makes it; several times for several
    #[arg(long = "log", value_name = "DIR")]
    logs: Vec<PathBuf>,
    /// Restore a file that the gateway's own log has not recorded, or that cannot be compared with it
    #[arg(long)]
    unrecorded: bool,
}

impl Restore {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { backup, identities, data, logs, unrecorded } = self;
        let (from, from_stdin) = open::source(&backup)?;
        let without_copies = logs.is_empty();
        let mut table = Table::default();
        let summed = Summed::new(from);
        let found = Found::of(summed.reader())?;
        let readable = open::open(app, (found, from_stdin), &identities, &mut table, &|_| ())?;
        let mut unpacked = backup::unpack(&Directory::at(&data), readable, logs)?;
        let sha256 = summed.finish().map_err(|error| Failure::file("read", &backup, &error))?;
        // Before custodians give anything for it.
        let recorded = match unrecorded {
            true => None,
            false => Some(unpacked.recorded(&sha256).map_err(told)?),
        };
        let root = match unpacked.gathering()? {
            None => None,
            Some(gathering) if from_stdin => {
                drop(gathering);
                return Err(Failure::usage(
                    "the backup comes from stdin, and so would the shares of its root key",
                )
                .remedy("put the backup into a file, empty the directory, and begin again"));
            }
            Some(gathering) => Some(app.block_on(async { gather_all(gathering, table.lines()?).await })?.0),
        };
        let bar = progress::bar(None, "{spinner} {pos} keys");
        let summary = app.block_on(unpacked.restore(root, &mut |keys| bar.inc(keys)));
        bar.finish_and_clear();
        let Summary { manifest, instance, restored, logs, copies: _, stops: _ } = summary?;
        let logs: Vec<_> = logs
            .iter()
            .map(|(tenant, checkpoint)| serde_json::json!({ "tenant": tenant.as_str(), "continues": checkpoint }))
            .collect();
        let waiting: Vec<_> =
            restored.waiting.iter().map(|(tenant, key)| format!("{tenant}/{key}")).collect();
        app.printer.record(&serde_json::json!({
            "instance": instance.to_string(),
            "data": data,
            "backup_of": manifest.instance,
            "taken": manifest.taken,
            "keys_suspended": restored.suspended,
            "stops_given_again": restored.stops,
            "stops_refused": restored.refused,
            "stops_of_unknown_tenants": restored.unknown,
            "destructions_cancelled": restored.cancelled,
            "wait_to_be_destroyed": waiting,
            "logs": logs,
            "sha256": sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "recorded": recorded.and_then(is_recorded),
        }))?;
        if without_copies {
            note(
                "WARNING: no copy of a log was given: stop orders that are younger than the backup are forgotten",
            );
            note("WARNING: compare with what custodians, sinks and mirrors know before any key is resumed");
        }
        if !waiting.is_empty() {
            note(
                "WARNING: keys wait to be destroyed, from now on for their whole period: take back what was taken back after the backup, with `holdfast key cancel-destruction NAME`",
            );
        }
        if recorded.and_then(is_recorded).is_none() {
            note(
                "WARNING: nobody has compared the backup with its record in the gateway's own log: compare its SHA-256",
            );
        }
        note(&format!(
            "now: `holdfast serve` with `data = \"{}\"`, then each custodian: `holdfast key resume NAME`",
            data.display()
        ));
        Ok(())
    }
}

/// Whether the gateway's own log has recorded it, if anybody was asked.
fn is_recorded(recorded: Recorded) -> Option<bool> {
    match recorded {
        Recorded::WithThisHash => Some(true),
        Recorded::NobodyKnows => None,
    }
}
