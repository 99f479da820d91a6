//! Opening a backup at the command line: with the identities that are here, and with the shares that custodians bring.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::lines::Lines;
use crate::output::note;
use holdfast_core::CallerName;
use holdfast_gateway::backup::{Found, Opening, Readable, open_for_anyone};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Lines that custodians give, asked for when the first is needed: there is one stdin, whatever it is asked for.
#[derive(Default)]
pub(crate) struct Table(Option<Lines>);

impl Table {
    /// The lines.
    pub(crate) fn lines(&mut self) -> Result<&mut Lines, Failure> {
        let lines = match self.0.take() {
            Some(lines) => lines,
            None => Lines::of_stdin()?,
        };
        Ok(self.0.insert(lines))
    }
}

/// Where a backup comes from.
pub(crate) fn source(file: &Path) -> Result<(Box<dyn Read + Send>, bool), Failure> {
    match file.as_os_str().as_encoded_bytes() {
        b"-" => Ok((Box::new(std::io::stdin()), true)),
        _ => Ok((
            Box::new(std::fs::File::open(file).map_err(|error| Failure::file("read", file, &error))?),
            false,
        )),
    }
}

/// Opens a backup; asks custodians for what the identities do not open. `asks` is told when that begins, and when it has ended.
pub(crate) fn open(
    app: &App,
    (found, from_stdin): (Found, bool),
    with: &[PathBuf],
    table: &mut Table,
    asks: &dyn Fn(bool),
) -> Result<Readable, Failure> {
    let mut opening = match found {
        Found::Clear(readable) => return Ok(readable),
        Found::Anyone(backup) => return open_for_anyone(backup, with).map_err(told),
        Found::Custodians(opening) => opening,
    };
    for identity in with {
        opening.open_with(identity).map_err(told)?;
    }
    if !opening.is_complete() {
        if from_stdin {
            return Err(Failure::usage(
                "the backup comes from stdin, and so would the shares of its custodians",
            )
            .remedy(
                "put the backup into a file, or give the identities of enough custodians with `--identity`",
            ));
        }
        asks(true);
        let gathered = app.block_on(async { gather(&mut opening, table.lines()?).await });
        asks(false);
        gathered?;
    }
    opening.finish().map_err(told)
}

/// What does not verify ends with a code of its own.
pub(crate) fn told(fault: holdfast_gateway::Fault) -> Failure {
    let is_damage = fault.is_damage();
    let failure = Failure::from(fault);
    if is_damage { failure.ending(Exit::Integrity) } else { failure }
}

fn progress(opening: &Opening) -> String {
    format!("{} of {} shares of the backup", opening.given().len(), opening.threshold())
}

/// Takes shares until they open it. A wrong one is named, and may be given again.
async fn gather(opening: &mut Opening, lines: &mut Lines) -> Result<(), Failure> {
    let names = |names: Vec<CallerName>| names.iter().map(CallerName::as_str).collect::<Vec<_>>().join(", ");
    note(&format!(
        "{} of its custodians ({}) give their shares now, each on a machine of their own, encrypted to this fresh key:",
        opening.threshold(),
        names(opening.custodians())
    ));
    note(&format!("holdfast backup share --identity FILE BACKUP --to {}", opening.recipient()));
    note("give what that prints as a line");
    while !opening.is_complete() {
        let prompt = format!("SHARE ({} of {})>", opening.given().len(), opening.threshold());
        let Some(line) = lines.next(&prompt).await? else {
            let problem = format!("{} are in", progress(opening));
            return Err(Failure::new(Exit::Failure, problem).remedy(
                "begin again, and do not end before enough custodians have given theirs; nothing was changed",
            ));
        };
        match opening.give(&input::decoded(line.trim().as_bytes())) {
            Ok(_) => note(&format!("{}: {}", progress(opening), names(opening.given()))),
            Err(fault) => {
                note(&format!("wrong: {fault}"));
                fault.remedy_text().iter().for_each(|remedy| note(&format!("help: {remedy}")));
            }
        }
    }
    Ok(())
}
