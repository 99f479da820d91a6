//! What the last reload refused, kept until one refuses nothing: whoever sent the signal may not look at the log.

use crate::fault::Fault;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// How the last reload of some things ended.
#[derive(Debug, Default)]
pub(crate) struct LastReload(ArcSwapOption<String>);

impl LastReload {
    /// Keeps how one has ended, in place of the one before.
    pub(crate) fn keep(&self, ended: Result<(), Fault>) -> Result<(), Fault> {
        self.0.store(ended.as_ref().err().map(|fault| Arc::new(fault.told())));
        ended
    }

    /// What it refused, and what to do.
    pub(crate) fn refused(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }
}

/// What is told of it until it is mended.
pub(crate) fn notice(refused: &str) -> String {
    format!(
        "the last reload was refused, and what was in force there stays in force, even what was meant to be taken out: {refused}; \
         then send SIGHUP: until it is mended the next start would fail"
    )
}
