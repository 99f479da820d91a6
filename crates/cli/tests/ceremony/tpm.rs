//! The root key sealed by a TPM: it opens by itself on its machine as it was, nowhere else, and custodians' shares are the second way.

use crate::common::custodians::{Dialogue, identity};
use crate::common::swtpm::Swtpm;
use crate::common::{HOLDFAST, bare, code, holdfast, stderr, stdout, text};
use crate::people::People;
use crate::served::Served;
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What founds a gateway that nothing but a TPM opens.
fn alone(data: &Path, tpm: &Swtpm, more: &[&str]) -> Vec<String> {
    let line = ["init", "--origin", "audit.example.org", "--operator", "oscar", "--root", "tpm"];
    let line = line.map(str::to_owned).into_iter();
    let line = line.chain(["--tpm".to_owned(), tpm.place(), "--data".to_owned(), text(data)]);
    line.chain(more.iter().map(|word| (*word).to_owned())).collect()
}

/// Founds one with three shares of five beside the TPM.
fn found(people: &People, tpm: &Swtpm) -> String {
    let mut line = people.init(&people.data());
    line.extend(["--root", "tpm", "--tpm", &tpm.place()].map(str::to_owned));
    let said = people.answer(Dialogue::begin(line), 1);
    hand_out(people);
    said
}

/// Everybody has what is theirs.
fn hand_out(people: &People) {
    std::fs::rename(people.data().join("credentials"), people.path("credentials")).unwrap();
    std::fs::copy(people.data().join("tls/ca.pem"), people.path("ca.pem")).unwrap();
}

/// Serves, and takes a backup: its file, and what is in it.
fn back_up(people: &People) -> (PathBuf, Vec<u8>) {
    let recipient = identity(&people.path("restore.key"));
    let (config, backups) = (people.path("holdfast.toml"), people.path("backups"));
    let settings = format!(
        "data = \"{}\"\n[backup]\ndirectory = \"{}\"\nrecipients = [\"{recipient}\"]\n",
        people.data().display(),
        backups.display()
    );
    std::fs::write(&config, settings).unwrap();
    let served = Served::start_with(&["--config", &text(&config)]);
    people.ok(&served, "oscar", &["backup"]);
    served.ends();
    let backup = std::fs::read_dir(&backups).unwrap().next().unwrap().unwrap().path();
    let identities = age::IdentityFile::from_file(text(&people.path("restore.key"))).unwrap();
    let identities = identities.into_identities().unwrap();
    let decryptor = age::Decryptor::new(std::fs::File::open(&backup).unwrap()).unwrap();
    let mut archive = vec![];
    decryptor.decrypt(identities.iter().map(|one| &**one as _)).unwrap().read_to_end(&mut archive).unwrap();
    (backup, archive)
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn restoring(people: &People, backup: &Path, to: &Path) -> [String; 6] {
    let identity = text(&people.path("restore.key"));
    ["restore", &text(backup), "--identity", &identity, "--data", &text(to)].map(str::to_owned)
}

/// A start that must be refused.
#[track_caller]
fn is_refused(data: &Path, words: &[&str]) {
    let line = ["60", HOLDFAST, "serve", "--data", &text(data), "--listen", "127.0.0.1:0", "--admin", "off"];
    let output = Command::new("timeout").args(line).output().unwrap();
    let said = stderr(&output);
    assert_eq!(code(output.status), 1, "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    assert!(said.contains("help: "), "{said}");
}

#[track_caller]
fn opens_by_itself(data: &Path) {
    let served = Served::start(data);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    served.ends();
}

/// Every file below a directory with its bytes, but for blocks that were never written.
fn files(at: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path if path.is_file() => found.push((text(&path), written(&std::fs::read(&path).unwrap()))),
            _ => {}
        }
    }
    found
}

fn written(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(4096).filter(|block| **block != [0; 4096][..block.len()]);
    blocks.flatten().copied().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unsealings(people: &People, served: &Served) -> Vec<Value> {
    let found = people.ok(served, "oscar", &["audit", "search", "--action", "unseal", "--json"]);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_opens_by_itself_at_each_start_and_that_is_recorded() {
    let Some(tpm) = Swtpm::start() else { return };
    tpm.measure(7, 1);
    let people = People::new();
    let said = found(&people, &tpm);
    assert!(said.contains("bound to sha256:7") && said.contains("3 of 5 shares"), "{said}");
    let data = people.data();
    assert!(
        data.join("root.tpm").exists()
            && data.join("root.shares").exists()
            && !data.join("root.key").exists()
    );
    let served = Served::start(&data);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    people.ok(&served, "carol", &["key", "create", "k"]);
    let status = people.ok(&served, "oscar", &["status"]);
    let where_it_is = format!(
        "root key sealed by the TPM at `{}`, bound to sha256:7, and in shares, generation 1: 3 of 5",
        tpm.place()
    );
    assert!(status.contains(&where_it_is), "{status}");
    let events = unsealings(&people, &served);
    assert_eq!(events.len(), 1);
    let (event, context) = (&events[0], &events[0]["context"]);
    assert_eq!(
        (&event["outcome"], &context["device"], &context["bound-to"]),
        (&"success".into(), &"tpm".into(), &"sha256:7".into())
    );
    // A kill and a start, with nobody there.
    served.ends_by_kill();
    let served = Served::start(&data);
    assert!(
        served.line.starts_with("serving ") && people.ok(&served, "carol", &["key", "list"]).contains('k')
    );
    assert_eq!(unsealings(&people, &served).len(), 2);
    served.ends();
}

#[test]
fn nothing_of_it_is_in_a_file_on_a_command_line_or_on_the_way_to_the_tpm() {
    let Some(tpm) = Swtpm::start() else { return };
    if !crate::common::tool("strace") {
        return;
    }
    let people = People::new();
    let (data, trace) = (people.data(), people.path("trace"));
    let traced = |line: &[String]| {
        let mut command = Command::new("strace");
        // Every string as hexadecimal digits, and what each descriptor is.
        command.args([
            "-f",
            "-y",
            "-xx",
            "-s",
            "8192",
            "-v",
            "-e",
            "trace=execve,write,writev,sendmsg,sendto,pwrite64",
            "-o",
        ]);
        command.arg(&trace).args(["timeout", "60", HOLDFAST]).args(line);
        bare(&mut command);
        command.output().unwrap()
    };
    let founded = traced(&alone(&data, &tpm, &[]));
    assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
    let said = stderr(&founded);
    for warning in ["WARNING: nothing was measured into PCR 7", "NO BACKUP HELPS"] {
        assert!(said.contains(warning), "{warning}: {said}");
    }
    let founding = std::fs::read_to_string(&trace).unwrap();
    // Reads everything with the root key, and ends.
    let doctor = traced(&["doctor", "--data", &text(&data), "--deep"].map(str::to_owned));
    assert!(stdout(&doctor).contains("opens what lies beside it"), "{}", stdout(&doctor));
    let reading = std::fs::read_to_string(&trace).unwrap();

    let root = tpm.unsealed(&data.join("root.tpm"));
    assert_eq!(root.len(), 32);
    let forms = [root.clone(), hex(&root).into_bytes()];
    for (file, bytes) in files(&data) {
        for form in &forms {
            assert!(!bytes.windows(form.len()).any(|window| window == form), "{file} holds it");
        }
    }
    assert!(!tpm.was_heard(&root), "it was on the way to the TPM in clear");
    assert!(tpm.was_heard(&[0x80, 0x02]), "commands with sessions were heard");
    let in_hex = forms.map(|form| hex(&form));
    let mut into_pipes = 0;
    for (lines, program) in [(&founding, "tpm2_create"), (&reading, "tpm2_unseal")] {
        let lines = lines.replace("\\x", "");
        assert!(lines.contains(&hex(program.as_bytes())), "`{program}` was seen");
        for line in lines.lines().filter(|line| in_hex.iter().any(|form| line.contains(form))) {
            assert!(line.contains(&format!("<{}", hex(b"pipe:"))), "{line}");
            into_pipes += 1;
        }
    }
    assert!(into_pipes >= 2, "into the tool, and out of it again");
}

#[test]
fn other_registers_are_refused_and_custodians_open_it_and_bind_it_anew() {
    let Some(mut tpm) = Swtpm::start() else { return };
    tpm.measure(7, 1);
    let people = People::new();
    found(&people, &tpm);
    let data = people.data();
    opens_by_itself(&data);
    // An update of the firmware: the machine starts, and measures something else.
    tpm.switch_off();
    tpm.switch_on();
    tpm.measure(7, 2);
    let doctor = holdfast(["doctor", "--data", &text(&data)]).output().unwrap();
    assert!(stdout(&doctor).contains("PCR 7 changed since"), "{}", stdout(&doctor));
    let mut served = Served::start(&data);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    let status = served.admin("/status");
    assert!(status.contains("PCR 7 of sha256 changed"), "{status}");
    for name in ["alice", "bob", "erin"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "create", "k"]);
    let status = people.calls(&served, "oscar", &["status"]);
    assert!(stderr(&status).contains("`holdfast root bind` binds the root key"), "{}", stderr(&status));
    let events = unsealings(&people, &served);
    let refused = events.iter().find(|event| event["outcome"] == "refused").unwrap();
    assert!(refused.to_string().contains("PCR 7 of sha256 changed"), "{refused}");
    assert!(events.iter().any(|event| event["context"]["custodians"] == "alice bob erin"), "{events:?}");
    assert!(holdfast_root(&people, &tpm, &[]).1.contains("process"), "not beside one that serves");
    let said = served.ends();
    assert!(said.contains("the TPM did not open the root key"), "{said}");

    // What is begun and not finished changes nothing.
    let before = std::fs::read_to_string(data.join("root.tpm")).unwrap();
    let (with, said) = holdfast_root(&people, &tpm, &[]);
    assert!(with == 1 && said.contains("0 of 3 shares are in"), "{said}");
    assert_eq!(std::fs::read_to_string(data.join("root.tpm")).unwrap(), before);
    let mut dialogue = Dialogue::begin(bind(&people, &tpm, &["--json"]));
    people.give_on(&mut dialogue, 1);
    let bound: Value = serde_json::from_str(&dialogue.succeeds()).unwrap();
    assert_eq!(
        (&bound["pcrs"], &bound["bound_by"]),
        (&"sha256:7".into(), &serde_json::json!(["alice", "dave", "erin"]))
    );
    let served = Served::start(&data);
    assert!(served.line.starts_with("serving "), "{}", served.line);
    let events = unsealings(&people, &served);
    assert!(events.iter().any(|event| event["context"]["bound-by"] == "alice dave erin"), "{events:?}");
    served.ends();
    // Other registers: the TPM opens it, so nobody is asked; and only what is asked for is bound.
    let (with, said) = holdfast_root(&people, &tpm, &["--pcrs", "sha256:4,7"]);
    assert!(with == 0 && said.contains("no custodian is needed"), "{said}");
    assert!(said.contains("nothing was measured into PCR 4"), "{said}");
    opens_by_itself(&data);
    tpm.measure(4, 9);
    let served = Served::start(&data);
    assert!(served.line.starts_with("sealed ") && served.admin("/status").contains("PCR 4 of sha256"));
    served.ends();
}

fn bind(people: &People, tpm: &Swtpm, more: &[&str]) -> Vec<String> {
    let line = ["root", "bind", "--data", &text(&people.data()), "--tpm", &tpm.place()].map(str::to_owned);
    line.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
}

/// `holdfast root bind` with nobody there: its code and what it said.
fn holdfast_root(people: &People, tpm: &Swtpm, more: &[&str]) -> (i32, String) {
    let output = holdfast(bind(people, tpm, more)).output().unwrap();
    (code(output.status), stderr(&output))
}

#[test]
fn another_tpm_a_damaged_object_and_no_tpm_are_told_apart() {
    let Some(mut tpm) = Swtpm::start() else { return };
    let people = People::new();
    let data = people.data();
    let founded = holdfast(alone(&data, &tpm, &["--pcrs", "sha256:0,7"])).output().unwrap();
    assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
    opens_by_itself(&data);
    tpm.measure(0, 3);
    is_refused(&data, &["PCR 0 of sha256 changed", "no shares of this root key"]);
    tpm.replace("another");
    is_refused(&data, &["this is another TPM", "no shares of this root key"]);
    tpm.switch_off();
    is_refused(&data, &["there is no TPM at `swtpm:path=", "switched on in the firmware"]);
    tpm.replace("state");
    opens_by_itself(&data);

    let file = data.join("root.tpm");
    let good = std::fs::read_to_string(&file).unwrap();
    for part in ["public", "private"] {
        let start = good.find(&format!("\n{part} = \"")).unwrap() + part.len() + 5;
        let length = good[start..].find('"').unwrap();
        // A digit in each of eight places.
        for place in (0..8).map(|eighth| start + eighth * (length - 1) / 7) {
            let digit = if &good[place..=place] == "0" { "1" } else { "0" };
            std::fs::write(&file, format!("{}{digit}{}", &good[..place], &good[place + 1..])).unwrap();
            let output = holdfast(["doctor", "--data", &text(&data), "--deep"]).output().unwrap();
            assert_eq!(code(output.status), 6, "{part} at {place}: {}", stdout(&output));
        }
    }
    is_refused(&data, &["root.tpm", "damaged"]);
    std::fs::write(&file, good.replacen("made = \"2", "made = \"1", 1)).unwrap();
    is_refused(&data, &["`root.tpm` is not as it was written", "no shares of this root key"]);
    let wrong_root = good.replace("\nroot = \"", "\nroot = \"0");
    for (text, words) in [(wrong_root.as_str(), "is refused"), ("", "is refused")] {
        std::fs::write(&file, text).unwrap();
        is_refused(&data, &[words]);
    }
    std::fs::write(&file, &good).unwrap();
    // Whoever puts the root key beside it has undone it.
    std::fs::write(data.join("root.key"), "x").unwrap();
    is_refused(&data, &["lies beside"]);
    std::fs::remove_file(data.join("root.key")).unwrap();
    opens_by_itself(&data);
}

#[test]
fn with_shares_a_damaged_or_missing_binding_leaves_the_gateway_sealed_and_not_shut() {
    let Some(mut tpm) = Swtpm::start() else { return };
    let people = People::new();
    found(&people, &tpm);
    let file = people.data().join("root.tpm");
    let good = std::fs::read_to_string(&file).unwrap();
    let is_sealed = |why: &str| {
        let served = Served::start(&people.data());
        assert!(
            served.line.starts_with("sealed ") && served.admin("/status").contains(why),
            "{why}: {}",
            served.line
        );
        served.ends();
    };
    std::fs::write(&file, "x").unwrap();
    is_sealed("root.tpm` is refused");
    // Of another sharing of another root key.
    let (from, to) = (good.find("\nroot = \"").unwrap() + 9, 16);
    std::fs::write(&file, format!("{}{}{}", &good[..from], "0".repeat(to), &good[from + to..])).unwrap();
    is_sealed("is of another root key than the shares");
    // It opens, and says of itself what nobody with the root key has said.
    std::fs::write(&file, good.replacen("made = \"2", "made = \"1", 1)).unwrap();
    is_sealed("`root.tpm` is not as it was written");
    std::fs::write(&file, &good).unwrap();
    tpm.switch_off();
    is_sealed("there is no TPM at");
    tpm.switch_on();
    opens_by_itself(&people.data());
    std::fs::remove_file(&file).unwrap();
    let served = Served::start(&people.data());
    assert!(served.line.starts_with("sealed "));
    served.ends();
    // And a gateway that only had shares is given to a TPM.
    let mut dialogue = Dialogue::begin(bind(&people, &tpm, &[]));
    people.give_on(&mut dialogue, 1);
    dialogue.succeeds();
    opens_by_itself(&people.data());
}

#[test]
fn a_backup_comes_back_by_shares_on_any_machine_and_without_them_on_its_own_alone() {
    let Some(mut tpm) = Swtpm::start() else { return };
    let people = People::new();
    found(&people, &tpm);
    let root = tpm.unsealed(&people.data().join("root.tpm"));
    let (backup, archive) = back_up(&people);
    assert!(holds(&archive, b"root.shares") && !holds(&archive, b"root.tpm") && !holds(&archive, &root));
    let other = People::new();
    let founded = holdfast(alone(&other.data(), &tpm, &[])).output().unwrap();
    assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
    hand_out(&other);
    let root = tpm.unsealed(&other.data().join("root.tpm"));
    let (alones, archive) = back_up(&other);
    assert!(holds(&archive, b"root.tpm") && !holds(&archive, b"root.key") && !holds(&archive, &root));
    let output = holdfast(restoring(&other, &alones, &other.path("same"))).output().unwrap();
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    opens_by_itself(&other.path("same"));
    let identity = text(&other.path("restore.key"));
    let drill = ["drill", "recovery", "--backup", &text(&alones), "--identity", &identity, "--json"];
    let output = holdfast(drill).output().unwrap();
    assert!(stdout(&output).contains("\"opens\": true"), "{}", stderr(&output));

    tpm.replace("another");
    let output = holdfast(restoring(&other, &alones, &other.path("elsewhere"))).output().unwrap();
    assert_ne!(code(output.status), 0);
    let said = stderr(&output);
    assert!(said.contains("this is another TPM") && said.contains("no shares of this root key"), "{said}");
    let restored = people.path("elsewhere");
    let mut dialogue = Dialogue::begin(restoring(&people, &backup, &restored));
    people.give_on(&mut dialogue, 1);
    dialogue.succeeds();
    let served = Served::start(&restored);
    assert!(served.line.starts_with("sealed "));
    served.ends();
    let line = ["root", "bind", "--data", &text(&restored), "--tpm", &tpm.place()].map(str::to_owned);
    let mut dialogue = Dialogue::begin(line);
    people.give_on(&mut dialogue, 1);
    dialogue.succeeds();
    opens_by_itself(&restored);
}

#[test]
fn wrong_uses_are_told_before_anything_is_written() {
    let Some(tpm) = Swtpm::start() else { return };
    let people = People::new();
    let data = people.data();
    let refused = |line: Vec<String>, words: &str| {
        let output: Output = holdfast(line).output().unwrap();
        assert_ne!(code(output.status), 0);
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
        assert!(!data.exists(), "it was made");
    };
    refused(alone(&data, &tpm, &["--pcrs", "sha1:7"]), "`sha256`, `sha384` or `sha512`");
    refused(alone(&data, &tpm, &["--root", "file"]), "cannot be used multiple times");
    let mut elsewhere = alone(&data, &tpm, &[]);
    let place = elsewhere.iter().position(|word| word.starts_with("swtpm:")).unwrap();
    elsewhere[place] = format!("swtpm:path={}", text(&people.path("nothing")));
    refused(elsewhere.clone(), "there is no TPM at");
    elsewhere[place] = "cmd:touch x".to_owned();
    refused(elsewhere, "is no place of a TPM");
    let none = ["root", "bind", "--data", &text(&data)].map(str::to_owned);
    refused(none.to_vec(), "there is no gateway");
    // A root key that lies in a file may have been copied: it is not bound.
    let plain = ["init", "--origin", "audit.example.org", "--data", &text(&data)].map(str::to_owned);
    let founded = holdfast(&plain).output().unwrap();
    assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
    let (with, said) = holdfast_root(&people, &tpm, &[]);
    assert!(with == 1 && said.contains("lies in a file"), "{said}");
}

#[test]
fn who_is_sealed_by_a_custodian_stays_so_across_restarts_whatever_the_tpm_would_open() {
    let Some(tpm) = Swtpm::start() else { return };
    let people = People::new();
    found(&people, &tpm);
    let served = Served::start(&people.data());
    assert!(served.line.starts_with("serving "));
    let output = people.seals(&served.url, &people.share("alice", 1), "alice");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    served.ends();
    for _ in 0..2 {
        let served = Served::start(&people.data());
        assert!(served.line.starts_with("sealed "), "{}", served.line);
        served.ends();
    }
    let mut served = Served::start(&people.data());
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    served.ends();
    opens_by_itself(&people.data());
}

#[test]
fn another_root_key_is_not_what_the_tpm_has_and_is_bound_anew() {
    let Some(tpm) = Swtpm::start() else { return };
    let people = People::new();
    found(&people, &tpm);
    let data = people.data();
    let mut line = vec!["root".to_owned(), "rotate".to_owned(), "--data".to_owned(), text(&data)];
    line.extend(["--threshold", "3"].map(str::to_owned));
    line.extend(people.custodians(&crate::people::NAMES));
    let served = Served::start(&data);
    let mut dialogue = Dialogue::begin(line);
    people.give_on(&mut dialogue, 1);
    people.answer(dialogue, 2);
    assert!(!data.join("root.tpm").exists(), "it would open what is not in force any more");
    let status: Value = serde_json::from_str(&served.admin("/status")).unwrap();
    assert!(!status.to_string().contains("sealed by the TPM"), "{status}");
    served.ends();
    let served = Served::start(&data);
    assert!(served.line.starts_with("sealed "), "{}", served.line);
    served.ends();
    let mut dialogue = Dialogue::begin(bind(&people, &tpm, &[]));
    people.give_on(&mut dialogue, 2);
    dialogue.succeeds();
    opens_by_itself(&data);
}
