//! `holdfast audit search`.

use super::event;
use super::source::Source;
use crate::app::App;
use crate::clock;
use crate::failure::Failure;
use clap::Args;
use holdfast_core::Timestamp;
use holdfast_core::action::Action;
use holdfast_sdk::{CallerName, KeyName, OperationId};
use serde_json::Value;
use std::path::PathBuf;

/// Look for records
///
/// Looks for records that fit everything that is given, the oldest first. With `--json`, one record a line.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Of this operation
    #[arg(long, value_name = "ID")]
    operation: Option<OperationId>,
    /// By this caller
    #[arg(long, value_name = "NAME")]
    caller: Option<CallerName>,
    /// About this key
    #[arg(long, value_name = "NAME")]
    key: Option<KeyName>,
    /// Of this action, such as decrypt or suspend-key
    #[arg(long, value_parser = super::super::word::<Action>, hide_possible_values = true)]
    action: Option<Action>,
    /// With this outcome
    #[arg(long, value_parser = ["success", "refused", "intent"])]
    outcome: Option<String>,
    /// For this reason, such as denied or integrity
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Not before: 2026-11-23T19:00:00Z, 2026-11-23, or how long ago, such as 15min
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    since: Option<Timestamp>,
    /// Before, in the same way
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    until: Option<Timestamp>,
    /// The log's directory [default: the gateway's log]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

impl Search {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let source = Source::open(app, self.log.as_deref())?;
        source.entries(app, 0, |index, entry| {
            if self.fits(&event::parse(entry)) {
                event::show(app, index, entry)?;
            }
            Ok(true)
        })
    }

    fn fits(&self, event: &Value) -> bool {
        let Self { operation, caller, key, action, outcome, reason, since, until, log: _ } = self;
        let is = |path: &[&str], wanted: Option<&str>| {
            wanted.is_none_or(|wanted| event::text(event, path) == wanted)
        };
        let operation = operation.map(|operation| operation.to_string());
        // Times are all of one form, so that their order is that of their letters.
        let time = event::text(event, &["time"]);
        let key_fits = is(&["key", "name"], key.as_ref().map(KeyName::as_str))
            || is(&["target", "name"], key.as_ref().map(KeyName::as_str));
        is(&["operation"], operation.as_deref())
            && is(&["caller", "name"], caller.as_ref().map(CallerName::as_str))
            && key_fits
            && is(&["action"], action.map(Action::name))
            && is(&["outcome"], outcome.as_deref())
            && is(&["reason"], reason.as_deref())
            && since.is_none_or(|since| time >= since.to_string().as_str())
            && until.is_none_or(|until| time < until.to_string().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        search: Search,
    }

    #[test]
    fn everything_that_is_given_must_fit() {
        let event = serde_json::json!({
            "time": "2026-11-23T19:03:17.123456Z", "operation": "00000000000000000000000000",
            "caller": { "name": "payroll" }, "action": "rewrap-from", "key": { "name": "old" }, "target": { "name": "new" },
            "outcome": "refused", "reason": "integrity"
        });
        let fits =
            |words: &str| Typed::parse_from(format!("x {words}").split_whitespace()).search.fits(&event);
        for yes in [
            "",
            "--caller payroll --outcome refused --reason integrity",
            "--key old",
            "--key new",
            "--action rewrap-from",
            "--since 2026-11-23 --until 2026-11-24",
            "--operation 00000000000000000000000000",
        ] {
            assert!(fits(yes), "{yes}");
        }
        for no in [
            "--caller x",
            "--key x",
            "--action decrypt",
            "--outcome success",
            "--since 2026-11-24",
            "--until 2026-11-23",
        ] {
            assert!(!fits(no), "{no}");
        }
    }
}
