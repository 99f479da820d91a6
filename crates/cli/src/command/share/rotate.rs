//! `holdfast share rotate`.

use super::{gather_all, prove_all};
use crate::app::App;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::Args;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::shares::{NewCustodian, Rotation};
use std::path::PathBuf;

/// Replace the shares of a root key by new ones, for other custodians
///
/// Takes enough shares of the generation in force, hands out the next one, and ends when each custodian has proven that they can open theirs.
/// From then on the earlier shares are refused. The root key stays the same: who kept enough of the earlier shares still has it; `holdfast
/// root rotate` takes it from them. On the gateway's machine, as the gateway's user; a gateway that serves goes on.
///
/// Without a terminal, lines come from stdin: what `holdfast share reseal` printed, then `NAME PROOF`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data: PathBuf,
    /// How many of the new shares open it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
    threshold: u8,
    /// Who gets a new share of the root key, and their own age recipient; all of them, those who stay as well
    #[arg(long = "root-custodian", value_name = "NAME=age1…", required = true)]
    root_custodians: Vec<NewCustodian>,
}

impl Rotate {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { data, threshold, root_custodians } = self;
        let rotation = Rotation::begin(&Directory::at(&data))?;
        let roster = app.block_on(async {
            let mut lines = Lines::of_stdin()?;
            let (root, by) = gather_all(rotation.gathering(), &mut lines).await?;
            let mut handed_out = rotation.hand_out(&root, by, threshold, &root_custodians)?;
            drop(root);
            prove_all(handed_out.ceremony()?, &mut lines).await?;
            Ok::<_, Failure>(handed_out.finish()?)
        })?;
        let names = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>();
        app.printer.record(&serde_json::json!({
            "custodians": names(&mut roster.custodians.iter().map(|custodian| custodian.name.to_string())),
            "generation": roster.of.generation,
            "shared_by": names(&mut roster.shared_by.iter().map(ToString::to_string)),
            "threshold": roster.of.threshold,
        }))?;
        note("each custodian takes their own file of the directory `shares` and destroys the earlier one");
        note("WARNING: who kept enough of the earlier shares still has the root key");
        Ok(())
    }
}
