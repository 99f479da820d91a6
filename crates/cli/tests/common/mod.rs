//! A gateway of the test's own, run by the real binary on a free port, and commands against it.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here is a test, and each uses its own part"
)]

pub mod custodians;
pub mod dev;
pub mod faketime;
pub mod findings;
pub mod impostor;
pub mod issuer;
pub mod log;
pub mod mount;
pub mod ports;
pub mod server;
pub mod site;
pub mod softhsm;
pub mod swtpm;
pub mod wait;

pub use dev::Dev;
pub use server::Server;
pub use site::Site;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

pub const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_age-plugin-holdfast");

/// A command of the binary with an environment that says nothing.
pub fn holdfast<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(HOLDFAST);
    command.args(arguments).stdin(Stdio::null());
    bare(&mut command);
    command
}

pub fn bare(command: &mut Command) {
    for name in ["URL", "CACERT", "CERT", "KEY", "TOKEN", "TENANT", "WITNESS"] {
        command.env_remove(format!("HOLDFAST_{name}"));
    }
    command.env_remove("NOTIFY_SOCKET");
}

/// A pipe that nobody reads any more.
pub fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

pub fn code(status: ExitStatus) -> i32 {
    status.code().expect("ended by itself")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A command with more options; one that stands there takes the new value, and anything else is added.
pub fn with<'a>(mut line: Vec<&'a str>, options: &[&'a str]) -> Vec<&'a str> {
    for option in options.chunk_by(|_, next| !next.starts_with("--")) {
        match line.iter().position(|known| *known == option[0]) {
            Some(place) => line[place + 1] = option[1],
            None => line.extend(option),
        }
    }
    line
}

/// A recorded file of `fixtures/backup`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backup").join(name)
}

/// Whether a tool is there. Where it must be, its absence is a failure; otherwise the test is skipped, and says so.
pub fn tool(name: &str) -> bool {
    let there =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        assert!(
            std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
            "`{name}` is not installed, and HOLDFAST_REQUIRE_TOOLS is set"
        );
        eprintln!("SKIPPED: `{name}` is not installed; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure");
    }
    there
}
