//! Another root key: the intent stands in the log before the state changes; how it came out is recorded when the gateway opens under it.

use super::Pipeline;
use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::record::{Facts, Scene};
use crate::action::Action;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, OperationId, TenantId};
use crate::port::{AuditLog, Health, Ports, State, StateChange, World};
use crate::tenant::TenantRecord;

/// A generation of shares of a root key, as the log tells it.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Which one.
    pub number: u32,
    /// How many shares open it.
    pub threshold: u8,
    /// Who has one.
    pub custodians: Vec<CallerName>,
    /// When it was made, RFC 3339.
    pub made: String,
    /// Whose shares of the one before allowed it.
    pub shared_by: Vec<CallerName>,
}

impl Generation {
    pub(super) fn pairs(&self) -> Vec<(Box<str>, Box<str>)> {
        let Self { number, threshold, custodians, made, shared_by } = self;
        vec![
            ("custodians".into(), super::unseal::names(custodians).into()),
            ("generation".into(), number.to_string().into()),
            ("made".into(), made.as_str().into()),
            ("shared-by".into(), super::unseal::names(shared_by).into()),
            ("threshold".into(), threshold.to_string().into()),
        ]
    }
}

impl<P: Ports> Pipeline<P> {
    /// Records that another generation of shares is in force, in the gateway's own log, and remembers that it was: a start knows what was
    /// recorded, and that no earlier generation is in force any more.
    ///
    /// # Errors
    /// When it could not be recorded, or not be remembered.
    pub async fn record_generation(&self, generation: &Generation) -> Result<(), Error> {
        let gateway = TenantId::gateway();
        let (own, view) = (own_caller(&gateway)?, self.tenant(&gateway).ok_or_else(not_loaded)?);
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let context = Context::new(generation.pairs())?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let before = &view.data.record;
        let (shares, epoch) = (Some(generation.number), before.epoch.next());
        let record = TenantRecord { shares, epoch, ..before.clone() };
        let change = StateChange::Tenant { record, expected: Some(before.epoch) };
        self.change_own(&scene, Facts::new(operation, Action::ShareRoot), vec![change]).await
    }

    /// The newest generation of shares that was recorded so; `None` where none ever was.
    pub fn recorded_generation(&self) -> Option<u32> {
        self.tenant(&TenantId::gateway())?.data.record.shares
    }

    /// Records the intent to change the root key: from one to another, by their public names, with the new one's shares if it is in shares.
    /// The operation is what the state has to commit; then this pipeline MUST be closed, and what opens under the new root key closes it.
    ///
    /// # Errors
    /// `conflict` while anything that was begun is not durable, and when it could not be recorded. Nothing has changed then.
    pub async fn intend_root(
        &self,
        (from, to): (&str, &str),
        generation: Option<&Generation>,
    ) -> Result<OperationId, Error> {
        let healths = [self.engines.state.health(), self.engines.log.health()];
        let is_settled = self.pending_stops() == 0 && !self.unfinished.has_open_intents();
        if !is_settled || healths.iter().any(|health| *health != Health::Ready) {
            let detail = "the root key is not changed while state or log cannot be written, or a stop order is not durable";
            return Err(Error::new(ErrorKind::Conflict, Stage::Start, detail)
                .remedy("look at `holdfast status`; it is tried again by itself"));
        }
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let mut pairs = generation.map(Generation::pairs).unwrap_or_default();
        pairs.extend([("from".into(), from.into()), ("to".into(), to.into())]);
        let context = Context::new(pairs)?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let intent = self.own_intent(&scene, &Facts::new(operation, Action::RotateRoot)).await?;
        Ok(intent.operation())
    }
}
