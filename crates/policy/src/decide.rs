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
use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicySet};
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};
use holdfast_core::PolicyId;
use holdfast_core::action::Action;
use holdfast_core::caller::CallerRecord;
use holdfast_core::port::{Decision, Question, Resource};
use std::sync::Arc;

/// What a tenant's policy set remembers.
pub(crate) struct Memory {
    plans: Memo<Arc<Plan>>,
    answers: Memo<Answer>,
    next_plan: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { plans: Memo::new(4096), answers: Memo::new(16_384), next_plan: AtomicU64::new(0) }
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
    policies: PolicySet,
    reads: Reads,
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
                memory.plans.put(hash, Arc::clone(&plan));
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
        let candidates = candidates.iter().filter_map(|place| prepared.rule(*place));
        let (late, early): (Vec<&Rule>, Vec<&Rule>) = candidates.partition(|rule| rule.reads.circumstances());
        let (recurring, passing): (Vec<&Rule>, Vec<&Rule>) =
            late.into_iter().partition(|rule| rule.reads.recurs());
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
        }
        Ok(plan)
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
            answers.put(hash, Answer { plan: self.number, stage, looks, settled: settled.clone() });
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
}

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
    fn new(rules: &[&Rule]) -> Result<Self, Box<dyn core::error::Error + Send + Sync>> {
        let mut reads = Reads::default();
        rules.iter().for_each(|rule| reads.merge(&rule.reads));
        Ok(Self { policies: PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()))?, reads })
    }

    /// None of no policies.
    fn some(rules: &[&Rule]) -> Result<Option<Self>, Box<dyn core::error::Error + Send + Sync>> {
        if rules.is_empty() { Ok(None) } else { Self::new(rules).map(Some) }
    }

    fn evaluate(&self, prepared: &Prepared, common: &Entities, question: &Question<'_>) -> Outcome {
        if self.policies.is_empty() {
            return Outcome::default();
        }
        let Prepared { vocabulary, tenant, .. } = prepared;
        match entities::pose(vocabulary, tenant, common, &self.reads, question) {
            Ok((request, entities)) => evaluate(prepared, &request, &self.policies, &entities),
            Err(_) => Outcome::unposed(),
        }
    }
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
            prepared.memory.plans.put(place, Arc::new(Plan::new(&prepared, &permitted, slot).unwrap()));
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
            prepared.memory.answers.put(place, Answer { plan: number, stage, looks, settled: settled() });
            assert!(!decide(&prepared, &other).allowed, "{seen:?}");
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
