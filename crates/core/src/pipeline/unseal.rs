//! The root key came in shares: whose they were is recorded once there is a log to record it in.

use super::Pipeline;
use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::record::{Facts, Scene};
use crate::action::Action;
use crate::context::Context;
use crate::error::Error;
use crate::id::{CallerName, TenantId};
use crate::port::{Mark, Ports, World};
use crate::time::Timestamp;
use std::sync::PoisonError;

/// The most bytes of names in one record: the list of custodians has them all.
pub(super) const MAX_NAMES: usize = 2048;

/// How the root key came.
#[derive(Debug, Clone)]
pub struct Unsealing {
    /// When the last share came.
    pub at: Timestamp,
    /// Which generation the shares were of.
    pub generation: u32,
    /// How many were needed.
    pub threshold: u8,
    /// Whose shares they were.
    pub custodians: Vec<CallerName>,
    /// When this generation was made, RFC 3339.
    pub made: String,
    /// Whose shares of the earlier generation gave the root key for it; nobody's for the founding's.
    pub shared_by: Vec<CallerName>,
}

impl<P: Ports> Pipeline<P> {
    /// Records whose shares opened the gateway, in its own log. What cannot be recorded now is with [`Pipeline::finish_what_waits`]: a gateway
    /// whose log is full must take stop orders all the same.
    ///
    /// # Errors
    /// When it could not be recorded yet.
    pub async fn record_unsealing(&self, unsealing: Unsealing) -> Result<(), Error> {
        *self.unfinished.unsealing.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsealing);
        self.record_unsealed().await
    }

    /// Records what waits of that.
    pub(super) async fn record_unsealed(&self) -> Result<(), Error> {
        let waiting = self.unfinished.unsealing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(unsealing) = waiting else { return Ok(()) };
        let recorded = self.record_shares(&unsealing).await;
        if recorded.is_err() {
            *self.unfinished.unsealing.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsealing);
        }
        recorded
    }

    async fn record_shares(&self, unsealing: &Unsealing) -> Result<(), Error> {
        let Unsealing { at, generation, threshold, custodians, made, shared_by } = unsealing;
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let mut pairs = vec![
            ("at".into(), at.to_string().into()),
            ("custodians".into(), names(custodians).into()),
            ("generation".into(), generation.to_string().into()),
            ("made".into(), made.as_str().into()),
            ("threshold".into(), threshold.to_string().into()),
        ];
        if !shared_by.is_empty() {
            pairs.push(("shared-by".into(), names(shared_by).into()));
        }
        let context = Context::new(pairs)?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let facts = Facts::new(operation, Action::Unseal);
        self.record_own(&scene, &facts, Mark::Plain).await
    }
}

pub(super) fn names(of: &[CallerName]) -> String {
    let mut names = of.iter().map(CallerName::as_str).collect::<Vec<_>>().join(" ");
    names.truncate(names.floor_char_boundary(MAX_NAMES));
    names
}
