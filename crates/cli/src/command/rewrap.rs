//! `holdfast rewrap`.

use super::{Bound, To};
use crate::agefile::Name as AgeName;
use crate::app::App;
use crate::campaign::{self, Check, Lines, Settings, Tree};
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_sdk::field::{Bytes, Name};
use holdfast_sdk::{KeyName, message};
use std::path::PathBuf;
use std::time::Duration;

/// Encrypt anew under the newest version, or another key, without seeing the plaintext
///
/// Encrypts anew what was encrypted or wrapped before, inside the key store: under the newest version, or another key.
///
/// One ciphertext, or an inventory: JSON lines with `--jsonl`, or a directory, whose age files get a new header each; a header is sealed
/// with its file's key, which this command therefore opens. What is under the
/// newest version already is left alone, so the same command can be given again. docs/operate/rotation.md leads through it.
#[derive(Debug, Args)]
pub(crate) struct Rewrap {
    /// The ciphertext, as it is or in base64; a directory of age files; with `--jsonl` the lines. `-` for stdin
    file: Input,
    /// The key that it was made with; age files say it themselves, and are all taken without it
    #[arg(long, value_name = "NAME")]
    key: Option<KeyName>,
    /// The key to encrypt under [default: the same key]
    #[arg(long, visible_alias = "to", value_name = "NAME")]
    target_key: Option<KeyName>,
    #[command(flatten)]
    bound: Bound,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    campaign: Campaign,
}

/// How an inventory is gone through.
#[derive(Debug, Args)]
#[command(next_help_heading = "Inventories")]
struct Campaign {
    /// The file has a JSON object a line, with a `ciphertext` in base64 and perhaps a `context`; all else is carried through. With `-o` a
    /// campaign that was interrupted goes on where it ended
    #[arg(long)]
    jsonl: bool,
    /// Change nothing: count what stands under which version
    #[arg(long)]
    dry_run: bool,
    /// Open items again and compare: `full`, with what was left alone, or `sample:N`. Needs the permission to open them
    #[arg(long, value_name = "WHICH")]
    verify: Option<Check>,
    /// Batches of up to 256 under way at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// At most so many items a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// List every item that failed in this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    failures: Option<PathBuf>,
    /// Write the report to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Record at the gateway what is still needed, as `holdfast key inventory` does: only where this is all that is under the key. Of JSON
    /// lines only with `--dry-run`, on what was loaded back and exported again: until then everything lies where it lay
    #[arg(long)]
    record: bool,
    /// How long to wait for a gateway that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    patience: u64,
}

impl Campaign {
    fn settings(self, force: bool) -> Settings {
        let Self { jsonl: _, dry_run, verify, workers, rate, failures, report, record, patience } = self;
        Settings {
            workers: usize::try_from(workers).unwrap_or(1),
            rate,
            check: verify.unwrap_or(Check::Nothing),
            dry_run,
            failures,
            report,
            record,
            force,
            patience: Duration::from_secs(patience),
        }
    }

    /// Nothing of it makes sense for a single ciphertext.
    fn is_given(&self) -> bool {
        let Self { jsonl: _, dry_run, verify, workers: _, rate, failures, report, record, patience: _ } =
            self;
        *dry_run || *record || verify.is_some() || rate.is_some() || failures.is_some() || report.is_some()
    }
}

impl Rewrap {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { file, key, target_key, bound, to, campaign } = self;
        match file {
            Input::File(root) if root.is_dir() => {
                if to.output.is_some() || campaign.jsonl {
                    return Err(Failure::usage("a directory's files are replaced in their places")
                        .remedy("leave `-o` and `--jsonl` out; copy the directory first if you want both"));
                }
                let tenant = app.tenant()?.id().clone();
                // A name of ours among the pairs is refused as it is when files are made.
                let any: KeyName = "any".parse()?;
                let AgeName { context, .. } = AgeName::new(tenant, any, bound.context)?;
                let settings = campaign.settings(to.force);
                let tree = Tree { root, key, target: target_key, context };
                campaign::run_tree(app, tree, &settings)?.tell(app, &settings, false)
            }
            input if campaign.jsonl => {
                let key = key.ok_or_else(unnamed)?;
                let (context, settings) = (bound.context()?, campaign.settings(to.force));
                let output = to.output.filter(|path| path.as_os_str() != "-");
                let to_stdout = output.is_none() && !settings.dry_run;
                let lines = Lines { input, key, target: target_key, context, output };
                campaign::run_lines(app, lines, &settings)?.tell(app, &settings, to_stdout)
            }
            Input::Stdin | Input::File(_) if campaign.is_given() => {
                Err(Failure::usage("this is for inventories, and one file is named without `--jsonl`")
                    .remedy("add `--jsonl` if it has JSON lines, or name a directory"))
            }
            Input::Stdin | Input::File(_) => {
                let request = message::Rewrap {
                    ciphertext: Bytes(file.read_encoded()?),
                    context: bound.context()?,
                    target_key: target_key.map(Name),
                };
                let tenant = app.tenant()?;
                let answer = app.block_on(tenant.use_key(&key.ok_or_else(unnamed)?, &request))?;
                to.put(app, &answer.ciphertext.0, &answer.body)
            }
        }
    }
}

fn unnamed() -> Failure {
    Failure::usage("the key is not named").remedy("name the key that it was made with by `--key`")
}
