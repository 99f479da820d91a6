//! The ceremony of a pool's wrapping key, at one of the tokens that the configuration names.

use crate::config::Config;
use crate::fault::Fault;
use crate::process;
use crate::token::{TokenTable, from_file};
pub use holdfast_keystore::pkcs11::worker::officer::{Fingerprint, Offer, Officer, Transport};
use std::collections::BTreeMap;
use std::path::Path;

/// A configured token, before its module is loaded.
#[derive(Debug)]
pub struct Place<'c> {
    table: &'c TokenTable,
    /// The label of the wrapping key.
    pub kek: &'c str,
}

impl<'c> Place<'c> {
    /// The token of that name.
    ///
    /// # Errors
    /// When the configuration has none, or no pool whose keys travel.
    pub fn find(config: &'c Config, member: &str) -> Result<Self, Fault> {
        if !config.pool.travels() {
            return Err(Fault::new("the configuration has no pool with a wrapping key").remedy(
                "set `pool.distribution = \"wrapped\"`; a pool that the vendor replicates needs none",
            ));
        }
        let names: Vec<_> = config.token.iter().map(|table| format!("`{}`", table.name())).collect();
        let table = config.token.iter().find(|table| table.name() == member);
        let table = table.ok_or_else(|| {
            Fault::new(format!("the configuration has no `[[token]]` that is called `{member}`"))
                .remedy(format!("name one of {}", names.join(", ")))
        })?;
        Ok(Self { table, kek: &config.pool.kek })
    }

    /// What a process that loads the module must have in its environment.
    pub fn environment(&self) -> &'c BTreeMap<String, String> {
        &self.table.environment
    }

    /// Loads the module into this process, whose memory is closed to others of the same user from then on, and logs the security officer in.
    ///
    /// # Errors
    /// When the PIN cannot be read or lies open to others, and whatever the module says.
    pub fn officer(&self, pin: &Path) -> Result<Officer, Fault> {
        process::protect_memory();
        let module = self.table.module.to_str().unwrap_or_default();
        Ok(Officer::open(module, &self.table.label, &from_file(pin)?)?)
    }
}
