//! A founded gateway with an operator and a custodian, both with certificates. Its logs do not grow by themselves.

use super::custodians::identity;
use super::{Server, code, holdfast, stderr, stdout, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub struct Site {
    pub dir: TempDir,
}

impl Site {
    pub fn found() -> Self {
        let site = Self { dir: TempDir::new().unwrap() };
        let data = text(&site.data());
        let init = ["init", "--data", &data, "--origin", "audit.example.org", "--operator", "oscar"];
        let founders = ["--first-tenant", "acme", "--custodian", "carol"];
        let founded = holdfast(init.into_iter().chain(founders)).output().unwrap();
        assert_eq!(code(founded.status), 0, "{}", stderr(&founded));
        // The credentials are handed out, so they outlive the directory.
        std::fs::rename(site.data().join("credentials"), site.path("credentials")).unwrap();
        std::fs::copy(site.data().join("tls/ca.pem"), site.path("ca.pem")).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// What serves a directory with these settings besides.
    pub fn serving(&self, data: &Path, settings: &str) -> Command {
        let config = self.path("holdfast.toml");
        std::fs::write(&config, format!("data = \"{}\"\n{settings}", data.display())).unwrap();
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        holdfast(["serve", "--config", &text(&config)].into_iter().chain(ports))
    }

    /// Has backups written for these, two of whom open one together; their identities are `NAME.key`, and stay if they are there.
    pub fn backups_for(&self, custodians: &[&str]) -> String {
        let custodian = |name: &&str| {
            let recipient = identity(&self.path(&format!("{name}.key")));
            format!("{{ name = \"{name}\", recipient = \"{recipient}\" }}")
        };
        let custodians: Vec<_> = custodians.iter().map(custodian).collect();
        let directory = self.path("backups");
        // What these tests make is used at once.
        format!(
            "[keys]\nactivate = \"at-once\"\n[backup]\ndirectory = \"{}\"\ncustodians = [{}]\n",
            directory.display(),
            custodians.join(", ")
        )
    }

    /// Runs a command as somebody.
    pub fn run(&self, server: &Server, who: &str, line: &[&str]) -> Output {
        self.to_run(server, who, line).output().unwrap()
    }

    /// A command as somebody, to be run.
    pub fn to_run(&self, server: &Server, who: &str, line: &[&str]) -> Command {
        let mut command = holdfast(line);
        command
            .env("HOLDFAST_URL", &server.url)
            .env("HOLDFAST_CACERT", self.path("ca.pem"))
            .env("HOLDFAST_CERT", self.path(&format!("credentials/{who}.pem")))
            .env("HOLDFAST_KEY", self.path(&format!("credentials/{who}.key")))
            .env("HOLDFAST_TENANT", if who == "oscar" { "_gateway" } else { "acme" })
            .current_dir(self.dir.path());
        command
    }

    /// Runs one that must succeed, and gives its stdout.
    pub fn ok(&self, server: &Server, who: &str, line: &[&str]) -> String {
        let output = self.run(server, who, line);
        assert_eq!(code(output.status), 0, "{who} {line:?}: {}", stderr(&output));
        stdout(&output)
    }

    pub fn json(&self, server: &Server, who: &str, line: &[&str]) -> Value {
        let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(server, who, &line)).unwrap()
    }
}
