//! Test cases for a policy: what a caller may and may not do, in a TOML file beside the policy's text.

use crate::conditional::conditional;
use crate::decide::decide;
use crate::prepared::Prepared;
use crate::schema::{About, PURPOSES, about};
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::key::{Custody, Key, Legacy};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{Circumstances, Question, Resource};
use holdfast_core::protocol::Protocol;
use holdfast_core::time::Timestamp;
use holdfast_core::{Epoch, Error, ErrorKind, KeyId, KeyVersion, PolicyId, Stage, TokenId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A file of test cases, read and ready to run.
#[derive(Debug)]
pub struct Cases(Vec<Case>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Row>,
}

/// One case as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    name: Option<String>,
    caller: String,
    kind: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    action: String,
    key: Option<String>,
    #[serde(default)]
    labels: BTreeMap<Box<str>, Box<str>>,
    algorithm: Option<String>,
    purpose: Option<String>,
    state: Option<String>,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    emergency_copy: bool,
    key_protocol: Option<String>,
    custody: Option<String>,
    #[serde(default)]
    context: BTreeMap<Box<str>, Box<str>>,
    #[serde(default)]
    request: BTreeMap<Box<str>, Box<str>>,
    authentication: Option<String>,
    source: Option<IpAddr>,
    protocol: Option<String>,
    time: Option<toml::value::Datetime>,
    expect: Expect,
    by: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
}

#[derive(Debug)]
struct Case {
    name: String,
    caller: Caller,
    action: Action,
    about: Subject,
    context: Context,
    request: Context,
    source: Option<IpAddr>,
    protocol: &'static str,
    now: Timestamp,
    expect: Expect,
    by: Option<Vec<String>>,
}

#[derive(Debug)]
enum Subject {
    Key(Box<Key>),
    Tenant,
}

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// What the case is called.
    pub name: String,
    /// What went otherwise than expected; `None` where nothing did.
    pub failure: Option<String>,
}

impl Cases {
    /// Reads a file of cases for this tenant's policy.
    ///
    /// # Errors
    /// `malformed`, naming the case and the field.
    pub fn parse(prepared: &Prepared, text: &str) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let detail = format!(
                "line {}: {}",
                crate::fault::Lines::of(text).line(at),
                error.message().replace('\n', " ")
            );
            malformed(detail)
        })?;
        let rows = file.case.into_iter().enumerate();
        let cases = rows.map(|(place, row)| {
            let name = row.name.clone().unwrap_or_else(|| format!("{} {}", row.caller, row.action));
            let name = format!("{}. {name}", place.saturating_add(1));
            Case::new(prepared, name.clone(), row)
                .map_err(|detail| malformed(format!("case {name}: {detail}")))
        });
        cases.collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs the cases, in their order.
pub fn run_cases(prepared: &Prepared, cases: &Cases) -> Vec<CaseResult> {
    cases.0.iter().map(|case| CaseResult { name: case.name.clone(), failure: case.run(prepared) }).collect()
}

/// For each case, in their order: the policies that permit what is asked under conditions which it depends on the request to meet, on what it brings, when and
/// from where it comes. Its caller, action and key meet theirs, and what it says under the names in `known`.
pub fn conditions_of(prepared: &Prepared, cases: &Cases, known: &[&str]) -> Vec<Vec<PolicyId>> {
    let conditional = |case: &Case| case.ask(prepared, |question| conditional(prepared, question, known));
    cases.0.iter().map(conditional).collect()
}

fn malformed(detail: String) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Decode, detail)
        .remedy("compare it with the section on test cases in `docs/policy.md`")
}

impl Case {
    fn new(prepared: &Prepared, name: String, row: Row) -> Result<Self, String> {
        let kind = match &row.kind {
            None => CallerKind::Application,
            Some(name) => one_of("kind", name, CallerKind::from_name, CallerKind::ALL.map(CallerKind::name))?,
        };
        let action = Action::from_name(&row.action).filter(|action| about(*action) != About::Nothing);
        let action = action.ok_or_else(|| format!("there is no action `{}`", row.action))?;
        let groups: Result<_, _> = row.groups.iter().map(|group| parse("groups", group)).collect();
        let record = CallerRecord {
            name: parse("caller", &row.caller)?,
            kind,
            groups: groups?,
            credentials: Vec::new(),
            tokens: Vec::new(),
            suspended: false,
        };
        let authentication = match row.authentication.as_deref() {
            None | Some("mtls") => {
                Authentication::MutualTls { key_hash: Some([0; 32]), matched: "key".into() }
            }
            Some("bearer") => Authentication::Bearer(TokenId::from_bytes([0; 16])),
            Some("signature") => Authentication::Signature(TokenId::from_bytes([0; 16])),
            // Issuer and subject stand in `request`, where a policy looks for them.
            Some("issued") => Authentication::Issued { issuer: "".into(), subject: None },
            Some("open") => Authentication::Open,
            Some("gateway") => Authentication::Gateway,
            Some(other) => {
                return Err(format!(
                    "`authentication` is `{other}`, not one of `mtls`, `bearer`, `signature`, `issued`, `open`, `gateway`"
                ));
            }
        };
        let pairs = |of: &BTreeMap<Box<str>, Box<str>>| {
            let pairs = of.iter().map(|(name, value)| (name.clone(), value.clone()));
            Context::new(pairs.collect()).map_err(|error| error.to_string())
        };
        Ok(Self {
            name,
            caller: Caller {
                tenant: prepared.tenant.clone(),
                record: Arc::new(record),
                authentication,
                own: None,
            },
            action,
            about: subject(prepared, action, &row)?,
            context: pairs(&row.context)?,
            request: pairs(&row.request)?,
            source: row.source,
            protocol: match &row.protocol {
                None => "native",
                Some(name) => {
                    one_of("protocol", name, Protocol::from_name, Protocol::ALL.map(Protocol::name))?.name()
                }
            },
            now: row.time.map_or(Ok(Timestamp::from_micros(0)), timestamp)?,
            expect: row.expect,
            by: row.by,
        })
    }

    /// Puts its question.
    fn ask<T>(&self, prepared: &Prepared, put: impl FnOnce(&Question<'_>) -> T) -> T {
        let Self {
            name: _,
            caller,
            action,
            about,
            context,
            request,
            source,
            protocol,
            now,
            expect: _,
            by: _,
        } = self;
        let resource = match about {
            Subject::Key(key) => Resource::Key(key),
            Subject::Tenant => Resource::Tenant(&prepared.tenant),
        };
        let circumstances = Circumstances { context, request, now: *now, source: *source, protocol };
        put(&Question { caller, action: *action, resource, circumstances })
    }

    fn run(&self, prepared: &Prepared) -> Option<String> {
        let Self { expect, by, .. } = self;
        let decision = self.ask(prepared, |question| decide(prepared, question));
        let mut policies: Vec<String> = decision.policies.iter().map(ToString::to_string).collect();
        policies.sort();
        let said = if decision.policies.is_empty() {
            "no policy".to_owned()
        } else {
            format!("`{}`", policies.join("`, `"))
        };
        let allowed = *expect == Expect::Allow;
        if decision.allowed != allowed {
            let word = if decision.allowed { "allowed" } else { "denied" };
            return Some(format!("is {word} by {said}"));
        }
        let mut expected = by.clone()?;
        expected.sort();
        (expected != policies).then(|| format!("is decided by {said}, not by `{}`", expected.join("`, `")))
    }
}

fn subject(prepared: &Prepared, action: Action, row: &Row) -> Result<Subject, String> {
    let name = match (about(action), &row.key) {
        (About::Key, Some(name)) => parse("key", name)?,
        (About::Key, None) => return Err(format!("`{}` is about a key, but there is no `key`", row.action)),
        (About::Tenant | About::Nothing, None) => return Ok(Subject::Tenant),
        (About::Tenant | About::Nothing, Some(_)) => {
            return Err(format!("`{}` is about the tenant, but there is a `key`", row.action));
        }
    };
    let algorithm = match &row.algorithm {
        None => Algorithm::Aes256Gcm,
        Some(name) => {
            one_of("algorithm", name, |name| name.parse().ok(), Algorithm::ALL.iter().map(|it| it.name()))?
        }
    };
    let first = algorithm.purposes().first().copied().unwrap_or(holdfast_core::algorithm::Purpose::Encrypt);
    let find = |name: &str| PURPOSES.into_iter().find(|purpose| purpose.name() == name);
    let purpose = match &row.purpose {
        None => first,
        Some(name) => one_of("purpose", name, find, PURPOSES.map(|purpose| purpose.name()))?,
    };
    let state = match &row.state {
        None => KeyState::Active,
        Some(name) => one_of("state", name, KeyState::from_name, KeyState::ALL.map(KeyState::name))?,
    };
    let custody = match &row.custody {
        None => Custody::Software,
        Some(name) => one_of("custody", name, Custody::from_name, Custody::ALL.map(Custody::name))?,
    };
    let key_protocol = match &row.key_protocol {
        None => None,
        Some(name) => {
            let names = Protocol::OF_KEYS.map(Protocol::name);
            Some(one_of("key-protocol", name, Protocol::of_key, names)?)
        }
    };
    Ok(Subject::Key(Box::new(Key {
        id: KeyId::from_bytes([0; 16]),
        tenant: prepared.tenant.clone(),
        name,
        algorithm,
        purpose,
        state,
        resumes_to: state,
        exportable: row.exportable,
        legacy: Legacy::default(),
        emergency_copy: row.emergency_copy,
        protocol: key_protocol,
        labels: row.labels.clone(),
        newest: KeyVersion::FIRST,
        current: KeyVersion::FIRST,
        schedule: None,
        inventory: None,
        destruction: None,
        erasure: None,
        waits: false,
        custody,
        archive: None,
        renewed: 0,
        created: Timestamp::from_micros(0),
        epoch: Epoch::FIRST,
    })))
}

fn parse<T: core::str::FromStr<Err: core::fmt::Display>>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("`{field}` is `{}`, {error}", text.escape_debug()))
}

fn one_of<T>(
    field: &str,
    name: &str,
    find: impl Fn(&str) -> Option<T>,
    all: impl IntoIterator<Item = &'static str>,
) -> Result<T, String> {
    let known = || all.into_iter().collect::<Vec<_>>().join("`, `");
    find(name).ok_or_else(|| format!("`{field}` is `{}`, not one of `{}`", name.escape_debug(), known()))
}

/// TOML's date and time with its offset (RFC 3339).
fn timestamp(at: toml::value::Datetime) -> Result<Timestamp, String> {
    let wrong =
        || format!("`time` is `{at}`, not a date and time with an offset such as `2026-11-23T09:00:00Z`");
    let (Some(date), Some(time), Some(offset)) = (at.date, at.time, at.offset) else { return Err(wrong()) };
    let offset = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    // Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let second = time.second.map_or(0, i64::from);
    let seconds = days * 86_400 + i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + second;
    let seconds = u64::try_from(seconds - offset * 60).map_err(|_| wrong())?;
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let seconds = |text: &str| timestamp(text.parse().unwrap()).map(|at| at.micros() / 1_000_000).ok();
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-11-23T09:30:00Z", 1_795_426_200),
            ("2026-11-23T10:30:00+01:00", 1_795_426_200),
            ("2026-11-23T04:00:00-05:30", 1_795_426_200),
            ("2027-01-31T12:00:01Z", 1_801_396_801),
            ("2099-12-31T23:59:59Z", 4_102_444_799),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("2401-02-28T00:00:00Z", 13_606_099_200),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!([seconds("2026-11-23T09:30:00"), seconds("1969-12-31T23:59:59Z")], [None; 2]);
    }
}
