//! What an API server does of the protocol, by Python's gRPC.

use crate::common::text;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// Debian's own: another one may stand before it in the path, without gRPC.
pub const PYTHON: &str = "/usr/bin/python3";
pub const UID: &str = "2f0c1b9e-6f0e-4c5a-9d51-1a2b3c4d5e6f";

/// Whether there is what it needs. Where it must be, its absence is a failure.
pub fn is_there() -> bool {
    let python =
        Command::new(PYTHON).args(["-c", "import grpc, google.protobuf, jwt, cryptography, yaml"]).output();
    let is_there = python.is_ok_and(|output| output.status.success()) && crate::common::tool("protoc");
    assert!(
        is_there || std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
        "gRPC of Python is not installed"
    );
    if !is_there {
        eprintln!(
            "SKIPPED: python3-grpcio, python3-protobuf, python3-jwt, python3-cryptography, python3-yaml or protoc is not installed"
        );
    }
    is_there
}

/// Runs a script that must succeed.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(PYTHON).arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", crate::common::stderr(&output));
    crate::common::stdout(&output)
}

/// A directory with what `protoc` makes of a protocol.
pub fn generate(protocol: &str) -> TempDir {
    let generated = TempDir::new().unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/kubernetes");
    let made = Command::new("protoc")
        .arg(format!("-I{}", directory.display()))
        .arg(format!("--python_out={}", generated.path().display()))
        .arg(directory.join(protocol))
        .status()
        .unwrap();
    assert!(made.success());
    generated
}

pub struct ApiServer {
    process: Child,
    asks: Option<ChildStdin>,
    hears: BufReader<ChildStdout>,
    _generated: TempDir,
}

impl ApiServer {
    pub fn of(socket: &Path) -> Self {
        let generated = generate("kms-v2.proto");
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(PYTHON)
            .arg(here.join("tests/kubernetes/client.py"))
            .args([text(socket), text(generated.path())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = process.stdin.take();
        let hears = BufReader::new(process.stdout.take().unwrap());
        Self { process, asks, hears, _generated: generated }
    }

    /// Sends a call, and waits for nothing.
    pub fn send(&mut self, call: &Value) {
        writeln!(self.asks.as_ref().unwrap(), "{call}").unwrap();
    }

    /// What the oldest call that was sent is answered.
    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.hears.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub fn call(&mut self, call: &Value) -> Value {
        self.send(call);
        self.hear()
    }

    /// What the plugin itself answers: asks once more where, on a busy machine, the caller's own deadline came before it.
    #[track_caller]
    pub fn answer(&mut self, call: &Value) -> Value {
        let mut last = Value::Null;
        crate::common::wait::until("an answer of the plugin's own", || {
            last = self.call(call);
            last["words"] != "Deadline Exceeded"
        });
        last
    }

    pub fn status(&mut self) -> Value {
        self.call(&json!({ "method": "Status" }))
    }

    /// The key id of a Status that is well.
    #[track_caller]
    pub fn key_id(&mut self) -> String {
        let status = self.status();
        assert_eq!((&status["code"], &status["healthz"]), (&json!("OK"), &json!("ok")), "{status}");
        status["key_id"].as_str().unwrap().to_owned()
    }

    /// Waits until Status is as it should be.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        crate::common::wait::until(what, || {
            last = self.status();
            is_so(&last)
        });
        last
    }

    /// Waits until Status is well.
    #[track_caller]
    pub fn until_well(&mut self) -> String {
        let well = self.until("a Status that is well", |status| status["healthz"] == "ok");
        well["key_id"].as_str().unwrap().to_owned()
    }

    /// A seed encrypted, as it stands in etcd.
    #[track_caller]
    pub fn seal(&mut self, seed: &[u8]) -> Sealed {
        let reply = self.call(&encrypt(seed));
        assert_eq!(reply["code"], "OK", "{reply}");
        Sealed {
            ciphertext: reply["ciphertext"].as_str().unwrap().to_owned(),
            key_id: reply["key_id"].as_str().unwrap().to_owned(),
        }
    }

    /// A seed that was encrypted and read once, so that it is leased.
    #[track_caller]
    pub fn leased(&mut self, seed: &[u8]) -> Sealed {
        let sealed = self.seal(seed);
        self.opens(&sealed, seed);
        sealed
    }

    pub fn open(&mut self, sealed: &Sealed) -> Value {
        self.call(&sealed.decrypt())
    }

    #[track_caller]
    pub fn opens(&mut self, sealed: &Sealed, seed: &[u8]) {
        let reply = self.open(sealed);
        assert_eq!((&reply["code"], &reply["plaintext"]), (&json!("OK"), &json!(hex(seed))), "{reply}");
    }

    #[track_caller]
    pub fn refuses(&mut self, call: &Value, code: &str, words: &str) -> Value {
        let reply = self.answer(call);
        assert_eq!(reply["code"], code, "{call}: {reply}");
        assert!(reply["words"].as_str().unwrap().contains(words), "{call}: {reply}");
        reply
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.asks = None;
        let _ended = self.process.wait();
    }
}

/// What Encrypt gave.
#[derive(Debug, Clone)]
pub struct Sealed {
    pub ciphertext: String,
    pub key_id: String,
}

impl Sealed {
    pub fn decrypt(&self) -> Value {
        json!({ "method": "Decrypt", "ciphertext": self.ciphertext, "key_id": self.key_id, "uid": UID })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let digits = self.ciphertext.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}

pub fn encrypt(seed: &[u8]) -> Value {
    json!({ "method": "Encrypt", "plaintext": hex(seed), "uid": UID })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A seed of this number.
pub fn seed(number: u8) -> [u8; 32] {
    [number; 32]
}
