//! A device gave the root key at a start, or refused to: recorded once there is a log to record it in.

use super::Pipeline;
use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::record::{Done, Facts, Scene};
use super::unseal::{MAX_NAMES, names};
use crate::action::Action;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{CallerName, TenantId};
use crate::port::{Mark, Ports, Priority, World};
use crate::time::Timestamp;
use std::sync::PoisonError;

/// What a device did with the root key.
#[derive(Debug, Clone)]
pub struct DeviceUnsealing {
    /// When.
    pub at: Timestamp,
    /// What it is: `tpm`.
    pub device: &'static str,
    /// What it opens for: of a TPM, the registers.
    pub bound_to: String,
    /// When the root key was bound to it, RFC 3339.
    pub made: String,
    /// Whose shares gave the root key for that; nobody's for the founding's.
    pub bound_by: Vec<CallerName>,
    /// Why it did not open the root key, if it did not.
    pub refused: Option<String>,
}

impl<P: Ports> Pipeline<P> {
    /// Records what a device did with the root key, in the gateway's own log. What cannot be recorded now is with
    /// [`Pipeline::finish_what_waits`].
    ///
    /// # Errors
    /// When it could not be recorded yet.
    pub async fn record_device(&self, unsealing: DeviceUnsealing) -> Result<(), Error> {
        *self.unfinished.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsealing);
        self.record_device_waiting().await
    }

    /// Records what waits of that.
    pub(super) async fn record_device_waiting(&self) -> Result<(), Error> {
        let waiting = self.unfinished.device.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(unsealing) = waiting else { return Ok(()) };
        let recorded = self.record_what_it_did(&unsealing).await;
        if recorded.is_err() {
            *self.unfinished.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsealing);
        }
        recorded
    }

    async fn record_what_it_did(&self, unsealing: &DeviceUnsealing) -> Result<(), Error> {
        let DeviceUnsealing { at, device, bound_to, made, bound_by, refused } = unsealing;
        let gateway = TenantId::gateway();
        let own = own_caller(&gateway)?;
        let view = self.tenant(&gateway).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, &gateway, self.engines.world.now(), self.engines.world.ticks());
        let mut pairs = vec![
            ("at".into(), at.to_string().into()),
            ("bound-to".into(), bounded(bound_to).into()),
            ("device".into(), (*device).into()),
            ("made".into(), bounded(made).into()),
        ];
        if !bound_by.is_empty() {
            pairs.push(("bound-by".into(), names(bound_by).into()));
        }
        let context = Context::new(pairs)?;
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &context };
        let facts = Facts::new(operation, Action::Unseal);
        let ending = match refused {
            None => Ok(Done::Success),
            Some(why) => Err((ErrorKind::KeyStoreUnavailable, Stage::Start, why.clone())),
        };
        let ((), recording) =
            self.record(&scene, &facts, Mark::Plain, Priority::Ordinary, || ((), ending))?;
        let _receipt = recording.durable(&self.engines.log).await?;
        Ok(())
    }
}

/// What stands in a file that anybody may have written fits a record all the same.
fn bounded(text: &str) -> String {
    let mut text = text.to_owned();
    text.truncate(text.floor_char_boundary(MAX_NAMES));
    text
}
