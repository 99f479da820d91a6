//! Words are tested: help and each wrong use, word by word. `TRYCMD=overwrite cargo test -p holdfast --test golden` writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

#[test]
fn help_and_wrong_uses() {
    let cases = trycmd::TestCases::new();
    for name in ["URL", "CACERT", "CERT", "KEY", "TOKEN", "TENANT", "WITNESS"] {
        // An empty variable says nothing.
        cases.env(format!("HOLDFAST_{name}"), "");
    }
    cases.env("COLUMNS", "100").case("tests/cmd/*.trycmd");
}

/// Nothing that is secret can be given on a command line.
#[test]
fn no_option_takes_a_secret() {
    let help = std::fs::read_dir("tests/cmd")
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    for text in help {
        for option in ["--token <", "--password", "--secret", "--pin", "--passphrase"] {
            assert!(!text.contains(option), "{option}");
        }
    }
}
