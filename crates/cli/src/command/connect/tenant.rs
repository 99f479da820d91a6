//! What a provider needs in the tenant: a key, a caller, and a policy that lets the one use the other. Made where it is not there, unless nothing is
//! to be changed; what is there is looked at, and never changed but for the policy.

use super::{How, Report};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{CallerKind, Credential};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::{ErrorKind, Protocol};
use holdfast_gateway::policy::{Cases, CedarPolicy, run_cases};
use holdfast_sdk::field::{CredentialText, List, Name, Word};
use holdfast_sdk::message::{Caller, CreateKey, Key, Policy, PutCaller};
use holdfast_sdk::{CallerName, KeyName, Tenant};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Looks whether everything of the tenant is stopped.
pub(super) async fn standing(tenant: &Tenant, report: &mut Report) {
    report.doing("looking at the tenant");
    let name = tenant.id();
    match tenant.read().await {
        Ok(record) if record.suspended => report.findings.wrong(
            "tenant",
            &Failure::new(Exit::State, format!("`{name}` is suspended"))
                .remedy("have a custodian run `holdfast tenant resume`, once the reason is over"),
        ),
        Ok(_) => report.findings.fine("tenant", format!("`{name}`")),
        Err(error) => report.findings.wrong("tenant", &error.into()),
    }
}

/// A key that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a KeyName,
    /// How the command line names it.
    pub(super) option: &'a str,
    /// What it may be; the first is what it is made as. None: the key store's default, and whatever there is.
    pub(super) algorithms: &'a [Algorithm],
    pub(super) purpose: Purpose,
    pub(super) through: Protocol,
}

/// Looks at the key that a protocol is to encrypt or wrap with, or makes it of this algorithm (the key store's default unless told).
pub(super) async fn key(
    tenant: &Tenant,
    (name, algorithm, through): (&KeyName, Option<Algorithm>, Protocol),
    how: &How,
    report: &mut Report,
) -> Option<Key> {
    let algorithms = algorithm.as_slice();
    let wanted = Wanted { name, option: "--key", algorithms, purpose: wanted_for(through), through };
    wanted_key(tenant, &wanted, how, report).await
}

/// Looks at a key, or makes it.
pub(super) async fn wanted_key(
    tenant: &Tenant,
    wanted: &Wanted<'_>,
    how: &How,
    report: &mut Report,
) -> Option<Key> {
    let Wanted { name, option, algorithms, purpose, through } = *wanted;
    report.doing(format!("looking at the key `{name}`"));
    let (record, made) = match tenant.key(name).await {
        Ok(found) => (found.body, ""),
        Err(error) if error.kind() == Some(ErrorKind::NotFound) && !how.check => {
            let new = CreateKey {
                name: Name(name.clone()),
                algorithm: algorithms.first().copied().map(Word),
                purpose: Some(Word(purpose)),
                exportable: None,
                legacy: None,
                labels: None,
                prepared: None,
                emergency_copy: None,
                protocol: through.has_own_keys().then_some(Word(through)),
            };
            match tenant.create_key(&new).await {
                Ok(created) => (created.body, "made: "),
                Err(error) => {
                    report.findings.wrong("key", &error.into());
                    return None;
                }
            }
        }
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => {
            let failure = Failure::new(Exit::State, format!("there is no key `{name}`"))
                .remedy("run this without `--check`, which makes it");
            report.findings.wrong("key", &failure);
            return None;
        }
        Err(error) => {
            report.findings.wrong("key", &error.into());
            return None;
        }
    };
    let (made_of, made_for) = (record.algorithm.0, record.purpose.0);
    if !(algorithms.is_empty() || algorithms.contains(&made_of)) || made_for != purpose {
        let fitting = if algorithms.is_empty() { &[made_of] } else { algorithms };
        let fitting: Vec<_> = fitting.iter().map(|algorithm| algorithm.name()).collect();
        let (made_of, made_for) = (made_of.name(), made_for.name());
        let (fitting, purpose) = (fitting.join(" or "), purpose.name());
        let problem = format!("`{name}` is {made_of} to {made_for}, and {fitting} to {purpose} is needed");
        let remedy = format!("name another key with `{option}`: what a key is never changes");
        report.findings.wrong("key", &Failure::new(Exit::Usage, problem).remedy(remedy));
        return None;
    }
    match usable(wanted, &record) {
        Ok(()) => {
            let (custody, version) = (record.custody.0.name(), record.newest_version.0);
            let detail = format!("{made}`{name}`, {}, {custody}, version {version}", made_of.name());
            report.findings.fine("key", detail);
        }
        Err(failure) => report.findings.wrong("key", &failure),
    }
    Some(record)
}

/// What a protocol's keys are for.
const fn wanted_for(through: Protocol) -> Purpose {
    match through {
        Protocol::AzureEkm => Purpose::Wrap,
        Protocol::Native | Protocol::AwsXks | Protocol::GoogleCse | Protocol::MsDke | Protocol::Gateway => {
            Purpose::Encrypt
        }
    }
}

/// What a provider does with a key, through a protocol.
const fn actions(through: Protocol) -> [Action; 3] {
    match wanted_for(through) {
        Purpose::Wrap => [Action::ReadKey, Action::Wrap, Action::Unwrap],
        Purpose::Encrypt | Purpose::Sign | Purpose::Mac | Purpose::Agree | Purpose::Encapsulate => {
            [Action::ReadKey, Action::Encrypt, Action::Decrypt]
        }
    }
}

/// Whether new work can be done with it, by its record.
fn usable(wanted: &Wanted<'_>, record: &Key) -> Result<(), Failure> {
    let Wanted { name, option, through, .. } = *wanted;
    let failure = |problem: &str, remedy: String| {
        Err(Failure::new(Exit::State, format!("`{name}` {problem}")).remedy(remedy))
    };
    if record.archive.as_ref().is_some_and(|archive| archive.stored.is_some()) {
        return failure(
            "is archived",
            format!("take it back with `holdfast key unarchive`, or name another key than `{name}`"),
        );
    }
    let own = record.protocol.map(|protocol| protocol.0);
    if own != Some(through) && (own.is_some() || through.has_own_keys()) {
        let problem = match own {
            Some(own) => format!("was created for `{own}` alone"),
            None => format!("was not created for `{through}`, which uses no other keys"),
        };
        return failure(&problem, format!("name another key with `{option}`: what a key is never changes"));
    }
    match record.state.0 {
        KeyState::Active => Ok(()),
        KeyState::PreActivation => failure(
            "is not in use yet",
            format!(
                "have an operator run `holdfast backup` and its custodians `holdfast backup verify`, or run `holdfast key activate {name}`"
            ),
        ),
        KeyState::Suspended => {
            failure("is suspended", format!("run `holdfast key resume {name}`, once the reason is over"))
        }
        KeyState::Deactivated => failure(
            "is deactivated: it decrypts and does not encrypt",
            format!("name another key with `{option}`"),
        ),
        KeyState::Compromised => failure(
            "is compromised",
            format!("name another key with `{option}`, and see docs/operate/compromise.md"),
        ),
        KeyState::Destroyed => failure("is destroyed", format!("name another key with `{option}`")),
    }
}

/// Looks at the caller, or registers one with what `credentials` makes for it.
pub(super) async fn caller(
    tenant: &Tenant,
    name: &CallerName,
    how: &How,
    credentials: impl FnOnce() -> Result<Vec<CredentialText>, Failure>,
    report: &mut Report,
) -> Option<Caller> {
    report.doing(format!("looking at the caller `{name}`"));
    let callers = match tenant.callers().await {
        Ok(callers) => callers.body,
        Err(error) => {
            report.findings.wrong("caller", &error.into());
            return None;
        }
    };
    let found = callers.callers.into_iter().find(|caller| caller.name.0 == *name);
    let (record, made) = match found {
        Some(found) => (found, ""),
        None if how.check => {
            let failure = Failure::new(Exit::State, format!("there is no caller `{name}`"))
                .remedy("run this without `--check`, which registers it");
            report.findings.wrong("caller", &failure);
            return None;
        }
        None => {
            let registered = async {
                let credentials = credentials()?;
                let caller = PutCaller {
                    kind: Word(CallerKind::Application),
                    groups: None,
                    credentials: Some(List(credentials)),
                };
                Ok::<_, Failure>(tenant.put_caller(name, &caller).await?.body)
            };
            match registered.await {
                Ok(caller) => (caller, "registered: "),
                Err(failure) => {
                    report.findings.wrong("caller", &failure);
                    return None;
                }
            }
        }
    };
    let kind = record.kind.0;
    if kind != CallerKind::Application {
        let problem = format!("`{name}` is of kind {}, and only applications use keys", kind.name());
        let remedy = "name another one with `--caller`: what a caller is for never changes";
        report.findings.wrong("caller", &Failure::new(Exit::Usage, problem).remedy(remedy));
        return None;
    }
    match record.suspended {
        true => report.findings.wrong(
            "caller",
            &Failure::new(Exit::State, format!("`{name}` is suspended"))
                .remedy(format!("run `holdfast caller resume {name}`, once the reason is over")),
        ),
        false => report.findings.fine("caller", format!("{made}`{name}`, application")),
    }
    Some(record)
}

/// Looks whether a caller is registered for anybody of these issuers.
pub(super) fn registered(caller: &Caller, issuers: &[String], report: &mut Report) {
    let what = "issuers' tokens";
    let name = &caller.name.0;
    let has = |wanted: &&String| {
        caller.credentials.iter().any(
            |known| matches!(&known.0, Credential::Issued { issuer, subject: None } if **issuer == **wanted),
        )
    };
    let lacking: Vec<&String> = issuers.iter().filter(|issuer| !has(issuer)).collect();
    if lacking.is_empty() {
        let all = issuers.join("`, `");
        return report.findings.fine(what, format!("bring anybody in as `{name}`: `{all}`"));
    }
    let lacking = lacking.into_iter().map(String::as_str).collect::<Vec<_>>().join("`, `");
    let problem = format!("`{name}` is not registered for anybody of `{lacking}`");
    let known = caller.credentials.iter().filter_map(|known| match &known.0 {
        Credential::Issued { issuer, subject: None } => Some(issuer.to_string()),
        Credential::Issued { .. } | Credential::Uri(_) | Credential::Dns(_) | Credential::KeyHash(_) => None,
    });
    let all: BTreeSet<String> = known.chain(issuers.iter().cloned()).collect();
    let all: String = all.iter().map(|issuer| format!(" --issuer {issuer}")).collect();
    let remedy =
        format!("run `holdfast caller put {name} --any-subject{all}`; what is not named there is gone");
    report.findings.wrong(what, &Failure::new(Exit::Unauthenticated, problem).remedy(remedy));
}

/// What registers a caller for anybody of these issuers.
pub(super) fn anybody_of(issuers: &[String]) -> Vec<CredentialText> {
    let issued = |issuer: &String| Credential::Issued { issuer: issuer.as_str().into(), subject: None };
    issuers.iter().map(|issuer| CredentialText(issued(issuer))).collect()
}

/// What a provider does with one key, as policies see it.
pub(super) struct Use<'a> {
    pub(super) caller: &'a Caller,
    pub(super) key: &'a Key,
    pub(super) protocol: Protocol,
    /// `mtls` or `signature`.
    pub(super) authentication: &'a str,
    /// What the protocol says of a request for an action.
    pub(super) request: &'a dyn Fn(Action) -> Vec<(&'static str, String)>,
    pub(super) context: &'a [(&'a str, &'a str)],
}

/// A provider, and all that it does.
pub(super) struct Uses<'a> {
    pub(super) caller: &'a Caller,
    pub(super) protocol: Protocol,
    pub(super) context: &'a [(&'a str, &'a str)],
    pub(super) questions: Vec<Question<'a>>,
    /// What all of it is, where it is allowed.
    pub(super) told: String,
}

/// One thing that it does.
pub(super) struct Question<'a> {
    pub(super) key: &'a Key,
    pub(super) action: Action,
    pub(super) authentication: &'a str,
    pub(super) request: Vec<(String, String)>,
    /// For whom, where that is not all the same.
    pub(super) whose: Option<&'a str>,
}

impl Question<'_> {
    fn told(&self) -> String {
        let (action, key) = (self.action.name(), &self.key.name.0);
        let whose = self.whose.map(|whose| format!(" for `{whose}`")).unwrap_or_default();
        format!("{action} with `{key}`{whose}")
    }
}

/// How a decision says that no policy permits something, unlike one that forbids it.
const UNPERMITTED: &str = "denied by no policy";

/// What is not allowed of that, with what decides so.
type Denied<'a> = Vec<(&'a Question<'a>, String)>;

/// What a policy lacks.
pub(super) struct Lacks<'a> {
    text: &'a str,
    denied: &'a Denied<'a>,
}

impl Lacks<'_> {
    /// Whether one of these actions is not allowed.
    pub(super) fn any_of(&self, actions: &[Action]) -> bool {
        self.denied().any(|question| actions.contains(&question.action))
    }

    /// All that is not allowed.
    pub(super) fn denied(&self) -> impl Iterator<Item = &Question<'_>> {
        self.denied.iter().map(|(question, _)| *question)
    }

    /// Whether the policy permits it already, under conditions then: nothing may be added to that which has none.
    pub(super) fn is_conditional(&self, caller: &CallerName, key: &KeyName, actions: &[Action]) -> bool {
        let names = |policy: &str, entity: &str, name: &str| {
            policy.contains(&format!("Holdfast::{entity}::\"{name}\""))
        };
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        text.split(';').filter(|policy| policy.contains("permit")).any(|policy| {
            let is_of = |action: &Action| names(policy, "Action", action.name());
            let is_one = !policy.contains("Holdfast::Action::") || actions.iter().any(is_of);
            is_one && names(policy, "Caller", caller.as_str()) && names(policy, "Key", key.as_str())
        })
    }

    /// An id that no policy has yet: this one, or it with a number.
    pub(super) fn id(&self, id: &str) -> String {
        let is_free = |id: &String| !self.text.contains(&format!("@id(\"{id}\")"));
        let numbered = (2_u32..).map(|number| format!("{id}-{number}"));
        [id.to_owned()].into_iter().chain(numbered).find(is_free).unwrap_or_default()
    }
}

/// Looks whether the policy lets the caller use the key, and adds what `fragment` writes for what it does not, if that is wanted.
pub(super) async fn policy(
    tenant: &Tenant,
    wanted: &Use<'_>,
    how: &How,
    fragment: impl FnOnce(&Lacks<'_>) -> String,
    report: &mut Report,
) {
    let Use { caller, key, protocol, authentication, request, context } = *wanted;
    let question = |action| {
        let request = request(action).into_iter().map(|(name, value)| (name.to_owned(), value));
        Question { key, action, authentication, request: request.collect(), whose: None }
    };
    let [_, there, back] = actions(protocol);
    let uses = Uses {
        caller,
        protocol,
        context,
        questions: actions(protocol).map(question).into(),
        told: format!("read `{}`, and {} and {} with it", key.name.0, there.name(), back.name()),
    };
    all_allowed(tenant, &uses, how, fragment, report).await;
}

/// What the policy says of all that a provider does.
enum Found {
    Allowed(String),
    /// With what would allow it.
    Lacking(String, String),
    /// It depends on who asks, and on what.
    Conditional(String),
}

/// Looks whether the policy allows all that a provider does, and adds what `fragment` writes for what it does not, if that is wanted.
pub(super) async fn all_allowed(
    tenant: &Tenant,
    uses: &Uses<'_>,
    how: &How,
    fragment: impl FnOnce(&Lacks<'_>) -> String,
    report: &mut Report,
) {
    report.doing("asking the policy");
    let name = &uses.caller.name.0;
    let fine = |version: u64| format!("version {version} lets `{name}` {}", uses.told);
    let outcome = async {
        let Policy { version, text, .. } = tenant.policy(None).await?.body;
        let denied = denied(tenant, &text.0, uses)?;
        if denied.is_empty() {
            return Ok(Found::Allowed(fine(version)));
        }
        let addition = fragment(&Lacks { text: &text.0, denied: &denied });
        let text = format!("{}\n\n{addition}", text.0.trim_end());
        // A policy that forbids is in force whatever else permits.
        let still = self::denied(tenant, &text, uses)?;
        // What no policy permits even so is what the addition leaves out.
        if still.iter().any(|(_, why)| why.contains(UNPERMITTED)) {
            return Ok(Found::Conditional(format!(
                "`{name}` may {} under conditions, which nobody's request met here; nothing was added",
                lacking(&still)
            )));
        }
        if let [(question, why), ..] = &*still {
            let problem = format!("`{name}` may not {}: it {why}", question.told());
            return Err(Failure::new(Exit::Denied, problem)
                .remedy("no addition helps: look at that policy with `holdfast policy show`"));
        }
        if how.set_policy {
            let set = tenant.set_policy(&text, Some(version)).await?.body;
            return Ok(Found::Allowed(format!("set: {}", fine(set.version))));
        }
        Ok(Found::Lacking(format!("`{name}` may not {}", lacking(&denied)), addition))
    };
    match outcome.await {
        Ok(Found::Allowed(detail)) => report.findings.fine("policy", detail),
        Ok(Found::Conditional(detail)) => report.findings.watch(
            "policy",
            detail,
            "test it with tokens of somebody who is to have it; if that is refused, change the policy yourself",
        ),
        Ok(Found::Lacking(problem, addition)) => {
            let remedy =
                "run this with `--set-policy`, or add what is shown below with `holdfast policy set`";
            report.findings.wrong("policy", &Failure::new(Exit::Denied, problem).remedy(remedy));
            report.paste("into the tenant's policy, as its custodian", addition);
        }
        Err(failure) => report.findings.wrong("policy", &failure),
    }
}

/// What is not allowed, with one key's actions together.
fn lacking(denied: &Denied<'_>) -> String {
    let is_alike = |(one, _): &(&Question<'_>, String), (other, _): &(&Question<'_>, String)| {
        one.whose.is_none() && other.whose.is_none() && one.key.name.0 == other.key.name.0
    };
    let told = denied.chunk_by(is_alike).filter_map(|alike| {
        let ((last, _), before) = alike.split_last()?;
        let before: String = before.iter().map(|(one, _)| format!("{}, ", one.action.name())).collect();
        Some(format!("{before}{}", last.told()))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// What a policy text does not allow, decided here as the gateway decides.
fn denied<'a>(tenant: &Tenant, text: &str, uses: &'a Uses<'a>) -> Result<Denied<'a>, Failure> {
    let unread = || Failure::new(Exit::Failure, "the policy cannot be read by this version of `holdfast`");
    let prepared = CedarPolicy::new()?.read(tenant.id(), text).map_err(|faults| match faults.first() {
        Some(fault) => Failure::new(Exit::Failure, format!("the policy cannot be read: {fault}"))
            .remedy(fault.remedy.clone()),
        None => unread().remedy("use the version that the gateway is of"),
    })?;
    let cases = Cases::parse(&prepared, &cases(uses)?)?;
    let results = run_cases(&prepared, &cases);
    Ok(uses.questions.iter().zip(results).filter_map(|(it, case)| Some((it, case.failure?))).collect())
}

/// The questions, as a file of test cases has them.
fn cases(uses: &Uses<'_>) -> Result<String, Failure> {
    let Uses { caller, protocol, context, questions, told: _ } = uses;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
        pairs
            .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let groups: Vec<_> = caller.groups.iter().map(|group| quoted(group.0.as_str())).collect();
    let context = pairs(&mut context.iter().copied());
    let mut text = String::new();
    for Question { key, action, authentication, request, whose: _ } in questions {
        let labels = pairs(&mut key.labels.0.iter().map(|(name, value)| (&**name, &**value)));
        let own =
            key.protocol.map(|own| format!("key-protocol = {}\n", quoted(own.0.name()))).unwrap_or_default();
        let request = pairs(&mut request.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let written = write!(
            text,
            "[[case]]\ncaller = {}\ngroups = [{}]\naction = {}\nkey = {}\nlabels = {{ {labels} }}\nalgorithm = {}\npurpose = {}\n\
             exportable = {}\nemergency-copy = {}\ncustody = {}\n{own}protocol = {}\nauthentication = {}\nrequest = {{ {request} }}\n\
             context = {{ {context} }}\ntime = {}\nexpect = \"allow\"\n\n",
            quoted(caller.name.0.as_str()),
            groups.join(", "),
            quoted(action.name()),
            quoted(key.name.0.as_str()),
            quoted(key.algorithm.0.name()),
            quoted(key.purpose.0.name()),
            key.exportable,
            key.emergency_copy == Some(true),
            quoted(key.custody.0.name()),
            quoted(protocol.name()),
            quoted(authentication),
            clock::now(),
        );
        written
            .map_err(|error| Failure::new(Exit::Failure, "a question cannot be written").because(&error))?;
    }
    Ok(text)
}
