//! The part of a ceremony that custodians speak in.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::lines::Lines;
use crate::output::note;
use holdfast_core::CallerName;
use holdfast_gateway::shares::{Asked, Ceremony, Gathering, Given, Progress, RootKey};
use std::time::{Duration, Instant};

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
    let mut held = Held { shares: gathering.progress(now()), needed };
    loop {
        held.look(&mut gathering, now());
        let prompt = format!("SHARE ({} of {needed})>", held.shares.given.len());
        let end = gathering.expire(now());
        let line = tokio::select! {
            line = lines.next(&prompt) => line?,
            () = passed(begun, end) => continue,
        };
        let Some(line) = line else {
            let problem = format!("{} of {needed} shares are in", held.shares.given.len());
            return Err(Failure::new(Exit::Failure, problem).remedy(
                "begin again, and do not end before enough custodians have given theirs; nothing was changed",
            ));
        };
        let at = now();
        held.look(&mut gathering, at);
        match gathering.give(&input::decoded(line.trim().as_bytes()), at) {
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
        held.shares = gathering.progress(at);
    }
}

/// The shares that custodians believe to be in.
struct Held {
    shares: Progress,
    needed: u8,
}

impl Held {
    /// Says so when they have waited for too long.
    fn look(&mut self, gathering: &mut Gathering, now: u64) {
        let before = std::mem::replace(&mut self.shares, gathering.progress(now));
        if self.shares.given.len() < before.given.len() {
            let (given, needed) = (before.given.len(), self.needed);
            note(&format!(
                "{given} of {needed} shares ({}) have waited too long for the others and are wiped: give them again",
                before.names()
            ));
        }
    }
}

/// Resolves so many microseconds after that, if they are any.
async fn passed(begun: Instant, end: Option<u64>) {
    match end.and_then(|end| begun.checked_add(Duration::from_micros(end))) {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}
