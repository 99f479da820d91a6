//! What is remembered of the logs outside of the data directory: by witnesses, and in a second directory.
//!
//! An older copy of the data directory fits itself; only what lies elsewhere can tell. So both are asked before anything
//! is appended or served, and told of each checkpoint afterwards. All of it happens beside the requests: none waits for it.

mod anchor;
mod aside;
mod client;
mod cosigned;
mod figures;
mod report;
mod submit;
mod watch;
mod witnessing;

pub(crate) use client::chain;
pub use figures::Figures;

use crate::config::Config;
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::root::{Law, Log};
use anchor::Anchor;
use holdfast_core::TenantId;
use holdfast_core::port::World as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use witnessing::Witnesses;

/// Everything outside that remembers, as configured.
pub struct Outside {
    anchor: Option<Arc<Anchor>>,
    witnesses: Arc<Witnesses>,
    figures: Figures,
    /// What could not be compared with the anchor when the gateway started, for people.
    unchecked: Mutex<Vec<String>>,
}

/// A log that contradicts what was kept elsewhere, or cannot show that it does not.
#[derive(Debug, Clone)]
pub(crate) struct Discord {
    /// What contradicts what, naming both.
    problem: String,
    remedy: &'static str,
}

impl Discord {
    fn contradicts(problem: String) -> Self {
        let remedy = "keep both, and find out which directory is the newest: an older one must not be served, \
                      since what was revoked is alive again in it. See docs/operate/rollback.md";
        Self { problem, remedy }
    }

    fn unproven(problem: String) -> Self {
        let remedy = "find out whether an older copy of the data directory was put back: docs/operate/rollback.md. If it was not, put \
                      the file back from a mirror of this log: docs/operate/damage.md";
        Self { problem, remedy }
    }

    fn fault(self) -> Fault {
        Fault::new(self.problem).remedy(self.remedy)
    }

    /// Tells the running gateway: its log is not ready until somebody has looked.
    fn alarm(&self, log: &Log) {
        tracing::error!(
            alarm = self.problem,
            remedy = self.remedy,
            "a log contradicts what is known elsewhere, or cannot show that it does not"
        );
        log.raise_alarm(format!("{}; {}", self.problem, self.remedy));
    }
}

impl Outside {
    /// As configured, for the gateway of a directory.
    ///
    /// # Errors
    /// When a key, an address or an authority is refused.
    pub fn new(config: &Config, directory: &Directory) -> Result<Self, Fault> {
        let figures = Figures::default();
        let anchor = match config.anchor.directory.as_os_str().is_empty() {
            true => None,
            false => Some(Arc::new(Anchor::new(&config.anchor.directory, directory, &figures)?)),
        };
        let witnesses = Arc::new(Witnesses::new(&config.witness, &figures)?);
        Ok(Self { anchor, witnesses, figures, unchecked: Mutex::default() })
    }

    /// What is counted of it.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    fn unchecked(&self) -> MutexGuard<'_, Vec<String>> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares each log with what is kept outside, before anything is appended to it. Who does not answer soon is noted,
    /// and compared with later.
    ///
    /// # Errors
    /// When a log is shorter than what is kept outside, or another one; names both and what to do.
    pub async fn compare(&self, directory: &Directory, identity: &Identity, log: &Log) -> Result<(), Fault> {
        let logs = logs(directory)?;
        let mut unchecked = Vec::new();
        if let Some(anchor) = &self.anchor {
            unchecked.extend(anchor.compare(directory, identity, log, &logs).await?);
        }
        *self.unchecked() = unchecked;
        let now = crate::world::SystemWorld::new().now();
        self.witnesses.compare(directory, log, &logs, now).await?;
        for notice in self.notices(now) {
            tracing::warn!("{notice}");
        }
        Ok(())
    }
}

/// Where everything lies that the comparing needs.
pub(crate) struct Site {
    pub(crate) law: Arc<Law>,
    pub(crate) directory: Directory,
    pub(crate) identity: Identity,
}

impl Site {
    fn log(&self) -> &Log {
        &self.law.engines().log
    }
}

/// The logs that have a directory.
fn logs(directory: &Directory) -> Result<Vec<TenantId>, Fault> {
    let audit = directory.path().join("audit");
    names(&audit).map_err(|error| Fault::io("cannot read", &audit, error))
}

/// The tenants that have a directory in this one; none if there is no such directory.
fn names(dir: &Path) -> std::io::Result<Vec<TenantId>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut tenants = Vec::new();
    for entry in entries {
        tenants.extend(entry?.file_name().to_str().and_then(|name| name.parse::<TenantId>().ok()));
    }
    tenants.sort();
    Ok(tenants)
}
