//! The demo does what it says, and fails when a step does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::{code, holdfast, stderr, stdout};
use holdfast_cli::demo::{self, CONTEXT, POLICY, Script};

#[test]
fn it_works_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = holdfast(["demo"]).env("TMPDIR", dir.path()).current_dir(dir.path()).output().unwrap();
    assert_eq!(code(output.status), 0, "{}{}", stdout(&output), stderr(&output));
    let told = stdout(&output);
    for step in [
        "encrypt the README",
        "refused: not allowed",
        "refused: wrong context",
        "rotate the key",
        "verify the log offline",
    ] {
        assert!(told.contains(&format!("✓ {step}")), "{told}");
    }
    let suspended = told.lines().find(|line| line.starts_with("✓ suspend the key")).unwrap();
    assert!(suspended.contains(" ms after the order"), "{suspended}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Plays a script that must fail at a step, and gives how many lines were told.
fn fails_at(step: &str, script: &Script) {
    let mut told = vec![];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let failure = runtime.block_on(demo::run(script, |line| told.push(line.to_owned()))).unwrap_err();
    assert!(failure.problem().contains(&format!("`{step}`")), "{failure}");
    assert!(!told.iter().any(|line| line.contains(step) || line.starts_with("all ")), "{told:?}");
}

#[test]
fn a_refusal_that_does_not_come_is_a_failure() {
    let everybody = POLICY.replace(r#"principal.name == "payroll" && "#, "");
    fails_at("refused: not allowed", &Script { policy: everybody, ..Script::new() });
}

#[test]
fn a_context_that_is_not_wrong_is_a_failure() {
    fails_at("refused: wrong context", &Script { wrong_context: CONTEXT, ..Script::new() });
}

#[test]
fn a_key_that_is_not_suspended_is_a_failure() {
    fails_at("suspend the key", &Script { suspends: false, ..Script::new() });
}

#[test]
fn a_damaged_log_is_a_failure() {
    fails_at("verify the log offline", &Script { damages_log: true, ..Script::new() });
}

#[test]
fn a_policy_that_permits_nobody_is_a_failure() {
    let nobody = POLICY.replace(r#"principal.name == "payroll""#, r#"principal.name == "nobody""#);
    fails_at("encrypt the README", &Script { policy: nobody, ..Script::new() });
}
