//! `root.shares` is what somebody with the root key wrote last, or nobody is served by it.

use crate::common::custodians::identity;
use crate::common::softhsm::SoftHsm;
use crate::common::{HOLDFAST, code, holdfast, stderr, stdout, text};
use crate::hsm::{configure, found, start};
use crate::people::People;
use crate::rotation::rotate;
use crate::served::Served;
use serde_json::Value;
use std::fs;
use std::process::Command;

fn without_code(list: &str) -> String {
    list.lines().filter(|line| !line.starts_with("mac = ")).map(|line| format!("{line}\n")).collect()
}

fn recorded(people: &People, served: &Served, action: &str) -> Vec<Value> {
    let found = people.ok(served, "oscar", &["audit", "search", "--action", action, "--json"]);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn nobody_is_served_by_a_list_of_shares_that_somebody_else_has_written() {
    let people = People::new();
    people.found();
    let list = people.data().join("root.shares");
    let good = fs::read_to_string(&list).unwrap();
    assert_ne!(without_code(&good), good);
    fs::write(&list, good.replace("\"bob\"", "\"mallory\"")).unwrap();
    let mut served = Served::start(&people.data());
    people.gives(&served, "alice", 1);
    people.gives(&served, "carol", 1);
    let (_, said) = people.is_refused(&served, &people.share("erin", 1), "erin");
    assert!(said.contains("`root.shares` is not as it was written"), "{said}");
    assert!(said.contains("put `root.shares` back"), "{said}");
    // Nor does another generation come of it.
    let mut dialogue = rotate(&people);
    let to = crate::people::fresh_key(&mut dialogue);
    for name in ["alice", "carol", "erin"] {
        dialogue.say(&people.reseal(name, 1, &to));
    }
    dialogue.until("`root.shares` is not as it was written");
    dialogue.ends();
    // As soon as it is back, the same custodians open it.
    fs::write(&list, &good).unwrap();
    for name in ["alice", "carol", "erin"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    let founding = &recorded(&people, &served, "found")[0]["context"];
    assert_eq!(
        (&founding["generation"], &founding["threshold"], &founding["custodians"]),
        (&"1".into(), &"3".into(), &"alice bob carol dave erin".into())
    );
    assert_eq!(recorded(&people, &served, "share-root").len(), 0, "the founding's stands in its own record");
    served.ends();

    fs::write(&list, without_code(&good)).unwrap();
    let doctor = holdfast(["doctor", "--offline", "--data", &text(&people.data())]).output().unwrap();
    assert!(stdout(&doctor).contains("`root.shares` has no code"), "{}", stdout(&doctor));
    let served = Served::start(&people.data());
    people.gives(&served, "alice", 1);
    people.gives(&served, "carol", 1);
    let (_, said) = people.is_refused(&served, &people.share("erin", 1), "erin");
    assert!(said.contains("the gateway has not opened"), "{said}");
    let (with, said) = served.fails();
    assert_eq!(with, 1, "{said}");
    assert!(said.contains("`root.shares` has no code of the root key"), "{said}");
    assert!(said.contains("as it was written last"), "{said}");
    assert_eq!(fs::read_to_string(&list).unwrap(), without_code(&good), "it is not made good");
    let mut dialogue = rotate(&people);
    people.give_on(&mut dialogue, 1);
    dialogue.until("start the gateway once");
    dialogue.ends();
}

#[test]
fn a_generation_from_while_nobody_served_is_recorded_at_the_next_start_and_no_earlier_one_serves() {
    let hsm = SoftHsm::new();
    let people = People::new();
    let recipient = identity(&people.path("restore.key"));
    let backups = people.path("backups");
    let settings =
        format!("[backup]\ndirectory = \"{}\"\nrecipients = [\"{recipient}\"]\n", backups.display());
    let config = configure(&people, &[("hsm", &hsm)], &settings);
    found(&people, &config);
    start(&config).ends();
    let (list, bound) = (people.data().join("root.shares"), people.data().join("root.hsm"));
    let earlier = fs::read_to_string(&list).unwrap();
    let mut dialogue = rotate(&people);
    people.give_on(&mut dialogue, 1);
    people.answer(dialogue, 2);
    // The token opens it, and no custodian is there.
    for _ in 0..2 {
        let served = start(&config);
        assert!(served.line.starts_with("serving "), "{}", served.line);
        crate::common::wait::until("it is recorded", || recorded(&people, &served, "share-root").len() >= 2);
        let events = recorded(&people, &served, "share-root");
        let outcomes: Vec<_> = events.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["intent", "success"], "once");
        let context = &events[1]["context"];
        assert_eq!((&context["generation"], &context["shared-by"]), (&"2".into(), &"alice dave erin".into()));
        served.ends();
    }
    // Who has left is not let in again by their own list.
    let later = fs::read_to_string(&list).unwrap();
    fs::write(&list, &earlier).unwrap();
    let line = ["60", HOLDFAST, "serve", "--config", &text(&config), "--listen", "127.0.0.1:0"];
    let output = Command::new("timeout").args(line).args(["--admin", "off"]).output().unwrap();
    assert_eq!(code(output.status), 1, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("is of generation 1, and generation 2 is in force"),
        "{}",
        stderr(&output)
    );
    fs::write(&list, &later).unwrap();
    // What says who has bound it to the token is as authentic: otherwise it opens nothing, and custodians do.
    let good = fs::read_to_string(&bound).unwrap();
    fs::write(&bound, good.replacen("made = ", "bound_by = [\"mallory\"]\nmade = ", 1)).unwrap();
    let served = start(&config);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    let status = served.admin("/status");
    assert!(status.contains("`root.hsm` is not as it was written"), "{status}");
    served.ends();
    fs::write(&bound, without_code(&good).replacen("made = ", "bound_by = [\"mallory\"]\nmade = ", 1))
        .unwrap();
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    let last = recorded(&people, &served, "unseal").pop().unwrap();
    assert_eq!(last["context"]["device"], "hsm");
    assert!(!last.to_string().contains("mallory"), "what nobody answers for is not recorded: {last}");
    // No backup takes along what nobody could restore by.
    fs::write(&list, later.replace("\"bob\"", "\"mallory\"")).unwrap();
    let refused = people.calls(&served, "oscar", &["backup"]);
    assert_ne!(code(refused.status), 0, "{}", stdout(&refused));
    assert_eq!(fs::read_dir(&backups).map_or(0, Iterator::count), 0);
    fs::write(&list, &later).unwrap();
    people.ok(&served, "oscar", &["backup"]);
    assert_eq!(fs::read_dir(&backups).unwrap().count(), 1);
    served.ends();
}
