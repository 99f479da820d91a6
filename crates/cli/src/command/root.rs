//! `holdfast root`.

use super::bind::Bind;
use super::share::{gather_all, prove_all};
use crate::app::App;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_core::CallerName;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::reroot::{Begun, Change, Ended, Ordered};
use holdfast_gateway::shares::{NewCustodian, RootKey};
use std::path::PathBuf;

/// The root key itself.
#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    Rotate(Rotate),
    Bind(Bind),
}

impl RootCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Rotate(rotate) => rotate.run(app),
            Self::Bind(bind) => bind.run(app),
        }
    }
}

/// Put a new root key in the place of the one in force
///
/// Whoever has the earlier one, or enough of its shares, opens nothing with it that lies in the directory from then on. Keys, logs and their
/// origins stay. On the gateway's machine, as the gateway's user, while it serves: it finishes what it has accepted, holds new connections
/// back while the state is sealed anew, and goes on.
///
/// A root key in shares takes enough of them, and ends when each custodian has proven that they can open their new one; so does one that is
/// to be brought from its file into shares. Without a terminal, lines come from stdin: what `holdfast share reseal` printed, then `NAME PROOF`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data: PathBuf,
    /// How many of the new shares open it; where the next root key is in shares
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..), requires = "root_custodians")]
    threshold: Option<u8>,
    /// Who gets a share of the new root key, and their own age recipient; all of them
    #[arg(long = "root-custodian", value_name = "NAME=age1…", requires = "threshold")]
    root_custodians: Vec<NewCustodian>,
}

impl Rotate {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, threshold, root_custodians } = self;
        let (ordered, ended) = app.block_on(async {
            let ordered = match (Change::begin(&Directory::at(&data))?, threshold) {
                (Begun::File(change, root), None) => change.order_file(&root)?,
                (Begun::File(change, root), Some(threshold)) => {
                    let mut lines = Lines::of_stdin()?;
                    hand_out(change, (root, vec![]), (threshold, &root_custodians), &mut lines).await?
                }
                (Begun::Shares(change, gathering), Some(threshold)) => {
                    let mut lines = Lines::of_stdin()?;
                    let given = gather_all(*gathering, &mut lines).await?;
                    hand_out(change, given, (threshold, &root_custodians), &mut lines).await?
                }
                (Begun::Shares(..), None) => {
                    return Err(Failure::usage("the root key of this gateway is in shares, and so is the next one")
                        .remedy("name all custodians with `--root-custodian`, and how many open it with `--threshold`"));
                }
            };
            note("ordered: the gateway puts the new root key in force as soon as it serves; Ctrl-C ends the waiting alone");
            let ended = ordered.ended().await?;
            Ok::<_, Failure>((ordered, ended))
        })?;
        app.printer.record(&serde_json::json!({
            "generation": ordered.generation,
            "in_force": ended == Ended::InForce,
            "root": ordered.to.to_string(),
        }))?;
        match ended {
            Ended::InForce => {
                note("the new root key is in force; the earlier one opens earlier backups, and nothing else")
            }
            Ended::Waiting => note(
                "nobody serves the directory: the new root key is put in force as soon as somebody does. Until then the earlier one is needed to start it",
            ),
        }
        match ordered.generation {
            Some(_) => note(
                "each custodian takes their own file of the directory `shares` and destroys the earlier one",
            ),
            None => note(
                "keep a copy of `root.key` apart from the machine and its backups, in the place of the earlier one",
            ),
        }
        Ok(())
    }
}

async fn hand_out(
    change: Change,
    (root, by): (RootKey, Vec<CallerName>),
    custodians: (u8, &[NewCustodian]),
    lines: &mut Lines,
) -> Result<Ordered, Failure> {
    let mut handed_out = change.hand_out(root, by, custodians)?;
    prove_all(handed_out.ceremony()?, lines).await?;
    Ok(handed_out.order()?)
}
