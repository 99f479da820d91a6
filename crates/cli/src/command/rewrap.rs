//! `holdfast rewrap`.

use super::{Bound, To};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_sdk::field::{Bytes, Name};
use holdfast_sdk::{KeyName, message};

/// Encrypt anew under the newest version, or another key, without seeing the plaintext
///
/// Encrypts anew what was encrypted or wrapped before, inside the key store: under the newest version, or another key.
#[derive(Debug, Args)]
pub(crate) struct Rewrap {
    /// The ciphertext, as it is or in base64; `-` for stdin
    file: Input,
    /// The key that it was made with
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// The key to encrypt under [default: the same key]
    #[arg(long, value_name = "NAME")]
    target_key: Option<KeyName>,
    #[command(flatten)]
    bound: Bound,
    #[command(flatten)]
    to: To,
}

impl Rewrap {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, target_key, bound, to } = self;
        let request = message::Rewrap {
            ciphertext: Bytes(file.read_encoded()?),
            context: bound.context()?,
            target_key: target_key.map(Name),
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        to.put(app, &answer.ciphertext.0, &answer.body)
    }
}
