//! Rewrap campaigns over JSON lines: every line once and in order, whoever is killed in the middle.

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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::dev::tenant;
use common::wait::until;
use common::{Dev, Server, closed, code, holdfast, stderr, stdout, text};
use holdfast_sdk::field::{Bytes, ContextPairs, Name, SecretBytes};
use holdfast_sdk::message::{Batch, BatchItem, Encrypt, UseRequest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

/// So many lines under the key's newest version; each is bound to its own number and holds it.
fn sealed(dev: &Dev, key: &str, numbers: std::ops::Range<usize>) -> Vec<Value> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tenant = tenant(&dev.data(), &dev.server.url);
    let numbers: Vec<usize> = numbers.collect();
    let mut lines = vec![];
    for some in numbers.chunks(256) {
        let item = |number: &usize| {
            let pairs = vec![("number".into(), number.to_string().into())];
            let request = Encrypt {
                plaintext: SecretBytes(holdfast_sdk::Secret::from(format!("record {number}").as_bytes())),
                context: Some(ContextPairs(holdfast_core::context::Context::new(pairs).unwrap())),
                padding: None,
            };
            BatchItem { key: Name(key.parse().unwrap()), request: UseRequest::Encrypt(request) }
        };
        let batch = Batch { items: some.iter().map(item).collect() };
        let answer = runtime.block_on(tenant.batch(&batch)).unwrap();
        for (number, result) in some.iter().zip(&answer.items) {
            let Bytes(ciphertext) = result.result.as_ref().unwrap().ciphertext.as_ref().unwrap();
            lines.push(json!({
                "id": format!("row-{number}"), "note": "carried \u{fc} through", "ciphertext": STANDARD.encode(ciphertext),
                "context": { "number": number.to_string() }
            }));
        }
    }
    lines
}

fn written(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

fn read(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8(bytes.to_vec())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn version(line: &Value) -> u32 {
    let frame = STANDARD.decode(line["ciphertext"].as_str().unwrap()).unwrap();
    u32::from_be_bytes(frame[22..26].try_into().unwrap())
}

/// Everything of a line but its ciphertext.
fn rest(line: &Value) -> Value {
    let mut line = line.clone();
    line.as_object_mut().unwrap().remove("ciphertext").unwrap();
    line
}

/// That these lines are the old ones in their order, under this version, and hold what they held.
fn assert_moved(dev: &Dev, old: &[Value], new: &[Value], key: &str, to: u32) {
    assert_eq!(old.iter().map(rest).collect::<Vec<_>>(), new.iter().map(rest).collect::<Vec<_>>());
    assert!(new.iter().all(|line| version(line) == to), "not all are under version {to}");
    for line in [&new[0], &new[new.len() / 2], &new[new.len() - 1]] {
        let number = line["context"]["number"].as_str().unwrap();
        let context = format!("number={number}");
        let text = dev.file("one", line["ciphertext"].as_str().unwrap().as_bytes());
        assert_eq!(
            dev.ok(&["decrypt", &text, "--key", key, "--context", &context]),
            format!("record {number}")
        );
    }
}

fn report(output: &str) -> Value {
    serde_json::from_str(output).unwrap()
}

#[test]
fn an_inventory_moves_to_the_newest_version() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let mut lines = sealed(&dev, "k", 0..300);
    dev.ok(&["key", "rotate", "k"]);
    lines.extend(sealed(&dev, "k", 300..310));
    dev.file("in", &written(&lines));

    let dry = report(&dev.ok(&["rewrap", "in", "--jsonl", "--key", "k", "--dry-run", "--json"]));
    assert_eq!(
        (&dry["due"], &dry["already_newest"], &dry["rewrapped"]),
        (&json!(300), &json!(10), &json!(0))
    );
    assert_eq!(dry["keys"][0]["before"], json!({ "1": 300, "2": 10 }));

    let done = dev.ok(&["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--json", "--verify", "full"]);
    let done = report(&done);
    assert_eq!(
        (&done["total"], &done["rewrapped"], &done["already_newest"]),
        (&json!(310), &json!(300), &json!(10))
    );
    assert_eq!(
        (&done["failed"], &done["verified"], &done["complete"]),
        (&json!(0), &json!(310), &json!(true))
    );
    assert_eq!(done["keys"][0]["after"], json!({ "2": 310 }));
    let new = read(&std::fs::read(dev.path("out")).unwrap());
    assert_moved(&dev, &lines, &new, "k", 2);
    // Those that were there already are the same bytes.
    assert_eq!(lines[300..], new[300..]);
    for left in ["out.partial", "out.journal"] {
        assert!(!dev.path(left).exists(), "{left}");
    }

    // The same again finds nothing to do, and asks for nothing.
    let before = dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count();
    assert_eq!(before, 300);
    let again = report(&dev.ok(&["rewrap", "out", "--jsonl", "--key", "k", "-o", "out2", "--json"]));
    assert_eq!((&again["rewrapped"], &again["already_newest"]), (&json!(0), &json!(310)));
    assert_eq!(std::fs::read(dev.path("out2")).unwrap(), std::fs::read(dev.path("out")).unwrap());
    assert_eq!(dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count(), before);

    // To another key, through pipes, with a sample of what moved.
    dev.ok(&["key", "create", "other"]);
    let line = ["rewrap", "out", "--jsonl", "--key", "k", "--to", "other", "--verify", "sample:20"];
    let piped = dev.run(&line);
    assert_eq!(code(piped.status), 0, "{}", stderr(&piped));
    assert!(stderr(&piped).contains("310 items: 310 rewrapped"), "{}", stderr(&piped));
    assert_moved(&dev, &lines, &read(&piped.stdout), "other", 1);
    assert_eq!(
        dev.ok(&["audit", "search", "--action", "decrypt", "--key", "other", "--json"]).lines().count(),
        20 + 3
    );
}

#[test]
fn what_fails_is_listed_and_stops_nothing() {
    let dev = Dev::start();
    for key in ["k", "other"] {
        dev.ok(&["key", "create", key]);
    }
    let mut lines = sealed(&dev, "k", 0..20);
    let foreign = sealed(&dev, "other", 0..1);
    dev.ok(&["key", "rotate", "k"]);
    let newest = sealed(&dev, "k", 20..21);
    lines[3]["context"] = json!({ "number": "wrong" });
    lines[5] = foreign[0].clone();
    lines[7] = json!({ "id": 7, "ciphertext": "no base64" });
    let mut bytes = STANDARD.decode(newest[0]["ciphertext"].as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    lines[9] = newest[0].clone();
    lines[9]["ciphertext"] = json!(STANDARD.encode(bytes));
    dev.file("in", &written(&lines));

    let line = [
        "rewrap",
        "in",
        "--jsonl",
        "--key",
        "k",
        "-o",
        "out",
        "--failures",
        "bad",
        "--json",
        "--report",
        "report",
    ];
    let output = dev.run(&line);
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    let told: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(told["error"]["problem"], "3 of 20 items failed");
    let done = report(&stdout(&output));
    assert_eq!(done, report(&std::fs::read_to_string(dev.path("report")).unwrap()));
    // The tampered one says that it is under the newest version, and nobody has opened it.
    assert_eq!(
        (&done["rewrapped"], &done["already_newest"], &done["failed"]),
        (&json!(16), &json!(1), &json!(3))
    );
    assert_eq!((&done["complete"], &done["keys"][0]["after"]), (&json!(false), &json!({ "1": 1, "2": 17 })));
    let list = read(&std::fs::read(dev.path("bad")).unwrap());
    let kinds: Vec<_> = list
        .iter()
        .map(|failed| (failed["item"].as_str().unwrap(), failed["error"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("line 4", "integrity"), ("line 6", "other-key"), ("line 8", "malformed")]);
    assert_eq!((&list[0]["id"], &list[2]["id"]), (&json!("row-3"), &json!(7)));
    let operation = list[0]["operation"].as_str().unwrap();
    assert!(dev.ok(&["audit", "search", "--operation", operation, "--json"]).contains("integrity"));
    // What failed stands where it stood, as it was.
    let new = read(&std::fs::read(dev.path("out")).unwrap());
    assert_eq!(new.len(), 20);
    for (number, (old, new)) in lines.iter().zip(&new).enumerate() {
        assert_eq!(old == new, [3, 5, 7, 9].contains(&number), "{number}");
    }

    // Verifying in full opens those that were left alone too.
    let line = ["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--verify", "full", "--json"];
    let output = dev.run(&line);
    let done = report(&stdout(&output));
    assert_eq!((&done["failed"], &done["verified"], code(output.status)), (&json!(4), &json!(16), 6));
    assert!(done["failures"]["integrity"]["examples"].to_string().contains("line 10"), "{done}");

    assert!(dev.fails(&["rewrap", "in", "--jsonl", "--key", "k", "-o", "out"], 1).contains("--force"));
    assert!(dev.fails(&["rewrap", "in", "--jsonl", "--key", "missing", "-o", "out2"], 5).contains("no key"));
    dev.fails(&["rewrap", "-", "--jsonl", "--key", "k", "--verify", "sample:3"], 2);
    dev.fails(&["rewrap", "in", "--key", "k", "--dry-run"], 2);
    assert!(!dev.path("out2").exists());
}

fn spawn(dev: &Dev, line: &[&str]) -> Child {
    dev.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn length(dev: &Dev, name: &str) -> u64 {
    dev.path(name).metadata().map_or(0, |metadata| metadata.len())
}

/// Waits until a campaign has made something durable.
fn is_marked(dev: &Dev) {
    until("a first part of the campaign is durable", || length(dev, "out.journal") > 0);
}

/// What a command was run for is nowhere else: where nobody takes it, it says so. What can be looked at again may be looked at in part.
#[test]
fn whose_lines_nobody_takes_has_failed() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let lines = sealed(&dev, "k", 0..2);
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", &written(&lines));
    let clear = dev.file("clear", b"clear");
    let unread = |line: &[&str]| dev.command(line).stdout(closed()).output().unwrap();
    for line in [
        &["rewrap", "in", "--jsonl", "--key", "k"][..],
        &["rewrap", "in", "--jsonl", "--key", "k", "--dry-run", "--json"],
        &["encrypt", "--raw", &clear, "--key", "k"],
        &["encrypt", "--raw", &clear, "--key", "k", "--json"],
        &["encrypt", &clear, "--key", "k"],
        &["key", "recipient", "k"],
        &["completions", "bash"],
    ] {
        let output = unread(line);
        let said = stderr(&output);
        assert_eq!(code(output.status), 1, "{line:?}: {said}");
        assert!(
            said.contains("cannot ") && said.contains("help") && said.contains("Broken pipe"),
            "{line:?}: {said}"
        );
    }
    let said = stderr(&unread(&["rewrap", "in", "--jsonl", "--key", "k"]));
    assert!(said.contains("Broken pipe") && said.contains("with `-o FILE`"), "{said}");
    for line in [
        &["key", "list"][..],
        &["key", "list", "--json"],
        &["key", "show", "k"],
        &["audit", "search"],
        &["serve", "--print-reference"],
        &["policy", "show"],
        &["key", "suspend", "k"],
    ] {
        let output = unread(line);
        let said = stderr(&output);
        assert!(code(output.status) == 0 && !said.contains("error"), "{line:?}: {said}");
    }
}

const SLOWLY: [&str; 9] = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--rate", "700"];
const FAST: [&str; 9] = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--failures", "bad"];

/// What is written is for its owner, from the first moment on, and what has got the output's name meanwhile is nobody's to replace.
#[test]
fn what_has_the_output_s_name_meanwhile_stays_and_nobody_else_reads_what_is_written() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let mut lines = sealed(&dev, "k", 0..900);
    lines[2]["context"] = json!({ "number": "wrong" });
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", &written(&lines));
    let mode = |name: &str| dev.path(name).metadata().unwrap().permissions().mode() & 0o777;
    std::os::unix::fs::symlink(dev.path("elsewhere"), dev.path("link.partial")).unwrap();
    dev.fails(&["rewrap", "in", "--jsonl", "--key", "k", "-o", "link"], 1);
    assert!(!dev.path("elsewhere").exists());

    // As an earlier build has left them.
    for left in ["out.partial", "bad", "bad2"] {
        dev.file(left, b"");
        std::fs::set_permissions(dev.path(left), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let campaign = spawn(&dev, &[&SLOWLY[..], &["--failures", "bad"]].concat());
    is_marked(&dev);
    for written in ["out.partial", "out.journal", "bad"] {
        assert_eq!(mode(written), 0o600, "{written}");
    }
    dev.file("out", b"mine");
    let ended = campaign.wait_with_output().unwrap();
    assert_eq!(code(ended.status), 1, "{}", stderr(&ended));
    assert!(stderr(&ended).contains("--force"), "{}", stderr(&ended));
    assert_eq!(std::fs::read(dev.path("out")).unwrap(), b"mine");
    // Nothing of it is lost.
    let before = dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count();
    let done = dev.run(&[&FAST[..], &["--force", "--json"]].concat());
    assert_eq!(code(done.status), 6, "{}", stderr(&done));
    let new = read(&std::fs::read(dev.path("out")).unwrap());
    assert_eq!(
        (new.len(), mode("out"), report(&stdout(&done))["rewrapped"].as_u64()),
        (900, 0o600, Some(899))
    );
    assert_eq!(dev.ok(&["audit", "search", "--action", "rewrap-from", "--json"]).lines().count(), before);
    dev.ok(&["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--failures", "bad2", "--json"]);
    assert_eq!(mode("bad2"), 0o600);
}

#[test]
fn a_killed_campaign_goes_on_and_no_line_is_lost_or_twice() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let mut lines = sealed(&dev, "k", 0..4000);
    lines[2]["context"] = json!({ "number": "wrong" });
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", &written(&lines));
    for signal in [Signal::KILL, Signal::KILL, Signal::INT] {
        let before = std::fs::read(dev.path("out.journal")).unwrap_or_default();
        let mut campaign = spawn(&dev, &[&SLOWLY[..], &["--failures", "bad"]].concat());
        until("more is durable", || std::fs::read(dev.path("out.journal")).is_ok_and(|now| now != before));
        // Another one on the same output is refused.
        assert!(dev.fails(&FAST, 5).contains("another campaign"));
        kill_process(Pid::from_child(&campaign), signal).unwrap();
        let ended = campaign.wait().unwrap();
        assert!(!dev.path("out").exists());
        if signal == Signal::INT {
            assert_eq!(code(ended), 7);
            let mut said = String::new();
            std::io::Read::read_to_string(&mut campaign.stderr.take().unwrap(), &mut said).unwrap();
            assert!(said.contains("interrupted") && said.contains("give the same command again"), "{said}");
        }
    }
    // What stands behind the last mark is cut, torn or not.
    let mut partial = std::fs::OpenOptions::new().append(true).open(dev.path("out.partial")).unwrap();
    std::io::Write::write_all(&mut partial, b"{\"id\":\"torn").unwrap();
    drop(partial);
    // Another inventory, or other keys, do not go on with it.
    dev.file("changed", &written(&[&lines[1..], &lines[..1]].concat()));
    let mut other = FAST;
    other[1] = "changed";
    assert!(dev.fails(&other, 5).contains("inventory is not the one"));
    dev.ok(&["key", "create", "t"]);
    assert!(dev.fails(&[&FAST[..], &["--to", "t"]].concat(), 5).contains("other keys"));

    // What came meanwhile was not there at its beginning.
    dev.ok(&["key", "rotate", "k"]);
    dev.ok(&["key", "rollback", "k"]);
    let output = dev.run(&[&FAST[..], &["--json"]].concat());
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    assert!(stderr(&output).contains("going on behind line"), "{}", stderr(&output));
    let done = report(&stdout(&output));
    let key = &done["keys"][0];
    assert_eq!((&key["current_version"], &key["newest_version"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&done["total"], &done["rewrapped"], &done["failed"]),
        (&json!(4000), &json!(3999), &json!(1))
    );
    let new = read(&std::fs::read(dev.path("out")).unwrap());
    assert_eq!(new[2], lines[2]);
    let without = |lines: &[Value]| [&lines[..2], &lines[3..]].concat();
    assert_moved(&dev, &without(&lines), &without(&new), "k", 2);
    assert_eq!(read(&std::fs::read(dev.path("bad")).unwrap()).len(), 1);
}

#[test]
fn a_campaign_goes_on_with_its_own_list_of_failures_and_overwrites_nothing_else() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let mut lines = sealed(&dev, "k", 0..3000);
    lines[2]["context"] = json!({ "number": "wrong" });
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", &written(&lines));
    let mut campaign = spawn(&dev, &[&SLOWLY[..], &["--failures", "bad"]].concat());
    until("a failure is durable", || {
        let mark: Value = std::fs::read(dev.path("out.journal"))
            .ok()
            .and_then(|mark| serde_json::from_slice(&mark).ok())
            .unwrap_or_default();
        mark["failures_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    kill_process(Pid::from_child(&campaign), Signal::KILL).unwrap();
    campaign.wait().unwrap();

    let with = |list: &'static str| [&FAST[..8], &[list]].concat();
    dev.file("mine", &[b'x'; 9000]);
    for other in ["mine", "new"] {
        let said = dev.fails(&with(other), 5);
        assert!(said.contains("was begun with `--failures /") && said.contains("/bad`"), "{said}");
    }
    assert_eq!(std::fs::read(dev.path("mine")).unwrap(), [b'x'; 9000]);
    assert!(!dev.path("new").exists());
    assert!(dev.fails(&FAST[..7], 5).contains("name that list"));
    let list = std::fs::read(dev.path("bad")).unwrap();
    dev.file("bad", &list[..list.len() - 1]);
    assert!(dev.fails(&FAST, 5).contains("put it back"));
    assert_eq!(std::fs::read(dev.path("bad")).unwrap(), list[..list.len() - 1]);
    std::fs::remove_file(dev.path("bad")).unwrap();
    dev.fails(&FAST, 5);
    assert!(!dev.path("bad").exists());
    dev.file("bad", &[&list[..], b"torn"].concat());
    assert_eq!(code(dev.run(&FAST).status), 6);
    assert_eq!(std::fs::read(dev.path("bad")).unwrap(), list);

    // What no journal speaks of is somebody's.
    let anew = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "again"];
    dev.file("again.partial", b"mine");
    let mode = || dev.path("again.partial").metadata().unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(dev.path("again.partial"), PermissionsExt::from_mode(0o644)).unwrap();
    assert!(dev.fails(&anew, 1).contains("--force"));
    assert_eq!((std::fs::read(dev.path("again.partial")).unwrap(), mode()), (b"mine".to_vec(), 0o644));
    assert_eq!(code(dev.run(&[&anew[..], &["--force"]].concat()).status), 6);
    assert_eq!(read(&std::fs::read(dev.path("again")).unwrap()).len(), 3000);
    // So is a list, unless there is nothing in it: one that was interrupted before its first mark leaves it so.
    std::fs::remove_file(dev.path("again")).unwrap();
    dev.file("list", b"mine");
    assert!(dev.fails(&[&anew[..], &["--failures", "list"]].concat(), 1).contains("--force"));
    assert_eq!(std::fs::read(dev.path("list")).unwrap(), b"mine");
    dev.file("list", b"");
    dev.file("again.partial", b"");
    assert_eq!(code(dev.run(&[&anew[..], &["--failures", "list"]].concat()).status), 6);
    assert!(!std::fs::read(dev.path("list")).unwrap().is_empty());
    // One that was begun without a list has none later on.
    std::fs::remove_file(dev.path("out")).unwrap();
    let mut campaign = spawn(&dev, &SLOWLY);
    is_marked(&dev);
    kill_process(Pid::from_child(&campaign), Signal::KILL).unwrap();
    campaign.wait().unwrap();
    assert!(dev.fails(&with("new"), 5).contains("leave it out"));
    assert!(!dev.path("new").exists());
}

#[test]
fn a_sample_is_of_the_lines_that_have_something_and_all_of_it_is_verified() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let lines = sealed(&dev, "k", 0..300);
    dev.ok(&["key", "rotate", "k"]);
    let mut text = b"\n \r\n".to_vec();
    for line in &lines {
        text.extend(written(std::slice::from_ref(line)));
        text.extend(b"\t\n\n");
    }
    dev.file("in", &text);
    for (sample, verified) in [("sample:1", 1), ("sample:7", 7), ("sample:300", 300), ("sample:999", 300)] {
        let line = ["rewrap", "in", "--jsonl", "--key", "k", "--dry-run", "--json", "--verify", sample];
        let done = report(&dev.ok(&line));
        assert_eq!((&done["total"], &done["verified"]), (&json!(300), &json!(verified)), "{sample}");
    }
    // Line after line, so that some of it is durable long before the end.
    let begin = |verify: &[&str]| {
        let line = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--rate", "100", "--workers", "1"];
        let mut campaign = spawn(&dev, &[&line[..], verify].concat());
        until("something is done for good", || {
            let mark = std::fs::read(dev.path("out.journal")).unwrap_or_default();
            serde_json::from_slice::<Value>(&mark).is_ok_and(|mark| mark["input_lines"].as_u64() > Some(0))
        });
        kill_process(Pid::from_child(&campaign), Signal::KILL).unwrap();
        campaign.wait().unwrap();
    };
    // What is read once has no number of lines before that, and nobody waits for one to write to a pipe.
    assert!(std::process::Command::new("mkfifo").arg(dev.path("pipe")).status().unwrap().success());
    for once in ["/dev/null", "pipe"] {
        let line = ["rewrap", once, "--jsonl", "--key", "k", "--dry-run", "--verify", "sample:1"];
        assert!(dev.fails(&line, 2).contains("`--verify full`"), "{once}");
    }
    // A sample goes on where it was.
    let line = ["rewrap", "in", "--jsonl", "--key", "k", "-o", "out", "--verify"];
    begin(&["--verify", "sample:7"]);
    let done = report(&dev.ok(&[&line[..], &["sample:7", "--json"]].concat()));
    assert_eq!((&done["rewrapped"], &done["verified"]), (&json!(300), &json!(7)));
    // What an earlier run of the campaign did not verify is missing.
    std::fs::remove_file(dev.path("out")).unwrap();
    begin(&[]);
    let said = dev.fails(&[&line[..], &["sample:300"]].concat(), 1);
    assert!(said.contains("and 300 should have been") && said.contains("--dry-run --verify"), "{said}");
    let line = ["rewrap", "out", "--jsonl", "--key", "k", "--dry-run", "--verify", "full"];
    dev.ok(&line);
}

#[test]
fn a_second_interruption_does_not_wait_for_input() {
    let dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let lines = sealed(&dev, "k", 0..300);
    let mut campaign = dev.command(&["rewrap", "-", "--jsonl", "--key", "k", "-o", "out"]);
    let mut campaign = campaign.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = campaign.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, &written(&lines)).unwrap();
    until("the campaign has begun", || length(&dev, "out.journal") > 0);
    let mut said = std::io::BufReader::new(campaign.stderr.take().unwrap());
    kill_process(Pid::from_child(&campaign), Signal::INT).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("once more ends at once"), "{line}");
    kill_process(Pid::from_child(&campaign), Signal::INT).unwrap();
    assert_eq!(code(campaign.wait().unwrap()), 7);
    drop(pipe);
    // And it goes on: here with all of it.
    let output = dev.run_with(&["rewrap", "-", "--jsonl", "--key", "k", "-o", "out"], &written(&lines));
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert_eq!(read(&std::fs::read(dev.path("out")).unwrap()), lines);
}

/// The same directory served on the same port again.
fn serve_again(dev: &Dev, url: &str) -> Server {
    let address = url.strip_prefix("https://").unwrap();
    Server::start(holdfast(["serve", "--dev", "--listen", address, "--data", &text(&dev.data())]))
}

#[test]
fn a_killed_gateway_is_waited_for_and_no_line_is_lost_or_twice() {
    let mut dev = Dev::start();
    dev.ok(&["key", "create", "k"]);
    let lines = sealed(&dev, "k", 0..4000);
    dev.ok(&["key", "rotate", "k"]);
    dev.file("in", &written(&lines));
    let url = dev.server.url.clone();

    // Without patience it ends, and says how to go on.
    let campaign = spawn(&dev, &[&SLOWLY[..], &["--patience", "0"]].concat());
    is_marked(&dev);
    dev.server.kill();
    let output = campaign.wait_with_output().unwrap();
    assert_eq!(code(output.status), 7, "{}", stderr(&output));
    assert!(stderr(&output).contains("give the same command again"), "{}", stderr(&output));
    dev.server = serve_again(&dev, &url);

    // With it, it goes on when the gateway is back.
    let marked = std::fs::read(dev.path("out.journal")).unwrap();
    let campaign = spawn(&dev, &SLOWLY);
    until("more is durable", || std::fs::read(dev.path("out.journal")).is_ok_and(|now| now != marked));
    dev.server.kill();
    dev.server = serve_again(&dev, &url);
    let output = campaign.wait_with_output().unwrap();
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert_moved(&dev, &lines, &read(&std::fs::read(dev.path("out")).unwrap()), "k", 2);
}
