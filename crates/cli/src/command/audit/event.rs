//! Records as a person reads them.

use crate::app::App;
use crate::failure::Failure;
use crate::output;
use serde_json::Value;

/// A text in a record, by its path.
pub(super) fn text<'v>(event: &'v Value, path: &[&str]) -> &'v str {
    let mut value = event;
    for name in path {
        value = value.get(name).unwrap_or(&Value::Null);
    }
    value.as_str().unwrap_or_default()
}

/// A record as JSON; `null` where it is none.
pub(super) fn parse(entry: &[u8]) -> Value {
    serde_json::from_slice(entry).unwrap_or_default()
}

/// One line of the record, or the record itself for programs: one JSON object a line.
pub(super) fn show(app: &App, index: u64, entry: &[u8]) -> Result<(), Failure> {
    if app.printer.is_json() {
        let mut line = entry.to_vec();
        line.push(b'\n');
        return output::show_stdout(&line);
    }
    app.printer.entry(&output::printable(&line(index, &parse(entry))))
}

fn line(index: u64, event: &Value) -> String {
    let key = text(event, &["key", "name"]);
    let version = event.get("key").and_then(|key| key.get("version")).and_then(Value::as_u64);
    let about = match (key, version) {
        ("", _) => text(event, &["subject"]).to_owned(),
        (key, Some(version)) => format!("{key}/{version}"),
        (key, None) => key.to_owned(),
    };
    let outcome = match (text(event, &["outcome"]), text(event, &["reason"])) {
        (outcome, "") => outcome.to_owned(),
        (outcome, reason) => format!("{outcome}: {reason}"),
    };
    let alarm = match text(event, &["alarm"]) {
        "" => String::new(),
        alarm => format!("  ALARM {alarm}"),
    };
    format!(
        "{index:>6}  {}  {}  {:<16} {:<14} {:<20} {outcome}{alarm}",
        text(event, &["time"]),
        text(event, &["operation"]),
        text(event, &["caller", "name"]),
        text(event, &["action"]),
        about,
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let event = serde_json::json!({
            "time": "2026-11-23T19:03:17.123456Z", "operation": "00000000000000000000000000",
            "caller": { "name": "payroll" }, "action": "decrypt", "key": { "name": "kek", "version": 2 },
            "outcome": "refused", "reason": "integrity"
        });
        assert_eq!(
            line(7, &event),
            "     7  2026-11-23T19:03:17.123456Z  00000000000000000000000000  payroll          decrypt        kek/2                refused: integrity"
        );
        assert!(line(7, &Value::Null).starts_with("     7"));
    }
}
