//! `holdfast key inventory`.

use crate::app::App;
use crate::campaign::Reports;
use crate::failure::Failure;
use clap::Args;
use holdfast_sdk::KeyName;
use std::path::PathBuf;

/// Record at the gateway what of a key's versions is still needed
///
/// Takes the reports that `holdfast rewrap --report` wrote of everything that is under the key, in all places: the last record counts. A
/// version that it still needs is neither deactivated nor destroyed.
#[derive(Debug, Args)]
pub(crate) struct Inventory {
    /// The key
    key: KeyName,
    /// A report; several times for several places
    #[arg(long = "report", value_name = "FILE", required = true)]
    reports: Vec<PathBuf>,
}

impl Inventory {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, reports } = self;
        let reports = Reports::read(&reports)?;
        let tenant = app.tenant()?;
        let id = app.block_on(tenant.key(&key))?.id.0;
        let inventory = reports.of(&key, &id)?;
        app.printer.record(&app.block_on(tenant.record_inventory(&key, &inventory))?.body)
    }
}
