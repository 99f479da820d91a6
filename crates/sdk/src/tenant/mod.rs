//! One tenant: its keys, callers, policy and log.

mod administer;
mod keys;
mod policy;

use crate::client::{Answered, Client, Repeat};
use crate::error::Error;
use holdfast_core::TenantId;
use holdfast_core::context::Context;
use holdfast_wire::native::client as native;
use holdfast_wire::native::field::Bounded;
use holdfast_wire::native::field::ContextPairs;
use holdfast_wire::native::message;

/// What a client can do in one tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tenant {
    client: Client,
    id: TenantId,
}

impl Tenant {
    pub(crate) fn new(client: Client, id: TenantId) -> Self {
        Self { client, id }
    }

    /// The client that it goes through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The tenant's name.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Reads the tenant's record.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn read(&self) -> Result<Answered<message::Tenant>, Error> {
        self.client.send(native::tenant(&self.id), Repeat::Safe).await
    }

    /// Stops everything of the tenant.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn suspend(&self) -> Result<Answered<message::TenantDone>, Error> {
        self.client.send(native::suspend_tenant(&self.id), Repeat::Safe).await
    }

    /// Lifts that.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn resume(&self) -> Result<Answered<message::TenantDone>, Error> {
        self.client.send(native::resume_tenant(&self.id), Repeat::Never).await
    }

    /// Says for how many days the log keeps its entries; `None` for ever.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn set_retention(&self, days: Option<u32>) -> Result<Answered<message::TenantDone>, Error> {
        let retention = message::SetRetention { days: days.map(|days| Bounded(u64::from(days))) };
        self.client.send(native::set_retention(&self.id, &retention), Repeat::Safe).await
    }
}

/// Pairs as an encryption context; `None` for no pair at all.
///
/// # Errors
/// For an empty or repeated name, and beyond the context's limits.
pub(crate) fn context(pairs: &[(&str, &str)]) -> Result<Option<ContextPairs>, Error> {
    let owned = pairs.iter().map(|(name, value)| (Box::from(*name), Box::from(*value))).collect();
    let context = Context::new(owned)?;
    Ok((!context.is_empty()).then_some(ContextPairs(context)))
}
