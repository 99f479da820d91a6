//! The gateway's configuration, where it can be read from here, to be compared with what is wanted.

use super::Report;
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_gateway::config::Config;
use std::path::{Path, PathBuf};

const WHAT: &str = "configuration";

/// A configuration, and what it was found to be.
pub(super) struct Configuration {
    file: PathBuf,
    /// What it says; none where it cannot be read.
    pub(super) config: Option<Config>,
}

/// What of it is not as it is wanted, with what to do.
pub(super) type Differs = (String, String);

impl Configuration {
    /// Reads it.
    pub(super) fn read(file: &Path, report: &mut Report) -> Self {
        let config = Config::read(file).map_err(|fault| report.findings.wrong(WHAT, &fault.into())).ok();
        Self { file: file.to_owned(), config }
    }

    /// Looks for what differs; whether nothing does. `thing` is what is looked for.
    pub(super) fn agrees(
        &self,
        thing: &str,
        differs: impl FnOnce(&Config) -> Option<Differs>,
        report: &mut Report,
    ) -> bool {
        let Some(config) = &self.config else { return false };
        let shown = self.file.display();
        match differs(config) {
            None => {
                report.findings.fine(WHAT, format!("`{shown}` has {thing}"));
                true
            }
            Some((problem, remedy)) => {
                let problem = format!("in `{shown}`: {problem}");
                report.findings.wrong(WHAT, &Failure::new(Exit::State, problem).remedy(remedy));
                false
            }
        }
    }
}
