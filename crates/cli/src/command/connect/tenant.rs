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
use holdfast_core::{ErrorKind, PolicyId, Protocol};
use holdfast_gateway::policy::{Cases, CedarPolicy, conditions_of, run_cases};
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
    /// What a request says of whom it is for: others of these would be others.
    pub(super) known: &'a [&'a str],
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
    pub(super) whose: Option<String>,
}

impl Question<'_> {
    fn told(&self) -> String {
        let (action, key) = (self.action.name(), &self.key.name.0);
        let whose = self.whose.as_ref().map(|whose| format!(" for {whose}")).unwrap_or_default();
        format!("{action} with `{key}`{whose}")
    }
}

/// How a decision says that no policy permits something, unlike one that forbids it.
const UNPERMITTED: &str = "denied by no policy";

/// What is not allowed of that.
struct Refused<'a> {
    question: &'a Question<'a>,
    /// What decides so.
    why: String,
    /// The policies that permit it, under conditions which this request does not meet and others could.
    conditional: Vec<PolicyId>,
}

impl Refused<'_> {
    /// Whether a policy forbids it, or fails, rather than that none permits it.
    fn is_forbidden(&self) -> bool {
        !self.why.contains(UNPERMITTED)
    }
}

/// What a policy lacks.
pub(super) struct Lacks<'a> {
    text: &'a str,
    refused: &'a [Refused<'a>],
}

impl Lacks<'_> {
    /// Those of these actions with a key that are not allowed, and that no policy permits under conditions either: whoever wrote conditions gets no permit
    /// beside them that has none.
    pub(super) fn of(&self, key: &KeyName, actions: &[Action]) -> Vec<Action> {
        let is_lacking = |action: &Action| {
            let is_its = |it: &&Refused<'_>| it.question.action == *action && it.question.key.name.0 == *key;
            let mut its = self.refused.iter().filter(is_its).map(|it| it.conditional.is_empty()).peekable();
            its.peek().is_some() && its.all(|is_free| is_free)
        };
        actions.iter().copied().filter(is_lacking).collect()
    }

    /// Whether one of these is not allowed, under conditions or not: for what is added with conditions of its own.
    pub(super) fn any_of(&self, actions: &[Action]) -> bool {
        self.denied().any(|question| actions.contains(&question.action))
    }

    /// All that is not allowed, under conditions or not.
    pub(super) fn denied(&self) -> impl Iterator<Item = &Question<'_>> {
        self.refused.iter().map(|refused| refused.question)
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
        known: &[],
        told: format!("read `{}`, and {} and {} with it", key.name.0, there.name(), back.name()),
    };
    all_allowed(tenant, &uses, how, fragment, report).await;
}

/// A policy's scope of actions, as Cedar writes it.
pub(super) fn scope(actions: &[Action]) -> String {
    let named = |action: &Action| format!("Holdfast::Action::\"{}\"", action.name());
    match actions {
        [one] => format!("== {}", named(one)),
        several => format!("in [{}]", several.iter().map(named).collect::<Vec<_>>().join(", ")),
    }
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
    let what = "policy";
    let name = &uses.caller.name.0;
    let fine = |version: u64| format!("version {version} lets `{name}` {}", uses.told);
    let looked = async {
        let Policy { version, text, .. } = tenant.policy(None).await?.body;
        let refused = refused(tenant, &text.0, uses)?;
        if refused.is_empty() {
            report.findings.fine(what, fine(version));
            return Ok(());
        }
        let addition = fragment(&Lacks { text: &text.0, refused: &refused });
        let text = format!("{}\n\n{addition}", text.0.trim_end());
        // A policy that forbids is in force whatever else permits.
        let still = self::refused(tenant, &text, uses)?;
        let (conditional, hopeless): (Vec<_>, Vec<_>) =
            still.into_iter().partition(|it| !it.is_forbidden() && !it.conditional.is_empty());
        if let [first, ..] = &*hopeless {
            let problem = format!("`{name}` may not {}: it {}", first.question.told(), first.why);
            return Err(Failure::new(Exit::Denied, problem)
                .remedy("no addition helps: look at that policy with `holdfast policy show`"));
        }
        let left = |one: &&Refused<'_>| !conditional.iter().any(|it| std::ptr::eq(it.question, one.question));
        let added: Vec<&Refused<'_>> = refused.iter().filter(left).collect();
        if !added.is_empty() && how.set_policy {
            let version = tenant.set_policy(&text, Some(version)).await?.body.version;
            let told = match conditional.is_empty() {
                true => fine(version),
                false => format!("version {version} lets `{name}` {}", listed(added.iter().copied())),
            };
            report.findings.fine(what, format!("set: {told}"));
        } else if !added.is_empty() {
            let problem = format!("`{name}` may not {}", listed(added.iter().copied()));
            let remedy =
                "run this with `--set-policy`, or add what is shown below with `holdfast policy set`";
            report.findings.wrong(what, &Failure::new(Exit::Denied, problem).remedy(remedy));
            report.paste("into the tenant's policy, as its custodian", addition);
        }
        let beside: Vec<&Refused<'_>> =
            added.into_iter().filter(|refused| !refused.conditional.is_empty()).collect();
        if !beside.is_empty() {
            let detail = format!(
                "{} lets `{name}` {} under conditions; what is added beside it does not have these",
                policies(beside.iter().copied()),
                listed(beside.iter().copied()),
            );
            let remedy = "compare both: `holdfast policy show`; if those conditions are to hold for all, write them into the other too";
            report.findings.watch(what, detail, remedy);
        }
        if !conditional.is_empty() {
            let detail = format!(
                "{} lets `{name}` {} under conditions, which the request that was tried here does not meet; nothing was added for it",
                policies(&conditional),
                listed(&conditional),
            );
            report.findings.watch(
                what,
                detail,
                "test it as somebody who is to have it; if that is refused, change that policy yourself: `holdfast policy show`",
            );
        }
        Ok(())
    };
    let looked: Result<(), Failure> = looked.await;
    if let Err(failure) = looked {
        report.findings.wrong(what, &failure);
    }
}

/// The policies that permit these under conditions.
fn policies<'a>(refused: impl IntoIterator<Item = &'a Refused<'a>>) -> String {
    let all: BTreeSet<&str> =
        refused.into_iter().flat_map(|it| it.conditional.iter().map(PolicyId::as_str)).collect();
    all.into_iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
}

/// What is not allowed, with one key's actions together.
fn listed<'a>(refused: impl IntoIterator<Item = &'a Refused<'a>>) -> String {
    let all: Vec<&Question<'_>> = refused.into_iter().map(|it| it.question).collect();
    let is_alike = |one: &&Question<'_>, other: &&Question<'_>| {
        one.whose.is_none() && other.whose.is_none() && one.key.name.0 == other.key.name.0
    };
    let told = all.chunk_by(is_alike).filter_map(|alike| {
        let (last, before) = alike.split_last()?;
        let before: String = before.iter().map(|one| format!("{}, ", one.action.name())).collect();
        Some(format!("{before}{}", last.told()))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// What a policy text does not allow, decided here as the gateway decides.
fn refused<'a>(tenant: &Tenant, text: &str, uses: &'a Uses<'a>) -> Result<Vec<Refused<'a>>, Failure> {
    let unread = || Failure::new(Exit::Failure, "the policy cannot be read by this version of `holdfast`");
    let prepared = CedarPolicy::new()?.read(tenant.id(), text).map_err(|faults| match faults.first() {
        Some(fault) => Failure::new(Exit::Failure, format!("the policy cannot be read: {fault}"))
            .remedy(fault.remedy.clone()),
        None => unread().remedy("use the version that the gateway is of"),
    })?;
    let cases = Cases::parse(&prepared, &cases(uses)?)?;
    let answers = run_cases(&prepared, &cases).into_iter().zip(conditions_of(&prepared, &cases, uses.known));
    let refused = uses.questions.iter().zip(answers).filter_map(|(question, (case, conditional))| {
        Some(Refused { question, why: case.failure?, conditional })
    });
    Ok(refused.collect())
}

/// The questions, as a file of test cases has them.
fn cases(uses: &Uses<'_>) -> Result<String, Failure> {
    let Uses { caller, protocol, context, questions, known: _, told: _ } = uses;
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
