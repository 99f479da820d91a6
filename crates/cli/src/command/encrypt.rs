//! `holdfast encrypt`.

use super::{Bound, To, word};
use crate::agefile::{FileKeys, Name};
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::Input;
use crate::output::stdout_is_terminal;
use crate::progress;
use clap::Args;
use holdfast_core::algorithm::RsaPadding;
use holdfast_sdk::field::{SecretBytes, Word};
use holdfast_sdk::{KeyName, Secret, message};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Encrypt a file of any size
///
/// The data never leaves this machine: it becomes an age file, and only the key of that file goes to the gateway to be wrapped.
///
/// With `--raw` the data itself, at most 1 MiB, goes to the gateway and comes back as one ciphertext.
#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    /// What to encrypt; `-` for stdin
    file: Input,
    /// The key
    #[arg(long, value_name = "NAME", required_unless_present = "recipient")]
    key: Option<KeyName>,
    /// The key as `holdfast key recipient` names it, with tenant and context
    #[arg(short, long, value_name = "RECIPIENT", conflicts_with_all = ["key", "context", "raw"])]
    recipient: Option<String>,
    #[command(flatten)]
    bound: Bound,
    /// Let the gateway encrypt the data itself; written in base64 unless `-o` is given
    #[arg(long)]
    raw: bool,
    /// RSA, with `--raw`: how [default: oaep-sha-256]
    #[arg(long, requires = "raw", value_parser = word::<RsaPadding>, hide_possible_values = true)]
    padding: Option<RsaPadding>,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Encrypt {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, recipient, bound, raw, padding, output, force } = self;
        let to = To { output, force };
        let missing = || Failure::usage("no key is named").remedy("name it with `--key`");
        if raw {
            let request = message::Encrypt {
                plaintext: SecretBytes(Secret::from(&**file.read()?)),
                context: bound.context()?,
                padding: padding.map(Word),
            };
            let tenant = app.tenant()?;
            let answer = app.block_on(tenant.use_key(&key.ok_or_else(missing)?, &request))?;
            return to.put(app, &answer.ciphertext.0, &answer.body);
        }
        let name = match recipient {
            Some(recipient) => Name::from_recipient(&recipient)?,
            None => Name::new(app.tenant()?.id().clone(), key.ok_or_else(missing)?, bound.context)?,
        };
        as_age_file(app, &file, name, &to.target())
    }
}

fn as_age_file(app: &App, file: &Input, name: Name, target: &Target) -> Result<(), Failure> {
    if *target == Target::Stdout && stdout_is_terminal() {
        return Err(Failure::usage("an age file is no text for a terminal")
            .remedy("write it to a file with `-o FILE`, or redirect stdout"));
    }
    let (mut source, length) = file.open()?;
    let mut output = target.begin()?;
    let keys = FileKeys::to(app, name);
    let failed = |what: &str, error: &dyn std::error::Error| {
        Failure::new(Exit::Failure, format!("cannot {what} the file"))
            .because(error)
            .remedy("look at the cause")
    };
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&keys as &dyn age::Recipient))
        .map_err(|error| keys.take_failure().unwrap_or_else(|| failed("encrypt", &error)))?;
    let mut stream = encryptor.wrap_output(&mut output).map_err(|error| failed("write", &error))?;
    let bar = progress::bytes(length);
    copy(&mut *source, &mut stream, &bar).map_err(|error| failed("encrypt", &error))?;
    stream
        .finish()
        .map_err(|error| failed("write", &error))?
        .flush()
        .map_err(|error| failed("write", &error))?;
    bar.finish_and_clear();
    output.finish()
}

/// Copies a stream, telling how far it is; what it held is wiped from the buffer.
pub(super) fn copy(
    from: &mut dyn io::Read,
    to: &mut dyn io::Write,
    bar: &indicatif::ProgressBar,
) -> io::Result<()> {
    let mut buffer = zeroize::Zeroizing::new(vec![0; 1 << 16]);
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..length).unwrap_or_default())?;
        bar.inc(u64::try_from(length).unwrap_or(0));
    }
}
