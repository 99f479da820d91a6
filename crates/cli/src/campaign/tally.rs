//! What has come of the items so far: counts that can be written down and taken up again.

use crate::exit::Exit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many failures of each kind are told in the report.
const EXAMPLES: usize = 3;

/// Counts of items by what came of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// All that were looked at.
    pub(crate) total: u64,
    /// Those that are under the newest version now and were not before.
    pub(crate) rewrapped: u64,
    /// Those that were there already.
    pub(crate) already_newest: u64,
    /// Those that a dry run would have rewrapped.
    pub(crate) due: u64,
    /// Files that are none of this campaign's: no age files, or other keys'.
    pub(crate) passed_over: u64,
    /// Those that were opened again and found to hold the same.
    pub(crate) verified: u64,
    /// Those that nobody can say a version of.
    pub(crate) unreadable: u64,
    /// Failures by kind.
    pub(crate) failures: BTreeMap<String, Failures>,
    /// How the first of them ends the command.
    pub(crate) exit: Option<u8>,
    /// Ciphertexts by key and version.
    pub(crate) keys: BTreeMap<String, Versions>,
}

/// Failures of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// The first ones.
    pub(crate) examples: Vec<Failed>,
}

/// How many ciphertexts stand under each version of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// As they were found.
    pub(crate) before: BTreeMap<u32, u64>,
    /// As they are left.
    pub(crate) after: BTreeMap<u32, u64>,
}

/// An item that failed: where it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// `line 7`, or a file's path.
    pub(crate) item: String,
    /// Its `id`, as the line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<serde_json::Value>,
    /// A code of `docs/operate/errors.md`, or a word of the campaign's own.
    pub(crate) error: String,
    /// What happened.
    pub(crate) detail: String,
    /// What to do next.
    pub(crate) help: String,
    /// What a custodian finds it by in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<String>,
    #[serde(skip, default = "failure")]
    pub(crate) exit: Exit,
}

fn failure() -> Exit {
    Exit::Failure
}

impl Failed {
    /// A failure of an item that is not named yet.
    pub(crate) fn new(
        exit: Exit,
        error: &str,
        detail: impl Into<String>,
        help: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            item: String::new(),
            id: None,
            error: error.to_owned(),
            detail: detail.into(),
            help: help.into(),
            operation: None,
            exit,
        })
    }

    /// Of this item.
    #[must_use]
    pub(crate) fn of(mut self: Box<Self>, item: &str, id: Option<serde_json::Value>) -> Box<Self> {
        self.item = item.to_owned();
        self.id = id;
        self
    }
}

impl Tally {
    /// A ciphertext as it was found and as it is left.
    pub(crate) fn count(&mut self, found: (&str, u32), left: (&str, u32)) {
        *self.keys.entry(found.0.to_owned()).or_default().before.entry(found.1).or_default() += 1;
        *self.keys.entry(left.0.to_owned()).or_default().after.entry(left.1).or_default() += 1;
    }

    /// A failure.
    pub(crate) fn fail(&mut self, failed: &Failed) {
        self.exit.get_or_insert(failed.exit.code());
        let of_kind = self.failures.entry(failed.error.clone()).or_default();
        of_kind.count += 1;
        if of_kind.examples.len() < EXAMPLES {
            of_kind.examples.push(failed.clone());
        }
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// Adds what came later.
    pub(crate) fn add(&mut self, later: &Self) {
        let Self {
            total,
            rewrapped,
            already_newest,
            due,
            passed_over,
            verified,
            unreadable,
            failures,
            exit,
            keys,
        } = later;
        self.total += total;
        self.rewrapped += rewrapped;
        self.already_newest += already_newest;
        self.due += due;
        self.passed_over += passed_over;
        self.verified += verified;
        self.unreadable += unreadable;
        self.exit = self.exit.or(*exit);
        for (kind, more) in failures {
            let of_kind = self.failures.entry(kind.clone()).or_default();
            of_kind.count += more.count;
            let room = EXAMPLES.saturating_sub(of_kind.examples.len());
            of_kind.examples.extend(more.examples.iter().take(room).cloned());
        }
        for (key, more) in keys {
            let of_key = self.keys.entry(key.clone()).or_default();
            for (version, count) in &more.before {
                *of_key.before.entry(*version).or_default() += count;
            }
            for (version, count) in &more.after {
                *of_key.after.entry(*version).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let failed = |n: u32, exit| Failed::new(exit, "integrity", "d", "h").of(&format!("line {n}"), None);
        let (mut whole, mut sum) = (Tally::default(), Tally::default());
        for part in 0..5_u32 {
            let mut one = Tally { total: 2, rewrapped: 1, ..Tally::default() };
            one.count(("k", 1), ("k", 2));
            let exit = if part == 0 { Exit::Integrity } else { Exit::Denied };
            one.fail(&failed(part, exit));
            sum.add(&one);
            whole.total += 2;
            whole.rewrapped += 1;
            whole.count(("k", 1), ("k", 2));
            whole.fail(&failed(part, exit));
        }
        assert_eq!(sum, whole);
        assert_eq!((sum.failed(), sum.exit), (5, Some(Exit::Integrity.code())));
        assert_eq!(sum.failures["integrity"].examples.len(), EXAMPLES);
        let written = serde_json::to_string(&sum).unwrap();
        let read: Tally = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }
}
