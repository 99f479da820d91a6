//! `holdfast datakey`.

use super::{Bound, To};
use crate::app::App;
use crate::atomic::Target;
use crate::failure::Failure;
use clap::Args;
use holdfast_core::operation::MAX_RANDOM;
use holdfast_sdk::field::Bounded;
use holdfast_sdk::{KeyName, message};
use std::path::PathBuf;

/// Make a data key
///
/// Makes a data key: encrypted, to be kept with the data, and in clear only when told where to. `holdfast decrypt` opens it again.
#[derive(Debug, Args)]
pub(crate) struct Datakey {
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// Its length in bytes
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=MAX_RANDOM as u64))]
    length: u64,
    #[command(flatten)]
    bound: Bound,
    /// Write the data key in clear to this file, for its owner only; `-` for stdout
    #[arg(long, value_name = "FILE")]
    plaintext: Option<PathBuf>,
    #[command(flatten)]
    to: To,
}

impl Datakey {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, length, bound, plaintext, to } = self;
        let request = message::DataKey {
            length: Some(Bounded(length)),
            with_plaintext: Some(plaintext.is_some()),
            context: bound.context()?,
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        if let (Some(path), Some(clear)) = (&plaintext, &answer.plaintext) {
            let target = Target::new(Some(path), to.force);
            if target == Target::Stdout && to.output.is_none() {
                return Err(
                    Failure::usage("both halves would go to stdout").remedy("name a file for one of them")
                );
            }
            target.write(clear.0.expose())?;
        }
        let shown = serde_json::json!({
            "ciphertext": answer.ciphertext, "algorithm": answer.algorithm, "key_version": answer.key_version
        });
        to.put(app, &answer.ciphertext.0, &shown)
    }
}
