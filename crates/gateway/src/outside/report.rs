//! What status and metrics say of witnesses and anchor.

use super::Outside;
use super::figures::Whose;
use super::witnessing::{LogState, Seen};
use crate::root::Log;
use holdfast_core::{TenantId, Timestamp};
use holdfast_wire::native::message::Part;
use std::collections::BTreeMap;

/// Logs that a part names, those first whose cosignature is the oldest.
const NAMED: usize = 20;

/// Seconds since a witness's newest cosignature of a log; where there is none, since the log was first looked at.
fn age(state: &LogState, seen: &Seen, now: Timestamp) -> u64 {
    let from = if seen.time == 0 { state.since } else { seen.time };
    now.seconds().saturating_sub(from)
}

/// How one witness does, over all logs that have entries.
struct Standing<'a> {
    /// Ages with their logs, the oldest first.
    ages: Vec<(u64, &'a TenantId, bool)>,
    behind: u64,
    /// Logs of which it has not been heard since the start.
    uncompared: usize,
    /// Why it does not cosign some log.
    why: Option<(&'a TenantId, &'a str)>,
}

fn standing(logs: &BTreeMap<TenantId, LogState>, at: usize, now: Timestamp) -> Standing<'_> {
    let (mut ages, mut behind, mut uncompared, mut why) = (Vec::new(), 0, 0, None);
    for (tenant, state) in logs.iter().filter(|(_, state)| state.published > 0) {
        let Some(seen) = state.seen.get(at) else { continue };
        ages.push((age(state, seen, now), tenant, seen.time > 0));
        behind += u64::from(seen.size < state.published);
        uncompared += usize::from(!seen.is_compared);
        why = why.or(seen.trouble.why.as_deref().map(|why| (tenant, why)));
    }
    ages.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
    Standing { ages, behind, uncompared, why }
}

impl Outside {
    /// Whether anything outside remembers the logs.
    pub fn remembers(&self) -> bool {
        self.anchor.is_some() || !self.witnesses.all.is_empty()
    }

    /// A part for the anchor, and one for each witness. They are always ready: the gateway works without them.
    pub fn parts(&self, now: Timestamp) -> Vec<Part> {
        let part =
            |name: &str, detail: String| Part { name: name.to_owned(), ready: true, detail: Some(detail) };
        let mut parts = Vec::new();
        if let Some(anchor) = &self.anchor {
            parts.push(part("anchor", format!("checkpoints are kept in `{}`", anchor.path().display())));
        }
        let logs = self.witnesses.snapshot();
        for (at, witness) in self.witnesses.all.iter().enumerate() {
            let Standing { ages, behind, .. } = standing(&logs, at, now);
            let one = |(age, tenant, is_cosigned): &(u64, &TenantId, bool)| match is_cosigned {
                true => format!("{tenant} {age} s"),
                false => format!("{tenant} never"),
            };
            let named: Vec<_> = ages.iter().take(NAMED).map(one).collect();
            let more = ages.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} younger") } else { String::new() };
            let detail = format!(
                "`{}`: {behind} of {} logs have newer entries than it cosigned; age of its newest cosignatures: {}{more}",
                witness.name,
                ages.len(),
                named.join(", ")
            );
            parts.push(part("witness", detail));
        }
        parts
    }

    /// What people should know of it now.
    pub fn notices(&self, now: Timestamp) -> Vec<String> {
        let mut notices = self.unchecked().clone();
        if let Some(trouble) = self.anchor.as_ref().and_then(|anchor| anchor.trouble()) {
            notices.push(format!("checkpoints cannot be kept in the anchor directory: {trouble}"));
        }
        let logs = self.witnesses.snapshot();
        for (at, witness) in self.witnesses.all.iter().enumerate() {
            let Standing { ages, behind, uncompared, why } = standing(&logs, at, now);
            if uncompared > 0 {
                notices.push(format!(
                    "{uncompared} logs have not been compared with the witness `{}` since the start: until then it is not known \
                     whether it has seen more of them",
                    witness.name
                ));
            }
            let oldest = ages.first().map_or(0, |(age, ..)| *age);
            if let Some(why) = witness.state().why.clone() {
                notices.push(format!(
                    "the witness `{}` does not answer ({why}): {behind} logs wait for it, the newest cosignature of one is {oldest} s old",
                    witness.name
                ));
            } else if let Some((tenant, why)) = why {
                notices.push(format!(
                    "the witness `{}` does not cosign the log of {tenant}: {why}",
                    witness.name
                ));
            }
        }
        notices
    }

    /// Brings the figures up to date that are read when somebody looks.
    pub fn measure(&self, log: &Log, now: Timestamp) {
        let figure = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.figures.alarm.set(i64::from(log.alarm().is_some()));
        let logs = self.witnesses.snapshot();
        for (at, witness) in self.witnesses.all.iter().enumerate() {
            let Standing { ages, behind, .. } = standing(&logs, at, now);
            let whose = Whose::of(&witness.name);
            self.figures.age.get_or_create(&whose).set(figure(ages.first().map_or(0, |(age, ..)| *age)));
            self.figures.behind.get_or_create(&whose).set(figure(behind));
        }
    }
}
