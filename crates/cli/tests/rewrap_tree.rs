//! Rewrap campaigns over trees of age files: headers change, payloads stay, and a file is whole at every moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use common::wait::until;
use common::{Dev, code, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::time::{Duration, SystemTime};

/// Where an age file's payload begins.
fn payload(file: &[u8]) -> &[u8] {
    let end = file.windows(5).position(|part| part == b"\n--- ").unwrap() + 1;
    &file[end + file[end..].iter().position(|byte| *byte == b'\n').unwrap() + 1..]
}

fn json_of(output: &str) -> Value {
    serde_json::from_str(output).unwrap()
}

/// Files `tree/0.age`, `tree/d/1.age` and so on, each with its number in it.
fn tree(dev: &Dev, key: &str, count: usize) -> Vec<String> {
    std::fs::create_dir_all(dev.path("tree/d")).unwrap();
    let names =
        (0..count).map(|number| format!("tree/{}{number}.age", if number % 2 == 1 { "d/" } else { "" }));
    let names: Vec<String> = names.collect();
    for (number, name) in names.iter().enumerate() {
        dev.file("plain", format!("file {number}").as_bytes());
        dev.ok(&["encrypt", "plain", "--key", key, "-o", name, "--context", "a=b"]);
    }
    names
}

fn assert_opens(dev: &Dev, names: &[String]) {
    for (number, name) in names.iter().enumerate() {
        assert_eq!(dev.ok(&["decrypt", name, "--context", "a=b"]), format!("file {number}"));
    }
}

const REWRAP: [&str; 5] = ["rewrap", "tree", "--context", "a=b", "--json"];

#[test]
fn headers_move_to_the_newest_version_and_payloads_stay() {
    let dev = Dev::start();
    for key in ["k", "other"] {
        dev.ok(&["key", "create", key]);
    }
    dev.ok(&["key", "create", "kek", "--purpose", "wrap"]);
    let mut names = tree(&dev, "k", 6);
    dev.file("plain", b"file 6");
    dev.ok(&["encrypt", "plain", "--key", "kek", "-o", "tree/kek.age", "--context", "a=b"]);
    names.push("tree/kek.age".to_owned());
    for key in ["k", "kek"] {
        dev.ok(&["key", "rotate", key]);
    }
    // Of no concern: no age file, other contexts' business.
    std::fs::write(dev.path("tree/notes.txt"), b"notes").unwrap();
    std::os::unix::fs::symlink(dev.path("tree/0.age"), dev.path("tree/link.age")).unwrap();
    let first = dev.path(&names[0]);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_007);
    std::fs::set_permissions(&first, PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::File::options().append(true).open(&first).unwrap().set_modified(long_ago).unwrap();
    let before: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(dev.path(name)).unwrap()).collect();

    let dry = json_of(&dev.ok(&[&REWRAP[..], &["--dry-run", "--key", "k"]].concat()));
    assert_eq!((&dry["due"], &dry["passed_over"], &dry["total"]), (&json!(6), &json!(2), &json!(6)));

    let done = json_of(&dev.ok(&[&REWRAP[..], &["--verify", "full"]].concat()));
    assert_eq!((&done["total"], &done["rewrapped"], &done["failed"]), (&json!(7), &json!(7), &json!(0)));
    assert_eq!((&done["verified"], &done["passed_over"]), (&json!(7), &json!(1)));
    let of =
        |name: &str| done["keys"].as_array().unwrap().iter().find(|key| key["name"] == name).unwrap().clone();
    assert_eq!((&of("k")["before"], &of("k")["after"]), (&json!({ "1": 6 }), &json!({ "2": 6 })));
    assert_eq!(of("kek")["after"], json!({ "2": 1 }));
    for (name, before) in names.iter().zip(&before) {
        let after = std::fs::read(dev.path(name)).unwrap();
        assert!(after != *before && payload(&after) == payload(before), "{name}");
    }
    let kept = first.metadata().unwrap();
    assert_eq!((kept.mode() & 0o777, kept.modified().unwrap()), (0o640, long_ago));
    assert!(dev.path("tree/link.age").is_symlink());
    assert_opens(&dev, &names);

    // The same again asks for nothing.
    let asked = dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count();
    let again = json_of(&dev.ok(&REWRAP));
    assert_eq!((&again["rewrapped"], &again["already_newest"]), (&json!(0), &json!(7)));
    assert_eq!(dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count(), asked);

    // To another key, one key's files only; and again, which finds them there.
    let line = [&REWRAP[..], &["--key", "k", "--to", "other", "--verify", "sample:3"]].concat();
    assert_eq!(json_of(&dev.ok(&line))["rewrapped"], json!(6));
    assert_eq!(json_of(&dev.ok(&line))["already_newest"], json!(6));
    dev.ok(&["key", "suspend", "k"]);
    assert_opens(&dev, &names);
}

#[test]
fn a_sample_is_of_the_files_that_are_gone_through() {
    let dev = Dev::start();
    for key in ["k", "other"] {
        dev.ok(&["key", "create", key]);
    }
    tree(&dev, "k", 4);
    // First and last, and of no concern.
    for name in ["tree/-.age", "tree/z.age"] {
        dev.ok(&["encrypt", "plain", "--key", "other", "-o", name, "--context", "a=b"]);
    }
    std::fs::write(dev.path("tree/zz.txt"), b"notes").unwrap();
    let of = |sample: &str| {
        let line = [&REWRAP[..], &["--key", "k", "--dry-run", "--verify", sample]].concat();
        let done = json_of(&dev.ok(&line));
        assert_eq!((&done["total"], &done["passed_over"]), (&json!(4), &json!(3)));
        done["verified"].as_u64().unwrap()
    };
    assert_eq!(["sample:1", "sample:3", "sample:4", "sample:9"].map(of), [1, 3, 4, 4]);
    // Nothing to verify is told, too.
    std::fs::create_dir(dev.path("none")).unwrap();
    let told = dev.ok(&["rewrap", "none", "--dry-run", "--verify", "sample:1"]);
    assert!(told.lines().any(|row| row.split_whitespace().eq(["verified", "0"])), "{told}");
}

#[test]
fn a_key_is_read_before_its_files_are_looked_at() {
    let dev = Dev::start();
    for key in ["k", "last", "late"] {
        dev.ok(&["key", "create", key]);
    }
    let names = tree(&dev, "k", 20);
    dev.ok(&["key", "rotate", "k"]);
    for key in ["last", "late"] {
        dev.ok(&["encrypt", "plain", "--key", key, "-o", key, "--context", "a=b"]);
    }
    std::fs::rename(dev.path("last"), dev.path("tree/d/last.age")).unwrap();
    let before = std::fs::read(dev.path(&names[0])).unwrap();
    let campaign = dev.command(&[&REWRAP[..], &["--rate", "2"]].concat());
    let campaign = { campaign }.stdout(std::process::Stdio::piped()).spawn().unwrap();
    until("it has begun", || std::fs::read(dev.path(&names[0])).unwrap() != before);
    std::fs::rename(dev.path("late"), dev.path("tree/d/late.age")).unwrap();
    dev.ok(&["key", "rotate", "last"]);
    let output = campaign.wait_with_output().unwrap();
    let done = json_of(&stdout(&output));
    let of =
        |name: &str| done["keys"].as_array().unwrap().iter().find(|key| key["name"] == name).unwrap().clone();
    assert_eq!((&of("last")["newest_version"], &of("last")["covered"]), (&json!(1), &json!(true)));
    // What lay elsewhere in the tree when the walk was there already, nobody knows.
    assert_eq!((&of("late")["after"], &of("late")["covered"]), (&json!({ "1": 1 }), &json!(false)));
}

/// Wraps file keys at the gateway as `holdfast encrypt` does, beside other recipients.
struct Ours {
    runtime: tokio::runtime::Runtime,
    tenant: holdfast_sdk::Tenant,
}

impl Ours {
    fn at(dev: &Dev) -> Self {
        let tenant = common::dev::tenant(&dev.data(), &dev.server.url);
        Self { runtime: tokio::runtime::Runtime::new().unwrap(), tenant }
    }
}

impl age::Recipient for Ours {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, std::collections::HashSet<String>), age::EncryptError> {
        let purpose = [("holdfast-purpose", "age-file-key")];
        let key = "k".parse().unwrap();
        let sealed = self.tenant.encrypt(&key, file_key.expose_secret(), &purpose);
        let body = self.runtime.block_on(sealed).unwrap().body.ciphertext.0;
        let args = ["1", "dev", "k"].map(str::to_owned).to_vec();
        Ok((vec![Stanza { tag: "holdfast".to_owned(), args, body }], Default::default()))
    }
}

/// Whoever puts a file into a tree decides neither how many records the campaign makes nor how many keys it asks about.
#[test]
fn a_file_with_more_stanzas_than_are_tried_is_listed_and_nothing_of_it_asked() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    std::fs::create_dir(dev.path("tree")).unwrap();
    let ours = Ours::at(&dev);
    for (name, stanzas) in [("one", 1), ("enough", 32), ("many", 33)] {
        let recipients = std::iter::repeat_n(&ours as &dyn age::Recipient, stanzas);
        let mut sealed = vec![];
        let mut stream =
            age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut sealed).unwrap();
        stream.write_all(b"text").unwrap();
        stream.finish().unwrap();
        // A key of each stanza's own, of which nobody has heard.
        if name == "many" {
            let mut others = 0..;
            while let Some(at) = sealed.windows(7).position(|part| part == b" dev k\n") {
                sealed.splice(at..at + 7, format!(" dev other-{}\n", others.next().unwrap()).into_bytes());
            }
        }
        std::fs::write(dev.path("tree").join(name), sealed).unwrap();
    }
    let before = std::fs::read(dev.path("tree/many")).unwrap();
    dev.ok(&["key", "rotate", "k"]);
    let output = dev.run(&["rewrap", "tree", "--json", "--failures", "bad"]);
    assert_eq!(code(output.status), 2, "{}", stderr(&output));
    let done = json_of(&stdout(&output));
    assert_eq!((&done["rewrapped"], &done["failed"], &done["unreadable"]), (&json!(2), &json!(1), &json!(1)));
    let list = std::fs::read_to_string(dev.path("bad")).unwrap();
    assert!(list.contains("tree/many") && list.contains("more than 32 stanzas"), "{list}");
    assert_eq!(std::fs::read(dev.path("tree/many")).unwrap(), before);
    let asked = |action: &str| dev.ok(&["audit", "search", "--action", action, "--json"]);
    assert_eq!(asked("rewrap-from").lines().count(), 1 + 32);
    assert!(!asked("read-key").contains("other-"), "{}", asked("read-key"));
}

#[test]
fn other_recipients_and_armour_are_kept() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    std::fs::create_dir(dev.path("tree")).unwrap();
    let ours = Ours::at(&dev);
    let friend = age::x25519::Identity::generate();
    let public = friend.to_public();
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let formats = || [("plain.age", Format::Binary), ("armoured.age", Format::AsciiArmor)];
    for (name, format) in formats() {
        let both: [&dyn age::Recipient; 2] = [&public, &ours];
        let mut sealed = vec![];
        let armour = ArmoredWriter::wrap_output(&mut sealed, format).unwrap();
        let mut stream =
            age::Encryptor::with_recipients(both.into_iter()).unwrap().wrap_output(armour).unwrap();
        stream.write_all(&data).unwrap();
        stream.finish().unwrap().finish().unwrap();
        std::fs::write(dev.path("tree").join(name), sealed).unwrap();
    }
    dev.ok(&["key", "rotate", "k"]);
    let done = json_of(&dev.ok(&["rewrap", "tree", "--json", "--verify", "full"]));
    assert_eq!((&done["rewrapped"], &done["verified"]), (&json!(2), &json!(2)));
    for (name, format) in formats() {
        let path = format!("tree/{name}");
        let file = std::fs::read(dev.path(&path)).unwrap();
        assert_eq!(file.starts_with(b"-----BEGIN AGE"), matches!(format, Format::AsciiArmor));
        let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(&file[..])).unwrap();
        let mut opened = vec![];
        let mut plain = decryptor.decrypt(std::iter::once(&friend as &dyn age::Identity)).unwrap();
        plain.read_to_end(&mut opened).unwrap();
        assert!(opened == data, "{name}");
        dev.ok(&["decrypt", &path, "-o", "opened", "--force"]);
        assert!(std::fs::read(dev.path("opened")).unwrap() == data, "{name}");
    }
}

#[test]
fn what_fails_is_left_as_it_was() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let names = tree(&dev, "k", 4);
    dev.ok(&["key", "rotate", "k"]);
    dev.ok(&["encrypt", "plain", "--key", "k", "-o", "tree/newest.age", "--context", "a=b"]);
    dev.ok(&["encrypt", "plain", "--key", "k", "-o", "tree/wrong.age", "--context", "a=c"]);
    // One whose header was changed by somebody without its key: the gateway rewraps its file key, and the header does not verify with it.
    let change = |name: &str, with: &dyn Fn(&mut Vec<u8>)| {
        let mut file = std::fs::read(dev.path(name)).unwrap();
        with(&mut file);
        std::fs::write(dev.path(name), file).unwrap();
    };
    let grease = |file: &mut Vec<u8>| {
        let end = file.windows(5).position(|part| part == b"\n--- ").unwrap() + 1;
        file.splice(end..end, *b"-> x\n\n");
    };
    change(&names[1], &grease);
    change("tree/newest.age", &grease);
    change(&names[2], &|file| file.truncate(60));
    let before: Vec<_> = names.iter().map(|name| std::fs::read(dev.path(name)).unwrap()).collect();

    let output = dev.run(&[&REWRAP[..], &["--failures", "bad"]].concat());
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    let done = json_of(&stdout(&output));
    assert_eq!(
        (&done["rewrapped"], &done["failed"], &done["already_newest"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(done["complete"], json!(false));
    for changed in [1, 2] {
        assert_eq!(std::fs::read(dev.path(&names[changed])).unwrap(), before[changed]);
    }
    let list = std::fs::read_to_string(dev.path("bad")).unwrap();
    assert!(list.contains("does not verify with the file key") && list.contains("cut off"), "{list}");
    assert_eq!(list.lines().count(), 2);
    // The same command again goes on with its list, and with nobody else's.
    let again = [&REWRAP[..], &["--failures", "bad"]].concat();
    assert_eq!(code(dev.run(&again).status), 6);
    assert_eq!(std::fs::read_to_string(dev.path("bad")).unwrap(), list);
    dev.file("mine", b"mine");
    assert!(dev.fails(&["rewrap", "tree", "--context", "a=b", "--failures", "mine"], 1).contains("--force"));
    assert_eq!(std::fs::read(dev.path("mine")).unwrap(), b"mine");
    // In full: what was left alone and does not verify is found, and what opens under another context only.
    let output = dev.run(&[&REWRAP[..], &["--dry-run", "--verify", "full"]].concat());
    let done = json_of(&stdout(&output));
    assert_eq!((&done["failed"], &done["verified"]), (&json!(4), &json!(2)), "{done}");
    dev.fails(&["rewrap", "tree", "--context", "holdfast-purpose=x"], 2);
    dev.fails(&["rewrap", "tree", "-o", "out"], 2);
    dev.fails(&["rewrap", "tree", "--key", "k", "--to", "missing", "--context", "a=b"], 5);
}

#[test]
fn a_killed_campaign_leaves_every_file_whole() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let names = tree(&dev, "k", 24);
    dev.ok(&["key", "rotate", "k"]);
    std::fs::write(dev.path("tree/d/.holdfast-rewrap-left"), b"torn").unwrap();
    let before: Vec<_> = names.iter().map(|name| std::fs::read(dev.path(name)).unwrap()).collect();
    let moved = || {
        let is_new =
            |(name, before): &(&String, &Vec<u8>)| std::fs::read(dev.path(name)).unwrap() != **before;
        names.iter().zip(&before).filter(is_new).count()
    };
    for signal in [Signal::KILL, Signal::INT] {
        let so_far = moved();
        let mut campaign = dev.command(&[&REWRAP[..], &["--rate", "4"]].concat());
        let mut campaign = campaign.stderr(std::process::Stdio::piped()).spawn().unwrap();
        until("some more files have moved", || moved() > so_far);
        assert!(dev.fails(&["rewrap", "tree", "--context", "a=b"], 5).contains("another campaign"));
        kill_process(Pid::from_child(&campaign), signal).unwrap();
        let mut said = String::new();
        campaign.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let ended = campaign.wait().unwrap();
        assert!(signal == Signal::KILL || (code(ended) == 7 && said.contains("the same command")), "{said}");
    }
    assert!(moved() < names.len());
    assert_opens(&dev, &names);
    let done = json_of(&dev.ok(&REWRAP));
    assert_eq!((&done["total"], &done["failed"]), (&json!(24), &json!(0)));
    assert_eq!(done["keys"][0]["after"], json!({ "2": 24 }));
    assert_eq!((moved(), dev.path("tree/d/.holdfast-rewrap-left").exists()), (24, false));
    assert_opens(&dev, &names);
}
