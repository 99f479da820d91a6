//! The keys that the files of a tree name.

use super::keys::{Known, Route};
use super::tally::Failed;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_sdk::{KeyName, Tenant};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The keys that files name, each read once.
pub(super) struct Routes {
    tenant: Tenant,
    target: Option<KeyName>,
    read: Mutex<BTreeMap<KeyName, Result<Known, Box<Failed>>>>,
}

impl Routes {
    /// With those that were read already.
    pub(super) fn new(
        tenant: Tenant,
        target: Option<KeyName>,
        read: BTreeMap<KeyName, Result<Known, Box<Failed>>>,
    ) -> Self {
        Self { tenant, target, read: Mutex::new(read) }
    }

    pub(super) async fn of(&self, key: &KeyName) -> Result<Result<Arc<Route>, Box<Failed>>, Failure> {
        let from = self.key(key).await?;
        let to = match &self.target {
            Some(target) => self.key(target).await?,
            None => from.clone(),
        };
        Ok(from.and_then(|from| Ok(Arc::new(Route { from, to: to? }))))
    }

    /// A key that is not there, or may not be read, concerns its files only.
    async fn key(&self, name: &KeyName) -> Result<Result<Known, Box<Failed>>, Failure> {
        let mut read = self.read.lock().await;
        if let Some(known) = read.get(name) {
            return Ok(known.clone());
        }
        let found = match Known::read(&self.tenant, name).await {
            Ok(known) => Ok(known),
            Err(failure) if matches!(failure.exit(), Exit::State | Exit::Denied) => {
                let help =
                    "see that the key is there and that you may read it: its record says its newest version";
                let detail = format!("key `{name}`: {}", failure.problem());
                Err(Failed::new(failure.exit(), "unknown-key", detail, help))
            }
            Err(failure) => return Err(failure),
        };
        read.insert(name.clone(), found.clone());
        Ok(found)
    }

    pub(super) async fn known(&self) -> Vec<Known> {
        self.read.lock().await.values().filter_map(|known| known.clone().ok()).collect()
    }
}
