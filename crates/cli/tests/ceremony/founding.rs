//! Founding with shares: nothing is founded before each custodian has proven.

use crate::common::custodians::{Dialogue, asked};
use crate::common::{code, holdfast, stderr, text};
use crate::people::{NAMES, People};
use rustix::process::Signal;
use std::path::Path;

/// Every file below a directory.
fn files(at: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(text(&entry.path())),
        }
    }
    found
}

#[test]
fn it_is_founded_when_each_custodian_has_proven_and_a_wrong_proof_is_named() {
    let people = People::new();
    let data = people.data();
    let mut dialogue = Dialogue::begin(people.init(&data));
    let asked = asked(&dialogue.until("give each answer"));
    assert_eq!(asked.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), NAMES);
    // So far there are shares, and no gateway.
    assert!(!data.join("instance.toml").exists() && !data.join("root.shares").exists());

    let (_, bobs, _) = &asked[1];
    let wrong = people.proof("bob", bobs, &asked[0].2);
    dialogue.say(&format!("alice {wrong}"));
    let said = dialogue.until("help:");
    assert!(said[said.len() - 2].contains("wrong: the proof of `alice` is wrong"), "{said:?}");
    dialogue.say("bob 1234");
    assert!(dialogue.until("wrong:").last().unwrap().contains("`bob`: this is no proof"));
    for (name, file, challenge) in &asked {
        let proof = people.proof(name, file, challenge);
        assert!(!data.join("instance.toml").exists(), "not before the last has answered");
        dialogue.say(&format!("{name} {proof}"));
        dialogue.until("has proven it");
    }
    let said = dialogue.succeeds();
    assert!(said.contains("3 of 5 shares"), "{said}");
    assert!(data.join("instance.toml").exists() && !data.join("root.key").exists());
    let roster = std::fs::read_to_string(data.join("root.shares")).unwrap();
    assert!(roster.contains("threshold = 3") && NAMES.iter().all(|name| roster.contains(name)), "{roster}");
    for file in files(&data) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"holdfast-share-1") && !holds(b"holdfast-root-key"), "{file} holds it in clear");
    }
}

#[test]
fn what_ends_before_leaves_nothing_behind() {
    let people = People::new();
    let data = people.data();
    let begin = || {
        let mut dialogue = Dialogue::begin(people.init(&data));
        let asked = asked(&dialogue.until("give each answer"));
        let (name, file, challenge) = &asked[0];
        let proof = people.proof(name, file, challenge);
        dialogue.say(&format!("{name} {proof}"));
        dialogue.until("has proven it: 1 of 5");
        dialogue
    };
    for signal in [Signal::INT, Signal::TERM] {
        let mut dialogue = begin();
        dialogue.signal(signal);
        dialogue.until("ended before it was complete");
        assert_eq!(code(dialogue.ends().status), 1);
        assert!(!data.exists(), "{:?}", files(&data));
    }
    let output = begin().ends();
    assert!(stderr(&output).contains("`bob` has not proven"), "{}", stderr(&output));
    assert!(!data.exists(), "{:?}", files(&data));
    // A directory that was there stays, empty.
    std::fs::create_dir(&data).unwrap();
    assert_eq!(code(begin().ends().status), 1);
    assert!(data.exists() && files(&data).is_empty());
    // One that is killed has founded nothing, and is not taken for a gateway.
    let dialogue = begin();
    dialogue.signal(Signal::KILL);
    let _killed = dialogue.ends();
    for line in [people.init(&data), vec!["serve".to_owned(), "--data".to_owned(), text(&data)]] {
        let output = holdfast(line).output().unwrap();
        assert_eq!(code(output.status), 1);
        let said = stderr(&output);
        assert!(said.contains("holds no complete gateway") || said.contains("there is no gateway"), "{said}");
    }
}

#[test]
fn wrong_uses_are_told_before_anything_is_written() {
    let people = People::new();
    let data = people.data();
    let mut short = people.init(&data);
    short.pop();
    let mut twice = people.init(&data);
    let last = twice.len() - 1;
    twice[last] = twice[last - 1].clone();
    let mut much = people.init(&data);
    let threshold = much.iter().position(|word| word == "--threshold").unwrap();
    much[threshold + 1] = "6".to_owned();
    for (line, words) in [
        (short, "5 shares are wanted, for 4 custodians"),
        (twice, "are called `dave`"),
        (much, "6 of 5 shares"),
    ] {
        let output = holdfast(line).output().unwrap();
        assert_ne!(code(output.status), 0);
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert!(!data.exists());
    }
}
