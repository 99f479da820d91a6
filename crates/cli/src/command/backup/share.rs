//! `holdfast backup share`.

use crate::app::App;
use crate::failure::Failure;
use crate::input;
use clap::Args;
use holdfast_gateway::backup::OwnShare;
use holdfast_gateway::shares::Recipient;
use std::path::PathBuf;

/// Encrypt your share of a backup to the fresh key that a restoration shows
///
/// For `holdfast restore`, `holdfast drill recovery` and `holdfast backup verify`, which show the key on the machine that they run on: take it
/// from that screen. Opens your share with your age identity, on a machine of your own, and prints one line to be given there; it is of no use to
/// anybody else. Reads no more of the backup than its beginning, so that the first megabyte of the file is enough.
#[derive(Debug, Args)]
pub(crate) struct Share {
    /// The backup
    backup: PathBuf,
    /// The file with your age identity
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The fresh key, `age1…`
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient)]
    to: Recipient,
}

fn recipient(text: &str) -> Result<Recipient, String> {
    text.parse().map_err(str::to_owned)
}

impl Share {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { backup, identity, to } = self;
        let own = OwnShare::open(&backup, &identity).map_err(super::open::told)?;
        let sealed = input::encoded(&own.seal_to(&to)?);
        match app.printer.is_json() {
            true => app.printer.json_value(&serde_json::json!({ "sealed": sealed, "share": own.about() })),
            false => app.printer.line(&sealed),
        }
    }
}
