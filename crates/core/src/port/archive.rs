//! Backups.

use super::Committed;
use crate::archive::{Bundle, Bundled};
use crate::command::VerifiedBackup;
use crate::error::Error;
use crate::pipeline::Intent;
use core::future::Future;

/// Writes what is needed to restore the gateway elsewhere.
pub trait Archive: Send + Sync + 'static {
    /// Writes one backup under its recorded intent. It MUST hold the state as of one commit that is not older than the call, MUST be durable
    /// when this returns, and MUST NOT hold anything in clear. What is cut short leaves nothing that looks like a backup.
    /// It MUST end, whatever the disk does: as long as it has not, the open intent holds the log's segments.
    ///
    /// # Errors
    /// `unsupported` where no recipients are configured; `state-unavailable` when it cannot be written.
    fn write(&self, intent: &Intent) -> impl Future<Output = Result<Archived, Error>> + Send;

    /// Whether this was said by somebody who opened a backup of this gateway and had its root key from it. MUST compare in constant time.
    ///
    /// # Errors
    /// `integrity` for anything else.
    fn check(&self, verified: &VerifiedBackup) -> Result<(), Error>;

    /// Encrypts an archive of a key for those who open backups. It MUST NOT hold anything of it in clear but what says whose it is.
    ///
    /// # Errors
    /// `unsupported` where nobody is configured who could open it.
    fn enclose(&self, bundled: &Bundled<'_>) -> Result<Bundle, Error>;

    /// Whether new key versions are to wait until a verified backup holds them.
    fn holds_back(&self) -> bool;
}

/// A backup that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its file's name.
    pub name: Box<str>,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The commit that it holds.
    pub state: Committed,
    /// For how many days it is to be kept, if that is declared.
    pub keep_days: Option<u32>,
}
