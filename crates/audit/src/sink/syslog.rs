//! Syslog messages (RFC 5424), framed by octet counting (RFC 5425 §4.3).
//!
//! ```text
//! LENGTH <PRI>1 TIME HOSTNAME holdfast - ACTION
//!     [log@PEN origin="…" index="…" leaf="…"]
//!     [event@PEN operation="…" action="…" outcome="…" reason="…" tenant="…" caller="…" key="…"] BOM ENTRY
//! ```
//!
//! A message is made of the entry and the settings alone, so one that is sent twice is the same twice.

use super::Record;
use holdfast_core::ErrorKind;
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Log audit (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;
const APP_NAME: &str = "holdfast";
/// The number that is for documentation and examples (RFC 5612).
pub const EXAMPLE_ENTERPRISE: u32 = 32473;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a syslog sink is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST:PORT` of the receiver; RFC 5425 names port 6514.
    pub address: String,
    /// The name that its certificate must have; empty: the host of the address.
    pub server_name: String,
    /// The authorities that may vouch for it, PEM; read again with each session.
    pub ca_file: PathBuf,
    /// Our certificate and its key, PEM, if it asks for one; read again with each session.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What the messages say besides the entry.
    pub format: Format,
    /// How long a session may last: when it ends, the receiver has shown that it read everything.
    pub session: Duration,
    /// How long nothing may move before the receiver is given up.
    pub stall: Duration,
}

/// What messages say besides the entry.
#[derive(Clone, Debug)]
pub struct Format {
    /// HOSTNAME; empty: the origin up to its first `/`.
    pub hostname: String,
    /// The private enterprise number of the structured data's names.
    pub enterprise: u32,
}

/// How serious a message is (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The gateway failed.
    Error,
    /// Refused, or somebody should look.
    Warning,
    /// Done.
    Notice,
}

impl Severity {
    /// Its number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
        }
    }

    fn of_refusal(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Malformed
            | ErrorKind::TooLarge
            | ErrorKind::Unauthenticated
            | ErrorKind::Denied
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::KeyState
            | ErrorKind::Unsupported
            | ErrorKind::Integrity
            | ErrorKind::BudgetExhausted
            | ErrorKind::Stopped
            | ErrorKind::Throttled => Self::Warning,
            ErrorKind::Deadline
            | ErrorKind::KeyStoreUnavailable
            | ErrorKind::StateUnavailable
            | ErrorKind::AuditUnavailable
            | ErrorKind::Sealed
            | ErrorKind::Internal => Self::Error,
        }
    }
}

/// How serious an event is. One that this build cannot read is a warning.
fn severity(event: &Value) -> Severity {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    match text("outcome") {
        Some("success" | "intent") if event.get("alarm").is_none() => Severity::Notice,
        Some("refused") => {
            let kind = ErrorKind::ALL.into_iter().find(|kind| Some(kind.code()) == text("reason"));
            kind.map_or(Severity::Warning, Severity::of_refusal)
        }
        Some(_) | None => Severity::Warning,
    }
}

/// Appends the frame of an entry: its message, preceded by the message's length.
pub fn push_frame(format: &Format, record: &Record, out: &mut Vec<u8>) {
    let message = message(format, record);
    // Writing to a vector does not fail.
    let _ = write!(out, "{} ", message.len());
    out.extend_from_slice(&message);
}

/// The message of an entry.
#[must_use]
pub fn message(format: &Format, record: &Record) -> Vec<u8> {
    let Record { origin, index, leaf, entry } = record;
    let event: Value = serde_json::from_slice(entry).unwrap_or_default();
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let named = |name: &str| event.get(name).and_then(|inner| inner.get("name")).and_then(Value::as_str);
    let priority = FACILITY * 8 + severity(&event).code();
    let hostname = match format.hostname.as_str() {
        "" => origin.split('/').next().unwrap_or_default(),
        hostname => hostname,
    };
    let (time, hostname) = (text("time").filter(|time| is_timestamp(time)), header(hostname, 255));
    let action = header(text("action").unwrap_or_default(), 32);
    let mut out = Vec::with_capacity(entry.len() + 512);
    let time = time.unwrap_or("-");
    let _ = write!(out, "<{priority}>1 {time} {hostname} {APP_NAME} - {action} ");
    let pen = format.enterprise;
    let _ = write!(out, "[log@{pen}");
    push_param(&mut out, "origin", origin);
    let _ = write!(out, " index=\"{index}\" leaf=\"{leaf:?}\"]");
    let params = [
        ("operation", text("operation")),
        ("action", text("action")),
        ("outcome", text("outcome")),
        ("reason", text("reason")),
        ("tenant", text("tenant")),
        ("caller", named("caller")),
        ("key", named("key")),
    ];
    if params.iter().any(|(_, value)| value.is_some()) {
        let _ = write!(out, "[event@{pen}");
        for (name, value) in params {
            value.into_iter().for_each(|value| push_param(&mut out, name, value));
        }
        out.push(b']');
    }
    out.push(b' ');
    out.extend_from_slice(BOM);
    out.extend_from_slice(entry);
    out
}

/// A field of the header: printable ASCII without spaces, cut to `max`; `-` for nothing.
fn header(text: &str, max: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// ` NAME="VALUE"`: `"`, `\` and `]` are escaped, and nothing else (RFC 5424 §6.3.3).
fn push_param(out: &mut Vec<u8>, name: &str, value: &str) {
    let _ = write!(out, " {name}=\"");
    for byte in value.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Whether it is what events have as their time, which is a TIMESTAMP too: `2026-11-23T19:03:17.123456Z`.
fn is_timestamp(text: &str) -> bool {
    const SHAPE: &str = "0000-00-00T00:00:00.000000Z";
    let fits = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == SHAPE.len() && text.bytes().zip(SHAPE.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;
    use proptest::prelude::*;
    use std::sync::Arc;

    const FORMAT: Format = Format { hostname: String::new(), enterprise: EXAMPLE_ENTERPRISE };

    #[test]
    fn a_time_has_the_one_shape_that_events_give_it() {
        let time = "2026-11-23T19:03:17.123456Z";
        assert!(is_timestamp(time));
        for at in 0..time.len() {
            let changed = format!("{}x{}", &time[..at], &time[at + 1..]);
            assert!(!is_timestamp(&changed) && !is_timestamp(&time[..at]), "{changed}");
        }
        assert!(!is_timestamp(&format!("{time}Z")));
    }

    fn record(entry: &str) -> Record {
        let entry = entry.as_bytes().to_vec();
        let origin = Arc::from("audit.example.org/01J/acme");
        Record { origin, index: 5, leaf: leaf_hash(&entry), entry }
    }

    fn written(entry: &str) -> String {
        String::from_utf8(message(&FORMAT, &record(entry))).unwrap()
    }

    /// Follows the example of `docs/events.md`.
    #[test]
    fn a_message_is_this() {
        let entry = r#"{"v":1,"operation":"01JDCZRGZKA9Q6W8T2V4X6Y8Z0","time":"2026-11-23T19:03:17.123456Z","tenant":"acme","caller":{"name":"payroll"},"action":"encrypt","key":{"name":"payroll-kek"},"outcome":"refused","reason":"stopped"}"#;
        let leaf = record(entry).leaf;
        let expected = format!(
            "<108>1 2026-11-23T19:03:17.123456Z audit.example.org holdfast - encrypt \
             [log@32473 origin=\"audit.example.org/01J/acme\" index=\"5\" leaf=\"{leaf:?}\"]\
             [event@32473 operation=\"01JDCZRGZKA9Q6W8T2V4X6Y8Z0\" action=\"encrypt\" outcome=\"refused\" \
             reason=\"stopped\" tenant=\"acme\" caller=\"payroll\" key=\"payroll-kek\"] \u{feff}{entry}"
        );
        assert_eq!(written(entry), expected);
        let mut frame = Vec::new();
        push_frame(&FORMAT, &record(entry), &mut frame);
        assert_eq!(frame, format!("{} {expected}", expected.len()).into_bytes());
    }

    #[test]
    fn priorities_are_those_of_the_outcome() {
        for (entry, priority) in [
            (r#"{"outcome":"success"}"#, 109),
            (r#"{"outcome":"intent"}"#, 109),
            (r#"{"outcome":"success","alarm":"x"}"#, 108),
            (r#"{"outcome":"refused","reason":"denied"}"#, 108),
            (r#"{"outcome":"refused","reason":"internal"}"#, 107),
            (r#"{"outcome":"refused","reason":"audit-unavailable"}"#, 107),
            (r#"{"outcome":"refused","reason":"of a later build"}"#, 108),
            ("no JSON", 108),
        ] {
            let message = written(entry);
            assert!(
                message.starts_with(&format!("<{priority}>1 - audit.example.org holdfast - - [")),
                "{message}"
            );
            assert!(message.ends_with(&format!(" \u{feff}{entry}")));
        }
    }

    #[test]
    fn a_header_keeps_to_its_grammar() {
        let format = Format { hostname: "gw 1.exämple\n".to_owned(), enterprise: 1 };
        let record = record(r#"{"action":"a b\u0000c","time":"2026-11-23T19:03:17.12345678Z"}"#);
        let message = String::from_utf8(message(&format, &record)).unwrap();
        assert!(message.starts_with("<108>1 - gw1.exmple holdfast - abc [log@1 "), "{message}");
        assert_eq!(header(&"x".repeat(300), 255).len(), 255);
    }

    /// Reads ` NAME="VALUE"` back as RFC 5424 says; gives the value and what follows.
    fn read_param<'m>(rest: &'m str, name: &str) -> (String, &'m str) {
        let rest = rest.strip_prefix(&format!(" {name}=\"")).unwrap();
        let mut value = String::new();
        let mut chars = rest.char_indices();
        loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(chars.next().unwrap().1),
                (at, '"') => return (value, &rest[at + 1..]),
                (_, ']') => panic!("a bare `]`"),
                (_, char) => value.push(char),
            }
        }
    }

    proptest! {
        #[test]
        fn escaping_is_reversible(value: String, special in r#"[\\"\]=a ]{0,20}"#) {
            for value in [value, special] {
                let mut out = Vec::new();
                push_param(&mut out, "key", &value);
                let text = String::from_utf8(out).unwrap();
                prop_assert_eq!(read_param(&text, "key"), (value, ""));
            }
        }

        #[test]
        fn frames_parse_back(entries in proptest::collection::vec(any::<String>(), 0..8)) {
            let mut stream = Vec::new();
            for name in &entries {
                let entry = serde_json::json!({"caller": {"name": name}, "outcome": "success"}).to_string();
                push_frame(&FORMAT, &record(&entry), &mut stream);
            }
            let mut rest = stream.as_slice();
            for name in &entries {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let len: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                let message = std::str::from_utf8(&rest[space + 1..][..len]).unwrap();
                rest = &rest[space + 1 + len..];
                let (_, params) = message.split_once("[event@32473 outcome=\"success\"").unwrap();
                prop_assert_eq!(&read_param(params, "caller").0, name);
            }
            prop_assert!(rest.is_empty());
        }
    }
}
