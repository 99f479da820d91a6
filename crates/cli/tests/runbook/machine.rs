//! The machine of which the runbooks speak, in a temporary directory. What is not what it seems, all of it:
//!
//! | a runbook says | here it is |
//! |---|---|
//! | a path of [`PLACES`] | the same path below the temporary directory |
//! | `keys.example.org`, `ekm.example.org` | `localhost` |
//! | ports 8443 and 9443 | two free ones |
//! | `target/dist/holdfast` | the binary under test |
//! | `deploy/` | a copy of it, with these same replacements |
//! | `systemctl`, `journalctl` | `shims/systemctl.sh`: really runs the `ExecStart` of the installed unit and ends it; the rest of the unit is not obeyed but for `UMask` and `EnvironmentFile` |
//! | `useradd`, `chown` | nothing: all files are the tester's |
//! | `install -o … -g …`, `runuser -u holdfast -- …` | the same without the other user |
//! | each person's own machine | one working directory for all of them |
//!
//! What commands say is turned back the same way before it is compared with the page.

use super::disk::Disk;
use crate::common::ports::free_port;
use crate::common::{HOLDFAST, bare};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Directories that the machine has before anybody begins.
const PLACES: [&str; 8] = [
    "/var/lib",
    "/etc/holdfast",
    "/etc/kubernetes",
    "/etc/systemd/system",
    "/usr/local/bin",
    "/run/holdfast",
    "/mnt",
    "/srv",
];

/// Paths that are the tester's own, and only looked at.
const REAL: [&str; 5] =
    ["/", "/usr/sbin/nologin", "/dev/null", "/dev/zero", "/usr/lib/softhsm/libsofthsm2.so"];

/// What begins like a path and is a part of an address, or of a certificate's subject.
const ADDRESSES: [&str; 2] = ["/acme/kms/xks", "/CN"];

/// Programs that stand before the system's.
const SHIMS: [(&str, &str); 6] = [
    ("systemctl", include_str!("shims/systemctl.sh")),
    ("journalctl", include_str!("shims/journalctl.sh")),
    ("install", include_str!("shims/install.sh")),
    ("runuser", include_str!("shims/runuser.sh")),
    ("useradd", include_str!("shims/nothing.sh")),
    ("chown", include_str!("shims/nothing.sh")),
];

/// Longest time that a command may take, in seconds.
const PATIENCE: &str = "180";

/// What a command said, in the page's words, and how it ended.
pub struct Said {
    pub text: String,
    pub succeeded: bool,
}

pub struct Machine {
    // Ends before the directory goes.
    disk: Option<Disk>,
    root: TempDir,
    ports: [u16; 2],
}

impl Machine {
    /// A machine on which nothing has happened yet, in a checkout that has been built.
    pub fn new() -> Self {
        Self::with(|_| None)
    }

    /// The same, with `/var/lib` on a disk of its own.
    pub fn with(disk: impl FnOnce(&Path) -> Option<Disk>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path.trim_start_matches('/'));
        for place in PLACES.into_iter().chain(["home/target/dist", "home/deploy/kubernetes", "shims"]) {
            fs::create_dir_all(at(place)).unwrap();
        }
        let disk = disk(&at("/var/lib"));
        symlink(HOLDFAST, at("home/target/dist/holdfast")).unwrap();
        let machine = Self { disk, root, ports: [free_port(), free_port()] };
        for (name, text) in SHIMS {
            let path = machine.path("/shims").join(name);
            fs::write(&path, text.replace("@ROOT@", machine.root())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for name in [
            "holdfast.toml",
            "holdfast.service",
            "kubernetes/holdfast-kms.service",
            "kubernetes/encryption-configuration.yaml",
        ] {
            machine.write(&format!("deploy/{name}"), &fs::read_to_string(deploy.join(name)).unwrap());
        }
        machine
    }

    fn root(&self) -> &str {
        self.root.path().to_str().unwrap()
    }

    /// Where a path of a runbook really is; relative ones are in the working directory.
    pub fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix('/') {
            Some(path) => self.root.path().join(path),
            None => self.root.path().join("home").join(path),
        }
    }

    /// What a runbook's words are here.
    fn here(&self, text: &str) -> String {
        let [public, admin] = self.ports;
        let mut text = text
            .replace("keys.example.org", "localhost")
            .replace("ekm.example.org", "localhost")
            .replace(":8443", &format!(":{public}"))
            .replace(":9443", &format!(":{admin}"));
        for place in PLACES {
            text = text.replace(place, &format!("{}{place}", self.root()));
        }
        text
    }

    /// The same of commands, none of which leaves the machine.
    fn here_only(&self, script: &str) -> String {
        assert_no_other_place(script);
        self.here(script)
    }

    /// And back.
    fn there(&self, text: &str) -> String {
        let [public, admin] = self.ports;
        text.replace(self.root(), "")
            .replace("localhost", "keys.example.org")
            .replace(&format!(":{public}"), ":8443")
            .replace(&format!(":{admin}"), ":9443")
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), self.here(text)).unwrap();
    }

    pub fn append(&self, file: &str, text: &str) {
        let before = fs::read_to_string(self.path(file)).unwrap();
        fs::write(self.path(file), format!("{before}\n{}", self.here(text))).unwrap();
    }

    /// Executes a script of a runbook. What it exports, its later ones have too.
    pub fn run(&self, script: &str) -> Said {
        let exported = self.path("/run/exported");
        self.execute(&format!("{}\nexport -p >'{}'", self.here_only(script), exported.display()))
    }

    /// Executes what is no runbook's: what sets the stage, or looks at the end whether it is over. Gives what it said.
    pub fn does(&self, script: &str) -> String {
        let said = self.execute(&self.here_only(script));
        assert!(said.succeeded, "failed:\n{script}\n{}", self.explain(&said));
        said.text
    }

    /// Executes what must be refused, with these words.
    pub fn is_refused(&self, script: &str, words: &str) {
        let said = self.execute(&self.here_only(script));
        assert!(!said.succeeded && said.text.contains(words), "{script}\n{}", self.explain(&said));
    }

    fn execute(&self, script: &str) -> Said {
        let script = format!(
            "exec 2>&1\ncd '{home}'\nexport PATH=\"{shims}:{local}:$PATH\"\nif [ -e '{exported}' ]; then . '{exported}'; fi\n{script}\n",
            home = self.path("").display(),
            shims = self.path("/shims").display(),
            local = self.path("/usr/local/bin").display(),
            exported = self.path("/run/exported").display(),
        );
        let mut line: Vec<OsString> = self.disk.iter().flat_map(Disk::enter).collect();
        line.extend(["timeout", PATIENCE, "sh", "-e", "-c"].map(OsString::from));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg(script).stdin(Stdio::null());
        bare(&mut command);
        let output = command.output().unwrap();
        Said {
            text: self.there(&String::from_utf8_lossy(&output.stdout)),
            succeeded: output.status.success(),
        }
    }

    /// What was said, and what the gateway wrote.
    pub fn explain(&self, said: &Said) -> String {
        let journal = fs::read_to_string(self.path("/run/journal")).unwrap_or_default();
        format!("it said:\n{}\nthe gateway's own log:\n{journal}", said.text)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.execute("systemctl kill holdfast-kms; systemctl kill holdfast");
    }
}

/// A command may name no path but those that are somewhere else here: the tester's machine is not the runbook's.
fn assert_no_other_place(script: &str) {
    for word in script.split([' ', '\t', '\n', ';', '=', '<', '>', '(', ')', '|', '&']) {
        let word = word.trim_matches(['\'', '"']);
        let is_known =
            REAL.contains(&word) || PLACES.iter().chain(&ADDRESSES).any(|place| word.starts_with(place));
        assert!(!word.starts_with('/') || is_known, "`{word}` is no place of the machine: see `PLACES`");
    }
}

#[test]
#[should_panic(expected = "`/home/olga` is no place")]
fn no_command_leaves_the_machine() {
    assert_no_other_place(
        "cd / && rm -r '/var/lib/holdfast' https://keys.example.org:8443/x >/dev/null; rm -r \"/home/olga\"",
    );
}
