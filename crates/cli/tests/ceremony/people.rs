//! Five custodians, each with an identity of their own.

use crate::common::custodians::{identity, prove};
use crate::common::{code, stderr, stdout, text};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

pub struct People {
    pub dir: TempDir,
    recipients: Vec<String>,
}

impl People {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let recipients = NAMES.map(|name| identity(&dir.path().join(format!("{name}.key")))).to_vec();
        Self { dir, recipients }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `--root-custodian` for each of these.
    pub fn custodians(&self, names: &[&str]) -> Vec<String> {
        let of = |name: &&str| NAMES.iter().position(|known| known == name).unwrap();
        let custodian = |name: &&str| format!("--root-custodian={name}={}", self.recipients[of(name)]);
        names.iter().map(custodian).collect()
    }

    /// What founds a gateway with three shares of five.
    pub fn init(&self, data: &Path) -> Vec<String> {
        let mut line: Vec<String> = ["init", "--origin", "audit.example.org", "--operator", "oscar"]
            .into_iter()
            .chain(["--first-tenant", "acme", "--custodian", "carol", "--shares", "5", "--threshold", "3"])
            .map(str::to_owned)
            .collect();
        line.extend(["--data".to_owned(), text(data)]);
        line.extend(self.custodians(&NAMES));
        line
    }

    /// What a custodian answers.
    pub fn proof(&self, name: &str, share: &Path, challenge: &str) -> String {
        let output = prove(share, &self.path(&format!("{name}.key")), challenge);
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }
}
