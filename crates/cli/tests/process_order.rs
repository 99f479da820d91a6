//! What the kernel sees: no answer leaves before its record has been synced, and no checkpoint lies in a mirror before what it covers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::{self, Dev, token};
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

/// The mirror's files that were named and the paths that were synced, in their order. One thread does all of it.
fn changes(trace: &str) -> Vec<(bool, String)> {
    let done = trace.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim_start());
    let change = |call: &str| {
        assert!(!call.contains("unfinished"), "{call}");
        let (name, rest) = call.split_once('(')?;
        assert!(rest.ends_with("= 0"), "{call}");
        match name {
            "fsync" | "fdatasync" => Some((false, rest.split_once('<')?.1.split_once('>')?.0.to_owned())),
            _ => Some((true, rest.rsplit_once(".part\", ")?.1.split('"').nth(1)?.to_owned())),
        }
    };
    done.filter_map(change).collect()
}

#[test]
fn a_mirrors_checkpoint_has_its_name_when_all_that_it_covers_is_durable_and_what_was_cut_short_is_fetched_again()
 {
    if !common::tool("strace") {
        return;
    }
    let dev = Dev::start();
    let tenant = dev::tenant(&dev.data(), &dev.server.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..300 {
            tenant.read().await.unwrap();
        }
    });
    let (trace, mirror) = (dev.path("trace"), dev.path("new/mirror"));
    let plain = dev.command(&["audit", "mirror", &text(&mirror)]);
    let mut traced = Command::new("strace");
    traced.args([
        "-f",
        "-y",
        "-s",
        "999",
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2",
        "-o",
        &text(&trace),
    ]);
    traced.arg(plain.get_program()).args(plain.get_args());
    traced
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(dev.dir.path());
    let mirrored = traced.output().unwrap();
    assert!(mirrored.status.success(), "{mirrored:?}");
    let seen = changes(&std::fs::read_to_string(&trace).unwrap());
    let synced = |what: &str, seen: &[(bool, String)]| seen.contains(&(false, what.to_owned()));
    let checkpoint = text(&mirror.join("checkpoint"));
    let last = seen.iter().position(|change| *change == (true, checkpoint.clone())).unwrap();
    let names: Vec<_> = seen.iter().filter(|(named, _)| *named).map(|(_, name)| name.clone()).collect();
    for name in ["log.vkey", "tile/0/000", "tile/entries/000", "tile/1/000.p/1"] {
        assert!(names.contains(&text(&mirror.join(name))), "{name}: {names:?}");
    }
    for (at, (_, name)) in seen.iter().enumerate().filter(|(_, (named, _))| *named) {
        assert!(
            synced(&format!("{name}.part"), &seen[..at]),
            "`{name}` was named before it was durable: {seen:?}"
        );
        let until = if *name == checkpoint { seen.len() } else { last };
        for dir in
            Path::new(name).ancestors().skip(1).take_while(|dir| *dir != dev.dir.path().parent().unwrap())
        {
            // Those above the mirror once.
            let from = if dir.starts_with(&mirror) { at } else { 0 };
            assert!(
                synced(&text(dir), &seen[from..until.max(from)]),
                "`{}` was not synced: {seen:?}",
                dir.display()
            );
        }
    }
    // What a power cut has left of files whose names it has kept.
    for (name, left) in [("tile/0/000", 100), ("tile/entries/000", 0)] {
        let file = std::fs::OpenOptions::new().write(true).open(mirror.join(name)).unwrap();
        file.set_len(left).unwrap();
    }
    dev.ok(&["audit", "mirror", &text(&mirror)]);
    let vkey = text(&dev.data().join("audit/dev/log.vkey"));
    dev.ok(&["audit", "verify", &text(&mirror), "--vkey", &vkey]);
}
