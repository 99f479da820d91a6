//! `holdfast decrypt`.

use super::{Bound, encrypt, key, word};
use crate::agefile::{AGE_MAGIC, ARMOUR_MAGIC, FileKeys};
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::progress;
use age::{DecryptError, armor::ArmoredReader};
use clap::Args;
use holdfast_core::algorithm::RsaPadding;
use holdfast_core::operation::MAX_INPUT;
use holdfast_sdk::field::{Bytes, VersionNumber, Word};
use holdfast_sdk::{KeyName, KeyVersion, message};
use std::io::{BufReader, Cursor, Read};
use std::path::PathBuf;

/// Decrypt what `holdfast encrypt` made
///
/// Takes an age file, armoured or not, or one ciphertext of the gateway, as it is or in base64.
///
/// With `-o` the file appears only when all of it has been verified. To stdout, what was verified so far is written as it comes:
/// look at the exit code before you believe that it is all.
#[derive(Debug, Args)]
pub(crate) struct Decrypt {
    /// What to decrypt; `-` for stdin
    file: Input,
    /// The key; an age file says itself under which key it is
    #[arg(long, value_name = "NAME")]
    key: Option<KeyName>,
    #[command(flatten)]
    bound: Bound,
    /// RSA: how [default: oaep-sha-256]
    #[arg(long, value_parser = word::<RsaPadding>, hide_possible_values = true)]
    padding: Option<RsaPadding>,
    /// RSA: the version whose public key made a ciphertext without Holdfast's header
    #[arg(long, value_name = "VERSION", value_parser = key::version)]
    key_version: Option<KeyVersion>,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Decrypt {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, bound, padding, key_version, output, force } = self;
        let target = Target::new(output.as_deref(), force);
        let (mut stream, length) = file.open()?;
        let mut head = vec![];
        let unreadable =
            |error: std::io::Error| Failure::new(Exit::Failure, "cannot read the input").because(&error);
        stream.by_ref().take(ARMOUR_MAGIC.len() as u64).read_to_end(&mut head).map_err(unreadable)?;
        if head.starts_with(AGE_MAGIC) || head == ARMOUR_MAGIC {
            let keys = FileKeys::from(app, app.tenant_name()?, key, bound.context);
            return from_age_file(Cursor::new(head).chain(stream), length, &keys, &target);
        }

        let mut bytes = head;
        stream.take(2 * MAX_INPUT as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        let key = key.ok_or_else(|| {
            Failure::usage("the key is not named, and this is no age file that says it")
                .remedy("name it with `--key`")
        })?;
        let request = message::Decrypt {
            ciphertext: Bytes(input::decoded(&bytes)),
            context: bound.context()?,
            padding: padding.map(Word),
            key_version: key_version.map(VersionNumber),
        };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        if app.printer.is_json() && target == Target::Stdout {
            return app.printer.product(&answer.body);
        }
        target.write(answer.plaintext.0.expose())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "theirs grows; what is not named here is told in general")]
fn from_age_file(
    stream: impl Read,
    length: Option<u64>,
    keys: &FileKeys<'_>,
    target: &Target,
) -> Result<(), Failure> {
    let mut output = target.begin()?;
    let bar = progress::bytes(length);
    let refused = |error: DecryptError| keys.take_failure().unwrap_or_else(|| unopened(&error));
    let decryptor = age::Decryptor::new_buffered(BufReader::new(ArmoredReader::new(bar.wrap_read(stream))))
        .map_err(refused)?;
    let mut plain = decryptor.decrypt(std::iter::once(keys as &dyn age::Identity)).map_err(refused)?;
    encrypt::copy(&mut plain, &mut output, &progress::bytes(None)).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => Exit::Integrity,
            _ => Exit::Failure,
        };
        Failure::new(exit, "the file cannot be decrypted to its end")
            .because(&error)
            .remedy("it is damaged or cut off unless the cause says otherwise: get it again; do not use what was written to stdout")
    })?;
    bar.finish_and_clear();
    output.finish()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "theirs grows; what is not named here is told in general")]
fn unopened(error: &DecryptError) -> Failure {
    match error {
        DecryptError::NoMatchingKeys => Failure::new(Exit::State, "no key of Holdfast opens this age file")
            .remedy("it was made for others: open it with `age` and one of their identities"),
        DecryptError::UnknownFormat => {
            Failure::new(Exit::Usage, "the age file is of a version that is not known here")
                .remedy("use a newer Holdfast")
        }
        DecryptError::Io(error) => Failure::new(Exit::Failure, "the age file cannot be read")
            .because(error)
            .remedy("look at the cause"),
        other => Failure::new(Exit::Integrity, "the age file does not verify")
            .because(other)
            .remedy("it is damaged: get it again"),
    }
}
