//! What a rehearsal has shown: for people, for programs, and as a file for whoever wants to see that it was done.

use crate::app::App;
use crate::atomic::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::key::{Custody, Key};
use holdfast_core::lifecycle::KeyState;
use holdfast_gateway::backup::{FirstOf, Manifest, Since, Stop};
use holdfast_gateway::scrub::Damage;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The version of this form.
const FORMAT: u32 = 1;
/// How many of something a table names.
const SHOWN: usize = 5;
/// What to do about a backup that comes back damaged.
const REMEDY: &str = "take another backup and rehearse with it; if that is damaged too, read the gateway's directory with `holdfast doctor --deep`";

/// The report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    format: u32,
    /// When the rehearsal was begun.
    pub(super) time: String,
    build: &'static str,
    /// Whether everything opened and verified.
    pub(super) opens: bool,
    /// Why it did not come to an end.
    pub(super) problem: Option<String>,
    pub(crate) backup: Backup,
    pub(crate) restored: Restored,
    /// What shows the gateway that its backup opens: for `holdfast backup verified`.
    pub(crate) verified: Option<String>,
    /// What would be lost; none without a copy of a log.
    pub(super) lost: Option<Lost>,
    pub(crate) logs: Logs,
    damages: Vec<Wrong>,
    steps: Vec<Step>,
    seconds: f64,
    /// Whether all was done, whatever it showed.
    #[serde(skip)]
    complete: bool,
}

/// The backup that was rehearsed with.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Backup {
    pub(super) file: String,
    pub(super) bytes: Option<u64>,
    pub(crate) sha256: Option<String>,
    /// Whether the log has recorded it with this hash; none where no copy of the gateway's own log was given.
    pub(crate) recorded: Option<bool>,
    instance: String,
    pub(crate) taken: String,
    pub(crate) commit: u64,
    build: String,
    pub(crate) age_seconds: u64,
    /// Backups that the log has recorded, and that are younger.
    pub(super) younger: u64,
}

impl Backup {
    /// Nothing is known of it yet but where it is.
    pub(crate) fn of(file: &Path) -> Self {
        Self { file: file.display().to_string(), ..Self::default() }
    }
}

/// What came back.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Restored {
    pub(super) instance: String,
    pub(super) records: u64,
    pub(crate) keys: u64,
    /// Versions whose sealed material opened.
    pub(crate) versions_opened: u64,
    /// Keys that would come up suspended.
    suspended: FirstOf<String>,
    /// Keys that would wait to be destroyed, each for its whole period anew.
    wait_to_be_destroyed: FirstOf<String>,
    /// Orders to destroy that the backup holds, and that would be taken back, as they were after it.
    pub(super) destructions_cancelled: usize,
    /// Keys with a budget, which would rotate with their first use.
    rotate: FirstOf<String>,
    /// Keys that are only where their token is.
    pub(crate) only_in_token: FirstOf<String>,
    /// Stop orders that would be given again.
    pub(super) stops: FirstOf<Stop>,
    /// Those among them that would be refused: what there was to stop is not in the backup, or is stopped for good.
    pub(super) stops_refused: usize,
    /// Those among them of tenants that the backup does not have.
    pub(super) stops_of_unknown_tenants: usize,
}

/// What would be lost.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    tenants: FirstOf<String>,
    keys: FirstOf<String>,
    versions: FirstOf<String>,
    commands: BTreeMap<&'static str, u64>,
}

/// The logs.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Logs {
    /// Those of which a copy was verified.
    pub(super) copies: Vec<String>,
    /// Those that the backup knows, and of which no copy was given.
    pub(crate) without_copy: Vec<String>,
    pub(super) entries_verified: u64,
}

#[derive(Debug, Serialize)]
struct Wrong {
    part: &'static str,
    place: String,
    problem: String,
    remedy: &'static str,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    seconds: f64,
}

impl Report {
    pub(crate) fn new(time: String, backup: Backup) -> Self {
        Self {
            format: FORMAT,
            time,
            build: holdfast_gateway::BUILD,
            opens: false,
            problem: None,
            backup,
            restored: Restored::default(),
            verified: None,
            lost: None,
            logs: Logs::default(),
            damages: Vec::new(),
            steps: Vec::new(),
            seconds: 0.0,
            complete: false,
        }
    }

    /// All was done.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    /// Whether all was done, whatever it showed.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// How it came out.
    pub(super) fn judge(&mut self, wrong: Option<&Failure>) {
        self.opens = wrong.is_none();
        self.problem = wrong.map(ToString::to_string);
        self.verified = self.verified.take().filter(|_| self.opens);
    }

    /// So long took a step.
    pub(super) fn took(&mut self, step: &'static str, time: Duration) {
        let seconds = milliseconds(time);
        self.seconds = milliseconds(Duration::from_secs_f64(self.seconds) + time);
        self.steps.push(Step { step, seconds });
    }

    pub(super) fn taken(&mut self, manifest: &Manifest) {
        let Manifest { format: _, instance, taken, commit, build, backup: _ } = manifest.clone();
        self.backup = Backup { instance, taken, commit, build, ..std::mem::take(&mut self.backup) };
    }

    /// A key of the restored gateway.
    pub(super) fn key(&mut self, key: &Key, opened: u64) {
        let name = || format!("{}/{}", key.tenant, key.name);
        self.restored.keys += 1;
        match key.custody {
            Custody::Software => self.restored.versions_opened += opened,
            Custody::Token | Custody::VendorAttested if key.state != KeyState::Destroyed => {
                self.restored.only_in_token.add(name());
            }
            Custody::Token | Custody::VendorAttested => {}
        }
        if key.destruction.is_some() {
            self.restored.wait_to_be_destroyed.add(name());
        } else if key.state == KeyState::Suspended {
            self.restored.suspended.add(name());
            if key.algorithm.has_budget() {
                self.restored.rotate.add(name());
            }
        }
    }

    pub(super) fn damage(&mut self, damage: Damage) {
        // Its remedy is for a directory that somebody serves.
        let Damage { part, place, problem, remedy: _ } = damage;
        self.damages.push(Wrong { part: part.name(), place, problem, remedy: REMEDY });
    }

    /// What the copies of the logs tell.
    pub(super) fn since(&mut self, since: Since) {
        let Since { tenants, keys, versions, commands, stops, backups, entries, .. } = since;
        self.logs.entries_verified += entries;
        self.restored.stops = stops;
        let name =
            Path::new(&self.backup.file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // By its hash, whatever it is called by now; by its name, if somebody has put another file in its place.
        let is = self.backup.sha256.as_ref();
        let by_hash = backups.iter().position(|written| is == Some(&written.sha256));
        let own = by_hash.or_else(|| backups.iter().position(|written| written.file == name));
        if let (Some(_), Some(_)) = (own, is) {
            self.backup.recorded = Some(by_hash.is_some());
        }
        let younger = backups.len().saturating_sub(own.map_or(0, |at| at + 1));
        self.backup.younger = u64::try_from(younger).unwrap_or(u64::MAX);
        self.lost = Some(Lost { tenants, keys, versions, commands });
    }

    /// Writes the file for whoever wants to see it.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(Exit::Failure, "the report cannot be written").because(&error))?;
        text.push(b'\n');
        Target::new(Some(path), true).write(&text)
    }

    /// Tells it on stdout.
    pub(super) fn tell(&self, app: &App) -> Result<(), Failure> {
        if app.printer.is_json() {
            return app.printer.product(self);
        }
        let Self { backup, restored, lost, logs, damages, steps, seconds, .. } = self;
        let age = humantime::format_duration(Duration::from_secs(backup.age_seconds));
        let recorded =
            backup.recorded.map(|is| if is { "with this SHA-256" } else { "WITH ANOTHER SHA-256" });
        let steps: Vec<_> =
            steps.iter().map(|Step { step, seconds }| format!("{step} {seconds} s")).collect();
        app.printer.product(&serde_json::json!({
            "backup": backup.file,
            "taken": format!("{}, {age} ago", backup.taken),
            "commit": backup.commit,
            "sha256": backup.sha256,
            "recorded": recorded,
            "opened": format!("{} versions of {} keys", restored.versions_opened, restored.keys),
            "logs_verified": logs.copies,
            "verified": self.verified,
            "recovery_time": format!("{seconds} s: {}", steps.join(", ")),
        }))?;
        let mut rows = Vec::new();
        if let Some(Lost { tenants, keys, versions, commands }) = lost {
            rows.push(row("lost: tenants", tenants));
            rows.push(row("lost: keys", keys));
            rows.push(row("lost: versions", versions));
            let count: u64 = commands.values().sum();
            let each: Vec<_> = commands.iter().map(|(action, count)| format!("{count} {action}")).collect();
            rows.push(vec!["lost: commands".to_owned(), count.to_string(), each.join(", ")]);
        }
        let first = restored.stops.first.iter().map(|stop| format!("{} {}", stop.action, stop.about));
        let stops = FirstOf { count: restored.stops.count, first: first.collect() };
        rows.push(row("stops given again", &stops));
        rows.push(row("keys suspended", &restored.suspended));
        rows.push(row("to be destroyed", &restored.wait_to_be_destroyed));
        rows.push(row("keys that rotate", &restored.rotate));
        rows.push(row("only in their token", &restored.only_in_token));
        app.printer.entry("")?;
        app.printer.rows(&["what", "count", "which"], rows)?;
        for Wrong { part, place, problem, remedy } in damages.iter().take(SHOWN) {
            app.printer.entry(&crate::output::printable(&format!("✗ {part:<20} {place}: {problem}")))?;
            app.printer.entry(&crate::output::printable(&format!("  {:<20} → {remedy}", "")))?;
        }
        Ok(())
    }

    /// The first thing that does not verify, if anything does not.
    pub(super) fn wrong(&self) -> Option<Failure> {
        if let Some(Wrong { part, place, problem, remedy }) = self.damages.first() {
            let problem = format!("something does not verify, first of all: {part}, {place}: {problem}");
            return Some(Failure::new(Exit::Integrity, problem).remedy(*remedy));
        }
        (self.backup.recorded == Some(false)).then(|| {
            Failure::new(Exit::Integrity, "the log has recorded the backup with another SHA-256")
                .remedy("take another copy of the file, and keep this one as evidence")
        })
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn row(what: &str, of: &FirstOf<String>) -> Vec<String> {
    let mut which = of.first.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = of.count.saturating_sub(u64::try_from(SHOWN).unwrap_or(u64::MAX));
    if more > 0 {
        which.push_str(&format!(" and {more} more"));
    }
    vec![what.to_owned(), of.count.to_string(), which]
}
