//! `holdfast share prove`.

use crate::app::App;
use crate::failure::Failure;
use clap::Args;
use holdfast_gateway::shares::Challenge;
use holdfast_gateway::shares::custodian::open_share;
use std::path::PathBuf;

/// Prove that you can open your share of a root key
///
/// Opens a share with its custodian's age identity and prints the answer to the challenge that `holdfast init` or `holdfast share rotate`
/// shows. The answer says nothing of the share. Run it where the identity is, on a machine of your own.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// Your share, as it was given to you
    share: PathBuf,
    /// The file with your age identity
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The challenge that is shown for you
    #[arg(long, value_parser = challenge)]
    challenge: Challenge,
}

fn challenge(text: &str) -> Result<Challenge, String> {
    text.parse().map_err(|error: holdfast_core::Error| error.detail().to_owned())
}

impl Prove {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { share, identity, challenge } = self;
        let opened = open_share(&share, &identity)?;
        let proof = opened.prove(&challenge).to_string();
        match app.printer.is_json() {
            true => app.printer.json_value(&serde_json::json!({ "proof": proof, "share": opened.about() })),
            false => app.printer.line(&proof),
        }
    }
}
