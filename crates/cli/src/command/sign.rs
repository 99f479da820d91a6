//! `holdfast sign`.

use super::{To, word};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_core::algorithm::SignatureScheme;
use holdfast_sdk::field::{Bytes, Word};
use holdfast_sdk::{KeyName, message};

/// Sign a message or a digest
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The message; `-` for stdin
    file: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// How [default: the algorithm's own]
    #[arg(long, value_parser = word::<SignatureScheme>, hide_possible_values = true)]
    scheme: Option<SignatureScheme>,
    /// The file holds the message's digest, by the scheme's hash, as bytes
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    to: To,
}

impl Sign {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, scheme, digest, to } = self;
        let (message, digest) = split(file.read()?.to_vec(), digest);
        let request = message::Sign { message, digest, scheme: scheme.map(Word) };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        to.put(app, &answer.signature.0, &answer.body)
    }
}

/// A message or a digest, each in its field.
pub(super) fn split(bytes: Vec<u8>, is_digest: bool) -> (Option<Bytes>, Option<Bytes>) {
    if is_digest { (None, Some(Bytes(bytes))) } else { (Some(Bytes(bytes)), None) }
}
