//! A software TPM, and what goes to it and comes from it.

use super::wait::until;
use super::{stderr, text};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A TPM whose state outlives its power: it can be switched off and on.
pub struct Swtpm {
    dir: TempDir,
    /// Its state: which TPM it is.
    state: &'static str,
    child: Option<Child>,
    bus: Arc<Mutex<Vec<u8>>>,
}

impl Swtpm {
    /// One that is switched on; `None` where the tools are not there.
    pub fn start() -> Option<Self> {
        if !super::tool("swtpm") || !super::tool("tpm2_unseal") {
            return None;
        }
        let dir = TempDir::new().unwrap();
        let mut tpm = Self { dir, state: "state", child: None, bus: Arc::default() };
        tpm.switch_on();
        Some(tpm)
    }

    /// What it is spoken to through; beside it is another one, with `.ctrl` behind its name.
    pub fn socket(&self) -> PathBuf {
        self.path("seen")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same place, and another TPM there from the next time that it is switched on.
    pub fn replace(&mut self, state: &'static str) {
        self.switch_off();
        self.state = state;
        self.switch_on();
    }

    pub fn switch_on(&mut self) {
        let state = self.path(self.state);
        std::fs::create_dir_all(&state).unwrap();
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
        swtpm.arg(format!("dir={}", text(&state)));
        swtpm.args(["--server", &format!("type=unixio,path={}", text(&self.path("tpm")))]);
        swtpm.args(["--ctrl", &format!("type=unixio,path={}", text(&self.path("tpm.ctrl")))]);
        self.child = Some(swtpm.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the TPM listens", || UnixStream::connect(self.path("tpm.ctrl")).is_ok());
        for (seen, real) in [("seen", "tpm"), ("seen.ctrl", "tpm.ctrl")] {
            listen_in(&self.path(seen), self.path(real), Arc::clone(&self.bus));
        }
    }

    /// Its registers are as at every start of a machine when it is switched on again.
    pub fn switch_off(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            for socket in ["tpm", "tpm.ctrl", "seen", "seen.ctrl"] {
                std::fs::remove_file(self.path(socket)).unwrap();
            }
        }
    }

    /// As the gateway is told where it is: with somebody who listens in between.
    pub fn place(&self) -> String {
        format!("swtpm:path={}", text(&self.socket()))
    }

    /// A tool of the tester's own.
    #[track_caller]
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let place = format!("swtpm:path={}", text(&self.path("tpm")));
        let mut command = Command::new(program);
        let output =
            command.args(["-T", &place]).args(arguments).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", stderr(&output));
        output.stdout
    }

    /// The machine measures something into a register.
    pub fn measure(&self, pcr: u8, what: u8) {
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={}", format!("{what:02x}").repeat(32))]);
    }

    /// Whether whoever listened in has this.
    pub fn was_heard(&self, bytes: &[u8]) -> bool {
        let bus = self.bus.lock().unwrap();
        assert!(bus.len() > 1_000, "nothing was heard at all");
        bus.windows(bytes.len()).any(|window| window == bytes)
    }

    /// What a `root.tpm` holds, by the tools alone.
    pub fn unsealed(&self, root_tpm: &Path) -> Vec<u8> {
        let file = std::fs::read_to_string(root_tpm).unwrap();
        let field = |name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap();
            line.trim_matches('"').to_owned()
        };
        for part in ["public", "private"] {
            let hex = field(part);
            let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
            std::fs::write(self.path(part), (0..hex.len() / 2).map(byte).collect::<Vec<_>>()).unwrap();
        }
        let template = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda";
        let flush = || self.tool("tpm2_flushcontext", &["-t"]);
        self.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc256", "-a", template, "-c", "primary"]);
        flush();
        self.tool("tpm2_load", &["-Q", "-C", "primary", "-u", "public", "-r", "private", "-c", "object"]);
        flush();
        let root = self.tool("tpm2_unseal", &["-c", "object", "-p", &format!("pcr:{}", field("pcrs"))]);
        flush();
        root
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.switch_off();
    }
}

/// Hands on what comes, and keeps it; for as long as the test lives.
fn listen_in(at: &Path, to: PathBuf, bus: Arc<Mutex<Vec<u8>>>) {
    let listener = UnixListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for caller in listener.incoming() {
            let caller = caller.unwrap();
            // Switched off meanwhile.
            let Ok(tpm) = UnixStream::connect(&to) else { continue };
            let ways = [(caller.try_clone().unwrap(), tpm.try_clone().unwrap()), (tpm, caller)];
            for (from, to) in ways {
                let bus = Arc::clone(&bus);
                std::thread::spawn(move || hand_on(from, to, &bus));
            }
        }
    });
}

fn hand_on(mut from: UnixStream, mut to: UnixStream, bus: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        bus.lock().unwrap().extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
