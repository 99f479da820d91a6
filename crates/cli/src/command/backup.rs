//! `holdfast backup`.

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;

/// Have the gateway write an encrypted backup of itself
///
/// Has the gateway write a backup, as of one moment, while it works: to the directory and for the age recipients that its configuration
/// names (`[backup]`). An operator's command. Keys that no backup holds are shown as `protected: false`.
#[derive(Debug, Args)]
pub(crate) struct Backup {}

impl Backup {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {} = self;
        let client = app.client()?;
        app.printer.record(&app.block_on(client.back_up())?.body)?;
        note(
            "copy the file off this machine; `holdfast restore` into an empty directory shows that it can be used",
        );
        Ok(())
    }
}
