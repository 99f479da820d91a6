//! `holdfast audit tail`.

use super::event;
use super::source::Source;
use crate::app::App;
use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// How often a followed log is looked at; its checkpoints come within a second of growth.
const PERIOD: Duration = Duration::from_secs(1);

/// Show the newest records
///
/// Shows the newest records, the oldest of them first. Reading the log is recorded too.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: u64,
    /// Go on showing new ones until interrupted
    #[arg(short, long)]
    follow: bool,
    /// The log's directory [default: the gateway's log]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

impl Tail {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { lines, follow, log } = self;
        let mut source = Source::open(app, log.as_deref())?;
        let mut next = source.size().saturating_sub(lines);
        loop {
            source.entries(app, next, |index, entry| {
                next = index + 1;
                // Looking is recorded: whoever follows would see nothing but themselves looking.
                let looking = follow && event::text(&event::parse(entry), &["action"]) == "read-audit";
                if !looking {
                    event::show(app, index, entry)?;
                }
                Ok(true)
            })?;
            if !follow {
                return Ok(());
            }
            app.block_on(tokio::time::sleep(PERIOD));
            source.refresh(app)?;
        }
    }
}
