//! What a provider needs in the tenant: a key, a caller, and a policy that lets the one use the other. Made where it is not there, unless nothing is
//! to be changed; what is there is looked at, and never changed but for the policy.

use super::{How, Report};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::CallerKind;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::{ErrorKind, Protocol};
use holdfast_gateway::policy::{Cases, CedarPolicy, run_cases};
use holdfast_sdk::field::{CredentialText, List, Name, Word};
use holdfast_sdk::message::{Caller, CreateKey, Key, Policy, PutCaller};
use holdfast_sdk::{CallerName, KeyName, Tenant};
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

/// Looks at the key that a protocol is to use, or makes it of this algorithm (the key store's default unless told).
pub(super) async fn key(
    tenant: &Tenant,
    (name, algorithm, through): (&KeyName, Option<Algorithm>, Protocol),
    how: &How,
    report: &mut Report,
) -> Option<Key> {
    report.doing(format!("looking at the key `{name}`"));
    let (record, made) = match tenant.key(name).await {
        Ok(found) => (found.body, ""),
        Err(error) if error.kind() == Some(ErrorKind::NotFound) && !how.check => {
            let new = CreateKey {
                name: Name(name.clone()),
                algorithm: algorithm.map(Word),
                purpose: (wanted_for(through) != Purpose::Encrypt).then(|| Word(wanted_for(through))),
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
    let purpose = record.purpose.0;
    let (made_of, wanted) = (record.algorithm.0, algorithm.unwrap_or(record.algorithm.0));
    if made_of != wanted || purpose != wanted_for(through) {
        let (made_of, wanted, purpose) = (made_of.name(), wanted.name(), purpose.name());
        let needed = wanted_for(through).name();
        let problem = format!("`{name}` is {made_of} to {purpose}, and {wanted} to {needed} is needed");
        let remedy = "name another key with `--key`: what a key is never changes";
        report.findings.wrong("key", &Failure::new(Exit::Usage, problem).remedy(remedy));
        return None;
    }
    match usable(name, &record, through) {
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
fn usable(name: &KeyName, record: &Key, through: Protocol) -> Result<(), Failure> {
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
        return failure(&problem, "name another key with `--key`: what a key is never changes".to_owned());
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
            "name another key with `--key`".to_owned(),
        ),
        KeyState::Compromised => failure(
            "is compromised",
            "name another key with `--key`, and see docs/operate/compromise.md".to_owned(),
        ),
        KeyState::Destroyed => failure("is destroyed", "name another key with `--key`".to_owned()),
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

/// What a provider does, as policies see it.
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

/// What is not allowed of that, with what decides so.
type Denied = Vec<(Action, String)>;

/// What a policy lacks.
pub(super) struct Lacks<'a> {
    text: &'a str,
    denied: &'a Denied,
}

impl Lacks<'_> {
    /// Whether one of these actions is not allowed.
    pub(super) fn any_of(&self, actions: &[Action]) -> bool {
        self.denied.iter().any(|(action, _)| actions.contains(action))
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
    report.doing("asking the policy");
    let (name, key) = (&wanted.caller.name.0, &wanted.key.name.0);
    let [_, there, back] = actions(wanted.protocol);
    let fine = |version: u64| {
        let (there, back) = (there.name(), back.name());
        format!("version {version} lets `{name}` read `{key}`, and {there} and {back} with it")
    };
    let outcome = async {
        let Policy { version, text, .. } = tenant.policy(None).await?.body;
        let denied = denied(tenant, &text.0, wanted)?;
        if denied.is_empty() {
            return Ok((fine(version), None));
        }
        let addition = fragment(&Lacks { text: &text.0, denied: &denied });
        let text = format!("{}\n\n{addition}", text.0.trim_end());
        // A policy that forbids is in force whatever else permits.
        let still = self::denied(tenant, &text, wanted)?;
        if let [(action, why), ..] = &*still {
            let problem = format!("`{name}` may not {} with `{key}`: it {why}", action.name());
            return Err(Failure::new(Exit::Denied, problem)
                .remedy("no addition helps: look at that policy with `holdfast policy show`"));
        }
        if how.set_policy {
            let set = tenant.set_policy(&text, Some(version)).await?.body;
            return Ok((format!("set: {}", fine(set.version)), None));
        }
        let actions: Vec<_> = denied.iter().map(|(action, _)| action.name()).collect();
        Ok((format!("`{name}` may not {} with `{key}`", actions.join(", ")), Some(addition)))
    };
    match outcome.await {
        Ok((detail, None)) => report.findings.fine("policy", detail),
        Ok((problem, Some(addition))) => {
            let remedy =
                "run this with `--set-policy`, or add what is shown below with `holdfast policy set`";
            report.findings.wrong("policy", &Failure::new(Exit::Denied, problem).remedy(remedy));
            report.paste("into the tenant's policy, as its custodian", addition);
        }
        Err(failure) => report.findings.wrong("policy", &failure),
    }
}

/// Which of the actions a policy text does not allow, decided here as the gateway decides.
fn denied(tenant: &Tenant, text: &str, wanted: &Use<'_>) -> Result<Denied, Failure> {
    let unread = || Failure::new(Exit::Failure, "the policy cannot be read by this version of `holdfast`");
    let prepared = CedarPolicy::new()?.read(tenant.id(), text).map_err(|faults| match faults.first() {
        Some(fault) => Failure::new(Exit::Failure, format!("the policy cannot be read: {fault}"))
            .remedy(fault.remedy.clone()),
        None => unread().remedy("use the version that the gateway is of"),
    })?;
    let cases = Cases::parse(&prepared, &cases(wanted)?)?;
    let results = run_cases(&prepared, &cases);
    Ok(actions(wanted.protocol)
        .into_iter()
        .zip(results)
        .filter_map(|(action, case)| Some((action, case.failure?)))
        .collect())
}

/// The questions, as a file of test cases has them.
fn cases(wanted: &Use<'_>) -> Result<String, Failure> {
    let Use { caller, key, protocol, authentication, request, context } = wanted;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
        pairs
            .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let groups: Vec<_> = caller.groups.iter().map(|group| quoted(group.0.as_str())).collect();
    let labels = pairs(&mut key.labels.0.iter().map(|(name, value)| (&**name, &**value)));
    let context = pairs(&mut context.iter().copied());
    let own =
        key.protocol.map(|own| format!("key-protocol = {}\n", quoted(own.0.name()))).unwrap_or_default();
    let mut text = String::new();
    for action in actions(*protocol) {
        let request = request(action);
        let request = pairs(&mut request.iter().map(|(name, value)| (*name, value.as_str())));
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
