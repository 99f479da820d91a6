//! A full disk: stop orders work all the same, what cannot be made durable is refused, and space brings everything back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::print_stderr,
    reason = "what fails here is a test"
)]

mod support;

use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::api::T;
use support::peer::{PATIENCE, Peer};
use support::{Dev, dev, log};

/// A small file system of its own; unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "holdfast-test"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// Takes all the space that is left.
fn fill(ballast: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(ballast).unwrap();
    for size in [1 << 20, 4 << 10] {
        while file.write_all(&vec![0x55; size]).is_ok() {}
    }
}

async fn state(peer: &mut Peer, key: &str) -> String {
    peer.ask("GET", &format!("{T}/keys/{key}"), "").await.expect(200).text("state")
}

/// Status as the operator's own listener shows it.
fn pending_stops(gateway: &Dev) -> bool {
    gateway.running.gateway().status().notices.iter().any(|notice| notice.contains("not yet durable"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_everything_but_stops() {
    let directory = tempfile::tempdir().unwrap();
    // Room for the write-ahead file's preallocated segments, and little more.
    let Some(_mounted) = Tmpfs::mount(directory.path(), 200) else {
        assert!(
            std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(),
            "no tmpfs can be mounted, and HOLDFAST_REQUIRE_TOOLS is set"
        );
        eprintln!("SKIPPED: only root can mount a tmpfs; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure");
        return;
    };
    let data = directory.path().join("data");
    let gateway = dev(&data).await;
    let mut peer = gateway.developer().await;
    for key in ["stopped", "rotated"] {
        peer.post(&format!("{T}/keys"), &json!({"name": key})).await.expect(201);
    }
    let encrypt = json!({"plaintext": "aGVsbG8="});
    peer.post(&format!("{T}/keys/stopped/encrypt"), &encrypt).await.expect(200);
    let ballast = directory.path().join("ballast");
    // Until the state's own file has no page left either.
    let full = async {
        let mut rotations = 0;
        loop {
            fill(&ballast);
            let answer = peer.post(&format!("{T}/keys/rotated/rotate"), &json!({})).await;
            if answer.status != 200 {
                break (rotations, answer);
            }
            rotations += 1;
        }
    };
    let (rotations, refused) = tokio::time::timeout(PATIENCE, full).await.expect("a refusal");
    let code = refused.text("code");
    assert!(["state-unavailable", "audit-unavailable"].contains(&code.as_str()), "{code}");
    assert!(refused.refused(503, &code).header("retry-after").is_some());

    let stopped = peer.post(&format!("{T}/keys/stopped/suspend"), &json!({})).await.expect(200);
    let operation = stopped.operation();
    let durability = stopped.text("durability");
    assert!(["durable", "in-force"].contains(&durability.as_str()), "{durability}");
    assert_eq!(durability == "in-force", pending_stops(&gateway));
    let answer = peer.post(&format!("{T}/keys/stopped/encrypt"), &encrypt).await;
    assert!([409, 423, 503].contains(&answer.status), "a stopped key works: {}", answer.json());

    std::fs::remove_file(&ballast).unwrap();
    let durable = async {
        while pending_stops(&gateway) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, durable).await.expect("the stop becomes durable");
    assert_eq!(state(&mut peer, "stopped").await, "suspended");
    let resumed = async {
        while peer.post(&format!("{T}/keys/rotated/rotate"), &json!({})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, resumed).await.expect("service resumes");
    drop(peer);
    let gateway = gateway.restart().await;
    let mut peer = gateway.developer().await;
    assert_eq!(state(&mut peer, "stopped").await, "suspended");
    peer.post(&format!("{T}/keys/stopped/encrypt"), &encrypt).await.refused(409, "key-state");
    let newest =
        peer.ask("GET", &format!("{T}/keys/rotated"), "").await.expect(200).json()["newest_version"].as_u64();
    assert!(newest.unwrap() >= rotations + 2, "an acknowledged rotation is lost");
    drop(peer);
    gateway.running.shut_down().await.unwrap();
    assert_eq!(log::closing(&log::events(&data, "dev"), &operation)["outcome"], "success");
}
