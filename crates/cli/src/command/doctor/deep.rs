//! `holdfast doctor --deep`: everything that lies in the directory is read.

use crate::app::App;
use crate::command::share::gather_all;
use crate::exit::Exit;
use crate::findings::{Finding, Findings, Verdict};
use crate::lines::Lines;
use crate::progress;
use holdfast_gateway::directory::{Directory, Identity};
use holdfast_gateway::reroot::Cut;
use holdfast_gateway::scrub::{self, Damage, Part, Summary};
use holdfast_gateway::shares::{Gathering, Roster};

/// Damages that are told one by one.
const SHOWN: usize = 1_000;

/// Reads everything, and tells of each part how much of it is sound, or each thing that is not. Custodians of a root key in shares are asked for
/// theirs.
pub(super) fn examine(
    app: &App,
    (directory, identity): (&Directory, &Identity),
    roster: Option<Roster>,
    findings: &mut Findings,
) {
    let gather =
        |roster| app.block_on(async { gather_all(Gathering::begin(roster), &mut Lines::of_stdin()?).await });
    let root = match roster.filter(|roster| !opens_by_itself(directory, roster)).map(gather).transpose() {
        Ok(gathered) => gathered.map(|(root, _)| root),
        Err(failure) => return findings.wrong(Part::RootKey.name(), &failure),
    };
    let bar = progress::bytes(Some(scrub::extent(directory)));
    let (mut damages, mut more) = (Vec::new(), 0_u64);
    let read = scrub::offline(
        (directory, identity),
        root,
        app.handle(),
        &mut |bytes| bar.inc(bytes),
        &mut |damage| {
            if damages.len() < SHOWN {
                damages.push(damage);
            } else {
                more += 1;
            }
        },
        &mut |_, _| (),
    );
    bar.finish_and_clear();
    let Summary { records, keys, entries, batches, torn, cut } = match read {
        Ok(summary) => summary,
        Err(fault) => return findings.wrong("everything", &fault.into()),
    };
    match cut {
        None => {}
        Some(Cut::Ordered) => findings.watch(
            Part::RootKey.name(),
            "another root key is ordered, and the earlier one is in force",
            "start the gateway, which puts it in force",
        ),
        Some(Cut::InForce) => findings.watch(
            Part::RootKey.name(),
            "a change of the root key was cut short: the new one is in force, and not all of the directory has followed",
            "start the gateway, which finishes it",
        ),
    }
    let torn = match torn {
        0 => String::new(),
        torn => format!("; {torn} bytes of a torn write at its end are cut at the next start"),
    };
    for (part, sound) in [
        (Part::RootKey, "opens what lies beside it".to_owned()),
        (Part::State, format!("{records} records are those that the log has recorded")),
        (Part::Keys, format!("{keys} sealed versions open")),
        (Part::WriteAheadFile, format!("whole up to batch {batches}{torn}")),
        (Part::Log, format!("{entries} entries lead to signed checkpoints")),
        (Part::Openings, "can be read".to_owned()),
    ] {
        // Without the root key nothing else was looked at.
        let unread = records == 0 && damages.iter().any(|damage| damage.part == Part::RootKey);
        if !unread && damages.iter().all(|damage| damage.part != part) {
            findings.fine(part.name(), sound);
        }
    }
    findings.0.extend(damages.into_iter().map(finding));
    if more > 0 {
        findings.watch(
            "everything",
            format!("{more} further damages are not shown"),
            "mend these first, and look again",
        );
    }
}

/// Whether its TPM opens the root key, so that no custodian has to be asked.
fn opens_by_itself(directory: &Directory, roster: &Roster) -> bool {
    let bound = directory.bound().ok().flatten().filter(|bound| bound.root == roster.of.root);
    bound.is_some_and(|bound| bound.open().is_ok())
}

fn finding(damage: Damage) -> Finding {
    let Damage { part, place, problem, remedy } = damage;
    let what = part.name().to_owned();
    let detail = format!("{place}: {problem}");
    Finding {
        what,
        verdict: Verdict::Wrong(Exit::Integrity),
        detail,
        place: Some(place),
        remedy: Some(remedy),
    }
}
