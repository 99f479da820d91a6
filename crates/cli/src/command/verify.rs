//! `holdfast verify`.

use super::{key, sign, word};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_core::algorithm::SignatureScheme;
use holdfast_sdk::field::{Bytes, VersionNumber, Word};
use holdfast_sdk::{KeyName, KeyVersion, message};

/// Verify a signature
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The message; `-` for stdin
    file: Input,
    /// The signature, as it is or in base64
    #[arg(long, value_name = "FILE")]
    signature: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// How it was made [default: the algorithm's own]
    #[arg(long, value_parser = word::<SignatureScheme>, hide_possible_values = true)]
    scheme: Option<SignatureScheme>,
    /// The file holds the message's digest, by the scheme's hash, as bytes
    #[arg(long)]
    digest: bool,
    /// The version that made it [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = key::version)]
    key_version: Option<KeyVersion>,
}

impl Verify {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, signature, key, scheme, digest, key_version } = self;
        let (message, digest) = sign::split(file.read()?.to_vec(), digest);
        let request = message::Verify {
            signature: Bytes(signature.read_encoded()?),
            message,
            digest,
            scheme: scheme.map(Word),
            key_version: key_version.map(VersionNumber),
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        told(app, answer.valid, &answer.body, "signature")
    }
}

/// Says whether it is right, and fails if it is not.
pub(super) fn told(
    app: &App,
    valid: bool,
    answer: &impl serde::Serialize,
    what: &str,
) -> Result<(), Failure> {
    if app.printer.is_json() {
        app.printer.record(answer)?;
    } else if valid {
        app.printer.entry("valid")?;
    }
    if valid {
        return Ok(());
    }
    Err(Failure::new(Exit::Integrity, format!("the {what} is not right"))
        .remedy("check that message, key, version and scheme are those it was made with"))
}
