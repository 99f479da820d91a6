//! `holdfast wrap`.

use super::{Bound, To, word};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_core::algorithm::RsaPadding;
use holdfast_sdk::field::{SecretBytes, Word};
use holdfast_sdk::{KeyName, Secret, message};

/// Wrap bytes that you bring
///
/// Wraps bytes that you bring, such as another system's key, under a key that was created to wrap.
#[derive(Debug, Args)]
pub(crate) struct Wrap {
    /// The bytes; `-` for stdin
    file: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    #[command(flatten)]
    bound: Bound,
    /// RSA: how [default: oaep-sha-256]
    #[arg(long, value_parser = word::<RsaPadding>, hide_possible_values = true)]
    padding: Option<RsaPadding>,
    #[command(flatten)]
    to: To,
}

impl Wrap {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, bound, padding, to } = self;
        let request = message::Wrap {
            plaintext: SecretBytes(Secret::from(&**file.read()?)),
            context: bound.context()?,
            padding: padding.map(Word),
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        to.put(app, &answer.ciphertext.0, &answer.body)
    }
}
