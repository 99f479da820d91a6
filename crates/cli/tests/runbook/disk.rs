//! A small disk, to be filled: a tmpfs in a mount namespace of its own, which is gone when the test is.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The namespace is held by a process that waits for the end of its input.
pub struct Disk {
    holder: Child,
    as_root: bool,
}

impl Disk {
    /// Mounts one of so many MiB, if this system lets us. Root can always, so then its absence is a failure where tools are required.
    pub fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let as_root = rustix::process::geteuid().is_root();
        let disk = Self::try_mount(at, mebibytes, as_root);
        if disk.is_none() {
            assert!(
                !as_root || std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
                "no tmpfs can be mounted in a namespace, and HOLDFAST_REQUIRE_TOOLS is set"
            );
            eprintln!("SKIPPED: no tmpfs can be mounted in a namespace here, so no disk can be filled");
        }
        disk
    }

    fn try_mount(at: &Path, mebibytes: u32, as_root: bool) -> Option<Self> {
        let user: &[&str] = if as_root { &[] } else { &["--user", "--map-root-user"] };
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m small '{}' && echo mounted && exec cat",
            at.display()
        );
        let mut command = Command::new("unshare");
        command.arg("--mount").args(user).args(["sh", "-c", &script]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let output = holder.stdout.take()?;
        let disk = Self { holder, as_root };
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said).ok()?;
        (said == "mounted\n").then_some(disk)
    }

    /// What is to stand before a command that shall see it.
    pub fn enter(&self) -> Vec<OsString> {
        let holder = self.holder.id().to_string();
        let user: &[&str] = if self.as_root { &[] } else { &["--user", "--preserve-credentials"] };
        ["nsenter", "--target", &holder, "--mount"].iter().chain(user).map(OsString::from).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It ends with its input.
        let _ = self.holder.wait();
    }
}
