//! Tokens of SoftHSM2, and gateways that use them.

use super::dev::{environment, serving};
use super::wait::until;
use super::{Dev, Server, holdfast, stderr, text};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub const PIN: &str = "pin-that-nobody-sees-7743";
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A token, and the settings that name it.
pub struct SoftHsm {
    pub dir: TempDir,
}

impl SoftHsm {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let made = Self { dir };
        fs::create_dir(made.path("tokens")).unwrap();
        let tokens = text(&made.path("tokens"));
        fs::write(made.path("conf"), format!("directories.tokendir = {tokens}\nlog.level = ERROR\n"))
            .unwrap();
        fs::write(made.path("pin"), format!("{PIN}\n")).unwrap();
        fs::set_permissions(made.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        let done = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "holdfast", "--so-pin", "so-pin-1234", "--pin", PIN])
            .env("SOFTHSM2_CONF", made.path("conf"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        made
    }

    /// Another one, of a replicated group with this one: it has the same objects, under the same keys.
    pub fn twin(&self) -> Self {
        let twin = Self { dir: TempDir::new().unwrap() };
        for file in ["conf", "pin"] {
            fs::copy(self.path(file), twin.path(file)).unwrap();
        }
        let conf = fs::read_to_string(self.path("conf")).unwrap();
        let conf = conf.replace(&text(&self.path("tokens")), &text(&twin.path("tokens")));
        fs::write(twin.path("conf"), conf).unwrap();
        self.replicate(&twin);
        twin
    }

    /// What a vendor's replication does.
    pub fn replicate(&self, to: &Self) {
        for token in fs::read_dir(self.path("tokens")).unwrap() {
            let token = token.unwrap();
            let there = to.path("tokens").join(token.file_name());
            fs::create_dir_all(&there).unwrap();
            for file in fs::read_dir(token.path()).unwrap() {
                let file = file.unwrap();
                // Written beside it, since its module may be reading.
                fs::copy(file.path(), to.path("beside")).unwrap();
                fs::rename(to.path("beside"), there.join(file.file_name())).unwrap();
            }
        }
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        let token = fs::read_dir(self.path("tokens")).unwrap().next().unwrap().unwrap().path();
        let names = fs::read_dir(token).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name != "token.object" && name.to_string_lossy().ends_with(".object")).count()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
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
