//! `holdfast share reseal`.

use crate::app::App;
use crate::failure::Failure;
use crate::input;
use clap::Args;
use holdfast_gateway::shares::Recipient;
use holdfast_gateway::shares::custodian::open_share;
use std::path::PathBuf;

/// Encrypt your share to the fresh key that a ceremony shows
///
/// For `holdfast share rotate` and `holdfast restore`, which show the key on the machine that they run on: take it from that screen. Prints
/// one line to be given there; it is of no use to anybody else.
#[derive(Debug, Args)]
pub(crate) struct Reseal {
    /// Your share, as it was given to you
    share: PathBuf,
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

impl Reseal {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { share, identity, to } = self;
        let opened = open_share(&share, &identity)?;
        let sealed = input::encoded(&opened.seal_to(&to)?);
        match app.printer.is_json() {
            true => app.printer.json_value(&serde_json::json!({ "sealed": sealed, "share": opened.about() })),
            false => app.printer.line(&sealed),
        }
    }
}
