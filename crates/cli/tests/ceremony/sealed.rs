//! A sealed gateway: it answers for nothing but its seal, names what is wrong with a share, and opens without a restart.

use crate::common::{HOLDFAST, code, stderr, stdout, text};
use crate::people::People;
use crate::served::Served;
use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn nothing_is_open_before_enough_shares_are_in_and_then_it_serves() {
    let people = People::new();
    people.found();
    let mut served = Served::start(&people.data());
    assert!(served.line.starts_with("sealed https://") && served.line.contains("3 of 5 shares open it"));
    for (who, line) in
        [("oscar", vec!["status"]), ("carol", vec!["key", "list"]), ("carol", vec!["key", "create", "k"])]
    {
        let output = people.calls(&served, who, &line);
        let said = stderr(&output);
        assert_eq!(code(output.status), 7, "{said}");
        assert!(said.contains("the gateway is sealed") && said.contains("`holdfast unseal`"), "{said}");
    }
    for file in served.open_files() {
        for part in ["state", "wal", "audit", "openings", "root.key"] {
            assert!(!file.starts_with(people.data().join(part)), "{} is open", file.display());
        }
    }
    let status: Value = serde_json::from_str(&served.admin("/status")).unwrap();
    assert_eq!(status["ready"], false);
    assert_eq!(status["parts"][0]["detail"], "sealed: 0 of 3 shares of generation 1 are in");
    assert!(status["notices"][0].as_str().unwrap().contains(&served.fingerprint), "{status}");

    let other = "0000-0000-0000-0000-0000-0000-0000";
    let refused = people.unseal(&served, &people.share("alice", 1), "alice", other);
    assert_eq!(code(refused.status), 2, "a typing error");
    assert_eq!(people.gives(&served, "bob", 1), "1 of 3 shares: bob");
    assert_eq!(people.gives(&served, "alice", 1), "2 of 3 shares: alice, bob");
    assert_eq!(people.gives(&served, "bob", 1), "2 of 3 shares: alice, bob");
    let metrics = served.admin("/metrics");
    for line in
        ["holdfast_sealed 1", "holdfast_ready 0", "holdfast_unseal_shares 2", "holdfast_unseal_threshold 3"]
    {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let status: Value = serde_json::from_str(&served.admin("/status")).unwrap();
    assert_eq!(status["parts"][0]["detail"], "sealed: 2 of 3 shares of generation 1 are in, of alice, bob");

    assert_eq!(people.gives(&served, "erin", 1), "3 of 3 shares: alice, bob, erin");
    let line = served.next_line();
    assert!(
        line.starts_with(&format!("serving {}", served.url)),
        "the same process at the same address: {line}"
    );
    people.ok(&served, "carol", &["key", "create", "k"]);
    let status = people.ok(&served, "oscar", &["status"]);
    assert!(status.contains("root key in shares, generation 1: 3 of 5 open it"), "{status}");
    assert!(!stderr(&people.calls(&served, "oscar", &["status"])).contains("beside what it protects"));
    assert!(served.admin("/metrics").contains("holdfast_sealed 0"));
    let (with, said) = people.is_refused(&served, &people.share("carol", 1), "carol");
    assert!(with == 5 && said.contains("the gateway is not sealed"), "{with} {said}");
    let found = people.ok(&served, "oscar", &["audit", "search", "--action", "unseal", "--json"]);
    let event: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!(event["context"]["custodians"], "alice bob erin", "{event}");
    assert_eq!(event["context"]["generation"], "1", "{event}");
    let said = served.ends();
    assert!(said.contains("unsealed"), "{said}");
}

#[test]
fn a_wrong_share_is_named_and_attempts_are_limited() {
    let (people, elsewhere) = (People::new(), People::new());
    people.found();
    elsewhere.found();
    let served = Served::start(&people.data());
    people.gives(&served, "alice", 1);
    // The same custodian, of another gateway: their own identity opens it.
    std::fs::copy(elsewhere.path("bob.key"), people.path("stranger.key")).unwrap();
    let (with, said) = people.is_refused(&served, &elsewhere.share("bob", 1), "stranger");
    assert!(with == 2 && said.contains("share 2 is of another gateway"), "{said}");
    // It never comes to the gateway.
    let (with, said) = people.is_refused(&served, &people.share("bob", 1), "carol");
    assert!(with == 1 && said.contains("does not open"), "{said}");
    for attempt in 2..=6 {
        let (with, said) = people.is_refused(&served, &elsewhere.share("bob", 1), "stranger");
        match attempt {
            2..=5 => assert!(with == 2, "{said}"),
            _ => assert!(with == 7 && said.contains("too many shares were tried"), "{said}"),
        }
    }
    let (with, said) = people.is_refused(&served, &people.share("bob", 1), "bob");
    assert!(with == 7 && said.contains("wait") && said.contains("seconds"), "a right one waits too: {said}");
    assert!(served.admin("/metrics").contains("holdfast_unseal_failures_total 5"));
    let status = served.admin("/status");
    assert!(status.contains("1 of 3 shares") && status.contains("5 shares were refused"), "{status}");
    let said = served.ends();
    assert!(said.contains("a share was refused") && said.contains("of another gateway"), "{said}");
}

#[test]
fn each_start_has_a_key_of_its_own_and_a_kill_forgets_what_was_given() {
    let people = People::new();
    people.found();
    let first = Served::start(&people.data());
    let before = first.fingerprint.clone();
    people.gives(&first, "alice", 1);
    people.gives(&first, "bob", 1);
    first.ends_by_kill();

    let mut second = Served::start(&people.data());
    assert_ne!(second.fingerprint, before);
    let output = people.unseal(&second, &people.share("carol", 1), "carol", &before);
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    assert!(stderr(&output).contains("your share was not opened"), "{}", stderr(&output));
    assert_eq!(people.gives(&second, "carol", 1), "1 of 3 shares: carol");
    people.gives(&second, "dave", 1);
    people.gives(&second, "erin", 1);
    assert!(second.next_line().starts_with("serving "));
    people.ok(&second, "carol", &["key", "create", "k"]);
    second.ends_by_kill();

    let mut third = Served::start(&people.data());
    assert!(third.line.starts_with("sealed "));
    for name in ["alice", "bob", "carol"] {
        people.gives(&third, name, 1);
    }
    assert!(third.next_line().starts_with("serving "));
    assert!(people.ok(&third, "carol", &["key", "list"]).contains('k'));
    third.ends();
}

/// A start that is refused; one that is not ends all the same.
fn refused_start(people: &People) -> String {
    let line = ["60", HOLDFAST, "serve", "--data", &text(&people.data()), "--listen", "127.0.0.1:0"];
    let output = Command::new("timeout").args(line).stdin(Stdio::null()).output().unwrap();
    assert_eq!(code(output.status), 1, "{}", stdout(&output));
    stderr(&output)
}

#[test]
fn it_ends_in_order_while_it_is_sealed_and_is_alone_in_its_directory() {
    let people = People::new();
    people.found();
    let served = Served::start(&people.data());
    assert!(refused_start(&people).contains("process"));
    served.ends();
    // Whoever puts the root key beside its shares has undone them.
    std::fs::write(people.data().join("root.key"), "x").unwrap();
    assert!(refused_start(&people).contains("lies beside"));
}
