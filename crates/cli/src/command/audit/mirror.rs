//! `holdfast audit mirror`.

use crate::app::App;
use crate::failure::Failure;
use crate::progress;
use clap::Args;
use holdfast_sdk::{Mirrored, Tenant};
use std::path::{Path, PathBuf};

/// Bring a directory up to the newest checkpoint, ready for any verifier of C2SP tlog-tiles
///
/// Fetches what is missing: checkpoint, tiles and bundles. A directory only ever grows; another log's, or one that is longer than what
/// the gateway now admits, is refused and kept as evidence.
#[derive(Debug, Args)]
pub(crate) struct Mirror {
    /// The directory
    dir: PathBuf,
}

impl Mirror {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let tenant = app.tenant()?;
        let Mirrored { size, first, fetched, earlier } = mirror(app, &tenant, &self.dir)?;
        app.printer.record(&serde_json::json!({
            "directory": self.dir, "entries": size, "kept_from": first, "files_fetched": fetched, "continues_earlier": earlier.is_some()
        }))
    }
}

/// Mirrors with a progress bar.
pub(super) fn mirror(app: &App, tenant: &Tenant, dir: &Path) -> Result<Mirrored, Failure> {
    let bar = progress::count("files");
    let mirrored = app.block_on(tenant.mirror_log(dir, |progress| {
        bar.set_length(progress.files);
        bar.set_position(progress.done);
    }));
    bar.finish_and_clear();
    Ok(mirrored?)
}
