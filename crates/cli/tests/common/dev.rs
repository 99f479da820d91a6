//! A dev gateway: founded by its first start, with a token that may do everything.

use super::{Server, code, holdfast, stderr, stdout, text};
use holdfast_sdk::message::CreateKey;
use holdfast_sdk::{Client, Tenant};
use holdfast_wire::native::field::Name;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What serves a directory.
pub fn serving(data: &Path) -> [String; 6] {
    ["serve", "--dev", "--listen", "127.0.0.1:0", "--data", &text(data)].map(str::to_owned)
}

/// Serves a directory.
pub fn start(data: &Path) -> Server {
    Server::start(holdfast(serving(data)))
}

/// Serves a directory at an address.
pub fn start_at(data: &Path, address: &str) -> Server {
    Server::start(holdfast(["serve", "--dev", "--listen", address, "--data", &text(data)]))
}

/// What it wrote for its person.
pub fn environment(data: &Path) -> Vec<(String, String)> {
    let written = std::fs::read_to_string(data.join("dev.env")).unwrap();
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    };
    written.lines().map(line).collect()
}

pub fn token(data: &Path) -> String {
    environment(data).into_iter().find(|(name, _)| name == "HOLDFAST_TOKEN").unwrap().1
}

/// The tenant, by a client that tries nothing twice.
pub fn tenant(data: &Path, url: &str) -> Tenant {
    let client = Client::builder(url)
        .ca_pem(std::fs::read(data.join("tls/ca.pem")).unwrap())
        .token(token(data))
        .attempts(1)
        .timeout(Duration::from_secs(60))
        .connect()
        .unwrap();
    client.tenant("dev".parse().unwrap())
}

/// A key with all defaults.
pub fn new_key(name: &str) -> CreateKey {
    CreateKey {
        name: Name(name.parse().unwrap()),
        algorithm: None,
        purpose: None,
        exportable: None,
        legacy: None,
        labels: None,
        prepared: None,
        emergency_copy: None,
        protocol: None,
    }
}

/// A dev gateway with what it wrote for its person.
pub struct Dev {
    pub dir: TempDir,
    pub server: Server,
    pub environment: Vec<(String, String)>,
}

impl Dev {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// The same at an address.
    pub fn at(address: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let server = start_at(&data, address);
        let environment = environment(&data);
        Self { dir, server, environment }
    }

    /// With these settings besides the defaults.
    pub fn with(settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let (data, config) = (dir.path().join("data"), dir.path().join("holdfast.toml"));
        std::fs::write(&config, settings).unwrap();
        let line = serving(&data).into_iter().chain(["--config".to_owned(), text(&config)]);
        let server = Server::start(holdfast(line));
        let environment = environment(&data);
        Self { dir, server, environment }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file with these bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        text(&path)
    }

    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = holdfast(line);
        command.envs(self.environment.iter().cloned()).current_dir(self.dir.path());
        command
    }

    pub fn run(&self, line: &[&str]) -> Output {
        self.run_with(line, b"")
    }

    /// Runs a command with something on stdin.
    pub fn run_with(&self, line: &[&str], stdin: &[u8]) -> Output {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = stdin.to_vec();
        // A command that fails early reads none of it.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_no_secret(&token(&self.data()), &output);
        output
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub fn ok(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert_eq!(code(output.status), 0, "{line:?}: {}", stderr(&output));
        stdout(&output)
    }

    pub fn policy_version(&self) -> u64 {
        let policy: Value = serde_json::from_str(&self.ok(&["policy", "show", "--json"])).unwrap();
        policy["version"].as_u64().unwrap()
    }

    pub fn set_policy(&self, text: &str) {
        let policy = self.file("policy.cedar", text.as_bytes());
        self.ok(&["policy", "set", &policy]);
    }

    /// Lets the tenant's policy permit more.
    pub fn add_policy(&self, more: &str) {
        self.set_policy(&(self.ok(&["policy", "show"]) + more));
    }

    /// The file with the authority of its certificate.
    pub fn ca(&self) -> &str {
        &self.environment.iter().find(|(name, _)| name == "HOLDFAST_CACERT").unwrap().1
    }

    /// Runs a command that must end with this code and an error with a remedy; gives its stderr.
    pub fn fails(&self, line: &[&str], with: i32) -> String {
        let output = self.run(line);
        let said = stderr(&output);
        assert_eq!(code(output.status), with, "{line:?}: {said}");
        assert!(said.contains("error: ") && (with == 2 || said.contains("help: ")), "{line:?}: {said}");
        said
    }
}

/// No command ever says the token.
fn assert_no_secret(token: &str, output: &Output) {
    let secret = token.splitn(3, '_').nth(2).unwrap();
    assert!(secret.len() > 20);
    assert!(!stderr(output).contains(secret) && !stdout(output).contains(secret), "a command says the token");
}
