//! The part of a ceremony that custodians speak in.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use holdfast_gateway::shares::{Asked, Ceremony};

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
