//! `holdfast root`.

use super::share::gather_all;
use crate::app::App;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_gateway::device::{Binding, Bound, Pcrs, Place};
use holdfast_gateway::directory::Directory;
use std::path::PathBuf;

/// The root key and the device that has it.
#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    Bind(Bind),
}

impl RootCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Bind(bind) => bind.run(app),
        }
    }
}

/// Bind a root key to this machine's TPM as the machine is now
///
/// Has the TPM seal the root key, bound to what its registers hold now: after an update of the firmware, on another machine, or for a gateway
/// whose root key was in shares alone. If the TPM still opens it as it was bound, nobody is asked; otherwise custodians give their shares, as for
/// `holdfast share rotate`. On the gateway's machine, while the gateway is stopped.
///
/// What the TPM and the registers are is said here alone: nothing is taken from what was bound before.
#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data: PathBuf,
    /// The TPM: a device, or `swtpm:path=/…` [default: /dev/tpmrm0]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    tpm: Option<Place>,
    /// The TPM's registers that it is bound to [default: sha256:7, the state of Secure Boot]
    #[arg(long, value_name = "BANK:LIST", value_parser = pcrs)]
    pcrs: Option<Pcrs>,
}

pub(super) fn place(text: &str) -> Result<Place, String> {
    text.parse().map_err(said)
}

pub(super) fn pcrs(text: &str) -> Result<Pcrs, String> {
    text.parse().map_err(said)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn said(error: holdfast_core::Error) -> String {
    format!("{}: {}", error.detail(), error.remedy_text())
}

impl Bind {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, tpm, pcrs } = self;
        let binding = Binding::begin(&Directory::at(&data))?;
        let gathering = binding.gathering();
        let has_shares = gathering.is_some();
        let (root, by) = match (binding.opened(), gathering) {
            (Ok(root), _) => {
                note("the TPM has opened the root key as it was bound: no custodian is needed");
                (root, vec![])
            }
            (Err(fault), None) => return Err(fault.into()),
            (Err(fault), Some(gathering)) => {
                note(&fault.to_string());
                app.block_on(async { gather_all(gathering, &mut Lines::of_stdin()?).await })?
            }
        };
        let bound = binding.bind(&root, by, &tpm.unwrap_or_default(), &pcrs.unwrap_or_default())?;
        drop(root);
        app.printer.record(&about(&bound))?;
        warn(&bound, has_shares);
        note(&format!("now: `holdfast serve` with `data = \"{}\"`; it opens by itself", data.display()));
        Ok(())
    }
}

/// What is known of a binding, for programs.
pub(super) fn about(bound: &Bound) -> serde_json::Value {
    let Bound { made, bound_by, sealed, .. } = bound;
    serde_json::json!({
        "tpm": sealed.place.to_string(),
        "pcrs": sealed.pcrs.to_string(),
        "made": made,
        "bound_by": bound_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What whoever bound it must know.
pub(super) fn warn(bound: &Bound, has_shares: bool) {
    let blank = bound.sealed.measured.iter().filter(|measured| measured.is_blank());
    let blank: Vec<_> = blank.map(|measured| measured.index.to_string()).collect();
    if !blank.is_empty() {
        note(&format!(
            "WARNING: nothing was measured into PCR {}: that binds to the TPM alone, and to nothing that starts on this machine",
            blank.join(", ")
        ));
    }
    if !has_shares {
        note(
            "WARNING: nothing but this TPM opens the root key. If it fails, or a register changes, all keys are lost, and NO BACKUP HELPS:",
        );
        note(
            "WARNING: a backup holds the root key as this TPM has sealed it. Found with `--shares` as well, so that custodians are the second way",
        );
    }
}
