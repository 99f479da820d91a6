//! Tokens of SoftHSM2, and gateways that use them.

use super::dev::{environment, serving};
use super::wait::until;
use super::{Dev, Server, holdfast, text};
pub use holdfast_conformance::softhsm::MODULE;
use holdfast_conformance::softhsm::Token;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use tempfile::TempDir;

pub const PIN: &str = "pin-that-nobody-sees-7743";

/// A token, and the settings that name it.
pub struct SoftHsm(Token);

impl Deref for SoftHsm {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.0
    }
}

impl SoftHsm {
    pub fn new() -> Self {
        Self::with_pin(Token::new(TempDir::new().unwrap(), "holdfast", PIN))
    }

    /// Another one, of a replicated group with this one.
    pub fn twin(&self) -> Self {
        Self::with_pin(self.0.twin())
    }

    fn with_pin(token: Token) -> Self {
        fs::write(token.path("pin"), format!("{PIN}\n")).unwrap();
        fs::set_permissions(token.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        Self(token)
    }

    pub fn settings(&self) -> String {
        self.settings_of("holdfast")
    }

    /// As the member of a pool.
    pub fn settings_of(&self, name: &str) -> String {
        format!(
            "[[token]]\nname = \"{name}\"\nmodule = \"{MODULE}\"\nlabel = \"holdfast\"\npin_file = \"{}\"\nsessions = 4\nenvironment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
            text(&self.path("pin")),
            text(&self.path("conf")),
        )
    }
}

/// A dev gateway with settings of its own.
pub fn start(dir: TempDir, settings: &str) -> Dev {
    start_as(dir, settings, |line| line)
}

/// The same, started by another command that is given its line.
pub fn start_as(dir: TempDir, settings: &str, by: impl FnOnce(Command) -> Command) -> Dev {
    let data = dir.path().join("data");
    let config = dir.path().join("holdfast.toml");
    fs::write(&config, settings).unwrap();
    let line = serving(&data).into_iter().chain(["--config".to_owned(), text(&config)]);
    let server = Server::start(by(holdfast(line.chain(["--admin".to_owned(), "127.0.0.1:0".to_owned()]))));
    let environment = environment(&data);
    Dev { dir, server, environment }
}

/// The workers below a process, by their arguments.
pub fn workers(gateway: u32) -> Vec<u32> {
    let below = fs::read_to_string(format!("/proc/{gateway}/task/{gateway}/children")).unwrap_or_default();
    let all = fs::read_dir(format!("/proc/{gateway}/task"))
        .unwrap()
        .flatten()
        .map(|task| task.path().join("children"));
    let children = all.filter_map(|path| fs::read_to_string(path).ok()).chain([below]);
    let mut pids: Vec<u32> = children
        .flat_map(|line| line.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    let is_worker = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("hsm-worker"))
    };
    pids.into_iter().filter(is_worker).collect()
}

pub fn the_worker(gateway: u32) -> u32 {
    until("there is a worker", || workers(gateway).len() == 1);
    workers(gateway)[0]
}
