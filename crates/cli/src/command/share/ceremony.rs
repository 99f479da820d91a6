//! The part of a ceremony that custodians speak in.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::lines::Lines;
use crate::output::note;
use holdfast_core::CallerName;
use holdfast_gateway::shares::{Asked, Ceremony, Gathering, Given, RootKey};
use std::time::Instant;

/// Asks each custodian until all have answered. A wrong answer is named, and may be given again.
pub(crate) async fn prove_all(ceremony: &mut Ceremony, lines: &mut Lines) -> Result<(), Failure> {
    note("each custodian proves now that they can open their share; it ends when all have:");
    for Asked { name, file, challenge } in ceremony.open() {
        note(&format!(
            "{name}: holdfast share prove --identity FILE {} --challenge {challenge}",
            file.display()
        ));
    }
    note("give each answer as a line: NAME PROOF");
    loop {
        let asked = ceremony.open().next().map(|asked| asked.name.clone());
        let Some(asked) = asked else { return Ok(()) };
        let prompt = format!("NAME PROOF ({asked} is asked)>");
        let Some(line) = lines.next(&prompt).await? else {
            let problem = format!("`{asked}` has not proven that they can open their share");
            return Err(Failure::new(Exit::Failure, problem).remedy(
                "begin again, and do not end before each custodian has answered; nothing was changed",
            ));
        };
        let (name, proof) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        match ceremony.prove(name, proof) {
            Ok(()) => {
                let (proven, all) = ceremony.progress();
                note(&format!("{name} has proven it: {proven} of {all}"));
            }
            Err(fault) => {
                note(&format!("wrong: {fault}"));
                fault.remedy_text().iter().for_each(|remedy| note(&format!("help: {remedy}")));
            }
        }
    }
}

/// Takes shares until they give the root key: with it, whose they were. A wrong one is named, and may be given again.
pub(crate) async fn gather_all(
    mut gathering: Gathering,
    lines: &mut Lines,
) -> Result<(RootKey, Vec<CallerName>), Failure> {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let needed = gathering.progress(now()).threshold;
    note(&format!(
        "{needed} custodians of the present generation give their shares now, encrypted to this fresh key:"
    ));
    note(&format!("holdfast share reseal --identity FILE SHARE --to {}", gathering.recipient()));
    note("give what that prints as a line");
    loop {
        let progress = gathering.progress(now());
        let Some(line) = lines.next(&format!("SHARE ({} of {needed})>", progress.given.len())).await? else {
            let problem = format!("{} of {needed} shares are in", progress.given.len());
            return Err(Failure::new(Exit::Failure, problem).remedy(
                "begin again, and do not end before enough custodians have given theirs; nothing was changed",
            ));
        };
        match gathering.give(&input::decoded(line.trim().as_bytes()), now()) {
            Ok(Given::More(progress)) => {
                note(&format!("{} of {needed} shares: {}", progress.given.len(), progress.names()))
            }
            Ok(Given::Root(root, progress)) => {
                note(&format!("{needed} of {needed} shares: {}", progress.names()));
                return Ok((root, progress.given));
            }
            Err(error) => {
                note(&format!("wrong: {}", error.detail()));
                note(&format!("help: {}", error.remedy_text()));
            }
        }
    }
}
