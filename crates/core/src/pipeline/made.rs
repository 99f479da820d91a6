//! What a key store has made for a command that did not come to be. What was made in a device nobody knows, and nobody ever will. Material that was
//! imported somebody has: what cannot be taken back of it is erased with its version, or with the key that waits ([`End::Destroyed`]).

use super::Pipeline;
use super::proof::Intent;
use super::record::{Facts, Scene};
use super::work::material;
use crate::error::Error;
use crate::key::{Key, Version};
use crate::port::{End, KeyStore, Ports, Remains};

/// A version that the key store has made and that is not committed yet.
pub(super) struct Made {
    key: Key,
    version: Version,
}

impl Made {
    pub(super) fn new(key: &Key, version: &Version) -> Option<Box<Self>> {
        Some(Box::new(Self { key: key.clone(), version: version.clone() }))
    }
}

impl<P: Ports> Pipeline<P> {
    /// Takes back what was made, for a command of which nothing is written. A member that cannot be reached keeps it: of use to nobody, but for what
    /// was imported, which goes with its version.
    pub(super) async fn unmake(&self, scene: &Scene<'_, P>, facts: &mut Facts, intent: &Intent) {
        if let Some(made) = facts.made.take() {
            facts.evidence = None;
            // The command is refused all the same, and the key store says itself what it could not erase.
            let _erased = self.erase_made(scene, intent, &made).await;
        }
    }

    async fn erase_made(&self, scene: &Scene<'_, P>, intent: &Intent, made: &Made) -> Result<(), Error> {
        let Made { key, version } = made;
        let keys = &self.engines.keys;
        let made = material(scene, key, version)?;
        let Remains { handle, holders: _ } = keys.remains(intent.permit(), made, End::Unmade)?;
        if !handle.as_bytes().is_empty() {
            let version = Version { handle, ..version.clone() };
            keys.erase(intent.permit(), material(scene, key, &version)?).await?;
        }
        Ok(())
    }
}
