//! CloudTrail's events of AWS KMS, joined with the log by the id of their request.

use super::super::event;
use super::super::source::Source;
use super::Compared;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use serde::Serialize;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most bytes of a file of CloudTrail's: it writes them much smaller.
const MAX_FILE: u64 = 256 << 20;

/// Operations for which KMS asks an external key store (specification, "kmsOperation").
const ASKING: [&str; 6] =
    ["Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt", "CreateKey"];

/// What one side has seen of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    time: String,
    operation: String,
    principal: String,
    key: String,
    succeeded: bool,
}

/// What does not fit.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    request: String,
    found: &'static str,
    time: String,
    operation: String,
    principal: String,
    key: String,
}

const ONLY_THERE: &str = "only in CloudTrail";
const ONLY_HERE: &str = "only here";
const NOT_GIVEN: &str = "succeeded there, refused here";

/// Compares these files with the log, for the KMS keys that the log knows and for these.
pub(super) fn run(
    app: &App,
    cloudtrail: &[PathBuf],
    kms_keys: Vec<String>,
    log: Option<&Path>,
) -> Result<(), Failure> {
    let (mut theirs, mut times) = (BTreeMap::new(), BTreeSet::new());
    for path in cloudtrail {
        for (id, seen) in read(path)? {
            times.insert(seen.time.clone());
            note_seen(&mut theirs, id, seen);
        }
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err(Failure::new(Exit::State, "the files have no event of KMS that would ask a key store")
            .remedy("give CloudTrail's management events of the account that owns the KMS keys"));
    };
    let source = Source::open(app, log)?;
    let (mut ours, mut keys) = (BTreeMap::new(), kms_keys.into_iter().collect::<BTreeSet<_>>());
    let (mut before, mut after) = (0_u64, 0_u64);
    source.entries(app, 0, |_, entry| {
        let record = event::parse(entry);
        if let Some((id, seen)) = recorded(&record) {
            keys.insert(seen.key.clone());
            match when(&seen.time, (first, last)) {
                // What both have belongs together, whatever their clocks say.
                _ if theirs.contains_key(&id) => note_seen(&mut ours, id, seen),
                Ordering::Equal => note_seen(&mut ours, id, seen),
                Ordering::Less => before = before.saturating_add(1),
                Ordering::Greater => after = after.saturating_add(1),
            }
        }
        Ok(true)
    })?;
    keys.remove("");
    let both = theirs.keys().filter(|id| ours.contains_key(*id)).count();
    let both = u64::try_from(both).unwrap_or(u64::MAX);
    let found = compare(&theirs, &ours, &keys);
    let compared = Compared { from: first.clone(), to: last.clone(), both, before, after, found };
    let columns = ["found", "time", "operation", "principal", "key", "request"];
    compared.told(app, &columns, ("requests on both sides", "records of the log"))?;
    match compared.found.len() {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Integrity, format!("{count} requests do not fit"))
            .remedy("look each up on the side that has it: `holdfast audit search`, CloudTrail's console; events that CloudTrail has not delivered yet come within minutes")),
    }
}

/// Whether a time is before this span, in it or after it. CloudTrail's times are whole seconds.
fn when(time: &str, (first, last): (&str, &str)) -> Ordering {
    let (time, first, last) = (time.get(..19), first.get(..19), last.get(..19));
    if time < first {
        Ordering::Less
    } else if time > last {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// The first that was seen of a request; it succeeded if any of it did (a `ReEncrypt` asks twice).
fn note_seen(all: &mut BTreeMap<String, Seen>, id: String, seen: Seen) {
    let succeeded = seen.succeeded;
    all.entry(id).or_insert(seen).succeeded |= succeeded;
}

fn read(path: &Path) -> Result<Vec<(String, Seen)>, Failure> {
    let failed = |error: &std::io::Error| Failure::file("read", path, error);
    let refused = || {
        Failure::usage(format!("`{}` is no file of CloudTrail's", path.display()))
            .remedy("give it unpacked (`gunzip`), as CloudTrail wrote it: one JSON object with `Records`")
    };
    if std::fs::metadata(path).map_err(|error| failed(&error))?.len() > MAX_FILE {
        return Err(refused());
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let whole: Value = serde_json::from_slice(&bytes).map_err(|error| refused().because(&error))?;
    let records = whole.get("Records").and_then(Value::as_array).ok_or_else(refused)?;
    Ok(records.iter().filter_map(told).collect())
}

/// An event of CloudTrail's, if it is of an operation that asks a key store.
fn told(record: &Value) -> Option<(String, Seen)> {
    let text = |path: &[&str]| event::text(record, path).to_owned();
    let operation = text(&["eventName"]);
    if text(&["eventSource"]) != "kms.amazonaws.com" || !ASKING.contains(&operation.as_str()) {
        return None;
    }
    let id = text(&["requestID"]);
    let resources = record.get("resources").and_then(Value::as_array).into_iter().flatten();
    let key = resources.map(|resource| event::text(resource, &["ARN"])).find(|arn| arn.contains(":key/"));
    let seen = Seen {
        time: text(&["eventTime"]),
        operation,
        principal: text(&["userIdentity", "arn"]),
        key: key.unwrap_or_default().to_owned(),
        succeeded: record.get("errorCode").is_none_or(Value::is_null),
    };
    (!id.is_empty()).then_some((id, seen))
}

/// A record of ours, if it is of an external key store's request.
fn recorded(record: &Value) -> Option<(String, Seen)> {
    let text = |path: &[&str]| event::text(record, path).to_owned();
    let id = text(&["protocol", "request"]);
    let seen = Seen {
        time: text(&["time"]),
        operation: text(&["protocol", "says", "kmsOperation"]),
        principal: text(&["protocol", "says", "awsPrincipalArn"]),
        key: text(&["protocol", "says", "kmsKeyArn"]),
        succeeded: text(&["outcome"]) == "success",
    };
    let is_one = text(&["protocol", "name"]) == holdfast_wire::xks::PROTOCOL.name() && !id.is_empty();
    is_one.then_some((id, seen))
}

fn compare(
    theirs: &BTreeMap<String, Seen>,
    ours: &BTreeMap<String, Seen>,
    keys: &BTreeSet<String>,
) -> Vec<Finding> {
    let finding = |id: &str, seen: &Seen, found| Finding {
        request: id.to_owned(),
        found,
        time: seen.time.clone(),
        operation: seen.operation.clone(),
        principal: seen.principal.clone(),
        key: seen.key.clone(),
    };
    let mut all = Vec::new();
    for (id, seen) in theirs.iter().filter(|(_, seen)| keys.contains(&seen.key)) {
        match ours.get(id) {
            // What failed there may have failed before it came to us.
            None if seen.succeeded => all.push(finding(id, seen, ONLY_THERE)),
            Some(here) if seen.succeeded && !here.succeeded => all.push(finding(id, seen, NOT_GIVEN)),
            None | Some(_) => {}
        }
    }
    all.extend(
        ours.iter()
            .filter(|(id, _)| !theirs.contains_key(*id))
            .map(|(id, seen)| finding(id, seen, ONLY_HERE)),
    );
    all.sort_by(|one, other| one.time.cmp(&other.time));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e";

    fn there(id: &str, name: &str, error: Option<&str>) -> Value {
        json!({
            "eventSource": "kms.amazonaws.com", "eventName": name, "eventTime": "2026-01-15T10:15:00Z", "requestID": id,
            "userIdentity": {"arn": "arn:aws:iam::111122223333:role/a"}, "errorCode": error,
            "resources": [{"ARN": "arn:aws:kms:eu-central-1:111122223333:alias/x"}, {"ARN": KEY}],
        })
    }

    fn here(id: &str, outcome: &str) -> Value {
        json!({
            "time": "2026-01-15T10:15:00.123456Z", "outcome": outcome,
            "protocol": {"name": "aws-xks", "request": id, "says": {"kmsOperation": "Decrypt", "kmsKeyArn": KEY}},
        })
    }

    #[test]
    fn what_only_one_side_has_seen_is_found() {
        let theirs: BTreeMap<_, _> = [
            there("both", "Decrypt", None),
            there("lost", "GenerateDataKey", None),
            there("failed-there", "Decrypt", Some("AccessDenied")),
            there("refused-here", "Decrypt", None),
            there("", "Decrypt", None),
            there("none-of-ours", "ListKeys", None),
        ]
        .iter()
        .filter_map(told)
        .collect();
        let mut ours = BTreeMap::new();
        for record in [
            here("both", "success"),
            here("refused-here", "refused"),
            here("forged", "success"),
            here("", "success"),
            json!({"protocol": {"name": "native", "request": "native"}}),
        ] {
            if let Some((id, seen)) = recorded(&record) {
                note_seen(&mut ours, id, seen);
            }
        }
        let keys = BTreeSet::from([KEY.to_owned()]);
        let found: Vec<_> =
            compare(&theirs, &ours, &keys).into_iter().map(|found| (found.request, found.found)).collect();
        let expected = [("forged", ONLY_HERE), ("lost", ONLY_THERE), ("refused-here", NOT_GIVEN)]
            .map(|(id, found)| (id.to_owned(), found));
        assert_eq!(found, expected);
        // Of keys that are none of this store's nothing is said.
        assert!(compare(&theirs, &BTreeMap::new(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_request_that_asks_twice_is_one() {
        let mut ours = BTreeMap::new();
        for outcome in ["refused", "success"] {
            let (id, seen) = recorded(&here("re-encrypt", outcome)).unwrap();
            note_seen(&mut ours, id, seen);
        }
        assert!(ours["re-encrypt"].succeeded && ours.len() == 1);
    }
}
