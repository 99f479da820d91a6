//! `holdfast audit reconcile`: what a provider says it did with your keys, beside what was recorded here.

mod cloud_trail;
mod google;

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Compare a provider's own log with this one
///
/// Joins AWS CloudTrail's KMS events with the log's records by the id of their request, and lists what only one side has seen, or has seen succeed: of the KMS keys that
/// the log knows, in the time from the files' first event to their last, which is said; what the log has before and after it is counted. Or joins Google's Drive activities with the uses of keys for client-side encryption by user,
/// file and time, since they have no id in common: what that shows and what it cannot is in docs/protocols/google-cse.md. Ends with 6 where the
/// sides do not fit; of Google's, where a use of a key has no activity there: what Google alone has seen is listed, and no fault.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("theirs").required(true).args(["cloudtrail", "google_activities"])))]
pub(crate) struct Reconcile {
    /// A file that CloudTrail has written, unpacked (JSON with `Records`)
    #[arg(long = "aws-cloudtrail", value_name = "FILE")]
    cloudtrail: Vec<PathBuf>,
    /// Look for this KMS key too, of which the log knows nothing
    #[arg(long = "kms-key", value_name = "ARN", conflicts_with = "google_activities")]
    kms_keys: Vec<String>,
    /// Answers of Google's Admin SDK Reports API (activities.list of `drive`), one JSON object after the other
    #[arg(long = "google-activities", value_name = "FILE")]
    google_activities: Vec<PathBuf>,
    /// How far an activity and the use of a key may be apart to belong together, such as 10min
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10min",
        value_parser = humantime::parse_duration,
        requires = "google_activities"
    )]
    within: Duration,
    /// The log's directory [default: the gateway's log]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

impl Reconcile {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { cloudtrail, kms_keys, google_activities, within, log } = self;
        let log = log.as_deref();
        match google_activities.is_empty() {
            true => cloud_trail::run(app, &cloudtrail, kms_keys, log),
            false => google::run(app, &google_activities, within, log),
        }
    }
}

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
struct Compared<F> {
    /// The time that the provider's files speak of.
    from: String,
    to: String,
    /// How many are on both sides.
    both: u64,
    /// How many of ours lie before and after that time: nothing can be said of these.
    before: u64,
    after: u64,
    /// How many refused health checks the log has, of whatever time, where the provider makes some and has no event of them.
    health_checks: Option<u64>,
    found: Vec<F>,
}

impl<F: Serialize> Compared<F> {
    /// Tells all of it; `both` says what is counted as that, `ours` what is ours.
    fn told(&self, app: &App, columns: &[&str], (both, ours): (&str, &str)) -> Result<(), Failure> {
        let Self { from, to, both: count, before, after, health_checks, found } = self;
        if app.printer.is_json() {
            let mut all = json!({
                "from": from, "to": to, "both": count, "before": before, "after": after, "found": found,
            });
            if let (Some(count), Some(fields)) = (health_checks, all.as_object_mut()) {
                fields.insert("health_checks".to_owned(), (*count).into());
            }
            return app.printer.json_value(&all);
        }
        note(&format!("{count} {both}, from {from} to {to}"));
        if *before > 0 || *after > 0 {
            note(&format!(
                "{before} {ours} before that time and {after} after it were not compared: give the provider's files of those times too"
            ));
        }
        if let Some(count) = health_checks.filter(|count| *count > 0) {
            note(&format!(
                "{count} refused health checks in the log were left out: the provider makes them for itself and has no event of them"
            ));
        }
        app.printer.list(found, columns)
    }
}
