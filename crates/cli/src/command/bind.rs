//! `holdfast root bind`.

use super::share::gather_all;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::{Args, ValueEnum};
use holdfast_gateway::config::Config;
use holdfast_gateway::device::{Binding, Bound, InTokens, Pcrs, Place};
use holdfast_gateway::directory::Directory;
use std::path::{Path, PathBuf};

/// Bind a root key to this machine's TPM as the machine is now, or to tokens
///
/// Has the TPM seal the root key, bound to what its registers hold now: after an update of the firmware, on another machine, or for a gateway
/// whose root key was in shares alone. If the TPM still opens it as it was bound, nobody is asked; otherwise custodians give their shares, as for
/// `holdfast share rotate`. On the gateway's machine, while the gateway is stopped.
///
/// With `--to hsm` each token of the configuration seals it with a key of its own, and any one of them opens it. One device has it at a time: what was
/// bound before is replaced.
///
/// What the TPM and the registers are is said here alone: nothing is taken from what was bound before.
#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data: PathBuf,
    /// What has it from now on
    #[arg(long, value_enum, default_value_t = To::Tpm)]
    to: To,
    /// The gateway's configuration, which names the tokens; needed with `--to hsm`
    #[arg(long, value_name = "FILE", required_if_eq("to", "hsm"))]
    config: Option<PathBuf>,
    /// The TPM: a device, or `swtpm:path=/…` [default: /dev/tpmrm0]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    tpm: Option<Place>,
    /// The TPM's registers that it is bound to [default: sha256:7, the state of Secure Boot]
    #[arg(long, value_name = "BANK:LIST", value_parser = pcrs)]
    pcrs: Option<Pcrs>,
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// This machine's TPM 2.0
    Tpm,
    /// The tokens of the configuration
    Hsm,
}

/// The configuration that names the tokens.
pub(super) fn configuration(path: &Path) -> Result<Config, Failure> {
    Config::read(path).map_err(|fault| Failure::from(fault).ending(Exit::Usage))
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
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, to, config, tpm, pcrs } = self;
        let config = config.as_deref().map(configuration).transpose()?;
        let binding = Binding::begin(&Directory::at(&data))?;
        let gathering = binding.gathering();
        let has_shares = gathering.is_some();
        let (root, by) = match (app.block_on(binding.opened(config.as_ref())), gathering) {
            (Ok(root), _) => {
                note("the root key was opened as it was bound: no custodian is needed");
                (root, vec![])
            }
            (Err(fault), None) => return Err(fault.into()),
            (Err(fault), Some(gathering)) => {
                note(&fault.to_string());
                app.block_on(async { gather_all(gathering, &mut Lines::of_stdin()?).await })?
            }
        };
        match (to, config) {
            (To::Hsm, Some(config)) => {
                let tokens = app.block_on(binding.bind_in_tokens(&root, by, &config))?;
                app.printer.record(&in_tokens(&tokens))?;
            }
            (To::Hsm, None) => return Err(Failure::usage("`--to hsm` needs `--config`")),
            (To::Tpm, _) => {
                let bound = binding.bind(&root, by, &tpm.unwrap_or_default(), &pcrs.unwrap_or_default())?;
                app.printer.record(&about(&bound))?;
                warn(&bound, has_shares);
            }
        }
        drop(root);
        note(&format!("now: `holdfast serve` with `data = \"{}\"`; it opens by itself", data.display()));
        Ok(())
    }
}

/// What is known of tokens that have sealed a root key, for programs.
pub(super) fn in_tokens(tokens: &InTokens) -> serde_json::Value {
    let InTokens { made, bound_by, tokens, .. } = tokens;
    serde_json::json!({
        "tokens": tokens.iter().map(|token| format!("{} (serial {})", token.name, token.serial)).collect::<Vec<_>>(),
        "made": made,
        "bound_by": bound_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
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
