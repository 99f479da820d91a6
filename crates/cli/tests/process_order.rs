//! What the kernel sees: no answer leaves before its record has been synced.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::token;
use common::{HOLDFAST, Server, bare, text};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// Single requests, one after the other.
const REQUESTS: usize = 20;
const CALLS: &str = "trace=fdatasync,fsync,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2";

/// What one line of the trace means here.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Seen {
    Entry,
    Synced,
    Sent,
}

/// `PID call(FD<FILE>, …) = RESULT`, or its two halves where another thread came between.
fn read(trace: &str, public: &str) -> Vec<Seen> {
    let socket = format!("TCP:[{public}->");
    let mut open: HashMap<&str, Option<Seen>> = HashMap::new();
    let mut seen = vec![];
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let classify = |call: &str, argument: &str| {
            // A segment in use; one that is still being made has another name and holds nobody's entries.
            let on_wal = argument.contains("/wal/") && argument.contains(".wal>");
            let on_client = argument.contains(&socket);
            match call {
                "fdatasync" | "fsync" if on_wal => Some(Seen::Synced),
                "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" if on_wal => Some(Seen::Entry),
                "write" | "writev" | "sendto" | "sendmsg" if on_client => Some(Seen::Sent),
                _ => None,
            }
        };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let what = open.remove(pid).flatten();
            // A sending counts where it begins; all else where it ends, and if it did something.
            if let Some(what) = what.filter(|what| *what != Seen::Sent && succeeded(resumed, *what)) {
                seen.push(what);
            }
            continue;
        }
        let Some((call, arguments)) = rest.split_once('(') else { continue };
        let what = classify(
            call,
            arguments.split(['>', ',']).next().map_or("", |_| arguments.split(", ").next().unwrap()),
        );
        if rest.ends_with("<unfinished ...>") {
            open.insert(pid, what);
            if what == Some(Seen::Sent) {
                seen.push(Seen::Sent);
            }
        } else if let Some(what) = what.filter(|what| *what == Seen::Sent || succeeded(rest, *what)) {
            seen.push(what);
        }
    }
    seen
}

fn succeeded(line: &str, what: Seen) -> bool {
    let result = line.rsplit_once("= ").map_or("", |(_, result)| result.trim());
    match what {
        Seen::Synced => result == "0",
        Seen::Entry | Seen::Sent => !result.starts_with('-') && result != "0",
    }
}

/// The requests for one `curl` over one HTTP/1.1 connection, where nothing is sent but answers.
fn requests(data: &Path, url: &str) -> String {
    let token = token(data);
    let mut requests = vec![("/keys", r#"{"name":"k"}"#)];
    for number in 0..REQUESTS {
        requests.push(match number % 4 {
            0 => ("/keys/k/rotate", "{}"),
            // A refusal is recorded like a result.
            1 => ("/keys/k/decrypt", r#"{"ciphertext":"AAAA"}"#),
            2 => ("/keys/k/suspend", "{\"nothing\":1}"),
            _ => ("/keys/k/encrypt", r#"{"plaintext":"AAAA"}"#),
        });
    }
    let block = |(path, body): (&str, &str)| {
        let body = body.replace('"', "\\\"");
        let ca = text(&data.join("tls/ca.pem"));
        format!(
            "url = \"{url}/v1/tenants/dev{path}\"\ncacert = \"{ca}\"\nhttp1.1\nsilent\noutput = \"/dev/null\"\n\
             write-out = \"%{{http_code}} %{{num_connects}}\\n\"\nheader = \"authorization: Bearer {token}\"\ndata = \"{body}\"\n"
        )
    };
    requests.into_iter().map(block).collect::<Vec<_>>().join("next\n")
}

#[test]
fn no_answer_leaves_before_its_record_is_synced() {
    if !common::tool("strace") || !common::tool("curl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, trace) = (dir.path().join("data"), dir.path().join("trace"));
    let mut command = Command::new("strace");
    // The parent from the start: the process lets nobody attach.
    command.args(["-f", "-yy", "-s", "0", "-e", CALLS, "-o", &text(&trace), HOLDFAST]);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", &text(&data)]);
    bare(&mut command);
    let server = Server::start(command);
    let config = dir.path().join("requests");
    std::fs::write(&config, requests(&data, &server.url)).unwrap();
    let answers = Command::new("curl").args(["--config", &text(&config)]).output().unwrap();
    let answers = String::from_utf8(answers.stdout).unwrap();
    assert_eq!(answers.lines().count(), REQUESTS + 1, "{answers}");
    let connections: usize =
        answers.lines().map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(connections, 1, "{answers}");
    let succeeded = answers.lines().filter(|line| line.starts_with("20")).count();
    assert_eq!(succeeded, REQUESTS / 2 + 1, "{answers}");
    let public = server.url.trim_start_matches("https://").to_owned();
    // `strace` obeys nobody, and ends with what it runs.
    let process = std::fs::read_to_string(data.join("lock")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(process).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    server.ends();
    let seen = read(&std::fs::read_to_string(&trace).unwrap(), &public);

    let (mut entry, mut synced, mut requests) = (false, false, 0);
    for what in &seen {
        match what {
            Seen::Entry => (entry, synced) = (true, false),
            Seen::Synced => synced = entry,
            Seen::Sent => {
                requests += usize::from(entry);
                assert!(!entry || synced, "bytes left before their record was synced: {seen:?}");
                entry = false;
            }
        }
    }
    assert!(requests > REQUESTS, "{requests} recorded answers seen: {seen:?}");
}
