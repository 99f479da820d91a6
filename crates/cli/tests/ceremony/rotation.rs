//! Another generation of shares: a custodian leaves, the earlier shares are refused by name, the root key stays.

use crate::common::custodians::{Dialogue, asked};
use crate::common::faketime::hurried;
use crate::common::wait::until;
use crate::common::{code, holdfast, stderr, text};
use crate::people::{People, fresh_key};
use crate::served::Served;
use rustix::process::Signal;
use serde_json::Value;

/// A quarter of an hour is less than the milliseconds that a custodian's own command takes.
const HURRY: u32 = 1_000_000;

/// Two of Alice, Bob, Carol and Dave; Erin has left.
pub fn rotate(people: &People) -> Dialogue {
    Dialogue::begin(rotating(people))
}

fn rotating(people: &People) -> Vec<String> {
    let mut line = vec!["share".to_owned(), "rotate".to_owned(), "--data".to_owned(), text(&people.data())];
    line.extend(["--threshold".to_owned(), "2".to_owned()]);
    line.extend(people.custodians(&["alice", "bob", "carol", "dave"]));
    line
}

/// Custodians are not left to believe that their share is still in.
#[test]
fn a_ceremony_says_that_shares_have_waited_for_too_long_and_counts_from_the_start() {
    let people = People::new();
    people.found();
    let mut dialogue = Dialogue::of(hurried(holdfast(rotating(&people)), HURRY));
    let to = fresh_key(&mut dialogue);
    dialogue.say(&people.reseal("alice", 1, &to));
    dialogue.until("1 of 3 shares: alice");
    dialogue.say(&people.reseal("dave", 1, &to));
    let said = dialogue.until("1 of 3 shares: dave");
    let wiped: Vec<_> = said.iter().filter(|line| line.contains("are wiped")).collect();
    assert!(wiped.len() == 1 && wiped[0].contains("1 of 3 shares (alice)"), "{said:#?}");
    assert_eq!(code(dialogue.ends().status), 1);
}

#[test]
fn after_a_rotation_the_earlier_shares_are_refused_and_the_later_ones_open() {
    let people = People::new();
    people.found();
    let mut served = Served::start(&people.data());
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "create", "k"]);

    // It serves all the while.
    let before = std::fs::read_to_string(people.data().join("root.shares")).unwrap();
    let mut dialogue = rotate(&people);
    let to = fresh_key(&mut dialogue);
    let output = rotate(&people).ends();
    assert!(stderr(&output).contains("another ceremony is under way"), "{}", stderr(&output));
    dialogue.say("bm90aGluZw==");
    assert!(dialogue.until("wrong:").last().unwrap().contains("not encrypted to this start's fresh key"));
    for (index, name) in ["alice", "dave", "erin"].into_iter().enumerate() {
        dialogue.say(&people.reseal(name, 1, &to));
        dialogue.until(&format!("{} of 3 shares: ", index + 1));
    }
    let proofs = asked(&dialogue.until("give each answer"));
    assert_eq!(proofs.len(), 4);
    dialogue.say(&format!("alice {}", people.proof("bob", &proofs[1].1, &proofs[1].2)));
    dialogue.until("wrong: the proof of `alice`");
    for (name, file, challenge) in &proofs {
        std::fs::copy(file, people.share(name, 2)).unwrap();
        assert_eq!(std::fs::read_to_string(people.data().join("root.shares")).unwrap(), before);
        dialogue.say(&format!("{name} {}", people.proof(name, file, challenge)));
        dialogue.until("has proven it");
    }
    dialogue.until("still has the root key");
    dialogue.succeeds();
    assert!(
        people.data().join("shares/dave.age").exists() && !people.data().join("shares/erin.age").exists()
    );
    assert!(!people.data().join("shares.new").exists());

    let recorded = || people.ok(&served, "oscar", &["audit", "search", "--action", "share-root", "--json"]);
    until("the new generation stands in the log", || !recorded().is_empty());
    let event: Value = serde_json::from_str(recorded().lines().next().unwrap()).unwrap();
    let context = &event["context"];
    assert_eq!((&context["generation"], &context["threshold"]), (&"2".into(), &"2".into()));
    assert_eq!(
        (&context["custodians"], &context["shared-by"]),
        (&"alice bob carol dave".into(), &"alice dave erin".into())
    );
    assert!(people.ok(&served, "oscar", &["status"]).contains("generation 2: 2 of 4 open it"));
    // Erin has left, and orders nothing any more.
    let output = people.seals(&served.url, &people.share("erin", 1), "erin");
    assert!(stderr(&output).contains("share 5 is of generation 1"), "{}", stderr(&output));
    let output = people.seals(&served.url, &people.share("alice", 2), "alice");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    served.is_sealed_again();
    assert!(served.line.contains("2 of 4 shares open it"), "{}", served.line);
    let (with, said) = people.is_refused(&served, &people.share("erin", 1), "erin");
    assert!(with == 2 && said.contains("share 5 is of generation 1, and generation 2 is in force"), "{said}");
    let (_, said) = people.is_refused(&served, &people.share("alice", 1), "alice");
    assert!(said.contains("share 1 is of generation 1"), "{said}");
    people.gives(&served, "dave", 2);
    assert_eq!(people.gives(&served, "bob", 2), "2 of 2 shares: bob, dave");
    assert!(served.next_line().starts_with("serving "));
    assert!(people.ok(&served, "carol", &["key", "list"]).contains('k'));
    let found = people.ok(&served, "oscar", &["audit", "search", "--action", "unseal", "--json"]);
    let event: Value = serde_json::from_str(found.lines().last().unwrap()).unwrap();
    let context = &event["context"];
    assert_eq!((&context["generation"], &context["custodians"]), (&"2".into(), &"bob dave".into()));
    assert_eq!(context["shared-by"], "alice dave erin");
    served.ends();
}

#[test]
fn a_sealed_gateway_takes_the_later_generation_from_its_first_moment_on() {
    let people = People::new();
    people.found();
    let mut served = Served::start(&people.data());
    people.gives(&served, "alice", 1);
    people.gives(&served, "bob", 1);
    let mut dialogue = rotate(&people);
    people.give_on(&mut dialogue, 1);
    people.answer(dialogue, 2);
    // Two of three were in: they are of no use any more.
    let (_, said) = people.is_refused(&served, &people.share("carol", 1), "carol");
    assert!(said.contains("share 3 is of generation 1, and generation 2 is in force"), "{said}");
    assert_eq!(people.gives(&served, "carol", 2), "1 of 2 shares: carol");
    assert_eq!(people.gives(&served, "dave", 2), "2 of 2 shares: carol, dave");
    assert!(served.next_line().starts_with("serving "));
    served.ends();
}

#[test]
fn a_rotation_that_is_cut_short_changes_nothing() {
    let people = People::new();
    people.found();
    let before = std::fs::read_to_string(people.data().join("root.shares")).unwrap();
    let begin = || {
        let mut dialogue = rotate(&people);
        let to = fresh_key(&mut dialogue);
        for name in ["alice", "bob", "carol"] {
            dialogue.say(&people.reseal(name, 1, &to));
        }
        dialogue.until("give each answer");
        assert!(people.data().join("shares.new/alice.age").exists());
        dialogue
    };
    let is_as_before = || {
        assert_eq!(std::fs::read_to_string(people.data().join("root.shares")).unwrap(), before);
        assert!(people.data().join("shares/erin.age").exists());
    };
    let mut dialogue = begin();
    dialogue.signal(Signal::INT);
    dialogue.until("ended before it was complete");
    assert_eq!(code(dialogue.ends().status), 1);
    is_as_before();
    assert!(!people.data().join("shares.new").exists());
    // A kill leaves files that the next one replaces.
    let dialogue = begin();
    dialogue.signal(Signal::KILL);
    let _killed = dialogue.ends();
    is_as_before();
    let output = begin().ends();
    assert!(stderr(&output).contains("`alice` has not proven"), "{}", stderr(&output));
    is_as_before();
    // Too few shares.
    let mut dialogue = rotate(&people);
    let to = fresh_key(&mut dialogue);
    dialogue.say(&people.reseal("alice", 1, &to));
    dialogue.until("1 of 3 shares: alice");
    let output = dialogue.ends();
    assert!(stderr(&output).contains("1 of 3 shares are in"), "{}", stderr(&output));
    is_as_before();
    let served = Served::start(&people.data());
    assert_eq!(people.gives(&served, "alice", 1), "1 of 3 shares: alice");
}
