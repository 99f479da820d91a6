//! `holdfast backup`.

pub(crate) mod open;
mod share;
mod verify;

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::{Args, Subcommand};

/// Have the gateway write an encrypted backup of itself, and look after backups
///
/// Without a command of its own: has the gateway write a backup, as of one moment, while it works: to the directory and for the custodians that
/// its configuration names (`[backup]`). An operator's command. Keys that no verified backup holds are shown as `protected: false`.
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
    Verify(verify::Verify),
    Verified(verify::Verified),
}

impl Backup {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { command } = self;
        match command {
            None => write(app),
            Some(BackupCommand::Share(share)) => share.run(app),
            Some(BackupCommand::Verify(verify)) => verify.run(app),
            Some(BackupCommand::Verified(verified)) => verified.run(app),
        }
    }
}

fn write(app: &App) -> Result<(), Failure> {
    let client = app.client()?;
    app.printer.record(&app.block_on(client.back_up())?.body)?;
    note("copy the file off this machine; it protects nothing before `holdfast backup verify` has opened it");
    Ok(())
}
