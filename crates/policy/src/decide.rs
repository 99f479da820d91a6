//! Deciding: the policies that can apply, evaluated once for all questions that they cannot tell apart.
//!
//! A *plan* holds what is the same for every question of one caller about one action on resources between which no scope
//! distinguishes. Its policies are of three sorts. *Early* ones do not look at the circumstances of the request: their answer is
//! remembered for each set of attributes and labels that they look at. *Recurring* ones look at circumstances that come again, such as which
//! principal a protocol names: the answer of both together is remembered for what both look at. *Passing* ones look at the time itself and
//! are evaluated every time.

use crate::entities;
use crate::fault::id_text;
use crate::index::Slot;
use crate::memo::Memo;
use crate::prepared::Prepared;
use crate::reads::Reads;
use crate::rule::Rule;
use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicySet, PolicySetError};
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};
use holdfast_core::PolicyId;
use holdfast_core::action::Action;
use holdfast_core::caller::CallerRecord;
use holdfast_core::port::{Decision, Question, Resource};
use std::sync::Arc;

/// The most bytes of one tenant's plans, and of its answers, that are remembered. Each caller, action and resource that a scope names has a plan of
/// its own: without a bound each would hold every policy that can apply to it.
const MAX_PLANS: usize = 32 << 20;
const MAX_ANSWERS: usize = 16 << 20;

/// The most bytes of policies that a plan holds of one sort; of more it holds the places, and takes the policies together for each evaluation.
const MAX_PART: usize = 1 << 20;

/// About how many bytes a plan takes without its policies and what they look at, each group of its caller, each policy without its text, and
/// each policy that an answer names.
const PLAN_BYTES: usize = 2048;
const GROUP_BYTES: usize = 256;
const POLICY_BYTES: usize = 1024;
const NAMED_BYTES: usize = 64;

/// What a tenant's policy set remembers.
pub(crate) struct Memory {
    plans: Memo<Arc<Plan>>,
    answers: Memo<Answer>,
    next_plan: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            plans: Memo::new(4096, MAX_PLANS),
            answers: Memo::new(16_384, MAX_ANSWERS),
            next_plan: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// Where the plan of such questions is remembered. Others may be remembered there too.
    fn place_of(&self, question: &Question<'_>, slot: Slot) -> u64 {
        let mut hasher = self.plans.hasher();
        (Arc::as_ptr(&question.caller.record).addr(), question.action, slot).hash(&mut hasher);
        hasher.finish()
    }
}

/// Some policies, with what they look at together.
struct Part {
    places: Box<[u32]>,
    /// Held while they are few enough.
    policies: Option<PolicySet>,
    reads: Reads,
    /// About how many bytes it takes.
    bytes: usize,
}

struct Plan {
    number: u64,
    /// Held so that its address names nobody else: registrations never change in place.
    record: Arc<CallerRecord>,
    action: Action,
    slot: Slot,
    common: Entities,
    early: Part,
    recurring: Option<Recurring>,
    passing: Option<Part>,
    /// The early policies' answer, where they do not look at the resource.
    settled: Option<Settled>,
}

/// Policies whose answer is remembered together with that of the early ones.
struct Recurring {
    part: Part,
    /// What both look at.
    together: Reads,
}

/// The answer of some of a plan's policies to questions that look like this to them.
struct Answer {
    plan: u64,
    stage: Stage,
    looks: Box<[u8]>,
    settled: Settled,
}

/// Of which policies an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Early,
    Recurring,
}

/// An answer, and the decision if no other policies have one.
#[derive(Clone)]
struct Settled {
    outcome: Arc<Outcome>,
    decision: Decision,
}

/// The places of the policies that are satisfied, and of those that failed to evaluate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) permits: Vec<u32>,
    pub(crate) forbids: Vec<u32>,
    pub(crate) failed: Vec<u32>,
    /// Whether the question itself could not be put.
    pub(crate) unposed: bool,
}

/// What a look at the plans gives.
enum Found {
    Decision(Decision),
    Plan(Arc<Plan>),
}

pub(crate) fn decide(prepared: &Prepared, question: &Question<'_>) -> Decision {
    let memory = &prepared.memory;
    let slot = prepared.index.slot(&question.resource);
    let record = &question.caller.record;
    let hash = memory.place_of(question, slot);
    let found = memory.plans.find(hash, |plan| {
        let same = Arc::ptr_eq(&plan.record, record) && plan.action == question.action && plan.slot == slot;
        same.then(|| match plan.as_ref() {
            Plan { settled: Some(settled), recurring: None, passing: None, .. } => {
                Found::Decision(settled.decision.clone())
            }
            _ => Found::Plan(Arc::clone(plan)),
        })
    });
    let plan = match found {
        Some(Found::Decision(decision)) => return decision,
        Some(Found::Plan(plan)) => plan,
        None => match Plan::new(prepared, question, slot) {
            Ok(plan) => {
                let plan = Arc::new(plan);
                memory.plans.put(hash, Arc::clone(&plan), plan.bytes());
                plan
            }
            Err(_) => return decision(prepared, question, &Outcome::unposed()),
        },
    };
    let settled = plan.settle(prepared, question);
    let Some(passing) = &plan.passing else { return settled.decision };
    let mut outcome = Outcome::clone(&settled.outcome);
    outcome.merge(passing.evaluate(prepared, &plan.common, question));
    decision(prepared, question, &outcome)
}

impl Plan {
    fn new(
        prepared: &Prepared,
        question: &Question<'_>,
        slot: Slot,
    ) -> Result<Self, Box<dyn core::error::Error + Send + Sync>> {
        let record = Arc::clone(&question.caller.record);
        let candidates = prepared.index.candidates(&prepared.rules, &record, question.action, slot);
        let candidates = candidates.iter().filter_map(|place| Some((*place, prepared.rule(*place)?)));
        let (late, early): (Vec<Candidate<'_>>, Vec<Candidate<'_>>) =
            candidates.partition(|(_, rule)| rule.reads.circumstances());
        let (recurring, passing): (Vec<Candidate<'_>>, Vec<Candidate<'_>>) =
            late.into_iter().partition(|(_, rule)| rule.reads.recurs());
        let early = Part::new(&early)?;
        let recurring = Part::some(&recurring)?.map(|part| {
            let mut together = early.reads.clone();
            together.merge(&part.reads);
            Recurring { part, together }
        });
        let mut plan = Self {
            number: prepared.memory.next_plan.fetch_add(1, Ordering::Relaxed),
            common: entities::common(&prepared.vocabulary, &record, question.action)?,
            action: question.action,
            passing: Part::some(&passing)?,
            settled: None,
            early,
            recurring,
            record,
            slot,
        };
        if !plan.early.reads.resource() {
            plan.settled = Some(plan.work_out(prepared, question));
            plan.early.let_go();
        }
        plan.fit(prepared.memory.plans.most());
        Ok(plan)
    }

    /// Lets policies go until it takes no more than so many bytes: a plan that is not remembered is made for each question. Those first that are
    /// evaluated least often.
    fn fit(&mut self, most: usize) {
        if self.bytes() > most {
            self.early.let_go();
        }
        if self.bytes() > most
            && let Some(Recurring { part, .. }) = &mut self.recurring
        {
            part.let_go();
        }
        if self.bytes() > most
            && let Some(passing) = &mut self.passing
        {
            passing.let_go();
        }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let Self { record, early, recurring, passing, settled, .. } = self;
        let parts = [Some(early), recurring.as_ref().map(|recurring| &recurring.part), passing.as_ref()];
        let groups = record.groups.iter().map(|group| group.as_str().len().saturating_add(GROUP_BYTES));
        let together = recurring.as_ref().map_or(0, |recurring| recurring.together.bytes());
        parts
            .into_iter()
            .flatten()
            .map(|part| part.bytes)
            .chain(groups)
            .chain([together, settled.as_ref().map_or(0, Settled::bytes)])
            .fold(PLAN_BYTES, usize::saturating_add)
    }

    /// The answer of all but the passing policies: known, remembered, or worked out.
    fn settle(&self, prepared: &Prepared, question: &Question<'_>) -> Settled {
        let early = || match &self.settled {
            Some(settled) => settled.clone(),
            None => self.remembered(prepared, question, Stage::Early, || self.work_out(prepared, question)),
        };
        let Some(Recurring { part, .. }) = &self.recurring else { return early() };
        self.remembered(prepared, question, Stage::Recurring, || {
            let mut outcome = Outcome::clone(&early().outcome);
            outcome.merge(part.evaluate(prepared, &self.common, question));
            Settled::of(prepared, question, outcome)
        })
    }

    fn remembered(
        &self,
        prepared: &Prepared,
        question: &Question<'_>,
        stage: Stage,
        work_out: impl FnOnce() -> Settled,
    ) -> Settled {
        let (answers, reads) = (&prepared.memory.answers, self.reads(stage));
        let hash = self.place_of(answers, stage, question);
        let remembered = answers.find(hash, |answer| {
            let same = answer.plan == self.number
                && answer.stage == stage
                && looks_like(reads, question, &answer.looks);
            same.then(|| answer.settled.clone())
        });
        remembered.unwrap_or_else(|| {
            let settled = work_out();
            let looks = looks(reads, question);
            let bytes = settled.bytes().saturating_add(looks.len());
            answers.put(hash, Answer { plan: self.number, stage, looks, settled: settled.clone() }, bytes);
            settled
        })
    }

    /// What the policies of a stage look at.
    fn reads(&self, stage: Stage) -> &Reads {
        match (stage, &self.recurring) {
            (Stage::Recurring, Some(Recurring { together, .. })) => together,
            (Stage::Recurring, None) | (Stage::Early, _) => &self.early.reads,
        }
    }

    /// Where its answer to such a question is remembered. Others may be remembered there too.
    fn place_of(&self, answers: &Memo<Answer>, stage: Stage, question: &Question<'_>) -> u64 {
        let mut hasher = answers.hasher();
        (self.number, stage).hash(&mut hasher);
        self.reads(stage).describe(question, &mut |bytes| hasher.write(bytes));
        hasher.finish()
    }

    fn work_out(&self, prepared: &Prepared, question: &Question<'_>) -> Settled {
        Settled::of(prepared, question, self.early.evaluate(prepared, &self.common, question))
    }
}

impl Settled {
    fn of(prepared: &Prepared, question: &Question<'_>, outcome: Outcome) -> Self {
        let decision = decision(prepared, question, &outcome);
        Self { outcome: Arc::new(outcome), decision }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let Outcome { permits, forbids, failed, unposed: _ } = &*self.outcome;
        let places = permits.len().saturating_add(forbids.len()).saturating_add(failed.len());
        // The text of a name is its policy's.
        let names = self.decision.policies.len().saturating_add(1).saturating_mul(NAMED_BYTES);
        names.saturating_add(places.saturating_mul(4))
    }
}

/// A policy that can apply, and its place.
type Candidate<'a> = (u32, &'a Rule);

/// What is seen of a question by who looks at no more than this.
fn looks(reads: &Reads, question: &Question<'_>) -> Box<[u8]> {
    let mut looks = Vec::new();
    reads.describe(question, &mut |bytes| looks.extend_from_slice(bytes));
    looks.into_boxed_slice()
}

fn looks_like(reads: &Reads, question: &Question<'_>, looks: &[u8]) -> bool {
    let mut rest = Some(looks);
    reads.describe(question, &mut |bytes| {
        rest = rest.and_then(|rest| rest.strip_prefix(bytes));
    });
    rest.is_some_and(<[u8]>::is_empty)
}

impl Part {
    fn new(rules: &[Candidate<'_>]) -> Result<Self, Box<PolicySetError>> {
        let mut reads = Reads::default();
        rules.iter().for_each(|(_, rule)| reads.merge(&rule.reads));
        let places: Box<[u32]> = rules.iter().map(|(place, _)| *place).collect();
        let weight = |rule: &Rule| rule.length.saturating_add(POLICY_BYTES);
        let policies = rules.iter().fold(0_usize, |sum, (_, rule)| sum.saturating_add(weight(rule)));
        let mut part = Self { bytes: 0, places, policies: None, reads };
        part.let_go();
        if policies <= MAX_PART {
            part.policies = Some(together(rules.iter().map(|(_, rule)| *rule))?);
            part.bytes = part.bytes.saturating_add(policies);
        }
        Ok(part)
    }

    /// None of no policies.
    fn some(rules: &[Candidate<'_>]) -> Result<Option<Self>, Box<PolicySetError>> {
        if rules.is_empty() { Ok(None) } else { Self::new(rules).map(Some) }
    }

    /// Holds the policies no longer, as where their answer is known.
    fn let_go(&mut self) {
        self.policies = None;
        self.bytes = self.places.len().saturating_mul(4).saturating_add(self.reads.bytes());
    }

    fn evaluate(&self, prepared: &Prepared, common: &Entities, question: &Question<'_>) -> Outcome {
        if self.places.is_empty() {
            return Outcome::default();
        }
        let Prepared { vocabulary, tenant, .. } = prepared;
        let Ok((request, entities)) = entities::pose(vocabulary, tenant, common, &self.reads, question)
        else {
            return Outcome::unposed();
        };
        match &self.policies {
            Some(policies) => evaluate(prepared, &request, policies, &entities),
            None => match together(self.places.iter().filter_map(|place| prepared.rule(*place))) {
                Ok(policies) => evaluate(prepared, &request, &policies, &entities),
                Err(_) => Outcome::unposed(),
            },
        }
    }
}

fn together<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<PolicySet, Box<PolicySetError>> {
    PolicySet::from_policies(rules.map(|rule| rule.policy.clone())).map_err(Box::new)
}

/// Evaluates policies; their ids are known to `prepared`.
pub(crate) fn evaluate(
    prepared: &Prepared,
    request: &cedar_policy::Request,
    policies: &PolicySet,
    entities: &Entities,
) -> Outcome {
    let response = Authorizer::new().is_authorized(request, policies, entities);
    let place = |id: &cedar_policy::PolicyId| prepared.places.get(id_text(id)).copied();
    let reasons: Vec<u32> = response.diagnostics().reason().filter_map(place).collect();
    let failed = response.diagnostics().errors().filter_map(|error| match error {
        AuthorizationError::PolicyEvaluationError(error) => place(error.policy_id()),
    });
    let failed = failed.collect();
    match response.decision() {
        cedar_policy::Decision::Allow => Outcome { permits: reasons, failed, ..Outcome::default() },
        cedar_policy::Decision::Deny => Outcome { forbids: reasons, failed, ..Outcome::default() },
    }
}

impl Outcome {
    fn unposed() -> Self {
        Self { unposed: true, ..Self::default() }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Self { permits, forbids, failed, unposed } = other;
        self.permits.extend(permits);
        self.forbids.extend(forbids);
        self.failed.extend(failed);
        self.unposed |= unposed;
    }

    pub(crate) fn allows(&self) -> bool {
        let Self { permits, forbids, failed, unposed } = self;
        !permits.is_empty() && forbids.is_empty() && failed.is_empty() && !unposed
    }
}

/// The decision that follows. A policy that fails forbids: were it passed over, a `forbid` that fails would permit.
pub(crate) fn decision(prepared: &Prepared, question: &Question<'_>, outcome: &Outcome) -> Decision {
    // That a key without a record has no attributes is nobody's mistake.
    let no_record = matches!(question.resource, Resource::NoKey(_));
    let failed = outcome.unposed || (!outcome.failed.is_empty() && !no_record);
    let allowed = outcome.allows();
    let mut places: Vec<u32> = if allowed { outcome.permits.clone() } else { outcome.forbids.clone() };
    if failed {
        places.extend(&outcome.failed);
    }
    places.sort_unstable();
    places.dedup();
    let policies: Arc<[PolicyId]> =
        places.iter().filter_map(|place| prepared.rule(*place)).map(|rule| rule.id.clone()).collect();
    Decision { allowed, policies, failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CedarPolicy;
    use holdfast_core::caller::{Authentication, Caller, CallerKind};
    use holdfast_core::context::Context;
    use holdfast_core::port::Circumstances;
    use holdfast_core::{KeyName, TenantId, Timestamp};
    use std::collections::HashSet;

    static NO_CONTEXT: Context = Context::EMPTY;

    fn prepare(text: &str) -> Prepared {
        CedarPolicy::new().unwrap().prepare(&"acme".parse().unwrap(), text).unwrap()
    }

    fn caller(name: &str) -> Caller {
        let record = CallerRecord {
            name: name.parse().unwrap(),
            kind: CallerKind::Application,
            groups: vec![],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        };
        let authentication = Authentication::Gateway;
        Caller { tenant: "acme".parse().unwrap(), record: Arc::new(record), authentication, own: None }
    }

    fn question<'a>(caller: &'a Caller, action: Action, resource: Resource<'a>) -> Question<'a> {
        let now = Timestamp::from_micros(0);
        let circumstances = Circumstances {
            context: &NO_CONTEXT,
            request: &NO_CONTEXT,
            now,
            source: None,
            protocol: "native",
        };
        Question { caller, action, resource, circumstances }
    }

    #[test]
    fn what_is_remembered_in_the_same_place_of_another_question_decides_nothing() {
        let prepared = prepare(
            r#"@id("a") permit (principal == Holdfast::Caller::"alice", action == Holdfast::Action::"encrypt", resource == Holdfast::Key::"kek");"#,
        );
        let (alice, bob) = (caller("alice"), caller("bob"));
        let [kek, another] = ["kek", "another"].map(|name| name.parse::<KeyName>().unwrap());
        let permitted = question(&alice, Action::Encrypt, Resource::NoKey(&kek));
        assert!(decide(&prepared, &permitted).allowed);
        let slot = prepared.index.slot(&permitted.resource);
        for other in [
            question(&bob, Action::Encrypt, Resource::NoKey(&kek)),
            question(&alice, Action::Decrypt, Resource::NoKey(&kek)),
            question(&alice, Action::Encrypt, Resource::NoKey(&another)),
        ] {
            let place = prepared.memory.place_of(&other, prepared.index.slot(&other.resource));
            prepared.memory.plans.put(place, Arc::new(Plan::new(&prepared, &permitted, slot).unwrap()), 0);
            assert!(!decide(&prepared, &other).allowed, "{other:?}");
        }
    }

    #[test]
    fn what_is_remembered_in_the_same_place_of_another_resource_decides_nothing() {
        let prepared = prepare(
            r#"@id("a") permit (principal, action == Holdfast::Action::"encrypt", resource) when { resource == Holdfast::Key::"kek" };"#,
        );
        let (alice, tenant) = (caller("alice"), "acme".parse::<TenantId>().unwrap());
        let [kek, another] = ["kek", "another"].map(|name| name.parse::<KeyName>().unwrap());
        let [permitted, other] =
            [&kek, &another].map(|name| question(&alice, Action::Encrypt, Resource::NoKey(name)));
        assert!(decide(&prepared, &permitted).allowed && !decide(&prepared, &other).allowed);
        let place = prepared.memory.place_of(&other, prepared.index.slot(&other.resource));
        let plan = prepared.memory.plans.find(place, |plan| Some(Arc::clone(plan))).unwrap();
        let settled = || plan.work_out(&prepared, &permitted);
        let place = plan.place_of(&prepared.memory.answers, Stage::Early, &other);
        let of_tenant = question(&alice, Action::Encrypt, Resource::Tenant(&tenant));
        for (number, stage, seen) in [
            (plan.number, Stage::Early, &permitted),
            (plan.number + 1, Stage::Early, &other),
            (plan.number, Stage::Recurring, &other),
            (plan.number, Stage::Early, &of_tenant),
        ] {
            let looks = looks(&plan.early.reads, seen);
            let answer = Answer { plan: number, stage, looks, settled: settled() };
            prepared.memory.answers.put(place, answer, 0);
            assert!(!decide(&prepared, &other).allowed, "{seen:?}");
        }
    }

    /// Policies about everybody and every key, of which each permits only what has its own label or is about the tenant.
    fn general(count: usize, condition: &str) -> String {
        (0..count)
            .map(|n| {
                let condition = condition.replace('#', &n.to_string());
                format!(r#"@id("p{n}") permit (principal, action == Holdfast::Action::"encrypt", resource) when {{ {condition} }};"#)
            })
            .collect()
    }

    /// The policies that the plans of a tenant hold, with their copies.
    fn held(prepared: &Prepared) -> usize {
        let mut held = 0;
        prepared.memory.plans.each(|plan, _| {
            let recurring = plan.recurring.as_ref().map(|recurring| &recurring.part);
            let parts = [Some(&plan.early), recurring, plan.passing.as_ref()];
            let policies = parts.into_iter().flatten().filter_map(|part| part.policies.as_ref());
            held += policies.map(PolicySet::num_of_policies).sum::<usize>();
        });
        held
    }

    #[test]
    fn plans_hold_no_more_policies_than_there_is_room_for_however_many_callers_ask() {
        let kek: KeyName = "kek".parse().unwrap();
        // So many that a plan holds them, and so many that it holds their places alone.
        for (count, callers, most) in [(500, 100, MAX_PLANS / POLICY_BYTES), (1500, 3, 0)] {
            let prepared = prepare(&general(
                count,
                r#"resource == Holdfast::Key::"kek" || resource == Holdfast::Key::"k#""#,
            ));
            for n in 0..callers {
                let caller = caller(&format!("caller-{n}"));
                let asked = decide(&prepared, &question(&caller, Action::Encrypt, Resource::NoKey(&kek)));
                assert_eq!((asked.allowed, asked.policies.len()), (true, count));
                let held = held(&prepared);
                assert!(held <= most, "{held} policies after {n} callers");
            }
        }
    }

    /// So many policies, each of which looks at so many labels, and every other at circumstances too.
    fn looking_at_labels(policies: usize, labels: usize, keys: usize) -> String {
        let scope = r#"(principal, action == Holdfast::Action::"encrypt", resource is Holdfast::Key)"#;
        let policy = |n: usize| {
            let labels: Vec<_> =
                (0..labels).map(|at| format!(r#"resource.hasTag("{}-{n}-{at}")"#, "x".repeat(100))).collect();
            let more = if n.is_multiple_of(2) { r#" || context.request.hasTag("x")"# } else { "" };
            format!(r#"@id("p{n}") permit {scope} when {{ {}{more} }};"#, labels.join(" || "))
        };
        let key = |n: usize| {
            format!(
                r#"@id("k{n}") permit (principal == Holdfast::Caller::"bob", action, resource == Holdfast::Key::"k{n}");"#
            )
        };
        (0..policies).map(policy).chain((0..keys).map(key)).collect()
    }

    #[test]
    fn plans_share_the_names_that_their_policies_look_at_and_count_what_they_hold_of_them() {
        // So many that a plan holds the places alone of those that look at circumstances, and of those that do not; and no more labels than
        // are told apart.
        const POLICIES: usize = 1800;
        const KEYS: usize = 6;
        let prepared = prepare(&looking_at_labels(POLICIES, 1, KEYS));
        let alice = caller("alice");
        for n in 0..KEYS {
            let key = format!("k{n}").parse::<KeyName>().unwrap();
            decide(&prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&key)));
        }
        let (mut plans, mut owned) = (0, HashSet::new());
        prepared.memory.plans.each(|plan, bytes| {
            let Recurring { part, together } = plan.recurring.as_ref().unwrap();
            assert!(plan.early.policies.is_none() && part.policies.is_none());
            let names: Vec<*const u8> =
                [&plan.early.reads, &part.reads, together].into_iter().flat_map(Reads::addresses).collect();
            assert!(names.len() >= 2 * POLICIES, "{}", names.len());
            assert!(
                bytes >= names.len() * size_of::<Arc<str>>() * 2,
                "{} names in {bytes} bytes",
                names.len()
            );
            owned.extend(names);
            plans += 1;
        });
        assert!(plans > 0);
        assert_eq!(owned.len(), POLICIES + 1, "of each name one for all plans");
    }

    /// The one plan that a question has left, if it is remembered.
    fn remembered(prepared: &Prepared) -> Option<Arc<Plan>> {
        let mut plans = Vec::new();
        prepared.memory.plans.each(|plan, _| plans.push(Arc::clone(plan)));
        assert!(plans.len() <= 1);
        plans.pop()
    }

    #[test]
    fn no_plan_is_too_large_to_be_remembered_whatever_its_policies_look_at() {
        let kek: KeyName = "kek".parse().unwrap();
        let alice = caller("alice");
        let asked = |prepared: &Prepared| {
            let asked = decide(prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&kek)));
            (asked, remembered(prepared).expect("it is remembered"))
        };
        // More labels than there is room for.
        let (_, plan) = asked(&prepare(&looking_at_labels(450, 49, 0)));
        assert!(plan.early.policies.is_none());
        // Of each sort as many policies as a plan holds, and together more than there is room for: those go that are evaluated least often.
        let sorts =
            ["resource == #", "resource == # || context.hour > 24", "resource == # || context.time == #"];
        let text = |(sort, condition): (usize, &str)| {
            let condition = condition.replacen('#', r#"Holdfast::Key::"kek""#, 1);
            let condition = condition.replace('#', r#"datetime("2026-01-01")"#);
            general(750, &condition).replace(r#"@id("p"#, &format!(r#"@id("p{sort}-"#))
        };
        let (decision, plan) = asked(&prepare(&sorts.into_iter().enumerate().map(text).collect::<String>()));
        assert_eq!((decision.allowed, decision.policies.len()), (true, 3 * 750));
        let recurring = &plan.recurring.as_ref().unwrap().part;
        let passing = plan.passing.as_ref().unwrap();
        assert!(plan.early.policies.is_none() && recurring.policies.is_some() && passing.policies.is_some());
    }

    #[test]
    fn no_answer_is_too_large_to_be_remembered_however_long_the_names_of_its_policies_are() {
        const POLICIES: usize = 5500;
        let text = general(POLICIES, r#"resource == Holdfast::Key::"kek""#);
        let prepared = prepare(&text.replace(r#"@id("p"#, &format!(r#"@id("{}"#, "p".repeat(120))));
        let (alice, kek) = (caller("alice"), "kek".parse::<KeyName>().unwrap());
        let asked = decide(&prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&kek)));
        assert_eq!((asked.allowed, asked.policies.len()), (true, POLICIES));
        let mut answers = 0;
        prepared.memory.answers.each(|_, _| answers += 1);
        assert_eq!(answers, 1);
    }

    #[test]
    fn the_groups_of_a_caller_count_among_the_bytes_of_a_plan() {
        let prepared = prepare(&general(1, "1 == #"));
        let mut alice = caller("alice");
        let record = Arc::make_mut(&mut alice.record);
        record.groups = (0..256).map(|n| format!("group-{n}").parse().unwrap()).collect();
        let kek: KeyName = "kek".parse().unwrap();
        decide(&prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&kek)));
        let mut plans = 0;
        prepared.memory.plans.each(|_, bytes| {
            assert!(bytes > 256 * 200, "{bytes}");
            plans += 1;
        });
        assert_eq!(plans, 1);
    }

    #[test]
    fn a_plan_that_knows_its_answer_holds_no_policy() {
        let prepared = prepare(&general(20, r#"principal == Holdfast::Caller::"alice" || 1 == #"#));
        let (alice, kek) = (caller("alice"), "kek".parse::<KeyName>().unwrap());
        for _ in 0..2 {
            let asked = decide(&prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&kek)));
            assert_eq!((asked.allowed, asked.policies.len()), (true, 20));
        }
        assert_eq!(held(&prepared), 0);
    }

    #[test]
    fn answers_hold_no_more_names_than_there_is_room_for_however_many_keys_are_asked_about() {
        let prepared = prepare(&general(3000, r#"resource != Holdfast::Key::"k#""#));
        let alice = caller("alice");
        for n in 0..100 {
            let key = format!("key-{n}").parse::<KeyName>().unwrap();
            let asked = decide(&prepared, &question(&alice, Action::Encrypt, Resource::NoKey(&key)));
            assert_eq!((asked.allowed, asked.policies.len()), (true, 3000));
            let mut named = 0;
            prepared.memory.answers.each(|answer, _| named += answer.settled.decision.policies.len());
            assert!(named <= MAX_ANSWERS / NAMED_BYTES, "{named} names after {n} keys");
        }
    }

    #[test]
    fn what_cannot_be_put_to_all_of_the_policies_is_denied_whatever_the_others_permit() {
        let permits = || Outcome { permits: vec![1], ..Outcome::default() };
        assert!(permits().allows());
        let mut late = permits();
        late.merge(Outcome::unposed());
        assert!(!late.allows());
        let mut early = Outcome::unposed();
        early.merge(permits());
        assert!(!early.allows());
    }
}
