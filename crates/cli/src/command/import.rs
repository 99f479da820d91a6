//! `holdfast key import`.

use super::key::labelled;
use super::{hex, word};
use crate::app::App;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_core::Protocol;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::import::{MAX_SECONDS, MAX_WRAPPED};
use holdfast_sdk::KeyName;
use holdfast_sdk::field::{Bounded, Bytes, LabelMap, Name, Word};
use holdfast_sdk::message::{BeginImport, FinishImport};

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    Begin(Begin),
    Finish(Finish),
}

/// Make an import key: write its public half to stdout, PEM
///
/// The key of this name waits for its material from then on. Wrap that with openssl alone, on a machine of your own; then `holdfast key import finish` brings it.
#[derive(Debug, Args)]
pub(crate) struct Begin {
    /// The key's name, which never changes
    key: KeyName,
    /// Its algorithm
    #[arg(long, value_parser = word::<Algorithm>, hide_possible_values = true)]
    algorithm: Algorithm,
    /// What it is for [default: the algorithm's first purpose]
    #[arg(long, value_parser = word::<Purpose>)]
    purpose: Option<Purpose>,
    /// For how long the import key serves, 7d at most
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "24h")]
    expires: u64,
    /// A label that policies can speak of
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// The one protocol that it works through, for ever: native, aws-xks, google-cse, ms-dke or azure-ekm [default: each that takes such keys]
    #[arg(long, value_parser = word::<Protocol>)]
    protocol: Option<Protocol>,
}

/// Bring the wrapped material of a key that waits for it
///
/// The check value is what `openssl dgst -sha256` says: of symmetric material its first 16 hex digits, of a key pair all 64 of its public half (DER).
#[derive(Debug, Args)]
pub(crate) struct Finish {
    /// The key
    key: KeyName,
    /// The wrapped material, `-` for stdin
    #[arg(long, value_name = "FILE")]
    file: Input,
    /// What the material must be
    #[arg(long, value_name = "HEX", value_parser = hex)]
    check_value: Bytes,
    /// How often the key has encrypted elsewhere, at most; aes-256-gcm needs it
    #[arg(long, value_name = "COUNT", conflicts_with = "decrypt_only")]
    prior_uses: Option<u64>,
    /// It only decrypts from now on
    #[arg(long)]
    decrypt_only: bool,
}

/// So many seconds, such as `24h`.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let found = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let number: Option<u64> =
        found.and_then(|(number, seconds)| number.parse::<u64>().ok()?.checked_mul(seconds));
    number
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| "expected seconds, minutes, hours or days, up to 7d: 90m, 24h".to_owned())
}

impl ImportCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Begin(begin) => begin.run(app),
            Self::Finish(finish) => finish.run(app),
        }
    }
}

impl Begin {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, algorithm, purpose, expires, labels, protocol } = self;
        let import = BeginImport {
            name: Name(key),
            algorithm: Word(algorithm),
            purpose: purpose.map(Word),
            labels: Some(LabelMap(labelled(labels)?)),
            protocol: protocol.map(Word),
            seconds: Some(Bounded(expires)),
        };
        let tenant = app.tenant()?;
        let begun = app.block_on(tenant.begin_import(&import))?;
        if app.printer.is_json() {
            return app.printer.product(&begun.body);
        }
        let until = String::from_utf8_lossy(&begun.expires.0.text()).into_owned();
        note(&format!("# import {} of key {}, open until {until}", begun.import.0, begun.key.name.0));
        app.printer.line(begun.public_key_pem.trim_end())
    }
}

impl Finish {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, file, check_value, prior_uses, decrypt_only } = self;
        let (wrapped, more) = file.read_up_to(MAX_WRAPPED)?;
        if more.is_some() {
            return Err(Failure::usage(format!("a wrapped key has at most {MAX_WRAPPED} bytes"))
                .remedy("give the file that `openssl` wrote: both parts, one behind the other"));
        }
        let import = FinishImport {
            wrapped: Bytes(wrapped.to_vec()),
            check_value,
            prior_uses,
            decrypt_only: decrypt_only.then_some(true),
        };
        let tenant = app.tenant()?;
        app.printer.record(&app.block_on(tenant.finish_import(&key, &import))?.body)
    }
}
