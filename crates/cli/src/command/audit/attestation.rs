//! `holdfast key attest` and `holdfast audit verify-attestation`: where each version of a key was made, as a document that verifies offline.

use super::event;
use super::mirror::mirror;
use super::source::{self, Place};
use super::verify::read_key;
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;
use holdfast_audit::verify;
use holdfast_sdk::KeyName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

const FORMAT: &str = "holdfast-key-attestation/1";

/// Give an auditor what shows where each version of a key was made
///
/// Writes a document: for each version the record of its making, with the evidence that the key store gave, and the proof that it stands in
/// the log. `holdfast audit verify-attestation` verifies it offline, with the log's key.
///
/// Three levels are never mixed. `software`: made in the gateway's own memory. `token`: what a token says of itself and of the key, as the
/// gateway has read it; a hostile gateway could have read something else. `vendor-attested`: what a device's vendor has signed.
#[derive(Debug, Args)]
pub(crate) struct Attest {
    /// The key
    key: KeyName,
    /// Write the document to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// The log's directory [default: the gateway's log, mirrored]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Verify such a document, with nothing but the log's key
///
/// Give the log's key from elsewhere than the document.
#[derive(Debug, Args)]
pub(crate) struct VerifyAttestation {
    /// The document
    document: PathBuf,
    /// The log's key: a file with the line of `log.vkey`
    #[arg(long, value_name = "FILE")]
    vkey: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    tenant: String,
    key: String,
    id: String,
    versions: Vec<Version>,
    /// Versions of which the log has no evidence any more, or never had: a record that a retention has pruned, an outcome that a recovery wrote.
    without_evidence: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    version: u64,
    /// The entry of the log, byte for byte.
    record: String,
    /// C2SP tlog-proof.
    proof: String,
}

/// What a record says.
#[derive(Serialize)]
struct Shown {
    version: u64,
    level: String,
    origin: String,
    token: String,
    attributes: String,
    made: String,
    by: String,
}

impl Attest {
    pub(in crate::command) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, output, force, log } = self;
        let tenant = app.tenant()?;
        let shown = app.block_on(tenant.key(&key))?.body;
        let id = shown.id.0.to_string();
        let mirrors = log.is_none();
        let place = Place::new(log)?;
        if mirrors {
            mirror(app, &tenant, place.path())?;
        }
        let reader = source::open(place.path())?;
        let mut found = BTreeMap::new();
        for entry in reader.entries(0) {
            let (index, entry) = entry?;
            let record = event::parse(&entry);
            if event::text(&record, &["key", "id"]) != id || event::text(&record, &["outcome"]) != "success" {
                continue;
            }
            let Some(version) = number(&record).filter(|_| record.get("evidence").is_some()) else {
                continue;
            };
            let record = String::from_utf8(entry)
                .map_err(|error| Failure::new(Exit::Integrity, "a record is no text").because(&error))?;
            let proof = reader.prove(index, None)?.to_string();
            found.insert(version, Version { version, record, proof });
        }
        let newest = u64::from(shown.newest_version.0.get());
        let without_evidence: Vec<_> = (1..=newest).filter(|version| !found.contains_key(version)).collect();
        if !without_evidence.is_empty() {
            note(&format!("note: the log has no evidence of versions {without_evidence:?}"));
        }
        let document = Document {
            format: FORMAT.to_owned(),
            tenant: tenant.id().to_string(),
            key: key.to_string(),
            id,
            versions: found.into_values().collect(),
            without_evidence,
        };
        let mut text = serde_json::to_vec_pretty(&document)
            .map_err(|error| Failure::new(Exit::Failure, "the document cannot be written").because(&error))?;
        text.push(b'\n');
        Target::new(output.as_deref(), force).write(&text)
    }
}

fn number(record: &Value) -> Option<u64> {
    record.get("key")?.get("version")?.as_u64()
}

impl VerifyAttestation {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { document: path, vkey } = self;
        let key = read_key(&vkey)?;
        let text = std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        let document: Document = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("`{}` is no attestation of a key", path.display())).because(&error)
        })?;
        if document.format != FORMAT {
            return Err(wrong(format!("the document is of the format `{}`", document.format)));
        }
        let mut rows = vec![];
        for Version { version, record, proof } in &document.versions {
            verify::verify_proof(proof.as_bytes(), record.as_bytes(), &key)
                .map_err(|error| wrong(format!("version {version}: {error}")))?;
            let record = event::parse(record.as_bytes());
            let said = |path: &[&str]| event::text(&record, path).to_owned();
            let is_its = said(&["tenant"]) == document.tenant
                && said(&["key", "id"]) == document.id
                && said(&["outcome"]) == "success"
                && number(&record) == Some(*version);
            if !is_its {
                return Err(wrong(format!("version {version}: the record is of something else")));
            }
            rows.push(shown(*version, &record));
        }
        app.printer.list(&rows, &["version", "level", "origin", "token", "attributes", "made", "by"])?;
        if !document.without_evidence.is_empty() {
            note(&format!("without evidence: versions {:?}", document.without_evidence));
        }
        if rows.iter().any(|row| row.level == "token") {
            note(
                "`token` is what a token says of itself and of the key, as the gateway has read it: as true as both are; nothing here is signed by the token's vendor",
            );
        }
        Ok(())
    }
}

fn wrong(problem: String) -> Failure {
    Failure::new(Exit::Integrity, problem).remedy("get the document again, from whoever made it")
}

fn shown(version: u64, record: &Value) -> Shown {
    let said = |path: &[&str]| event::text(record, path);
    let evidence = record.get("evidence").unwrap_or(&Value::Null);
    let attributes = evidence.get("attributes").and_then(Value::as_array);
    let attributes =
        attributes.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let token = |field: &str| event::text(evidence, &["token", field]).to_owned();
    let token = match evidence.get("token") {
        None => String::new(),
        Some(_) => format!(
            "{} {}, serial {}, firmware {}",
            token("manufacturer"),
            token("model"),
            token("serial"),
            token("firmware")
        ),
    };
    Shown {
        version,
        level: said(&["evidence", "level"]).to_owned(),
        origin: said(&["evidence", "origin"]).to_owned(),
        token,
        attributes,
        made: said(&["time"]).to_owned(),
        by: said(&["caller", "name"]).to_owned(),
    }
}
