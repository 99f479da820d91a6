//! Health and status, from live state: no constant answers here.

use crate::directory::{Directory, Identity};
use crate::pool::token;
use crate::reload;
use crate::resealing;
use crate::root::Law;
use crate::serve::Gateway;
use crate::shares::Roster;
use crate::tls::TlsState;
use holdfast_audit::OldestIntent;
use holdfast_core::port::{AuditLog as _, Health, KeyStore as _, State as _, World as _};
use holdfast_core::{OperationId, Timestamp};
use holdfast_keystore::pkcs11::{Condition, Report};
use holdfast_wire::native::message::{Part, Status};
use std::time::Duration;

/// Days before the server's certificate expires from which on the status says so.
const EXPIRY_NOTICE_DAYS: u64 = 30;

/// A command that takes so long is told of.
const LONG: Duration = Duration::from_secs(60);
/// Segments that one command may keep before there is a notice: 256 MiB.
const HELD_SEGMENTS: u64 = 4;

/// Whether key store, state and log can all work now.
pub fn is_ready(law: &Law) -> bool {
    let engines = law.engines();
    [engines.keys.health(), engines.state.health(), engines.log.health()]
        .iter()
        .all(|health| *health == Health::Ready)
}

fn part(name: &str, health: Health, about: Option<String>) -> Part {
    let (ready, detail) = match health {
        Health::Ready => (true, about),
        Health::Unready(reason) => (false, Some(reason)),
    };
    Part { name: name.to_owned(), ready, detail }
}

/// How the log does, in words.
fn log_line(health: &holdfast_audit::Health) -> String {
    let durable = format!("{} batches durable", health.durable_batches);
    match &health.oldest_intent {
        Some(oldest) if oldest.age >= LONG => {
            let (open, age) = (health.open_intents, oldest.age.as_secs());
            format!("{durable}; {open} commands under way, the oldest for {age} s")
        }
        Some(_) | None => durable,
    }
}

/// What to say of a command that does not end, once it keeps much of the write-ahead file.
fn held_segments(health: &holdfast_audit::Health) -> Option<String> {
    let OldestIntent { op, log, age, segments } =
        health.oldest_intent.as_ref().filter(|oldest| oldest.segments > HELD_SEGMENTS)?;
    Some(format!(
        "the command {} in the log of `{log}` has been under way for {} s and keeps {segments} segments of the write-ahead file from being \
         used again; the disk fills up if it does not end: see `docs/operate/disk-full.md`",
        OperationId::from_bytes(*op),
        age.as_secs(),
    ))
}

/// Gathers what an operator sees of the gateway.
pub(crate) fn gather(gateway: &Gateway) -> Status {
    let Gateway { law, directory, identity, tls, sinks, outside, .. } = gateway;
    let engines = law.engines();
    let members = engines.keys.token().map(|token| token.pool().reports()).unwrap_or_default();
    let custody = format!("{}, {}", custody(&members), root_key(directory));
    let state = engines.state.position();
    let log = engines.log.log().health();
    let now = engines.world.now();
    let forecast = gateway.space.forecast(directory);
    let mut parts = vec![
        part("key-store", engines.keys.health(), Some(custody)),
        part("state", state_health(gateway), Some(format!("{} commits", state.sequence))),
        part("log", engines.log.health(), Some(log_line(&log))),
        part(
            "gateway",
            Health::Ready,
            Some(format!("instance {}, {} tenants", identity.instance, law.tenant_count())),
        ),
        part("disk", Health::Ready, Some(forecast.line())),
    ];
    parts.extend(outside.parts(now));
    let ready = parts.iter().all(|part| part.ready);
    // Nothing waits for them.
    parts.extend(sinks.parts());
    parts.extend(gateway.issuers.parts(engines.world.ticks()));
    if members.len() > 1 {
        parts.extend(members.iter().map(member));
    }
    let mut notices = notices(law, directory, identity, tls);
    notices.extend(gateway.refused_reload().map(|refused| reload::notice(&refused)));
    notices.extend(gateway.not_opened.iter().map(|why| {
        format!("{why}: custodians' shares opened the gateway, and must at the next start; `holdfast root bind` binds the root key to the machine as it is now")
    }));
    notices.extend(members.iter().filter_map(|member| member.about.as_ref()?.confined.notice(&member.name)));
    let copied = engines.keys.copies_in_force();
    if copied > 0 {
        notices.push(format!(
            "emergency copies of {copied} key versions are in force: these keys work outside of their tokens where none can be reached              (`holdfast emergency show KEY`, `holdfast emergency end KEY`)"
        ));
    }
    if !outside.remembers() {
        notices.push(
            "nothing outside of the data directory remembers the log's newest checkpoint: putting back an older directory \
             as a whole cannot be noticed; configure a `[[witness]]` or an `[anchor]`"
                .to_owned(),
        );
    }
    notices.extend(outside.notices(now));
    notices.extend(forecast.notices());
    notices.extend(held_segments(&log));
    notices.extend(gateway.scrub.shown().iter().map(|damage| format!("damage was found: {damage}")));
    Status { version: crate::BUILD.to_owned(), ready, parts, notices }
}

fn custody(members: &[Report]) -> String {
    match members {
        [] => "software custody".to_owned(),
        [Report { about: None, .. }] => "custody in a token".to_owned(),
        [Report { about: Some(about), .. }] => format!("custody in a token ({})", token(about)),
        several => {
            let up = several.iter().filter(|member| member.condition == Condition::Up).count();
            format!("custody in a pool of tokens, {up} of {} up", several.len())
        }
    }
}

fn member(report: &Report) -> Part {
    let ready = report.condition == Condition::Up;
    let detail = match (report.condition.why(), &report.about) {
        (Some(why), _) => Some(format!("{}: {why}", report.condition.name())),
        (None, Some(about)) if ready => Some(token(about)),
        (None, _) => Some(report.condition.name().to_owned()),
    };
    Part { name: format!("token {}", report.name), ready, detail }
}

/// Where the root key is, in words.
fn root_key(directory: &Directory) -> String {
    match directory.bound() {
        Ok(None) => match directory.in_tokens() {
            Ok(None) => format!("root key {}", without_device(directory)),
            Ok(Some(tokens)) => format!("root key {tokens}, and {}", without_device(directory)),
            Err(error) => format!("root key: {}", error.detail()),
        },
        Ok(Some(bound)) if directory.root_shares().exists() => {
            format!("root key {bound}, and {}", without_device(directory))
        }
        Ok(Some(bound)) => format!("root key {bound}"),
        Err(error) => format!("root key: {}", error.detail()),
    }
}

fn without_device(directory: &Directory) -> String {
    match directory.roster() {
        Ok(None) => format!("in the file `{}`", directory.root_key().display()),
        Ok(Some(Roster { of, custodians, .. })) => format!(
            "in shares, generation {}: {} of {} open it",
            of.generation,
            of.threshold,
            custodians.len()
        ),
        Err(fault) => format!("in shares: {fault}"),
    }
}

/// What is damaged of the state decides who may do what: whatever it answers, nobody should be sent here.
fn state_health(gateway: &Gateway) -> Health {
    match gateway.law.engines().state.health() {
        Health::Ready if gateway.scrub.is_state_damaged() => {
            Health::Unready("damage was found in it: see the notices".to_owned())
        }
        health @ (Health::Ready | Health::Unready(_)) => health,
    }
}

fn notices(law: &Law, directory: &Directory, identity: &Identity, tls: &TlsState) -> Vec<String> {
    let mut notices = vec![];
    if directory.root_key().exists() {
        notices.push(format!(
            "the root key lies in `{}`, beside what it protects: whoever copies the directory has the keys",
            directory.root_key().display()
        ));
    }
    if directory.root_tpm().exists() && !directory.root_shares().exists() {
        notices.push(
            "nothing but this machine's TPM opens the root key: if it or the firmware changes, all keys are lost, and no backup helps"
                .to_owned(),
        );
    }
    if !identity.dev {
        match law.backed_up() {
            _ if let Some(why) = law.engines().archive.why_not() => notices.push(format!(
                "no backups are taken: {why}; set `backup.custodians`; whatever happens to this directory, the keys are lost with it"
            )),
            None => notices.push("no backup has been taken yet: run `holdfast backup`".to_owned()),
            // Not every commit makes a key, but whoever wants to know which keys are concerned asks `holdfast doctor`.
            Some(_) => match law.verified() {
                None => notices.push(
                    "nobody knows whether the backups open: run `holdfast backup verify` with the identities of their custodians"
                        .to_owned(),
                ),
                Some(commit) if commit < law.engines().state.position().sequence => {
                    let since = law.engines().state.position().sequence - commit;
                    notices.push(format!(
                        "{since} commits are younger than the newest verified backup; `holdfast doctor` lists keys that are in none"
                    ));
                }
                Some(_) => {}
            },
        }
    }
    let waiting = law.waiting_for_backup();
    if waiting > 0 {
        notices.push(format!(
            "{waiting} keys have a newest version that waits until a verified backup holds it; `holdfast doctor`, as a custodian, names them"
        ));
    }
    notices.extend(resealing::notice(law.sealing_key_changes()));
    if identity.dev {
        notices.push("this is a dev directory, for ever: its token may do everything".to_owned());
    }
    if let Some(held) = law.clock_held() {
        notices.push(format!(
            "the clock jumped and says {}; what time unlocks or locks must hold at {held}, too, until an operator runs `holdfast clock confirm`",
            law.engines().world.now()
        ));
    }
    let pending = law.pending_stops();
    if pending > 0 {
        notices.push(format!("{pending} stop orders are in force and not yet durable; they are retried"));
    }
    let log = law.engines().log.log().health();
    if let Some(reason) = log.tree {
        notices.push(format!("the log's trees do not grow, entries are durable all the same: {reason}"));
    }
    if let Some(reason) = log.not_given_back {
        notices
            .push(format!("segments of the write-ahead file that nobody needs are not given back: {reason}"));
    }
    match tls.expires() {
        Some(expires) if expires < in_days(law.engines().world.now(), EXPIRY_NOTICE_DAYS) => {
            let when = Timestamp::from_micros(expires.saturating_mul(1_000_000));
            notices.push(format!("the server's certificate expires at {when}: replace it and send SIGHUP"));
        }
        Some(_) => {}
        None => {
            notices.push("the server's certificate cannot be read: nobody knows when it expires".to_owned())
        }
    }
    notices
}

fn in_days(now: Timestamp, days: u64) -> u64 {
    now.plus_seconds(days.saturating_mul(86_400)).seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_end_is_told_of_when_it_takes_long_and_when_it_keeps_much() {
        let health = |age, segments| holdfast_audit::Health {
            durable_batches: 9,
            open_intents: 2,
            oldest_intent: Some(OldestIntent {
                op: [1; 16],
                log: "acme".parse().unwrap(),
                age: Duration::from_secs(age),
                segments,
            }),
            ..Default::default()
        };
        assert_eq!(log_line(&holdfast_audit::Health::default()), "0 batches durable");
        assert_eq!(log_line(&health(59, 4)), "9 batches durable");
        assert_eq!(log_line(&health(60, 4)), "9 batches durable; 2 commands under way, the oldest for 60 s");
        assert_eq!(
            (held_segments(&holdfast_audit::Health::default()), held_segments(&health(60, 4))),
            (None, None)
        );
        let notice = held_segments(&health(61, 5)).unwrap();
        let operation = OperationId::from_bytes([1; 16]).to_string();
        assert!(notice.contains(&format!("{operation} in the log of `acme`")), "{notice}");
        assert!(notice.contains("for 61 s and keeps 5 segments"), "{notice}");
    }
}
