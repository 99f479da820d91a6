//! When a serving gateway reads everything again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

mod support;

use std::time::{Duration, Instant};
use support::peer::PATIENCE;
use support::{dev_with, settings};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_reading_waits_after_the_start_and_a_stop_does_not_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = settings(directory.path());
    config.scrub.first_after_seconds = 2;
    let begun = Instant::now();
    let gateway = dev_with(config.clone()).await;
    let read = async {
        while !gateway.running.gateway().metrics_text().contains("\nholdfast_scrub_passes_total 1\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a reading");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    gateway.running.shut_down().await.unwrap();

    config.scrub.first_after_seconds = 100_000;
    let gateway = dev_with(config).await;
    let ended = tokio::time::timeout(PATIENCE, gateway.running.shut_down()).await;
    ended.expect("it ends").unwrap();
}
