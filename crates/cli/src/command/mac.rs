//! `holdfast mac`.

use super::{To, key, verify};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_sdk::field::{Bytes, VersionNumber};
use holdfast_sdk::{KeyName, KeyVersion, message};

/// Compute or verify a message authentication code
///
/// Computes a message authentication code, or verifies one with `--verify`; fails then with exit code 6 when it is not right.
#[derive(Debug, Args)]
pub(crate) struct Mac {
    /// The message; `-` for stdin
    file: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// Verify this code, as it is or in base64
    #[arg(long, value_name = "FILE")]
    verify: Option<Input>,
    /// The version that made it [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = key::version, requires = "verify")]
    key_version: Option<KeyVersion>,
    #[command(flatten)]
    to: To,
}

impl Mac {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, verify: code, key_version, to } = self;
        let message = Bytes(file.read()?.to_vec());
        let tenant = app.tenant()?;
        let Some(code) = code else {
            let answer = app.block_on(tenant.use_key(&key, &message::Mac { message }))?;
            return to.put(app, &answer.mac.0, &answer.body);
        };
        let request = message::VerifyMac {
            message,
            mac: Bytes(code.read_encoded()?),
            key_version: key_version.map(VersionNumber),
        };
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        verify::told(app, answer.valid, &answer.body, "code")
    }
}
