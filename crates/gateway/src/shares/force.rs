//! Which list of shares a start goes by: one that who had the root key wrote, of no earlier generation than the log has recorded.

use super::{CeremonyLock, RootKey, Roster};
use crate::authentic::{Authentic, Authenticator};
use crate::directory::{Directory, write_private};
use crate::fault::Fault;

const PUT_BACK: &str = "keep what lies there as evidence, and put `root.shares` back as it was written last: a backup or a copy of the directory has it";

/// The list in force, now that the root key is known; `None` where the root key is in no shares. `recorded` is the newest generation that the log
/// has. A list of an earlier build has no code: it is given one, once, as long as nothing of it was recorded.
///
/// # Errors
/// When the list is another one than was written last, and then nobody is to be served by it.
pub(crate) fn in_force(
    directory: &Directory,
    root: &RootKey,
    recorded: Option<u32>,
) -> Result<Option<Roster>, Fault> {
    let Some(roster) = directory.roster()? else {
        return match recorded {
            None => Ok(None),
            Some(recorded) => Err(gone(recorded)),
        };
    };
    let generation = roster.of.generation;
    match (roster.check(root)?, recorded) {
        (Authentic::Yes, Some(recorded)) if generation < recorded => Err(earlier(generation, recorded)),
        (Authentic::Yes, _) => Ok(Some(roster)),
        (Authentic::Unknown, Some(_)) => Err(Roster::has_no_code().remedy(PUT_BACK).damaged()),
        (Authentic::Unknown, None) if roster.of.root != root.id()? => {
            Err(wrong("`root.shares` is of another root key than the one in force".to_owned()))
        }
        (Authentic::Unknown, None) => {
            let _alone = CeremonyLock::take(directory)?;
            let roster = roster.signed_with(root)?;
            write_private(&directory.root_shares(), roster.to_text()?.as_bytes())?;
            tracing::warn!(
                generation,
                "`root.shares` is of an earlier build and had no code of the root key: it has one now. Compare its custodians once"
            );
            Ok(Some(roster))
        }
    }
}

/// What a start would say of the list beside what the log has recorded.
pub(crate) fn passed(directory: &Directory, recorded: Option<u32>) -> Option<Fault> {
    let recorded = recorded?;
    match directory.roster() {
        Ok(None) if directory.root_shares().exists() => None,
        Ok(None) => Some(gone(recorded)),
        Ok(Some(roster)) if roster.of.generation < recorded => Some(earlier(roster.of.generation, recorded)),
        Ok(Some(_)) => None,
        Err(fault) => Some(fault),
    }
}

fn wrong(problem: String) -> Fault {
    Fault::new(problem).remedy(PUT_BACK).damaged()
}

fn gone(recorded: u32) -> Fault {
    wrong(format!("`root.shares` is gone, and generation {recorded} of the root key's shares is in force"))
}

fn earlier(generation: u32, recorded: u32) -> Fault {
    wrong(format!("`root.shares` is of generation {generation}, and generation {recorded} is in force"))
}

impl Roster {
    /// The same list with its code, by who has the root key at hand.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub(crate) fn signed_with(self, root: &RootKey) -> Result<Self, Fault> {
        let by = Authenticator::new(root)?;
        Ok(self.signed(&by)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::{People, instance, root};
    use std::fs;

    #[test]
    fn a_start_goes_by_the_list_that_was_written_last_and_by_no_other() {
        let (dir, people, root) = (tempfile::tempdir().unwrap(), People::new(), root());
        let directory = Directory::at(dir.path());
        let refused = |recorded, words: &str| {
            let fault = in_force(&directory, &root, recorded).unwrap_err();
            assert!(fault.to_string().contains(words) && fault.is_damage(), "{fault}");
            assert!(fault.remedy_text().unwrap().contains("as it was written last"), "{fault}");
        };
        assert_eq!(in_force(&directory, &root, None).unwrap(), None);
        refused(Some(1), "`root.shares` is gone");
        let roster = people.shared(&root, instance('0'), 2);
        let text = roster.to_text().unwrap();
        let write = |text: &str| fs::write(directory.root_shares(), text).unwrap();
        write(&text);
        for recorded in [None, Some(1), Some(2)] {
            assert_eq!(in_force(&directory, &root, recorded).unwrap().as_ref(), Some(&roster));
        }
        refused(Some(3), "is of generation 2, and generation 3 is in force");
        write(&text.replace("\"alice\"", "\"mallory\""));
        for recorded in [None, Some(2)] {
            refused(recorded, "is not as it was written");
        }
        // Of who has another root key.
        write(&people.shared(&crate::shares::tests::root(), instance('0'), 3).to_text().unwrap());
        refused(Some(2), "is not as it was written");
        // Of an earlier build, or with its code taken away.
        let without = Roster { mac: None, ..roster.clone() }.to_text().unwrap();
        write(&without);
        refused(Some(1), "has no code of the root key");
        assert_eq!(fs::read_to_string(directory.root_shares()).unwrap(), without);
        assert_eq!(in_force(&directory, &root, None).unwrap().as_ref(), Some(&roster), "accepted once");
        assert_eq!(fs::read_to_string(directory.root_shares()).unwrap(), text, "and it has its code now");
        let of_another = people.shared(&crate::shares::tests::root(), instance('0'), 3);
        write(&Roster { mac: None, ..of_another }.to_text().unwrap());
        refused(None, "is of another root key");
    }
}
