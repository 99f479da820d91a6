//! What commands say that look at one thing after the other.

use super::{code, stderr, stdout};
use std::process::Output;

/// Must end with this code, and say all of these words on stdout, each in a line of a thing that is wrong or in what to do.
#[track_caller]
pub fn names(output: &Output, with: i32, words: &[&str]) {
    let (said, failed) = (stdout(output), stderr(output));
    assert_eq!(code(output.status), with, "{said}{failed}");
    assert!(failed.contains("something is wrong, first of all: "), "{failed}");
    for words in words {
        let is_told = |line: &str| line.contains(words) && (line.starts_with('✗') || line.contains(" → "));
        assert!(said.lines().any(is_told), "`{words}` is not named:\n{said}");
    }
}

/// Must find all of these fine, in a line each.
#[track_caller]
pub fn fine(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.lines().any(|line| line.starts_with('✓') && line.contains(words)), "`{words}`:\n{said}");
    }
}

/// Must say these words of something to be watched.
#[track_caller]
pub fn watched(said: &str, words: &str) {
    assert!(said.lines().any(|line| line.starts_with('!') && line.contains(words)), "`{words}`:\n{said}");
}
