//! `holdfast key attest` and `holdfast audit verify-attestation`: where each version of a key was made, as a document that verifies offline.

use super::event;
use super::mirror::mirror;
use super::source::{self, Place};
use super::vendor::{Chain, Roots};
use super::verify::read_key;
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use holdfast_audit::verify;
use holdfast_core::algorithm::Algorithm;
use holdfast_sdk::KeyName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const FORMAT: &str = "holdfast-key-attestation/1";

/// Give an auditor what shows where each version of a key was made
///
/// Writes a document: for each version the record of its making, with the evidence that the key store gave, and the proof that it stands in
/// the log. `holdfast audit verify-attestation` verifies it offline, with the log's key.
///
/// Three levels are never mixed. `software`: made in the gateway's own memory. `token`: what a token says of itself and of the key, as the
/// gateway has read it; a hostile gateway could have read something else. `vendor-attested`: what a device's vendor has signed.
///
/// A chain that your device gave for the key pair (X.509, as of a YubiHSM 2) can go into the document; an auditor verifies it under the vendor's root.
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
    /// A vendor's certificates for a version of the key, PEM, the key's own first; several times for several versions
    #[arg(long, value_name = "FILE")]
    vendor_chain: Vec<PathBuf>,
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
    /// A vendor's root certificate, PEM, from the vendor: a version whose chain leads there is attested by that vendor, too
    #[arg(long, value_name = "FILE")]
    vendor_root: Vec<PathBuf>,
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
    /// A vendor's certificates for the version's public half, DER in base 64, its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vendor_chain: Vec<String>,
}

/// What a record says.
#[derive(Serialize)]
struct Shown {
    version: u64,
    level: String,
    origin: String,
    token: String,
    attributes: String,
    /// The root that vouches for the vendor's chain; why none does; empty where there is no chain.
    vendor: String,
    made: String,
    by: String,
}

impl Attest {
    pub(in crate::command) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, output, force, vendor_chain, log } = self;
        let chains = vendor_chain
            .iter()
            .map(|path| Ok((path, Chain::read(path)?)))
            .collect::<Result<Vec<_>, Failure>>()?;
        let tenant = app.tenant()?;
        let shown = app.block_on(tenant.key(&key))?.body;
        let id = shown.id.0.to_string();
        let mirrors = log.is_none();
        let place = Place::new(log)?;
        if mirrors {
            mirror(app, &tenant, place.path())?;
        }
        let reader = source::open(place.path())?;
        let (mut found, mut used) = (BTreeMap::new(), BTreeSet::new());
        for entry in reader.entries(0) {
            let (index, entry) = entry?;
            let record = event::parse(&entry);
            if event::text(&record, &["key", "id"]) != id || event::text(&record, &["outcome"]) != "success" {
                continue;
            }
            let Some(version) = number(&record).filter(|_| record.get("evidence").is_some()) else {
                continue;
            };
            let chain = chains.iter().position(|(_, chain)| is_of(chain, &record));
            if let Some(chain) = chain {
                used.insert(chain);
            }
            let chain = chain.and_then(|chain| chains.get(chain));
            let vendor_chain = chain.map(|(_, chain)| chain.ders().map(|der| STANDARD.encode(der)).collect());
            let record = String::from_utf8(entry)
                .map_err(|error| Failure::new(Exit::Integrity, "a record is no text").because(&error))?;
            let proof = reader.prove(index, None)?.to_string();
            let vendor_chain = vendor_chain.unwrap_or_default();
            found.insert(version, Version { version, record, proof, vendor_chain });
        }
        let unused = chains.iter().enumerate().find(|(place, _)| !used.contains(place));
        if let Some((_, (path, _))) = unused {
            return Err(Failure::usage(format!("the chain in `{}` is of no version of the key", path.display()))
                .remedy("its first certificate must be of the public key that `holdfast key public` gives; secret keys have none"));
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

/// Whether a chain is of the version whose making this records.
fn is_of(chain: &Chain, record: &Value) -> bool {
    let algorithm: Option<Algorithm> = event::text(record, &["key", "algorithm"]).parse().ok();
    algorithm.is_some_and(|algorithm| {
        algorithm.is_asymmetric() && chain.is_of(algorithm, event::text(record, &["evidence", "commitment"]))
    })
}

fn number(record: &Value) -> Option<u64> {
    record.get("key")?.get("version")?.as_u64()
}

impl VerifyAttestation {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { document: path, vkey, vendor_root } = self;
        let key = read_key(&vkey)?;
        let roots = Roots::read(&vendor_root)?;
        let text = std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        let document: Document = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("`{}` is no attestation of a key", path.display())).because(&error)
        })?;
        if document.format != FORMAT {
            return Err(wrong(format!("the document is of the format `{}`", document.format)));
        }
        let mut rows = vec![];
        let mut vouched = false;
        let mut protocol = None;
        for Version { version, record, proof, vendor_chain } in &document.versions {
            verify::verify_proof(proof.as_bytes(), record.as_bytes(), &key)
                .map_err(|error| wrong(format!("version {version}: {error}")))?;
            let record = event::parse(record.as_bytes());
            let said = |path: &[&str]| event::text(&record, path).to_owned();
            protocol = protocol.or_else(|| Some(said(&["key", "protocol"])).filter(|name| !name.is_empty()));
            let is_its = said(&["tenant"]) == document.tenant
                && said(&["key", "id"]) == document.id
                && said(&["outcome"]) == "success"
                && number(&record) == Some(*version);
            if !is_its {
                return Err(wrong(format!("version {version}: the record is of something else")));
            }
            let ders: Result<Vec<_>, _> = vendor_chain.iter().map(|der| STANDARD.decode(der)).collect();
            let chain =
                ders.map(Chain::of).ok().filter(|chain| vendor_chain.is_empty() || is_of(chain, &record));
            let Some(chain) = chain else {
                return Err(wrong(format!("version {version}: the vendor's chain is of another key")));
            };
            let vendor = match (vendor_chain.is_empty(), roots.is_empty()) {
                (true, _) => String::new(),
                (false, true) => "not verified: give the vendor's root with `--vendor-root`".to_owned(),
                (false, false) => {
                    let root = chain.vouched(&roots).map_err(|why| {
                        wrong(format!(
                            "version {version}: no root that was given vouches for the vendor's chain: {why}"
                        ))
                    })?;
                    vouched = true;
                    root
                }
            };
            rows.push(Shown { vendor, ..shown(*version, &record) });
        }
        app.printer
            .list(&rows, &["version", "level", "origin", "token", "attributes", "vendor", "made", "by"])?;
        if !document.without_evidence.is_empty() {
            note(&format!("without evidence: versions {:?}", document.without_evidence));
        }
        if rows.iter().any(|row| row.level == "token") {
            note(
                "`token` is what a token says of itself and of the key, as the gateway has read it: as true as both are",
            );
        }
        if rows.iter().any(|row| row.origin.starts_with("copied")) {
            note(
                "`copied` was made in the gateway's memory: so many of those who are named open an emergency copy of it, and a gateway then works with it outside of any token",
            );
        }
        if let Some(protocol) = protocol {
            note(&format!("the key was created for protocol `{protocol}`, and works through no other"));
        }
        if vouched {
            note(
                "`vendor` has certified the version's public half; what it says of the key stands in that certificate: `openssl x509 -text`",
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
    let origin = said(&["evidence", "origin"]);
    let origin = match evidence.get("emergency_copy") {
        None => origin.to_owned(),
        Some(copy) => {
            let names = copy.get("custodians").and_then(Value::as_array).into_iter().flatten();
            let names: Vec<_> = names.filter_map(Value::as_str).collect();
            let threshold = copy.get("threshold").and_then(Value::as_u64).unwrap_or_default();
            format!("{origin}, {threshold} of {}", names.join(", "))
        }
    };
    Shown {
        version,
        level: said(&["evidence", "level"]).to_owned(),
        origin,
        token,
        attributes,
        vendor: String::new(),
        made: said(&["time"]).to_owned(),
        by: said(&["caller", "name"]).to_owned(),
    }
}
