//! `holdfast audit verify-proof`.

use super::verify::read_key;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use holdfast_audit::verify;
use std::path::PathBuf;

/// Verify such a proof, with nothing but the record and the log's key
///
/// Verifies that a record stood in a log, offline. Give the log's key from elsewhere than the proof.
#[derive(Debug, Args)]
pub(crate) struct VerifyProof {
    /// The proof
    proof: PathBuf,
    /// The record, byte for byte [default: the proof's name with `.json`]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The log's key: a file with the line of `log.vkey`
    #[arg(long, value_name = "FILE")]
    vkey: PathBuf,
}

impl VerifyProof {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { proof, record, vkey } = self;
        let record = record.unwrap_or_else(|| proof.with_extension("json"));
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| Failure::file("read", path, &error));
        let key = read_key(&vkey)?;
        let checkpoint = verify::verify_proof(&read(&proof)?, &read(&record)?, &key).map_err(|error| {
            Failure::new(Exit::Integrity, error.to_string())
                .remedy("get proof and record again, from whoever made them")
        })?;
        app.printer.record(&serde_json::json!({
            "log": checkpoint.origin, "entries": checkpoint.size, "record": record, "included": true
        }))
    }
}
