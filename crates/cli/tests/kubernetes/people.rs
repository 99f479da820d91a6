//! A gateway with its key, and plugins beside it.

use crate::api_server::{self, ApiServer};
use crate::common::dev::start_at;
use crate::common::ports::free_port;
use crate::common::{Dev, Server, text};
use crate::control_plane::{self, ControlPlane};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Place {
    pub dev: Dev,
    /// Where the gateway is, also when it was started again.
    pub address: String,
}

impl Place {
    /// A dev gateway with a key `kubernetes`.
    pub fn new() -> Self {
        Self::of(Dev::at(&format!("127.0.0.1:{}", free_port())))
    }

    /// The same of a gateway that runs.
    pub fn of(dev: Dev) -> Self {
        dev.ok(&["key", "create", "kubernetes"]);
        let address = dev.server.url.strip_prefix("https://").unwrap().to_owned();
        Self { dev, address }
    }

    /// One with a plugin and an API server, where what that needs is there.
    pub fn with_cluster(options: &[&str]) -> Option<(Self, Server, ApiServer)> {
        if !api_server::is_there() {
            return None;
        }
        let place = Self::new();
        let (plugin, api_server) = place.cluster(options);
        Some((place, plugin, api_server))
    }

    /// The same with a whole API server and its etcd.
    pub fn with_plane(options: &[&str]) -> Option<(Self, Server, ControlPlane)> {
        if !control_plane::is_there() {
            return None;
        }
        let place = Self::new();
        let plugin = place.plugin("run", options);
        let plane = ControlPlane::over(&place.socket("run"));
        Some((place, plugin, plane))
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.dev.path(name).join("kms.sock")
    }

    /// A plugin with these options besides its socket, which is below the directory `name`.
    pub fn plugin(&self, name: &str, options: &[&str]) -> Server {
        let socket = text(&self.socket(name));
        let line = ["kubernetes-kms", "--socket", &socket];
        // Soon, unless a test says when.
        let refresh: &[&str] = if options.contains(&"--refresh") { &[] } else { &["--refresh", "1s"] };
        let options = options.iter().chain(refresh).copied();
        Server::start(self.dev.command(&line.into_iter().chain(options).collect::<Vec<_>>()))
    }

    /// A plugin, and an API server that has had its first good Status.
    pub fn cluster(&self, options: &[&str]) -> (Server, ApiServer) {
        let plugin = self.plugin("run", options);
        let mut api_server = ApiServer::of(&self.socket("run"));
        api_server.until_well();
        (plugin, api_server)
    }

    /// Starts the gateway again, where it was.
    pub fn again(&mut self) {
        self.dev.server = start_at(&self.dev.data(), &self.address);
    }

    /// Puts a policy in force, and gives the one before.
    pub fn policy(&self, change: impl FnOnce(&str) -> String) -> String {
        let before = self.dev.ok(&["policy", "show"]);
        let file = self.dev.file("policy.cedar", change(&before).as_bytes());
        self.dev.ok(&["policy", "set", &file]);
        before
    }

    /// Takes the permission to decrypt away from everybody, and gives the policy before.
    pub fn withdraw_decrypt(&self) -> String {
        let forbid = "@id(\"nobody-decrypts\")\nforbid (principal, action == Holdfast::Action::\"decrypt\", resource);\n";
        self.policy(|before| format!("{before}\n{forbid}"))
    }

    /// The records of an action in the tenant's log.
    pub fn records(&self, action: &str) -> usize {
        let found = self.dev.ok(&["audit", "search", "--action", action, "--json"]);
        found.matches("\"action\":").count()
    }
}

/// Runs a plugin that must not start, and gives what it said; one that serves would be waited for in vain.
pub fn refused(mut command: Command, with: i32) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    if !ready.is_empty() {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it started: {ready}");
    }
    let output = child.wait_with_output().unwrap();
    let said = crate::common::stderr(&output);
    assert!(crate::common::code(output.status) == with && said.contains("error: "), "{said}");
    said
}

/// What a process has in its files of text: its log, read by whoever ends it.
pub fn has_no_trace(log: &str, seed: &[u8]) {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(seed);
    let debug = format!("{seed:?}");
    for trace in [crate::api_server::hex(seed), base64, debug.trim_matches(['[', ']']).to_owned()] {
        assert!(!log.contains(&trace), "the log has a seed: {trace}");
    }
}

pub fn is_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}
