//! What the policy says: a table of rules, one a line.
//!
//! ```text
//! permit|forbid|fail|warn  NAME|kind:KIND|group:GROUP|*  ACTION|use|administer|read|*  KEY|*  [since:SECONDS|until:SECONDS]
//! ```
//!
//! `fail` is a rule that cannot be evaluated, which denies; `warn` is one that a check remarks on. The id of a rule is `line-N`.

use super::Gate;
use holdfast_core::action::{Action, Group};
use holdfast_core::caller::{Caller, CallerRecord};
use holdfast_core::port::{Decide, Decision, Examined, Finding, Question, Resource};
use holdfast_core::query::Explanation;
use holdfast_core::{Error, ErrorKind, PolicyId, Stage, TenantId};
use std::sync::Arc;

/// The policy under which only core's own law refuses anything.
pub const ALLOW_EVERYTHING: &str = "permit * * *";

/// What stands in a text that takes as long to read as a test wants.
pub const SLOW: &str = "slow";

/// The rule table.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Held, no text with [`SLOW`] in it is read to be put in force.
    pub reading: Gate,
    /// Held, none is examined.
    pub examining: Gate,
}

/// One tenant's rules.
#[derive(Debug)]
pub struct Table(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    id: PolicyId,
    effect: Effect,
    who: Box<str>,
    action: Box<str>,
    key: Box<str>,
    /// From when on it applies, and until when, seconds since 1970.
    since: u64,
    until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Permit,
    Forbid,
    Fail,
    Warn,
}

impl Rule {
    fn parse(number: usize, line: &str) -> Result<Self, Error> {
        let refuse = || {
            let detail = format!("line {number} of the policy is no rule");
            Error::new(ErrorKind::Malformed, Stage::Resolve, detail)
        };
        let words: Vec<_> = line.split_whitespace().collect();
        let [effect, who, action, key, ref when @ ..] = words[..] else { return Err(refuse()) };
        let (mut since, mut until) = (0, u64::MAX);
        for word in when {
            match word.split_once(':') {
                Some(("since", seconds)) => since = seconds.parse().map_err(|_| refuse())?,
                Some(("until", seconds)) => until = seconds.parse().map_err(|_| refuse())?,
                Some(_) | None => return Err(refuse()),
            }
        }
        let effect = match effect {
            "permit" => Effect::Permit,
            "forbid" => Effect::Forbid,
            "fail" => Effect::Fail,
            "warn" => Effect::Warn,
            _ => return Err(refuse()),
        };
        let known =
            ["*", "use", "administer", "read"].contains(&action) || Action::from_name(action).is_some();
        if !known {
            return Err(refuse());
        }
        let id = format!("line-{number}").parse().map_err(|_| refuse())?;
        Ok(Self { id, effect, who: who.into(), action: action.into(), key: key.into(), since, until })
    }

    fn is_about(&self, who: &CallerRecord) -> bool {
        match self.who.split_once(':') {
            Some(("kind", kind)) => who.kind.name() == kind,
            Some(("group", group)) => who.groups.iter().any(|name| name.as_str() == group),
            Some(_) | None => &*self.who == "*" || &*self.who == who.name.as_str(),
        }
    }

    fn covers(&self, action: Action) -> bool {
        match &*self.action {
            "*" => true,
            "use" => action.group() == Group::Use,
            "administer" => action.group() == Group::Administer,
            "read" => action.group() == Group::Read,
            name => action.name() == name,
        }
    }

    fn applies(&self, question: &Question<'_>) -> bool {
        let key = match question.resource {
            Resource::Key(key) => Some(&key.name),
            Resource::NoKey(name) => Some(name),
            Resource::Tenant(_) => None,
        };
        let fits = &*self.key == "*" || key.is_some_and(|key| key.as_str() == &*self.key);
        let is_time = (self.since..self.until).contains(&question.circumstances.now.seconds());
        fits && is_time && self.is_about(&question.caller.record) && self.covers(question.action)
    }
}

impl Table {
    fn read(text: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        Ok(Self(lines.map(|(index, line)| Rule::parse(index + 1, line)).collect::<Result<_, _>>()?))
    }

    fn check(&self, author: &Caller) -> Vec<Finding> {
        let uses = |rule: &&Rule| {
            let names_author = *rule.who == *author.name().as_str() && rule.effect == Effect::Permit;
            names_author && Action::ALL.iter().any(|a| a.group() == Group::Use && rule.covers(*a))
        };
        let warns = |rule: &&Rule| rule.effect == Effect::Warn;
        self.0
            .iter()
            .filter(|rule| uses(rule) || warns(rule))
            .map(|rule| Finding {
                refuses: uses(&rule),
                policy: Some(rule.id.clone()),
                detail: format!("policy `{}` is remarkable", rule.id),
                remedy: "write another one".to_owned(),
            })
            .collect()
    }
}

impl Decide for Rules {
    type Prepared = Table;

    fn tenant_policy(&self) -> &'static str {
        "permit kind:custodian administer *\npermit kind:custodian read *\npermit kind:auditor read *"
    }

    fn gateway_policy(&self) -> &'static str {
        "permit kind:operator create-tenant *\npermit kind:operator back-up *\npermit kind:operator verify-backup *\npermit kind:operator set-retention *\npermit kind:operator confirm-clock *\npermit kind:operator drain-member *\npermit kind:operator join-member *\npermit kind:operator read *\npermit kind:auditor read *"
    }

    async fn prepare(&self, _tenant: &TenantId, text: &Arc<str>) -> Result<Table, Error> {
        if text.contains(SLOW) {
            self.reading.pass().await;
        }
        Table::read(text)
    }

    async fn examine(
        &self,
        author: &Caller,
        _callers: &[Arc<CallerRecord>],
        text: &Arc<str>,
    ) -> Result<Examined, Error> {
        if text.contains(SLOW) {
            self.examining.pass().await;
        }
        Ok(match Table::read(text) {
            Ok(table) => Examined { findings: table.check(author), unreadable: None },
            Err(error) => {
                let (detail, remedy) = (error.detail().to_owned(), error.remedy_text().to_owned());
                let fault = Finding { refuses: true, policy: None, detail, remedy };
                Examined { findings: vec![fault], unreadable: Some(error) }
            }
        })
    }

    fn renew(&self, prepared: &Table) -> Table {
        Table(prepared.0.clone())
    }

    fn explain(&self, prepared: &Table, question: &Question<'_>) -> Explanation {
        let Decision { allowed, policies, failed } = self.decide(prepared, question);
        let policies = policies.iter().map(ToString::to_string).collect();
        Explanation { allowed: allowed && !failed, policies, reasons: vec![] }
    }

    fn decide(&self, prepared: &Table, question: &Question<'_>) -> Decision {
        let of = |effect: Effect| -> Arc<[PolicyId]> {
            let rules = prepared.0.iter().filter(|rule| rule.effect == effect && rule.applies(question));
            rules.map(|rule| rule.id.clone()).collect()
        };
        let failing = of(Effect::Fail);
        if !failing.is_empty() {
            return Decision { allowed: false, policies: failing, failed: true };
        }
        let forbidding = of(Effect::Forbid);
        if !forbidding.is_empty() {
            return Decision { allowed: false, policies: forbidding, failed: false };
        }
        let permitting = of(Effect::Permit);
        Decision { allowed: !permitting.is_empty(), policies: permitting, failed: false }
    }
}
