//! `holdfast backup`.

pub(crate) mod open;
mod share;

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::{Args, Subcommand};

/// Have the gateway write an encrypted backup of itself, and look after backups
///
/// Without a command of its own: has the gateway write a backup, as of one moment, while it works: to the directory and for the custodians that
/// its configuration names (`[backup]`). An operator's command. Keys that no backup holds are shown as `protected: false`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    command: Option<BackupCommand>,
}

/// What is done with backups that were written.
#[derive(Debug, Subcommand)]
enum BackupCommand {
    Share(share::Share),
}

impl Backup {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { command } = self;
        match command {
            None => write(app),
            Some(BackupCommand::Share(share)) => share.run(app),
        }
    }
}

fn write(app: &App) -> Result<(), Failure> {
    let client = app.client()?;
    app.printer.record(&app.block_on(client.back_up())?.body)?;
    note("copy the file off this machine; `holdfast drill recovery` shows that it can be used");
    Ok(())
}
