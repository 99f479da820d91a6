//! `holdfast unwrap`.

use super::{Bound, To, key, word};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_core::algorithm::RsaPadding;
use holdfast_sdk::field::{Bytes, VersionNumber, Word};
use holdfast_sdk::{KeyName, KeyVersion, message};

/// Unwrap them again
#[derive(Debug, Args)]
pub(crate) struct Unwrap {
    /// What wrapping gave, as it is or in base64; `-` for stdin
    file: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    #[command(flatten)]
    bound: Bound,
    /// RSA: how [default: oaep-sha-256]
    #[arg(long, value_parser = word::<RsaPadding>, hide_possible_values = true)]
    padding: Option<RsaPadding>,
    /// RSA and AES key wrap: the version that made a ciphertext without Holdfast's header
    #[arg(long, value_name = "VERSION", value_parser = key::version)]
    key_version: Option<KeyVersion>,
    #[command(flatten)]
    to: To,
}

impl Unwrap {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, bound, padding, key_version, to } = self;
        let request = message::Unwrap {
            ciphertext: Bytes(file.read_encoded()?),
            context: bound.context()?,
            padding: padding.map(Word),
            key_version: key_version.map(VersionNumber),
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        to.put(app, answer.plaintext.0.expose(), &answer.body)
    }
}
