//! What a campaign tells in the end.

use super::evidence::Reports;
use super::keys::Known;
use super::tally::{Failed, Failures, Tally, Versions};
use super::{Check, Settings};
use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A campaign that came to its end.
#[derive(Debug)]
pub(crate) struct Ending {
    report: Report,
    exit: Exit,
}

/// The report as programs read it.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    dry_run: bool,
    /// Whether every item could be read: what is not known of nobody can say that it is not needed.
    complete: bool,
    total: u64,
    rewrapped: u64,
    already_newest: u64,
    due: u64,
    failed: u64,
    verified: u64,
    passed_over: u64,
    unreadable: u64,
    keys: Vec<Key>,
    failures: BTreeMap<String, Failures>,
    seconds: f64,
    rate: u64,
}

#[derive(Debug, Serialize)]
struct Key {
    name: String,
    id: String,
    /// As it was before anything was looked at, like the newest.
    current_version: u32,
    newest_version: u32,
    /// Whether all of the inventory that was under it counts here: what was only gone to may have more elsewhere.
    covered: bool,
    before: BTreeMap<u32, u64>,
    after: BTreeMap<u32, u64>,
    /// The versions that what was gone through is still under.
    needed: BTreeSet<u32>,
}

/// Where what a campaign has rewrapped is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// In the place of what was there before.
    InPlace,
    /// Elsewhere. Where the inventory comes from everything is as it was before, and stays so until somebody loads it back.
    Elsewhere,
}

impl Ending {
    /// From its counts; `before` is how many items an earlier run of it has done.
    pub(super) fn new(
        tally: Tally,
        known: Vec<(Known, bool)>,
        time: Duration,
        before: u64,
        (dry_run, left): (bool, Left),
    ) -> Self {
        let failed = tally.failed();
        let Tally {
            total,
            rewrapped,
            already_newest,
            due,
            passed_over,
            verified,
            unreadable,
            failures,
            exit,
            mut keys,
        } = tally;
        let keys = known.into_iter().map(|(Known { name, id, current, newest }, covered)| {
            let Versions { before, after } = keys.remove(name.as_str()).unwrap_or_default();
            let (id, current_version, newest_version) = (id.to_string(), current.get(), newest.get());
            let is_here = |(version, count): (&u32, &u64)| (*count > 0).then_some(*version);
            let was_here = before.iter().filter(|_| left == Left::Elsewhere).filter_map(is_here);
            let needed = after.iter().filter_map(is_here).chain(was_here).collect();
            Key {
                name: name.to_string(),
                id,
                current_version,
                newest_version,
                covered,
                before,
                after,
                needed,
            }
        });
        let seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        let a_second = u128::from(total - before) * 1000 / time.as_millis().max(1);
        let report = Report {
            v: 1,
            dry_run,
            complete: unreadable == 0,
            total,
            rewrapped,
            already_newest,
            due,
            failed,
            verified,
            passed_over,
            unreadable,
            keys: keys.collect(),
            failures,
            seconds,
            rate: u64::try_from(a_second).unwrap_or(u64::MAX),
        };
        let exit = Exit::ALL.into_iter().find(|one| Some(one.code()) == exit).unwrap_or(Exit::Ok);
        Self { report, exit }
    }

    /// Tells it: to stdout, or to stderr where stdout has the lines themselves.
    ///
    /// # Errors
    /// With the code of the first item that failed.
    pub(crate) fn tell(self, app: &App, settings: &Settings, stdout_has_lines: bool) -> Result<(), Failure> {
        let Self { report, exit } = self;
        let value = serde_json::to_value(&report)
            .map_err(|error| Failure::new(Exit::Failure, "the report cannot be written").because(&error))?;
        let text = format!("{value:#}\n");
        if let Some(path) = &settings.report {
            Target::new(Some(path), settings.force).write(text.as_bytes())?;
        }
        match (stdout_has_lines, app.printer.is_json()) {
            (true, true) => note(&value.to_string()),
            (true, false) => note(&report.summary()),
            (false, true) => app.printer.json_value(&value)?,
            (false, false) => report.tables(app, settings.check)?,
        }
        if settings.record {
            report.record(app, text)?;
        }
        if report.failed == 0 {
            return report.is_verified(settings.check);
        }
        let problem = format!("{} of {} items failed", report.failed, report.total);
        let remedy = match settings.failures {
            Some(_) => {
                "the list of failures says of each what to do; then give the command again for what is left"
            }
            None => "add `--failures FILE` for a list of them all, with what to do of each",
        };
        Err(Failure::new(exit, problem).remedy(remedy))
    }
}

impl Report {
    /// Tells the gateway what of the keys' versions is still needed.
    fn record(&self, app: &App, text: String) -> Result<(), Failure> {
        let reports = Reports::one(text)?;
        let tenant = app.tenant()?;
        for key in self.keys.iter().filter(|key| key.covered) {
            let name = key.name.parse()?;
            let id = key.id.parse().map_err(|_| Failure::new(Exit::Failure, "the key has no id"))?;
            let inventory = reports.of(&name, &id)?;
            app.block_on(tenant.record_inventory(&name, &inventory)).map_err(|error| {
                let failure = Failure::from(error);
                match failure.exit() {
                    Exit::Denied => failure.remedy(format!(
                        "hand the report (`--report FILE`) to a custodian: `holdfast key inventory {name} --report FILE`"
                    )),
                    Exit::Ok | Exit::Failure | Exit::Usage | Exit::Unauthenticated | Exit::State | Exit::Integrity | Exit::Unavailable => failure,
                }
            })?;
        }
        Ok(())
    }

    /// Whether as many were opened again as was asked for.
    fn is_verified(&self, check: Check) -> Result<(), Failure> {
        let wanted = check.least(self.total);
        if self.verified >= wanted {
            return Ok(());
        }
        let problem = format!("{} items were verified, and {wanted} should have been", self.verified);
        Err(Failure::new(Exit::Failure, problem).remedy(
            "they changed meanwhile, or an earlier run of the campaign did not verify: go through what there is now with `--dry-run --verify`",
        ))
    }

    fn summary(&self) -> String {
        let Self { total, rewrapped, already_newest, due, failed, .. } = self;
        format!(
            "{total} items: {rewrapped} rewrapped, {already_newest} already newest, {due} due, {failed} failed"
        )
    }

    fn tables(&self, app: &App, check: Check) -> Result<(), Failure> {
        let Self { v: _, dry_run, complete: _, keys, failures, seconds, rate, .. } = self;
        let counts = [
            ("total", self.total, true),
            ("rewrapped", self.rewrapped, !dry_run),
            ("due", self.due, *dry_run),
            ("already newest", self.already_newest, true),
            ("failed", self.failed, true),
            ("verified", self.verified, check != Check::Nothing),
            ("passed over", self.passed_over, self.passed_over > 0),
        ];
        let rows = counts.into_iter().filter(|(_, _, shown)| *shown);
        let mut rows: Vec<_> =
            rows.map(|(name, count, _)| vec![name.to_owned(), count.to_string()]).collect();
        rows.push(vec!["seconds".to_owned(), format!("{seconds:.1}")]);
        rows.push(vec!["items a second".to_owned(), rate.to_string()]);
        app.printer.rows(&["campaign", "items"], rows)?;
        let versions = keys.iter().flat_map(|key| {
            let mut numbers: Vec<_> = key.before.keys().chain(key.after.keys()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.into_iter().map(|number| {
                let count = |of: &BTreeMap<u32, u64>| of.get(number).copied().unwrap_or(0).to_string();
                vec![key.name.clone(), number.to_string(), count(&key.before), count(&key.after)]
            })
        });
        app.printer.rows(&["key", "version", "before", "after"], versions.collect())?;
        let examples = failures.iter().map(|(kind, Failures { count, examples })| {
            let first = examples.first().map(|Failed { item, detail, .. }| format!("{item}: {detail}"));
            vec![kind.clone(), count.to_string(), first.unwrap_or_default()]
        });
        app.printer.rows(&["error", "items", "first"], examples.collect())
    }
}
