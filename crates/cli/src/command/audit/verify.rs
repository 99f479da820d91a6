//! `holdfast audit verify`.

use super::mirror::mirror;
use super::source::{Place, must_be_there};
use crate::app::App;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use crate::progress;
use clap::Args;
use holdfast_audit::key::{KeyKind, VerifierKey};
use holdfast_audit::policy::Policy;
use holdfast_audit::verify::{self, Trust, Trusted, VerifyError, Witnessed};
use std::path::{Path, PathBuf};

/// Verify a whole log offline: a directory, or the gateway's log mirrored first
///
/// Verifies that every entry leads to the signed root, and that the log continues what a witness cosigned, or a checkpoint that you kept.
///
/// Give the log's key and a witness's from elsewhere, `holdfast audit verify --mirror --vkey log.vkey --witness VKEY`: whoever can
/// replace the log can replace what lies beside it too. A policy names both, and says how many of the witnesses are enough.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The log's directory; with `--mirror` the directory to mirror into, a temporary one unless named
    #[arg(required_unless_present = "mirror")]
    dir: Option<PathBuf>,
    /// Bring the directory up to the gateway's newest checkpoint first
    #[arg(long)]
    mirror: bool,
    /// The log's key from elsewhere: a file with the line of `log.vkey`
    #[arg(long, value_name = "FILE")]
    vkey: Option<PathBuf>,
    /// A checkpoint of the log that you kept: the log must continue it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// A witness's verifier key, or a file with it: it must have cosigned the log, which must continue that; several times for
    /// several [default: HOLDFAST_WITNESS, its keys separated by spaces]
    #[arg(long = "witness", value_name = "VKEY|FILE")]
    witnesses: Vec<String>,
    /// A policy (C2SP tlog-policy) instead: the logs that you trust, the witnesses that you know, and the quorum of them that must
    /// have cosigned
    #[arg(long, value_name = "FILE", conflicts_with = "witnesses")]
    policy: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { dir, mirror: mirrors, vkey, checkpoint, witnesses, policy } = self;
        let key = vkey.as_deref().map(read_key).transpose()?;
        let by_policy = policy.is_some();
        let policy = match policy {
            Some(file) => read_policy(&file)?,
            None => {
                let witnesses = if witnesses.is_empty() { app.environment.witnesses() } else { witnesses };
                Policy::each_of(witnesses.iter().map(|text| witness(text)).collect::<Result<_, _>>()?)
            }
        };
        let mut earlier = checkpoint.as_deref().map(read).transpose()?;
        let place = Place::new(dir)?;
        if mirrors {
            let mirrored = mirror(app, &app.tenant()?, place.path())?;
            earlier = earlier.or(mirrored.earlier);
        }
        must_be_there(place.path())?;
        let trusted = Trusted { key, earlier, policy };
        let bar = progress::count("entries");
        let report = verify::verify(place.path(), &trusted, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = report.map_err(refused)?;

        let outside = report.key == Trust::Outside;
        let quorum =
            by_policy.then_some(if trusted.policy.has_quorum() { "holds" } else { "asks for nobody" });
        let missing: Vec<_> = match &report.witnessed {
            Some(witnessed) => witnessed.missing.iter().map(String::as_str).collect(),
            None => trusted.policy.witnesses().map(VerifierKey::name).collect(),
        };
        app.printer.record(&serde_json::json!({
            "log": report.checkpoint.origin,
            "entries": report.checkpoint.size,
            "root": report.checkpoint.root.to_string(),
            "bytes": report.bytes,
            "files": report.files,
            "key": if outside { "given from elsewhere" } else { "FOUND BESIDE THE LOG" },
            "continues": report.continues,
            "witnesses": report.witnessed.iter().flat_map(|witnessed| &witnessed.by).map(|by| by.name.as_str()).collect::<Vec<_>>(),
            "quorum": quorum,
            "not_cosigned": missing,
            "witnessed_entries": report.witnessed.as_ref().map(|witnessed| witnessed.size),
            "entries_after": report.witnessed.as_ref().map(|witnessed| report.checkpoint.size - witnessed.size),
            "witnessed_seconds_ago": report.witnessed.as_ref().and_then(oldest),
            "kept_from": report.pruned.as_ref().map(|pruned| pruned.first),
            "pruned_by": report.pruned.as_ref().map(|pruned| pruned.operation.as_str()),
            "absent": report.absent,
        }))?;
        if report.absent > 0 {
            note(&format!(
                "{} entries are not there: they were pruned under a recorded retention, and their hashes lead to the root",
                report.absent
            ));
        }
        if !outside {
            note(
                "WARNING: the key was taken from beside the log: whoever replaced the log could have replaced it too",
            );
            note(
                "WARNING: keep `log.vkey` elsewhere, from when you first saw it, and give it with `--vkey FILE`",
            );
        }
        if report.continues.is_none() && report.witnessed.is_none() {
            note(
                "WARNING: no earlier checkpoint was given, and no witness: only what lies beside the log was trusted, so one that was cut short or rewritten goes unnoticed",
            );
            note(
                "WARNING: give a witness's key with `--witness VKEY`; or keep a copy of `checkpoint` elsewhere after each verification, and give it with `--checkpoint FILE`",
            );
        }
        Ok(())
    }
}

/// How long ago the oldest of the cosignatures was made; by this machine's clock.
fn oldest(witnessed: &Witnessed) -> Option<u64> {
    let oldest = witnessed.by.iter().filter_map(|by| by.time).min()?;
    Some(clock::now().seconds().saturating_sub(oldest))
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    Policy::parse(&read(path)?).map_err(|error| {
        Failure::usage(format!("`{}` is no policy", path.display()))
            .because(&error)
            .remedy("correct that line; `docs/operate/witness.md` shows a policy")
    })
}

/// A witness's key: its line, or a file that has it.
fn witness(text: &str) -> Result<VerifierKey, Failure> {
    let key = match text.parse::<VerifierKey>() {
        Ok(key) => key,
        // A path may hold a `+`, but no path parses as a key.
        Err(error) if !Path::new(text).exists() => {
            return Err(Failure::usage(format!("`{text}` is neither a witness's key nor a file"))
                .because(&error)
                .remedy("give the line that `holdfast witness init` printed, or a file with it"));
        }
        Err(_) => read_key(Path::new(text))?,
    };
    match key.kind() {
        KeyKind::Cosignature => Ok(key),
        KeyKind::Note => Err(Failure::usage(format!("`{}` is a log's key, not a witness's", key.name()))
            .remedy("give the line that `holdfast witness init` printed, or a file with it")),
    }
}

fn refused(error: VerifyError) -> Failure {
    match error {
        VerifyError::Refusal(refusal) => refusal.into(),
        VerifyError::Checkpoint(_)
        | VerifyError::Earlier(_)
        | VerifyError::Witness(_)
        | VerifyError::Cosigned(_)
        | VerifyError::NotCosigned { .. }
        | VerifyError::UnknownLog(_)
        | VerifyError::CutBack { .. }
        | VerifyError::NotWhatWasCosigned { .. }
        | VerifyError::RolledBack { .. }
        | VerifyError::Rewritten { .. } => Failure::new(Exit::Integrity, error.to_string())
            .remedy("keep the directory and what you gave as evidence, and ask who runs the gateway"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

/// The key in a file with the line of `log.vkey`.
pub(super) fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    let bytes = read(path)?;
    String::from_utf8_lossy(&bytes).trim_end().parse().map_err(|error: holdfast_audit::key::KeyError| {
        Failure::usage(format!("`{}` holds no verifier key", path.display()))
            .because(&error)
            .remedy("give the file `log.vkey` of the log")
    })
}
