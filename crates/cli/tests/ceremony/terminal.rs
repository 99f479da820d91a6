//! The same at a terminal: people are told what is wanted of them, type it, and may leave with Ctrl-C.

use crate::common::custodians::asked;
use crate::common::{HOLDFAST, bare, code};
use crate::people::People;
use crate::served::Served;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};

/// A command whose three streams are one terminal, which is its controlling one.
struct Terminal {
    screen: File,
    child: Child,
    seen: String,
}

impl Terminal {
    fn run<S: AsRef<OsStr>>(line: impl IntoIterator<Item = S>, environment: &[(&str, String)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            File::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap())
        };
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", HOLDFAST]).args(line);
        bare(&mut command);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
        Self { screen: File::from(ours), child, seen: String::new() }
    }

    /// What is on the screen, up to these words.
    #[track_caller]
    fn until(&mut self, words: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(words) {
                let rest = self.seen.split_off(at + words.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            // A terminal that everybody has left reads as an error.
            let read = self.screen.read(&mut buffer).unwrap_or(0);
            assert!(read > 0, "it ended without `{words}`: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    fn types(&mut self, line: &str) {
        self.screen.write_all(line.as_bytes()).unwrap();
    }

    /// How it ends, and what else is on the screen.
    fn ends(mut self) -> (i32, String) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = self.screen.read(&mut buffer) {
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        (code(self.child.wait().unwrap()), self.seen)
    }
}

#[test]
fn who_founds_it_is_asked_by_name_and_types_the_answers() {
    let people = People::new();
    let mut terminal = Terminal::run(people.init(&people.data()), &[]);
    let shown = terminal.until("(alice is asked)>");
    let lines: Vec<_> = shown.lines().map(str::to_owned).collect();
    let asked = asked(&lines);
    assert_eq!(asked.len(), 5, "{shown}");
    // A line that says nothing is asked for again.
    terminal.types("\r");
    terminal.until("(alice is asked)>");
    terminal.types("alice 1234\r");
    terminal.until("wrong: ");
    terminal.until("(alice is asked)>");
    for (place, (name, file, challenge)) in asked.iter().enumerate() {
        let proof = people.proof(name, file, challenge);
        terminal.types(&format!("{name} {proof}\r"));
        terminal.until(&format!("{name} has proven it: {} of 5", place + 1));
    }
    let (code, shown) = terminal.ends();
    assert!(code == 0 && shown.contains("3 of 5 shares"), "{code} {shown}");
    assert!(people.data().join("instance.toml").exists());
}

#[test]
fn ctrl_c_at_the_prompt_leaves_nothing_behind() {
    let people = People::new();
    let mut terminal = Terminal::run(people.init(&people.data()), &[]);
    terminal.until("(alice is asked)>");
    terminal.types("\u{3}");
    let (code, shown) = terminal.ends();
    assert!(code == 1 && shown.contains("ended before it was complete"), "{code} {shown}");
    assert!(!people.data().exists());
}

#[test]
fn a_custodian_is_asked_for_the_fingerprint_that_the_console_shows() {
    let people = People::new();
    people.found();
    let served = Served::start(&people.data());
    let unseal = |name: &str| {
        let (share, identity) = (people.share(name, 1), people.path(&format!("{name}.key")));
        let line = [
            "unseal".as_ref(),
            "--share".as_ref(),
            share.as_os_str(),
            "--identity".as_ref(),
            identity.as_os_str(),
        ];
        let environment = [
            ("HOLDFAST_URL", served.url.clone()),
            ("HOLDFAST_CACERT", people.path("ca.pem").display().to_string()),
        ];
        let mut terminal = Terminal::run(line, &environment);
        terminal.until("the fingerprint that the gateway's console shows:");
        terminal
    };
    let mut wrong = unseal("alice");
    wrong.types("0000-0000-0000-0000-0000-0000-0000\r");
    let (code, shown) = wrong.ends();
    assert!(code != 0 && shown.contains("fingerprint"), "{code} {shown}");
    let mut right = unseal("alice");
    right.types(&format!("{}\r", served.fingerprint));
    let (code, shown) = right.ends();
    assert!(code == 0 && shown.contains("1 of 3 shares: alice"), "{code} {shown}");
}
