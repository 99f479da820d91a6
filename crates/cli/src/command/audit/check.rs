//! `holdfast audit check`.

use super::mirror::mirror;
use super::source::{self, Place};
use super::verify::read_key;
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::reader::LogReader;
use holdfast_audit::receipt::{self, Receipt};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Check that the log holds what it gave a receipt for
///
/// Tells for each receipt whether its record stands in the log, proven by the log's checkpoint, or is missing. Receipts come with `--receipt
/// FILE`, which every command takes that asks the gateway for something.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file with the receipts
    receipts: PathBuf,
    /// The log's directory [default: the gateway's log, mirrored]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The log's key from elsewhere: a file with the line of `log.vkey`
    #[arg(long, value_name = "FILE")]
    vkey: Option<PathBuf>,
    /// Write the proof to this file, and the record to the same name with `.json`; for one receipt
    #[arg(long, value_name = "FILE.tlog-proof")]
    proof: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { receipts: file, log, vkey, proof } = self;
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, &error))?;
        let receipts = receipt::split(&text);
        if receipts.is_empty() {
            return Err(Failure::usage(format!("`{}` holds no receipt", file.display()))
                .remedy("give a file that `--receipt FILE` wrote"));
        }
        if proof.is_some() && receipts.len() > 1 {
            return Err(Failure::usage(format!(
                "`--proof` is for one receipt, and there are {}",
                receipts.len()
            ))
            .remedy("leave `--proof` away, or give a file with one of them"));
        }
        let mirrors = log.is_none();
        let place = Place::new(log)?;
        if mirrors {
            mirror(app, &app.tenant()?, place.path())?;
        }
        let key = match &vkey {
            Some(path) => read_key(path)?,
            None => {
                note(
                    "WARNING: the key was taken from beside the log: whoever replaced the log could have replaced it too",
                );
                note(
                    "WARNING: keep `log.vkey` elsewhere, from when you first saw it, and give it with `--vkey FILE`",
                );
                read_key(&place.path().join("log.vkey"))?
            }
        };
        let reader = source::open(place.path())?;
        let untrue = |error: &dyn std::error::Error| {
            Failure::new(Exit::Integrity, error.to_string())
                .remedy("keep the receipt and the log as evidence, and ask who runs the gateway")
        };
        Checkpoint::open(reader.note().as_bytes(), &key).map_err(|error| untrue(&error))?;
        let mut found = Vec::with_capacity(receipts.len());
        for signed in &receipts {
            found.push(look_up(&reader, &key, signed)?);
        }
        if let (Some(path), Some(Found { entry: Some(entry), receipt, .. })) = (&proof, found.first()) {
            write_proof(&reader, receipt, entry, path)?;
        }
        let missing = found.iter().filter(|found| !found.held).count();
        let shown: Vec<_> = found.iter().map(Found::shown).collect();
        app.printer.list(&shown, &["operation", "index", "held", "detail"])?;
        if missing == 0 {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Integrity,
            format!("{missing} of {} records are missing from the log that signed for them", found.len()),
        )
        .remedy(match mirrors {
            true => "keep the receipts and a mirror of the log as evidence, and ask who runs the gateway",
            false => "bring the directory up to date with `holdfast audit mirror` first; if they are missing then, keep both as evidence",
        }))
    }
}

/// What became of one receipt.
struct Found {
    receipt: Receipt,
    /// Whether the log holds it, or has pruned it and proves its hash.
    held: bool,
    /// The record, if the log holds it and proves it.
    entry: Option<Vec<u8>>,
    detail: String,
}

impl Found {
    fn shown(&self) -> serde_json::Value {
        let Self { receipt: Receipt { origin, operation, index, leaf }, held, entry: _, detail } = self;
        json!({
            "operation": operation, "log": origin, "index": index, "leaf": leaf.to_string(),
            "held": held, "detail": detail,
        })
    }
}

fn look_up(reader: &LogReader, key: &VerifierKey, signed: &str) -> Result<Found, Failure> {
    let receipt = Receipt::open(signed.as_bytes(), key).map_err(|error| {
        Failure::new(Exit::Integrity, format!("a receipt is refused: {error}"))
            .remedy("give it as it was written, and the key of the log that it names")
    })?;
    let size = reader.checkpoint().size;
    if receipt.index >= size {
        let detail = format!("MISSING: the log's checkpoint covers {size} records only");
        return Ok(Found { receipt, held: false, entry: None, detail });
    }
    let kept_from = reader.pruned()?.map_or(0, |pruned| pruned.first);
    let entry = match reader.entry(receipt.index) {
        Err(_) if receipt.index < kept_from => {
            let held = reader.leaf(receipt.index)? == receipt.leaf;
            let detail = match held {
                true => format!("pruned under a recorded retention; its hash is proven under {size} records"),
                false => "MISSING: the hash of another record stands in its place".to_owned(),
            };
            return Ok(Found { receipt, held, entry: None, detail });
        }
        entry => entry?,
    };
    if !receipt.is_of(&entry) {
        let detail = "MISSING: another record stands in its place".to_owned();
        return Ok(Found { receipt, held: false, entry: None, detail });
    }
    // Checks that the record leads to the root that the log has signed.
    let _proof = reader.prove(receipt.index, None)?;
    let detail = format!("proven under {size} records");
    Ok(Found { receipt, held: true, entry: Some(entry), detail })
}

fn write_proof(reader: &LogReader, receipt: &Receipt, entry: &[u8], path: &Path) -> Result<(), Failure> {
    let proof = reader.prove(receipt.index, None)?.to_string();
    Target::new(Some(&path.with_extension("json")), false).write(entry)?;
    Target::new(Some(path), false).write(proof.as_bytes())
}
