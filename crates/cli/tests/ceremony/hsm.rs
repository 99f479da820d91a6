//! The root key sealed by tokens: any one of them opens it, without one the gateway waits, and custodians' shares are the second way.

use crate::common::custodians::{Dialogue, identity};
use crate::common::softhsm::{MODULE, PIN, SoftHsm};
use crate::common::{code, holdfast, stderr, stdout, text};
use crate::people::People;
use crate::served::Served;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What OpenSC shows of the keys that seal root keys.
fn root_keys(hsm: &SoftHsm) -> String {
    let list = ["--module", MODULE, "--login", "--pin", PIN, "--list-objects", "--type", "secrkey"];
    let output =
        Command::new("pkcs11-tool").args(list).env("SOFTHSM2_CONF", hsm.path("conf")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let all = stdout(&output);
    all.split("Secret Key Object").filter(|key| key.contains("holdfast/root")).collect()
}

/// A configuration with these tokens, each one for itself.
pub fn configure(people: &People, tokens: &[(&str, &SoftHsm)], more: &str) -> PathBuf {
    let mut settings = format!("data = \"{}\"\n{more}", people.data().display());
    if tokens.len() > 1 {
        settings.push_str("[pool]\ndistribution = \"vendor\"\n");
    }
    tokens.iter().for_each(|(name, hsm)| settings.push_str(&hsm.settings_of(name)));
    let config = people.path("holdfast.toml");
    std::fs::write(&config, settings).unwrap();
    config
}

fn init(people: &People, config: &Path) -> Vec<String> {
    let mut line = people.init(&people.data());
    line.extend(["--root", "hsm", "--config", &text(config)].map(str::to_owned));
    line
}

pub fn found(people: &People, config: &Path) -> String {
    let said = people.answer(Dialogue::begin(init(people, config)), 1);
    std::fs::rename(people.data().join("credentials"), people.path("credentials")).unwrap();
    std::fs::copy(people.data().join("tls/ca.pem"), people.path("ca.pem")).unwrap();
    said
}

pub fn start(config: &Path) -> Served {
    Served::start_with(&["--config", &text(config)])
}

fn unsealings(people: &People, served: &Served) -> Vec<Value> {
    let found = people.ok(served, "oscar", &["audit", "search", "--action", "unseal", "--json"]);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_opens_by_itself_with_either_token_and_waits_while_neither_is_there() {
    let (a, b) = (SoftHsm::new(), SoftHsm::new());
    let people = People::new();
    let config = configure(&people, &[("hsm-a", &a), ("hsm-b", &b)], "");
    let said = found(&people, &config);
    assert!(said.contains("sealed by the tokens `hsm-a`") && said.contains("`hsm-b`"), "{said}");
    let data = people.data();
    assert!(data.join("root.hsm").exists() && !data.join("root.key").exists());
    for hsm in [&a, &b] {
        let seen = root_keys(hsm);
        let wanted = ["encrypt, decrypt\n", "never extractable, local", "always sensitive"];
        assert!(wanted.iter().all(|words| seen.contains(words)), "{seen}");
    }
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    let status = people.ok(&served, "oscar", &["status"]);
    assert!(
        status.contains("root key sealed by the tokens `hsm-a`") && status.contains("3 of 5 open it"),
        "{status}"
    );
    let events = unsealings(&people, &served);
    assert_eq!(
        (&events[0]["context"]["device"], &events[0]["context"]["bound-to"]),
        (&"hsm".into(), &"hsm-a hsm-b".into())
    );
    served.ends();
    // One is enough, whichever it is.
    for hsm in [&a, &b] {
        std::fs::rename(hsm.path("tokens"), hsm.path("away")).unwrap();
        let served = start(&config);
        assert!(served.line.starts_with("serving "), "{}", served.line);
        served.ends();
        std::fs::rename(hsm.path("away"), hsm.path("tokens")).unwrap();
    }
    // Neither: it is sealed, alive, and opens by itself as soon as one is back.
    for hsm in [&a, &b] {
        std::fs::rename(hsm.path("tokens"), hsm.path("away")).unwrap();
    }
    let mut served = start(&config);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    let refused = people.calls(&served, "carol", &["key", "list"]);
    assert_eq!(code(refused.status), 7);
    assert!(stderr(&refused).contains("the gateway is sealed"), "{}", stderr(&refused));
    let status = served.admin("/status");
    assert!(status.contains("no token has opened the root key"), "{status}");
    assert!(served.admin("/metrics").contains("holdfast_sealed 1"));
    std::fs::rename(b.path("away"), b.path("tokens")).unwrap();
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "list"]);
    let events = unsealings(&people, &served);
    let outcomes: Vec<_> = events.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
    assert!(
        outcomes.contains(&"refused") && outcomes.iter().filter(|one| **one == "success").count() == 4,
        "{outcomes:?}"
    );
    served.ends();
}

/// It waits for its token, and would open by itself: what a custodian has sealed no device opens, here as well.
#[test]
fn a_seal_of_a_gateway_that_waits_for_its_token_holds_when_the_token_is_back() {
    let hsm = SoftHsm::new();
    let people = People::new();
    let config = configure(&people, &[("hsm", &hsm)], "");
    found(&people, &config);
    std::fs::rename(hsm.path("tokens"), hsm.path("away")).unwrap();
    let mut served = start(&config);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    let output = people.seals(&served.url, &people.share("bob", 1), "bob");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).trim(), "sealed by order of bob");
    assert!(served.admin("/status").contains("sealed by order of a custodian"));
    std::fs::rename(hsm.path("away"), hsm.path("tokens")).unwrap();
    served.ends();
    served = start(&config);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    for name in ["alice", "bob", "erin"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    served.ends();
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "custodians have opened it: {}", served.line);
    served.ends();
}

#[test]
fn custodians_open_it_without_a_token_and_bind_it_to_another_one() {
    let (old, new) = (SoftHsm::new(), SoftHsm::new());
    let people = People::new();
    found(&people, &configure(&people, &[("old", &old)], ""));
    // The token is gone for good, and a new one is configured.
    let config = configure(&people, &[("new", &new)], "");
    let mut served = start(&config);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    for name in ["alice", "bob", "erin"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    let status = people.calls(&served, "oscar", &["status"]);
    assert!(stderr(&status).contains("no token has opened the root key"), "{}", stderr(&status));
    served.ends();
    let bind = ["root", "bind", "--to", "hsm", "--data", &text(&people.data()), "--config", &text(&config)]
        .map(str::to_owned);
    let mut dialogue = Dialogue::begin(&bind);
    people.give_on(&mut dialogue, 1);
    assert!(dialogue.succeeds().contains("new (serial "));
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    assert!(
        unsealings(&people, &served).iter().any(|event| event["context"]["bound-by"] == "alice dave erin")
    );
    served.ends();
    // Again: the token opens it, nobody is asked, and the key that is not needed any more is gone.
    let output = holdfast(&bind).output().unwrap();
    assert!(
        code(output.status) == 0 && stderr(&output).contains("no custodian is needed"),
        "{}",
        stderr(&output)
    );
    assert_eq!(root_keys(&new).matches("holdfast/root").count(), 1);
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    served.ends();
    // What lies there is not believed.
    let file = people.data().join("root.hsm");
    let good = std::fs::read_to_string(&file).unwrap();
    let at = good.find("sealed = \"").unwrap() + 12;
    let digit = if &good[at..=at] == "0" { "1" } else { "0" };
    for bad in [format!("{}{digit}{}", &good[..at], &good[at + 1..]), "x".to_owned()] {
        std::fs::write(&file, bad).unwrap();
        let served = start(&config);
        assert!(served.line.starts_with("sealed "), "{}", served.line);
        served.ends();
    }
    std::fs::write(&file, good).unwrap();
    let served = start(&config);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    served.ends();
}

#[test]
fn a_backup_holds_the_shares_and_nothing_of_the_tokens() {
    let hsm = SoftHsm::new();
    let people = People::new();
    let recipient = identity(&people.path("restore.key"));
    let backup = format!(
        "[backup]\ndirectory = \"{}\"\nrecipients = [\"{recipient}\"]\n",
        people.path("backups").display()
    );
    let config = configure(&people, &[("hsm", &hsm)], &backup);
    found(&people, &config);
    let served = start(&config);
    people.ok(&served, "oscar", &["backup"]);
    served.ends();
    let backup = std::fs::read_dir(people.path("backups")).unwrap().next().unwrap().unwrap().path();
    let (identity, restored) = (text(&people.path("restore.key")), people.path("restored"));
    let mut dialogue =
        Dialogue::begin(["restore", &text(&backup), "--identity", &identity, "--data", &text(&restored)]);
    people.give_on(&mut dialogue, 1);
    dialogue.succeeds();
    assert!(restored.join("root.shares").exists() && !restored.join("root.hsm").exists());
}

#[test]
fn without_shares_or_a_token_nothing_is_founded() {
    let hsm = SoftHsm::new();
    let people = People::new();
    let config = configure(&people, &[("hsm", &hsm)], "");
    let refused = |line: &[&str], words: &str| {
        let output = holdfast(line).output().unwrap();
        assert_ne!(code(output.status), 0);
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
        assert!(!people.data().exists(), "it was made");
    };
    let (data, config) = (text(&people.data()), text(&config));
    let plain = ["init", "--origin", "audit.example.org", "--data", &data, "--root", "hsm"];
    refused(&plain, "--config");
    refused(&[&plain[..], &["--config", &config]].concat(), "must be in shares as well");
    std::fs::write(&config, "").unwrap();
    let line = init(&people, Path::new(&config));
    refused(&line.iter().map(String::as_str).collect::<Vec<_>>(), "the configuration has no `[[token]]`");
    // A founding that its custodians do not finish leaves nothing, in the token neither.
    configure(&people, &[("hsm", &hsm)], "");
    let mut dialogue = Dialogue::begin(&line);
    dialogue.until("give each answer");
    assert!(root_keys(&hsm).contains("holdfast/root"));
    assert_eq!(code(dialogue.ends().status), 1);
    assert_eq!(root_keys(&hsm), "");
    // One of two is not there: none keeps a key of a founding that failed.
    let other = SoftHsm::new();
    configure(&people, &[("hsm", &hsm), ("other", &other)], "");
    std::fs::write(other.path("pin"), "wrong").unwrap();
    refused(&line.iter().map(String::as_str).collect::<Vec<_>>(), "a token does not come up");
    assert_eq!(root_keys(&hsm), "");
}
