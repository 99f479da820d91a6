//! Google's Drive activities (Admin SDK Reports API, `activities.list` with `applicationName=drive`), joined with the uses of keys for client-side
//! encryption. There is no id of a request on both sides: they are joined by user, file and time, many to many.
//!
//! Format: <https://developers.google.com/workspace/admin/reports/v1/reference/activities/list>; events and their parameters:
//! <https://developers.google.com/workspace/admin/reports/v1/appendix/activity/drive>.

use super::super::event;
use super::super::source::Source;
use super::Compared;
use crate::app::App;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use holdfast_core::Timestamp;
use holdfast_wire::cse::PROTOCOL;
use holdfast_wire::cse::claim::Application;
use holdfast_wire::cse::path::Method;
use serde::Serialize;
use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes of a file: a page has 1000 activities at most.
const MAX_FILE: u64 = 256 << 20;
/// What stands before a file's id in the name of a resource of Drive's.
const FILES: &str = "//googleapis.com/drive/files/";
/// The events in which somebody has to do with a file's contents.
const CONTENTS: [&str; 9] = [
    "access_item_content",
    "create",
    "download",
    "edit",
    "preview",
    "print",
    "sync_item_content",
    "upload",
    "view",
];
/// Those in which somebody asks to be let in, or is not: a file's contents are not had by these.
const ASKS_FOR_ACCESS: [&str; 3] = ["deny_access_request", "expire_access_request", "request_access"];

const ONLY_THERE: &str = "only at Google";
const REFUSED: &str = "at Google, refused here";
const ONLY_HERE: &str = "only here";

/// By whom and of what file: an address in lower case, an id.
type Whose = (String, String);

/// Something that one side has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    at: Timestamp,
    /// The event's name, or the method.
    what: String,
    /// Here: whether the key was given. There: whether it has to do with the contents of a file that is encrypted.
    counts: bool,
    /// The operation here.
    operation: String,
}

/// What each side has seen, in no order.
type Side = BTreeMap<Whose, Vec<Seen>>;

/// What does not fit.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    found: &'static str,
    time: String,
    user: String,
    file: String,
    what: String,
    operation: String,
}

pub(super) fn run(app: &App, files: &[PathBuf], within: Duration, log: Option<&Path>) -> Result<(), Failure> {
    let mut theirs = Side::new();
    for path in files {
        for activity in read(path)? {
            for (whose, seen) in told(&activity) {
                theirs.entry(whose).or_default().push(seen);
            }
        }
    }
    let times = || theirs.values().flatten().map(|seen| seen.at);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Err(Failure::new(Exit::State, "the files have no activity of Drive with a user and a file")
            .remedy("ask the Reports API for `applicationName=drive` and all users"));
    };
    let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
    let source = Source::open(app, log)?;
    let mut ours = Side::new();
    source.entries(app, 0, |_, entry| {
        if let Some((whose, seen)) = recorded(&event::parse(entry)) {
            ours.entry(whose).or_default().push(seen);
        }
        Ok(true)
    })?;
    let compared = compare(&theirs, &ours, (first, last), within);
    let columns = ["found", "time", "user", "file", "what", "operation"];
    let words = ("uses of keys with an activity of the same user and file", "uses of keys");
    compared.told(app, &columns, words)?;
    match compared.found.iter().filter(|finding| finding.found == ONLY_HERE).count() {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Integrity, format!("{count} uses of keys have no activity at Google"))
            .remedy("look each up with `holdfast audit search --operation`; Google's log comes late and has not everything: docs/protocols/google-cse.md says what this shows")),
    }
}

/// The activities of a file: answers of the API, or activities alone, in any number.
fn read(path: &Path) -> Result<Vec<Value>, Failure> {
    let failed = |error: &std::io::Error| Failure::file("read", path, error);
    let shown = path.display();
    let refused = || {
        Failure::usage(format!("`{shown}` has no activities of Google's"))
            .remedy("give the answers of the Reports API's activities.list as they are, one JSON object after the other")
    };
    if std::fs::metadata(path).map_err(|error| failed(&error))?.len() > MAX_FILE {
        return Err(refused());
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let (mut activities, mut has_more) = (vec![], false);
    for value in Deserializer::from_slice(&bytes).into_iter::<Value>() {
        let mut value = value.map_err(|error| refused().because(&error))?;
        has_more = value.get("nextPageToken").is_some();
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match (&*kind, value.get_mut("items").map(Value::take)) {
            (_, Some(Value::Array(items))) => activities.extend(items),
            ("admin#reports#activity", _) => activities.push(value),
            // A page on which there is nothing.
            ("admin#reports#activities", None) => {}
            (_, _) => return Err(refused()),
        }
    }
    if has_more {
        note(&format!(
            "WARNING: `{shown}` ends with a page that others follow (`nextPageToken`): what is on these is missing"
        ));
    }
    Ok(activities)
}

/// What an activity says of users and files.
fn told(activity: &Value) -> Vec<(Whose, Seen)> {
    let user = event::text(activity, &["actor", "email"]).to_ascii_lowercase();
    let at = clock::moment(event::text(activity, &["id", "time"])).ok();
    let (false, Some(at)) = (user.is_empty(), at) else { return vec![] };
    let events = activity.get("events").and_then(Value::as_array).into_iter().flatten();
    let seen = events.filter_map(|event| {
        let parameters = event.get("parameters").and_then(Value::as_array)?;
        let named = |name: &str| parameters.iter().find(|one| event::text(one, &["name"]) == name);
        let file = event::text(named("doc_id")?, &["value"]).to_owned();
        let what = event::text(event, &["name"]).to_owned();
        let is_encrypted = named("is_encrypted").and_then(|it| it.get("boolValue")?.as_bool()) == Some(true);
        let counts = is_encrypted && CONTENTS.contains(&what.as_str());
        let seen = Seen { at, what, counts, operation: String::new() };
        (!file.is_empty()).then_some(((user.clone(), file), seen))
    });
    seen.collect()
}

/// A record of ours, if it is of a user's key for a file of Drive's.
fn recorded(record: &Value) -> Option<(Whose, Seen)> {
    let text = |path: &[&str]| event::text(record, path);
    let says = |name: &str| text(&["protocol", "says", name]);
    let method = says("method");
    let is_one = text(&["protocol", "name"]) == PROTOCOL.name()
        && says("application") == Application::Drive.name()
        && [Method::Wrap, Method::Unwrap].iter().any(|known| known.name() == method)
        // What goes on for somebody else stands at Google under who knows whose name.
        && says("delegated_to").is_empty();
    let file = says("resource_name").strip_prefix(FILES).filter(|_| is_one)?;
    let seen = Seen {
        at: Timestamp::parse(text(&["time"]))?,
        what: method.to_owned(),
        counts: text(&["outcome"]) == "success",
        operation: text(&["operation"]).to_owned(),
    };
    Some(((says("email").to_ascii_lowercase(), file.to_owned()), seen))
}

/// What does not fit, and how many uses of keys do, or are of another time.
fn compare(
    theirs: &Side,
    ours: &Side,
    (first, last): (Timestamp, Timestamp),
    within: u64,
) -> Compared<Finding> {
    let near = |side: &Side, whose: &Whose, at: Timestamp, is_one: &dyn Fn(&Seen) -> bool| {
        let all = side.get(whose).map(Vec::as_slice).unwrap_or_default();
        all.iter().any(|seen| seen.at.micros().abs_diff(at.micros()) <= within && is_one(seen))
    };
    let finding = |found, (user, file): &Whose, seen: &Seen| Finding {
        found,
        time: seen.at.to_string(),
        user: user.clone(),
        file: file.clone(),
        what: seen.what.clone(),
        operation: seen.operation.clone(),
    };
    // Nearer to an end of the files than that, an activity may be beyond it.
    let (from, to) = (first.micros().saturating_add(within), last.micros().saturating_sub(within));
    let (mut all, mut both, mut before, mut after) = (vec![], 0_u64, 0_u64, 0_u64);
    let each = |side: &'_ Side| -> Vec<(Whose, Seen)> {
        let all =
            side.iter().flat_map(|(whose, seen)| seen.iter().map(move |one| (whose.clone(), one.clone())));
        all.filter(|(_, seen)| seen.counts).collect()
    };
    for (whose, seen) in each(ours) {
        // Whoever Google does not let in can have an activity of that all the same.
        if near(theirs, &whose, seen.at, &|there| !ASKS_FOR_ACCESS.contains(&&*there.what)) {
            both = both.saturating_add(1);
        } else if seen.at.micros() < from {
            before = before.saturating_add(1);
        } else if seen.at.micros() > to {
            after = after.saturating_add(1);
        } else {
            all.push(finding(ONLY_HERE, &whose, &seen));
        }
    }
    for (whose, seen) in each(theirs) {
        if near(ours, &whose, seen.at, &|ours| ours.counts) {
            continue;
        }
        let found = if near(ours, &whose, seen.at, &|_| true) { REFUSED } else { ONLY_THERE };
        all.push(finding(found, &whose, &seen));
    }
    all.sort_by(|one, other| one.time.cmp(&other.time));
    let (from, to) = (first.to_string(), last.to_string());
    Compared { from, to, both, before, after, health_checks: None, found: all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Made by us after the published format; see fixtures/google-cse/README.md.
    const ACTIVITIES: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/google-cse/activities.json");

    fn here(time: &str, method: &str, file: &str, outcome: &str) -> Value {
        json!({
            "time": time, "outcome": outcome, "operation": format!("{method} {file}"),
            "protocol": {"name": "google-cse", "says": {
                "application": "drive", "method": method, "email": "Ana@example.org",
                "resource_name": format!("//googleapis.com/drive/files/{file}"),
            }},
        })
    }

    fn side(records: &[Value]) -> Side {
        let mut side = Side::new();
        for (whose, seen) in records.iter().filter_map(recorded) {
            side.entry(whose).or_default().push(seen);
        }
        side
    }

    fn google() -> Side {
        let mut side = Side::new();
        for (whose, seen) in read(Path::new(ACTIVITIES)).unwrap().iter().flat_map(told) {
            side.entry(whose).or_default().push(seen);
        }
        side
    }

    #[test]
    fn both_sides_are_joined_by_user_file_and_time() {
        let theirs = google();
        assert_eq!(theirs.len(), 6);
        let at = |text: &str| clock::moment(text).unwrap();
        let span = (at("2026-01-15T08:00:00Z"), at("2026-01-15T18:00:00Z"));
        let ours = side(&[
            // One unwrapping, then a view and an edit at Google.
            here("2026-01-15T10:15:02.000000Z", "unwrap", "1opened", "success"),
            here("2026-01-15T10:30:00.000000Z", "unwrap", "1refused", "refused"),
            here("2026-01-15T12:00:00.000000Z", "unwrap", "1quiet", "success"),
            // The same file, twenty minutes after the last of these.
            here("2026-01-15T10:40:00.000000Z", "unwrap", "1opened", "success"),
            // Beyond what the files speak of for sure.
            here("2026-01-15T17:55:00.000000Z", "unwrap", "1late", "success"),
            here("2026-01-15T19:00:00.000000Z", "unwrap", "1late", "success"),
            here("2026-01-14T10:00:00.000000Z", "unwrap", "1early", "success"),
            here("2026-01-14T10:00:00.000000Z", "unwrap", "1early", "refused"),
            // Plain for Google, which counts all the same where somebody used the key.
            here("2026-01-15T11:00:00.000000Z", "wrap", "1plain", "success"),
        ]);
        let compared = compare(&theirs, &ours, span, 600_000_000);
        let found: Vec<_> =
            compared.found.iter().map(|found| (found.found, &*found.file, &*found.what)).collect();
        let expected = [
            (REFUSED, "1refused", "view"),
            (ONLY_HERE, "1opened", "unwrap"),
            (ONLY_HERE, "1quiet", "unwrap"),
            (ONLY_THERE, "1cached", "download"),
        ];
        assert_eq!(found, expected);
        let Compared { from, to, both, before, after, health_checks: _, found: _ } = &compared;
        assert_eq!((both, before, after), (&2, &1, &2));
        assert_eq!((&**from, &**to), ("2026-01-15T08:00:00.000000Z", "2026-01-15T18:00:00.000000Z"));
    }

    /// Whoever has no access at Google has an activity there by asking for it.
    #[test]
    fn asking_for_access_covers_no_use_of_a_key() {
        let at = |text: &str| clock::moment(text).unwrap();
        let span = (at("2026-01-15T08:00:00Z"), at("2026-01-15T18:00:00Z"));
        let uses = side(&[here("2026-01-15T10:15:02.000000Z", "unwrap", "1closed", "success")]);
        for (name, found) in ASKS_FOR_ACCESS.map(|name| (name, 1)).into_iter().chain([("rename", 0)]) {
            let activity = json!({
                "id": {"time": "2026-01-15T10:15:00.000Z"}, "actor": {"email": "ana@example.org"},
                "events": [{"name": name, "parameters": [{"name": "doc_id", "value": "1closed"}]}],
            });
            let mut theirs = Side::new();
            for (whose, seen) in told(&activity) {
                theirs.entry(whose).or_default().push(seen);
            }
            let compared = compare(&theirs, &uses, span, 600_000_000);
            assert!(compared.found.iter().all(|one| one.found == ONLY_HERE));
            assert_eq!((compared.found.len(), compared.both), (found, 1 - found as u64), "{name}");
        }
    }

    #[test]
    fn only_what_a_user_did_with_a_file_is_looked_for() {
        let right = here("2026-01-15T10:15:02.000000Z", "unwrap", "1opened", "success");
        assert!(recorded(&right).is_some());
        for (pointer, value) in [
            ("/protocol/name", "native"),
            ("/protocol/says/application", "meet"),
            ("/protocol/says/method", "digest"),
            ("/protocol/says/method", "privilegedunwrap"),
            ("/protocol/says/resource_name", "//gmail.googleapis.com/gmail/users/x"),
        ] {
            let mut other = right.clone();
            *other.pointer_mut(pointer).unwrap() = value.into();
            assert_eq!(recorded(&other), None, "{pointer} {value}");
        }
        let mut delegated = right;
        delegated["protocol"]["says"]["delegated_to"] = "room@example.org".into();
        assert_eq!(recorded(&delegated), None);
    }

    #[test]
    fn answers_and_single_activities_are_read_and_nothing_else() {
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            read(file.path()).map(|all| all.len()).ok()
        };
        let one = r#"{"kind":"admin#reports#activity","id":{},"events":[]}"#;
        let page =
            format!(r#"{{"kind":"admin#reports#activities","items":[{one},{one}],"nextPageToken":"x"}}"#);
        assert_eq!(read(&format!("{page}\n{page}\n")), Some(4));
        assert_eq!(read(&format!("{one}\n{one}\n{one}\n")), Some(3));
        assert_eq!(read(r#"{"kind":"admin#reports#activities"}"#), Some(0));
        for bad in ["[]", "{}", "x", r#"{"Records":[]}"#, &page[1..]] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
