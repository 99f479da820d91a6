//! Reports as evidence: what of a key's versions is still needed, as a recorded inventory says it.

use crate::exit::Exit;
use crate::failure::Failure;
use aws_lc_rs::digest::{Context, SHA256};
use holdfast_core::KeyId;
use holdfast_sdk::field::{Bytes, List, VersionNumber};
use holdfast_sdk::message::RecordInventory;
use holdfast_sdk::{KeyName, KeyVersion};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Reports of campaigns, in the order in which they are named.
pub(crate) struct Reports(Vec<Report>);

struct Report {
    place: String,
    bytes: Vec<u8>,
    says: Says,
}

#[derive(Deserialize)]
struct Says {
    complete: bool,
    unreadable: u64,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
    id: String,
    current_version: KeyVersionNumber,
    /// Missing in reports of older builds, like what is needed: nobody knows what those speak of.
    newest_version: Option<KeyVersionNumber>,
    covered: bool,
    before: BTreeMap<u32, u64>,
    needed: Option<BTreeSet<u32>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(try_from = "u32")]
struct KeyVersionNumber(KeyVersion);

impl TryFrom<u32> for KeyVersionNumber {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        KeyVersion::new(number).map(Self).ok_or("a version is 1 at least")
    }
}

impl Report {
    fn parse(place: String, bytes: Vec<u8>) -> Result<Self, Failure> {
        match serde_json::from_slice(&bytes) {
            Ok(says) => Ok(Self { place, bytes, says }),
            Err(error) => Err(Failure::usage(format!("{place} is no report of a campaign"))
                .because(&error)
                .remedy("name what `holdfast rewrap --report FILE` wrote")),
        }
    }
}

impl Reports {
    /// From files.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
            Report::parse(format!("`{}`", Path::display(path)), bytes)
        };
        paths.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The one of this campaign.
    pub(super) fn one(text: String) -> Result<Self, Failure> {
        Ok(Self(vec![Report::parse("the report".to_owned(), text.into_bytes())?]))
    }

    /// What they say of the key of this name and id, all together: a destroyed key's name may be another's by now.
    pub(crate) fn of(&self, key: &KeyName, id: &KeyId) -> Result<RecordInventory, Failure> {
        let (mut needed, mut items, mut begun) = (BTreeSet::new(), 0, None);
        let (mut digest, mut report_bytes) = (Context::new(&SHA256), 0);
        for Report { place, bytes, says } in &self.0 {
            if !says.complete {
                let problem =
                    format!("{place} could not read {} items, which may need any version", says.unreadable);
                return Err(Failure::new(Exit::State, problem)
                    .remedy("mend those items or take them out of the inventory, and go through it again"));
            }
            let of_key = says.keys.iter().find(|found| found.name == key.as_str() && found.covered);
            let of_key = of_key.ok_or_else(|| {
                Failure::usage(format!("{place} says nothing of key `{key}`"))
                    .remedy("name reports of campaigns over what is under this key")
            })?;
            if of_key.id != id.to_string() {
                return Err(Failure::new(
                    Exit::State,
                    format!("{place} is about another key, which was called `{key}` then"),
                )
                .remedy("go through the inventory again"));
            }
            let (Some(newest), Some(left)) = (of_key.newest_version, &of_key.needed) else {
                let problem = format!("{place} does not say which versions of key `{key}` it speaks of");
                return Err(Failure::new(Exit::State, problem)
                    .remedy("an older Holdfast wrote it: go through the inventory again"));
            };
            let at = (of_key.current_version, newest);
            if begun.is_some_and(|begun| begun != at) {
                return Err(Failure::new(Exit::State, "new work took another version between these reports")
                    .remedy("go through the older inventories again"));
            }
            begun = Some(at);
            items += of_key.before.values().sum::<u64>();
            needed.extend(left.iter().copied().filter_map(KeyVersion::new));
            digest.update(bytes);
            report_bytes += u64::try_from(bytes.len()).unwrap_or(0);
        }
        if items == 0 {
            let problem =
                format!("nothing under key `{key}` was met there, which says nothing of what lies elsewhere");
            return Err(Failure::new(Exit::State, problem).remedy(
                "name the places where something is; if there are none, give its versions up with `--without-inventory`",
            ));
        }
        let (current, newest) =
            begun.ok_or_else(|| Failure::usage("no report is named").remedy("name one with `--report`"))?;
        Ok(RecordInventory {
            current_version: VersionNumber(current.0),
            newest_version: VersionNumber(newest.0),
            needed_versions: List(needed.into_iter().map(VersionNumber).collect()),
            items,
            report_sha256: Bytes(digest.finish().as_ref().to_vec()),
            report_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JDCZRGZK0000000000000001";

    fn report(current: u32, complete: bool, needed: &str) -> Report {
        report_of(current, complete, r#""1":6"#, needed)
    }

    fn report_of(current: u32, complete: bool, before: &str, needed: &str) -> Report {
        let says = format!(r#""newest_version":4,"needed":[{needed}],"#);
        report_at(current, &says, complete, before)
    }

    fn report_at(current: u32, says: &str, complete: bool, before: &str) -> Report {
        let text = format!(
            r#"{{"v":1,"complete":{complete},"unreadable":1,"more":0,"keys":[
                {{"name":"k","id":"{ID}","current_version":{current},{says}"covered":true,"before":{{{before}}},"after":{{"3":6}}}},
                {{"name":"to","id":"{ID}","current_version":1,"newest_version":1,"needed":[1],"covered":false,"before":{{}},"after":{{"1":3}}}}]}}"#
        );
        Report::parse("`r`".to_owned(), text.into_bytes()).unwrap()
    }

    fn of(reports: Vec<Report>, key: &str) -> Result<RecordInventory, Failure> {
        Reports(reports).of(&key.parse().unwrap(), &ID.parse().unwrap())
    }

    #[test]
    fn what_any_place_needs_is_needed() {
        let two = || vec![report(3, true, "3"), report(3, true, "2,3")];
        let inventory = of(two(), "k").unwrap();
        let needed: Vec<_> = inventory.needed_versions.0.iter().map(|version| version.0.get()).collect();
        assert_eq!((needed, inventory.items), (vec![2, 3], 12));
        assert_eq!((inventory.current_version.0.get(), inventory.newest_version.0.get()), (3, 4));
        let bytes: Vec<u8> = two().iter().flat_map(|report| report.bytes.clone()).collect();
        assert_eq!(inventory.report_bytes, bytes.len() as u64);
        let digest = aws_lc_rs::digest::digest(&SHA256, &bytes);
        assert_eq!(inventory.report_sha256.0, digest.as_ref());
    }

    #[test]
    fn what_does_not_say_it_is_no_evidence() {
        assert!(of(vec![report(3, false, "")], "k").is_err(), "something was unreadable");
        assert!(of(vec![report(3, true, ""), report(2, true, "")], "k").is_err(), "of two times");
        let says = |says| report_at(3, says, true, r#""1":6"#);
        let later = says(r#""newest_version":5,"needed":[],"#);
        assert!(of(vec![report(3, true, ""), later], "k").is_err(), "with a version between them");
        for older in ["", r#""newest_version":4,"#, r#""needed":[],"#] {
            assert!(of(vec![says(older)], "k").is_err(), "of an older build: {older}");
        }
        assert!(of(vec![report(3, true, "")], "to").is_err(), "only gone to");
        assert!(of(vec![report(3, true, "")], "other").is_err());
        assert!(of(vec![report_of(3, true, "", "")], "k").is_err(), "nothing was looked at");
        assert!(of(vec![report_of(3, true, "", ""), report(3, true, "")], "k").is_ok());
        let another = "01JDCZRGZK0000000000000002".parse().unwrap();
        assert!(Reports(vec![report(3, true, "")]).of(&"k".parse().unwrap(), &another).is_err());
        assert!(Report::parse("`r`".to_owned(), b"{}".to_vec()).is_err());
    }
}
