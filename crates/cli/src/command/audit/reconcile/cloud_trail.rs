//! CloudTrail's events of AWS KMS, joined with the log by the id of their request.

use super::super::event;
use super::super::source::Source;
use super::Compared;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::Timestamp;
use holdfast_core::action::Action;
use holdfast_core::event::MAX_TEXT;
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
    /// Each that it was for: a `ReEncrypt` is for two.
    keys: Vec<String>,
    succeeded: bool,
    /// What AWS calls the reason why it failed; of ours nothing.
    error: String,
}

impl Seen {
    /// Whether a record of ours can be of this request.
    fn is_of(&self, here: &Self) -> bool {
        let same = |there: &str, here: &str| there.is_empty() || here.is_empty() || there == here;
        let keys = self.keys.is_empty() || here.keys.iter().all(|key| self.keys.contains(key));
        // The one may name a role and the other its session: the account is the same.
        keys && same(&self.operation, &here.operation)
            && same(account(&self.principal), account(&here.principal))
    }

    /// How often a store with these keys is asked for it: a `ReEncrypt` that names one key may be from it to it.
    fn asks(&self, keys: &BTreeSet<String>) -> usize {
        let of_ours = self.keys.iter().filter(|key| keys.contains(*key)).count();
        if self.operation == "ReEncrypt" && (self.keys.len() < 2 || of_ours > 1) { 2 } else { 1 }
    }
}

/// The account of an ARN; empty for a service's.
fn account(arn: &str) -> &str {
    if arn.starts_with("arn:") { arn.split(':').nth(4).unwrap_or_default() } else { "" }
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
    /// By AWS's own name, where it says that the request failed.
    error: String,
}

const ONLY_THERE: &str = "only in CloudTrail";
const ONLY_HERE: &str = "only here";
const NOT_GIVEN: &str = "succeeded there, refused here";
const FAILED_THERE: &str = "succeeded here, failed there";
const DIFFERS: &str = "for something else here";
const MORE_OFTEN: &str = "more often here";
/// More often too, but KMS may have asked once more, as after an answer that came too late.
const AGAIN: &str = "asked again here";

/// How long after the first answer, in microseconds, KMS may ask the same once more: it gives a store up after a quarter of a second, and a caller some time
/// later. Whoever learns the id of a request from CloudTrail learns it minutes later.
const AGAIN_WITHIN: u64 = 10_000_000;

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
    let (mut before, mut after, mut health_checks) = (0_u64, 0_u64, 0_u64);
    source.entries(app, 0, |_, entry| {
        let record = event::parse(entry);
        if is_health_check(&record) {
            health_checks = health_checks.saturating_add(1);
        } else if let Some((id, seen)) = recorded(&record) {
            keys.extend(seen.keys.iter().cloned());
            match when(&seen.time, (first, last)) {
                // What both have belongs together, whatever their clocks say.
                _ if theirs.contains_key(&id) => ours.entry(id).or_insert_with(Vec::new).push(seen),
                Ordering::Equal => ours.entry(id).or_insert_with(Vec::new).push(seen),
                Ordering::Less => before = before.saturating_add(1),
                Ordering::Greater => after = after.saturating_add(1),
            }
        }
        Ok(true)
    })?;
    let both = theirs.keys().filter(|id| ours.contains_key(*id)).count();
    let both = u64::try_from(both).unwrap_or(u64::MAX);
    let found = compare(&theirs, &ours, &keys);
    let (from, to, health_checks) = (first.clone(), last.clone(), Some(health_checks));
    let compared = Compared { from, to, both, before, after, health_checks, found };
    let columns = ["found", "time", "operation", "principal", "key", "request", "error"];
    compared.told(app, &columns, ("requests on both sides", "records of the log"))?;
    match compared.found.len() {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Integrity, format!("{count} requests do not fit"))
            .remedy(remedy(&compared.found))),
    }
}

/// What to do about these.
fn remedy(found: &[Finding]) -> String {
    let mut remedy = "look each up on the side that has it: `holdfast audit search`, CloudTrail's console; events that CloudTrail has not delivered yet come within minutes".to_owned();
    if found.iter().any(|finding| finding.found == FAILED_THERE) {
        remedy.push_str("; one that succeeded here and failed there may be of KMS that had stopped waiting for our answer, or failed after it: judge by AWS's error, since what AWS refused to its caller it has no reason to ask a store for");
    }
    remedy
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

/// What CloudTrail says of a request; it may say it to the owner of each key.
fn note_seen(all: &mut BTreeMap<String, Seen>, id: String, mut seen: Seen) {
    let (succeeded, keys) = (seen.succeeded, std::mem::take(&mut seen.keys));
    let noted = all.entry(id).or_insert(seen);
    noted.succeeded |= succeeded;
    noted.keys.extend(keys);
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
    let mut id = text(&["requestID"]);
    // As our records have it.
    id.truncate(id.floor_char_boundary(MAX_TEXT));
    let resources = record.get("resources").and_then(Value::as_array).into_iter().flatten();
    let arns = resources.map(|resource| event::text(resource, &["ARN"]));
    let keys = arns.filter(|arn| arn.contains(":key/")).map(str::to_owned).collect();
    let seen = Seen {
        time: text(&["eventTime"]),
        operation,
        principal: text(&["userIdentity", "arn"]),
        keys,
        succeeded: record.get("errorCode").is_none_or(Value::is_null),
        error: text(&["errorCode"]),
    };
    (!id.is_empty()).then_some((id, seen))
}

/// Whether a record of ours is of a health check, of which only refusals have one. Its action says so, which is ours to say: `kmsOperation` is the word of
/// whoever asks.
fn is_health_check(record: &Value) -> bool {
    event::text(record, &["protocol", "name"]) == holdfast_wire::xks::PROTOCOL.name()
        && event::text(record, &["action"]) == Action::ReadStatus.name()
}

/// A record of ours, if it is of an external key store's request.
fn recorded(record: &Value) -> Option<(String, Seen)> {
    let text = |path: &[&str]| event::text(record, path).to_owned();
    let id = text(&["protocol", "request"]);
    let seen = Seen {
        time: text(&["time"]),
        operation: text(&["protocol", "says", "kmsOperation"]),
        principal: text(&["protocol", "says", "awsPrincipalArn"]),
        keys: Some(text(&["protocol", "says", "kmsKeyArn"]))
            .filter(|key| !key.is_empty())
            .into_iter()
            .collect(),
        succeeded: text(&["outcome"]) == "success",
        error: String::new(),
    };
    // What had no id and was given all the same is nobody's of AWS's.
    let is_one = text(&["protocol", "name"]) == holdfast_wire::xks::PROTOCOL.name()
        && (!id.is_empty() || seen.succeeded);
    is_one.then_some((id, seen))
}

fn compare(
    theirs: &BTreeMap<String, Seen>,
    ours: &BTreeMap<String, Vec<Seen>>,
    keys: &BTreeSet<String>,
) -> Vec<Finding> {
    let finding = |id: &str, seen: &Seen, found| Finding {
        request: id.to_owned(),
        found,
        time: seen.time.clone(),
        operation: seen.operation.clone(),
        principal: seen.principal.clone(),
        key: seen
            .keys
            .iter()
            .find(|key| keys.contains(*key))
            .or(seen.keys.first())
            .cloned()
            .unwrap_or_default(),
        error: String::new(),
    };
    let mut all = Vec::new();
    for (id, seen) in theirs {
        let of_ours = seen.keys.iter().any(|key| keys.contains(key));
        match ours.get(id) {
            // What failed there may have failed before it came to us.
            None if seen.succeeded && of_ours => all.push(finding(id, seen, ONLY_THERE)),
            Some(here) if seen.succeeded && of_ours && here.iter().all(|here| !here.succeeded) => {
                all.push(finding(id, seen, NOT_GIVEN));
            }
            None | Some(_) => {}
        }
    }
    for (id, here) in ours {
        match theirs.get(id) {
            None => all.extend(here.first().map(|seen| finding(id, seen, ONLY_HERE))),
            // Whoever has a credential of the store may give the id of somebody else's request.
            Some(there) => {
                let (same, other): (Vec<_>, Vec<_>) = here.iter().partition(|seen| there.is_of(seen));
                all.extend(other.into_iter().map(|seen| finding(id, seen, DIFFERS)));
                let given: Vec<_> = same.into_iter().filter(|seen| seen.succeeded).collect();
                if there.succeeded {
                    let more = more_often(given, there.asks(keys));
                    all.extend(more.map(|(seen, found)| finding(id, seen, found)));
                } else {
                    // Whoever may do nothing in AWS has the id of a request of theirs all the same. None of it is as AWS says.
                    let of_each =
                        |seen| Finding { error: there.error.clone(), ..finding(id, seen, FAILED_THERE) };
                    all.extend(given.into_iter().map(of_each));
                }
            }
        }
    }
    all.sort_by(|one, other| one.time.cmp(&other.time));
    all
}

/// What succeeded more often than a request asks for: each of its questions may have been asked once more, soon after the first.
fn more_often(mut given: Vec<&Seen>, asks: usize) -> impl Iterator<Item = (&Seen, &'static str)> {
    given.sort_by(|one, other| one.time.cmp(&other.time));
    let at = |seen: &Seen| Timestamp::parse(&seen.time).map(Timestamp::micros);
    let until = given.first().and_then(|first| at(first)).map(|first| first.saturating_add(AGAIN_WITHIN));
    given.into_iter().enumerate().skip(asks).map(move |(number, seen)| {
        let is_soon = at(seen).zip(until).is_some_and(|(at, until)| at <= until);
        (seen, if is_soon && number < asks.saturating_mul(2) { AGAIN } else { MORE_OFTEN })
    })
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

    fn noted(records: &[Value]) -> BTreeMap<String, Vec<Seen>> {
        let mut ours = BTreeMap::new();
        for (id, seen) in records.iter().filter_map(recorded) {
            ours.entry(id).or_insert_with(Vec::new).push(seen);
        }
        ours
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
        let ours = noted(&[
            here("both", "success"),
            here("refused-here", "refused"),
            here("forged", "success"),
            here("", "success"),
            here("", "refused"),
            json!({"protocol": {"name": "native", "request": "native"}}),
        ]);
        let keys = BTreeSet::from([KEY.to_owned()]);
        let found: Vec<_> =
            compare(&theirs, &ours, &keys).into_iter().map(|found| (found.request, found.found)).collect();
        let expected =
            [("", ONLY_HERE), ("forged", ONLY_HERE), ("lost", ONLY_THERE), ("refused-here", NOT_GIVEN)]
                .map(|(id, found)| (id.to_owned(), found));
        assert_eq!(found, expected);
        // Of keys that are none of this store's nothing is said.
        assert!(compare(&theirs, &BTreeMap::new(), &BTreeSet::new()).is_empty());
    }

    /// Whoever has a credential may give the id of a request that there was.
    #[test]
    fn an_id_that_is_given_for_something_else_or_more_often_hides_nothing() {
        const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/0000";
        let theirs: BTreeMap<_, _> =
            [there("id", "Decrypt", None), there("role", "Decrypt", None)].iter().filter_map(told).collect();
        let saying = |id: &str, says: &str, what: &str| {
            let mut record = here(id, "success");
            record["protocol"]["says"][says] = what.into();
            record
        };
        let ours = noted(&[
            here("id", "success"),
            here("id", "refused"),
            saying("id", "kmsKeyArn", OTHER),
            saying("id", "kmsOperation", "Encrypt"),
            saying("id", "awsPrincipalArn", "arn:aws:iam::999999999999:user/thief"),
            saying("role", "awsPrincipalArn", "arn:aws:sts::111122223333:assumed-role/a/session"),
        ]);
        let found = compare(&theirs, &ours, &BTreeSet::from([KEY.to_owned()]));
        let found: Vec<_> = found.iter().map(|found| (found.request.as_str(), found.found)).collect();
        assert_eq!(found, [("id", DIFFERS), ("id", DIFFERS), ("id", DIFFERS)]);
    }

    /// A thief with a credential of the store, and no right in AWS, has an id that CloudTrail knows: of a request that was refused to them.
    #[test]
    fn what_aws_refused_hides_nothing_that_was_given_here() {
        let mut bare = there("bare", "Decrypt", Some("AccessDenied"));
        bare["resources"] = Value::Null;
        bare["userIdentity"] = json!({"type": "AWSAccount", "accountId": "999999999999"});
        let mut owner = there("shared", "Decrypt", None);
        owner["userIdentity"] = json!({"type": "AWSAccount"});
        let mut theirs = BTreeMap::new();
        for event in [
            there("denied", "Decrypt", Some("AccessDenied")),
            bare,
            there("late", "Decrypt", Some("KMSInvalidStateException")),
            there("refused", "Decrypt", Some("KMSInvalidStateException")),
            there("other", "Decrypt", Some("AccessDenied")),
            // CloudTrail says it to the owner of the key too: of these one is enough.
            there("shared", "Decrypt", Some("KMSInternalException")),
            owner,
        ] {
            let (id, seen) = told(&event).unwrap();
            note_seen(&mut theirs, id, seen);
        }
        let mut other = here("other", "success");
        other["protocol"]["says"]["kmsOperation"] = "Encrypt".into();
        let ours = noted(&[
            here("denied", "success"),
            here("denied", "success"),
            here("bare", "success"),
            here("late", "success"),
            here("refused", "refused"),
            other,
            here("shared", "success"),
        ]);
        let found = compare(&theirs, &ours, &BTreeSet::from([KEY.to_owned()]));
        let mut told: Vec<_> = found.iter().map(|one| (&*one.request, one.found, &*one.error)).collect();
        told.sort_unstable();
        let expected = [
            ("bare", FAILED_THERE, "AccessDenied"),
            ("denied", FAILED_THERE, "AccessDenied"),
            ("denied", FAILED_THERE, "AccessDenied"),
            ("late", FAILED_THERE, "KMSInvalidStateException"),
            ("other", DIFFERS, ""),
        ];
        assert_eq!(told, expected);
        assert!(remedy(&found).contains("had stopped waiting for our answer"));
        assert!(!remedy(&[]).contains("stopped waiting"));
    }

    /// KMS may not have had the first answer in time. Whoever asks once more than that, or later, is not KMS.
    #[test]
    fn what_is_asked_once_more_at_once_is_told_from_what_is_asked_later_or_more_often() {
        let theirs: BTreeMap<_, _> = [there("id", "Decrypt", None)].iter().filter_map(told).collect();
        let found = |seconds: &[&str]| {
            let records: Vec<_> = seconds
                .iter()
                .map(|second| {
                    let mut record = here("id", "success");
                    record["time"] = format!("2026-01-15T10:15:{second}Z").into();
                    record
                })
                .collect();
            let found = compare(&theirs, &noted(&records), &BTreeSet::from([KEY.to_owned()]));
            found.iter().map(|found| (found.found, found.time[17..19].to_owned())).collect::<Vec<_>>()
        };
        let one = |found, second: &str| (found, second.to_owned());
        assert_eq!(found(&["00.123456"]), []);
        assert_eq!(found(&["00.123456", "10.123456"]), [one(AGAIN, "10")]);
        assert_eq!(found(&["10.123457", "00.123456"]), [one(MORE_OFTEN, "10")]);
        assert_eq!(
            found(&["00.123456", "01.000000", "02.000000"]),
            [one(AGAIN, "01"), one(MORE_OFTEN, "02")]
        );
    }

    /// A record has no more of an id.
    #[test]
    fn an_id_that_a_record_has_cut_is_the_same_one() {
        let long = format!("x{}", "é".repeat(1000));
        let theirs: BTreeMap<_, _> = [there(&long, "Decrypt", None)].iter().filter_map(told).collect();
        let ours = noted(&[here(&format!("x{}", "é".repeat(127)), "success")]);
        assert_eq!(compare(&theirs, &ours, &BTreeSet::from([KEY.to_owned()])), []);
    }

    /// What a thief calls a health check is none.
    #[test]
    fn a_health_check_is_known_by_what_was_asked_here() {
        let mut check = here("check", "refused");
        check["action"] = "read-status".into();
        assert!(is_health_check(&check));
        let mut called_so = here("called so", "success");
        called_so["action"] = "decrypt".into();
        called_so["protocol"]["says"]["kmsOperation"] = "KmsHealthCheck".into();
        assert!(!is_health_check(&called_so));
        check["protocol"]["name"] = "azure-ekm".into();
        assert!(!is_health_check(&check));
    }

    #[test]
    fn a_request_for_two_keys_is_ours_by_either_and_asks_twice() {
        let mut event = there("re-encrypt", "ReEncrypt", None);
        let source = "arn:aws:kms:eu-central-1:111122223333:key/source";
        event["resources"] = json!([{"ARN": source}, {"ARN": KEY}]);
        let theirs: BTreeMap<_, _> = [event].iter().filter_map(told).collect();
        let keys = BTreeSet::from([KEY.to_owned()]);
        let missing = compare(&theirs, &BTreeMap::new(), &keys);
        assert!(matches!(&missing[..], [one] if one.found == ONLY_THERE && one.key == KEY), "{missing:?}");
        let mut record = here("re-encrypt", "success");
        record["protocol"]["says"]["kmsOperation"] = "ReEncrypt".into();
        let twice = noted(&[record.clone(), here("none", "refused"), record.clone()]);
        let both = BTreeSet::from([source.to_owned(), KEY.to_owned()]);
        let found = compare(&theirs, &twice, &both);
        assert!(matches!(&found[..], [one] if one.found == ONLY_HERE && one.request == "none"), "{found:?}");
        // A store that has one of them is asked once.
        let often = noted(&vec![record; 5]);
        for (keys, expected) in [
            (&both, &[AGAIN, AGAIN, MORE_OFTEN][..]),
            (&keys, &[AGAIN, MORE_OFTEN, MORE_OFTEN, MORE_OFTEN][..]),
        ] {
            let found: Vec<_> = compare(&theirs, &often, keys).into_iter().map(|one| one.found).collect();
            assert_eq!(found, expected);
        }
    }
}
