//! Five custodians, each with an identity of their own.

use crate::common::custodians::{Dialogue, asked, identity, prove};
use crate::common::{code, holdfast, stderr, stdout, text};
use crate::served::Served;
use std::path::{Path, PathBuf};
use std::process::Output;
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

    /// All answer, each keeps a copy of their share, and it ends well.
    pub fn answer(&self, mut dialogue: Dialogue, generation: u32) -> String {
        for (name, file, challenge) in asked(&dialogue.until("give each answer")) {
            std::fs::copy(&file, self.share(&name, generation)).unwrap();
            let proof = self.proof(&name, &file, &challenge);
            dialogue.say(&format!("{name} {proof}"));
            dialogue.until("has proven it");
        }
        dialogue.succeeds()
    }

    /// A custodian's own copy of their share.
    pub fn share(&self, name: &str, generation: u32) -> PathBuf {
        self.path(&format!("{name}.{generation}.age"))
    }

    pub fn found(&self) {
        self.answer(Dialogue::begin(self.init(&self.data())), 1);
        let data = self.data();
        std::fs::rename(data.join("credentials"), self.path("credentials")).unwrap();
        std::fs::copy(data.join("tls/ca.pem"), self.path("ca.pem")).unwrap();
    }

    /// What a custodian prints for a fresh key that a machine shows.
    pub fn reseal(&self, name: &str, generation: u32, to: &str) -> String {
        let share = text(&self.share(name, generation));
        let identity = text(&self.path(&format!("{name}.key")));
        let output =
            holdfast(["share", "reseal", &share, "--identity", &identity, "--to", to]).output().unwrap();
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Three give theirs on the machine that asks for them.
    pub fn give_on(&self, dialogue: &mut Dialogue, generation: u32) {
        let to = fresh_key(dialogue);
        for (index, name) in ["alice", "dave", "erin"].into_iter().enumerate() {
            dialogue.say(&self.reseal(name, generation, &to));
            dialogue.until(&format!("{} of 3 shares: ", index + 1));
        }
    }

    /// A custodian of the root key gives a share.
    pub fn unseal(&self, served: &Served, share: &Path, name: &str, fingerprint: &str) -> Output {
        let identity = text(&self.path(&format!("{name}.key")));
        let line = ["unseal", "--share", &text(share), "--identity", &identity, "--fingerprint", fingerprint];
        let mut command = holdfast(line);
        command.env("HOLDFAST_URL", &served.url).env("HOLDFAST_CACERT", self.path("ca.pem"));
        command.output().unwrap()
    }

    /// One that must be taken; gives what is said.
    #[track_caller]
    pub fn gives(&self, served: &Served, name: &str, generation: u32) -> String {
        let output = self.unseal(served, &self.share(name, generation), name, &served.fingerprint);
        assert_eq!(code(output.status), 0, "{name}: {}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// One that must be refused; gives its code and what is said.
    pub fn is_refused(&self, served: &Served, share: &Path, name: &str) -> (i32, String) {
        let output = self.unseal(served, share, name, &served.fingerprint);
        (code(output.status), stderr(&output))
    }

    /// A custodian of the root key orders a gateway to be sealed.
    pub fn seals(&self, url: &str, share: &Path, name: &str) -> Output {
        let identity = text(&self.path(&format!("{name}.key")));
        let mut command = holdfast(["seal", "--share", &text(share), "--identity", &identity]);
        command.env("HOLDFAST_URL", url).env("HOLDFAST_CACERT", self.path("ca.pem"));
        command.output().unwrap()
    }

    /// A caller of the gateway.
    pub fn calls(&self, served: &Served, who: &str, line: &[&str]) -> Output {
        let mut command = holdfast(line);
        command
            .env("HOLDFAST_URL", &served.url)
            .env("HOLDFAST_CACERT", self.path("ca.pem"))
            .env("HOLDFAST_CERT", self.path(&format!("credentials/{who}.pem")))
            .env("HOLDFAST_KEY", self.path(&format!("credentials/{who}.key")))
            .env("HOLDFAST_TENANT", if who == "oscar" { "_gateway" } else { "acme" });
        command.output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, served: &Served, who: &str, line: &[&str]) -> String {
        let output = self.calls(served, who, line);
        assert_eq!(code(output.status), 0, "{who} {line:?}: {}", stderr(&output));
        stdout(&output)
    }
}

/// The fresh key that it shows.
pub fn fresh_key(dialogue: &mut Dialogue) -> String {
    let said = dialogue.until("give what that prints");
    let line = said.iter().find_map(|line| line.split_once(" --to ")).unwrap();
    line.1.to_owned()
}
