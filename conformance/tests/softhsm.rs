//! Tokens of SoftHSM2 against the suite of the key stores' port: real modules, in worker processes, one PIN each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use holdfast_conformance::doubles::Sim;
use holdfast_conformance::keystore::suite;
use holdfast_core::Secret;
use holdfast_core::algorithm::Algorithm;
use holdfast_keystore::pkcs11::{Launch, Member, Patience, TokenStore, worker};
use holdfast_keystore::software::RootKey;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PIN: &[u8] = b"user-pin-5678";

/// What a worker is in these tests: this very binary, told to run this function.
#[test]
#[ignore = "started by the other tests, as a process of its own"]
fn a_worker_process() {
    worker::run();
}

/// A directory with a token in it.
struct SoftHsm {
    dir: TempDir,
}

impl SoftHsm {
    fn new(label: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.path().join("tokens").display()
        );
        let made = Self { dir };
        std::fs::write(made.conf(), conf).unwrap();
        let pin = String::from_utf8(PIN.to_vec()).unwrap();
        let done = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", &pin])
            .env("SOFTHSM2_CONF", made.conf())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        made
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    fn launch(&self, label: &str) -> Launch {
        Launch {
            arguments: ["a_worker_process", "--exact", "--ignored", "--nocapture"]
                .map(OsString::from)
                .to_vec(),
            environment: vec![("SOFTHSM2_CONF".into(), self.conf().into())],
            lanes: 4,
            ..Launch::new(module().to_str().unwrap(), label, Secret::from(PIN))
        }
    }
}

fn module() -> &'static Path {
    Path::new("/usr/lib/softhsm/libsofthsm2.so")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn patience() -> Patience {
    Patience { operation: Duration::from_secs(30), generation: Duration::from_secs(120) }
}

async fn store(hsm: &SoftHsm, label: &str, seed: u64) -> TokenStore<Sim> {
    let member = Member::start(hsm.launch(label));
    member.ready(Duration::from_secs(30)).await.unwrap();
    let root = RootKey::new(Secret::new((0..32).collect())).unwrap();
    TokenStore::open(root, Arc::new(Sim::new(seed)), member, patience()).unwrap()
}

#[test]
fn a_token_of_softhsm_does_all_that_it_offers() {
    let hsm = SoftHsm::new("one");
    let seeds = std::cell::Cell::new(100);
    let held = runtime().block_on(suite(async || {
        seeds.set(seeds.get() + 1);
        store(&hsm, "one", seeds.get()).await
    }));
    let never = [
        Algorithm::Xaes256Gcm,
        Algorithm::Aes256GcmSiv,
        Algorithm::MlDsa65,
        Algorithm::MlKem768,
        // Its unwrapping loses the length of what was padded.
        Algorithm::Aes256Kwp,
        // SoftHSM makes Montgomery keys by the mechanism of the Edwards ones.
        Algorithm::X25519,
    ];
    let expected: Vec<_> =
        Algorithm::ALL.iter().copied().filter(|algorithm| !never.contains(algorithm)).collect();
    assert_eq!(held, expected);
}
