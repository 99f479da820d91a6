//! `holdfast audit verify`.

use super::mirror::mirror;
use super::source::{Place, must_be_there};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use crate::progress;
use clap::Args;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::verify::{self, Trust, Trusted, VerifyError};
use std::path::{Path, PathBuf};

/// Verify a whole log offline: a directory, or the gateway's log mirrored first
///
/// Verifies that every entry leads to the signed root, and that the log continues a checkpoint that you kept.
///
/// Give key and checkpoint from elsewhere: whoever can replace the log can replace what lies beside it too.
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
    /// A witness's key: its cosignature is checked
    #[arg(long = "witness", value_name = "FILE")]
    witnesses: Vec<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { dir, mirror: mirrors, vkey, checkpoint, witnesses } = self;
        let key = vkey.as_deref().map(read_key).transpose()?;
        let witnesses = witnesses.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
        let mut earlier = checkpoint.as_deref().map(read).transpose()?;
        let place = Place::new(dir)?;
        if mirrors {
            let mirrored = mirror(app, &app.tenant()?, place.path())?;
            earlier = earlier.or(mirrored.earlier);
        }
        must_be_there(place.path())?;
        let trusted = Trusted { key, earlier, witnesses };
        let bar = progress::count("entries");
        let report = verify::verify(place.path(), &trusted, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let report = report.map_err(refused)?;

        let outside = report.key == Trust::Outside;
        app.printer.record(&serde_json::json!({
            "log": report.checkpoint.origin,
            "entries": report.checkpoint.size,
            "root": report.checkpoint.root.to_string(),
            "bytes": report.bytes,
            "files": report.files,
            "key": if outside { "given from elsewhere" } else { "FOUND BESIDE THE LOG" },
            "continues": report.continues,
            "witnesses": report.witnesses.iter().map(|signed| signed.name.as_str()).collect::<Vec<_>>(),
        }))?;
        if !outside {
            note(
                "WARNING: the key was taken from beside the log: whoever replaced the log could have replaced it too",
            );
            note(
                "WARNING: keep `log.vkey` elsewhere, from when you first saw it, and give it with `--vkey FILE`",
            );
        }
        if report.continues.is_none() {
            note(
                "WARNING: no earlier checkpoint was given: a log that was cut short or rewritten goes unnoticed",
            );
            note(
                "WARNING: keep a copy of `checkpoint` elsewhere after each verification, and give it with `--checkpoint FILE`",
            );
        }
        Ok(())
    }
}

fn refused(error: VerifyError) -> Failure {
    match error {
        VerifyError::Refusal(refusal) => refusal.into(),
        VerifyError::Checkpoint(_)
        | VerifyError::Earlier(_)
        | VerifyError::Witness(_)
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
