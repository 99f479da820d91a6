//! `holdfast audit prove`.

use super::event;
use super::mirror::mirror;
use super::source::{self, Place};
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use holdfast_audit::reader::LogReader;
use holdfast_sdk::OperationId;
use std::path::PathBuf;
use std::str::FromStr;

/// Prove that one operation's record stands in the log
///
/// Writes a `.tlog-proof` (C2SP tlog-proof) and, beside it, the record that it proves: all that somebody else needs, with the log's key.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The operation's id, or an index in the log
    what: What,
    /// Write the proof to this file, and the record to the same name with `.json`
    #[arg(short, long, value_name = "FILE.tlog-proof")]
    output: PathBuf,
    /// Replace the files if they exist
    #[arg(long)]
    force: bool,
    /// The log's directory [default: the gateway's log, mirrored]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Which record.
#[derive(Debug, Clone, Copy)]
enum What {
    Operation(OperationId),
    Index(u64),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(operation) = text.parse() {
            return Ok(Self::Operation(operation));
        }
        text.parse()
            .map(Self::Index)
            .map_err(|_| "expected an operation's id, 26 characters, or an index".to_owned())
    }
}

impl Prove {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { what, output, force, log } = self;
        let mirrors = log.is_none();
        let place = Place::new(log)?;
        if mirrors {
            mirror(app, &app.tenant()?, place.path())?;
        }
        let reader = source::open(place.path())?;
        let index = match what {
            What::Index(index) => index,
            What::Operation(operation) => find(&reader, operation)?,
        };
        let proof = reader.prove(index, None)?.to_string();
        let entry = reader.entry(index)?;
        let record = output.with_extension("json");
        Target::new(Some(&record), force).write(&entry)?;
        Target::new(Some(&output), force).write(proof.as_bytes())?;
        app.printer.record(&serde_json::json!({
            "index": index, "entries": reader.checkpoint().size, "proof": output, "record": record
        }))
    }
}

/// The index of an operation's last record: a command's intent stands before its outcome.
fn find(reader: &LogReader, operation: OperationId) -> Result<u64, Failure> {
    let wanted = operation.to_string();
    let mut found = None;
    for entry in reader.entries(0) {
        let (index, entry) = entry?;
        if event::text(&event::parse(&entry), &["operation"]) == wanted {
            found = Some(index);
        }
    }
    found.ok_or_else(|| {
        Failure::new(
            Exit::State,
            format!("no record of operation {operation} stands under the log's checkpoint"),
        )
        .remedy(
            "a checkpoint comes within a second: try again; and check that it was this tenant's operation",
        )
    })
}
