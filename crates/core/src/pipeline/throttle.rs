//! What a known caller asks beyond a quota: refused, and in the tenant's log in sum.

use super::command::own_inbound;
use super::found::not_loaded;
use super::record::{Facts, NamedKey, Scene};
use super::{Inbound, Pipeline, Recognised};
use crate::action::Action;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::KeyName;
use crate::port::{Mark, Ports, World};
use crate::throttled::Summary;

impl<P: Ports> Pipeline<P> {
    /// Refuses a caller who asks more than a quota lets in, and gives the error back. The first such refusal is recorded as others are
    /// ([`Pipeline::turn_away`]); those that follow until the next summary are counted in it.
    pub async fn throttle(
        &self,
        recognised: &Recognised<'_, P>,
        (action, key): (Action, Option<&KeyName>),
        error: Error,
    ) -> Error {
        let Recognised { view, caller, inbound, epoch: _ } = recognised;
        let Inbound { protocol, now, operation, .. } = **inbound;
        if !self.throttled.is_first(caller, protocol, now) {
            return error;
        }
        let scene = Scene { view, caller, inbound, context: &Context::EMPTY };
        let mut facts = Facts::new(operation, action);
        facts.key = key.cloned().map(NamedKey::unknown);
        let recorded = match self.record_refusal(&scene, &facts, Mark::Plain, &error) {
            Ok(recording) => recording.durable(&self.engines.log).await,
            Err(unrecorded) => Err(unrecorded),
        };
        // Its kind would not tell: a log that is overloaded gives an error of this very one.
        match recorded {
            Ok(receipt) => receipt.refuse(error),
            Err(unrecorded) => {
                // It has no record of its own then, and is in the next summary.
                self.throttled.count(caller, protocol, now);
                unrecorded
            }
        }
    }

    /// Records what was counted; what cannot be is kept for the next time.
    pub(super) async fn flush_throttled(&self) -> Result<(), Error> {
        let summaries = self.throttled.take();
        let mut rest = summaries.as_slice();
        while let Some((summary, more)) = rest.split_first() {
            if let Err(error) = self.record_throttled(summary).await {
                self.throttled.restore(rest);
                return Err(error);
            }
            rest = more;
        }
        Ok(())
    }

    async fn record_throttled(&self, summary: &Summary) -> Result<(), Error> {
        let Summary { caller, protocol, since, count } = summary;
        let view = self.tenant(&caller.tenant).ok_or_else(not_loaded)?;
        let pairs = vec![
            ("count".into(), count.to_string().into()),
            ("since".into(), String::from_utf8_lossy(&since.text()).into()),
        ];
        let context = Context::new(pairs)?;
        let operation = self.new_operation()?;
        let world = &self.engines.world;
        let own = own_inbound(operation, &caller.tenant, world.now(), world.ticks());
        let inbound = Inbound { protocol: *protocol, ..own };
        let scene = Scene { view: &view, caller, inbound: &inbound, context: &context };
        let facts = Facts::new(operation, Action::Throttled);
        let refused = Error::new(ErrorKind::Throttled, Stage::Receive, "more was asked than a quota lets in");
        let recording = self.record_refusal(&scene, &facts, Mark::Plain, &refused)?;
        recording.durable(&self.engines.log).await.map(drop)
    }
}
