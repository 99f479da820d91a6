//! `docs/policy.md` says what is true: its examples are valid, decide as its test cases say, and pass the check.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::*;
use holdfast_core::action::Action;
use holdfast_core::caller::CallerKind;
use holdfast_policy::{
    Cases, DEFAULT_TENANT_POLICY, MAX_FINDINGS, MAX_NESTING, MAX_OPERATORS, MAX_POLICIES, MAX_POLICY,
    MAX_TEXT, run_cases,
};

const DOCUMENT: &str = include_str!("../../../docs/policy.md");

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    DOCUMENT.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn its_examples_decide_as_it_says() {
    let (policies, cases) = (blocks("cedar"), blocks("toml"));
    assert_eq!((policies.len(), cases.len()), (6, 6));
    let mut run = 0;
    for (text, cases) in policies.iter().zip(cases) {
        let prepared = prepare(text);
        let cases = Cases::parse(&prepared, cases).unwrap();
        for result in run_cases(&prepared, &cases) {
            assert_eq!(result.failure, None, "{}\n{text}", result.name);
            run += 1;
        }
    }
    assert_eq!(run, 25);
}

#[test]
fn its_examples_pass_the_check() {
    let callers = [
        record("carol", CallerKind::Custodian, &["owners"]),
        record("payroll", CallerKind::Application, &["payroll", "branches"]),
        record("archive", CallerKind::Application, &[]),
        record("releases", CallerKind::Application, &[]),
    ];
    for text in blocks("cedar") {
        let whole = match text.contains("custodians-administer") {
            true => text.to_owned(),
            false => format!("{DEFAULT_TENANT_POLICY}\n{text}"),
        };
        let findings = policy().check(&prepare(&whole), &caller(&callers[0]), &callers);
        assert_eq!(findings, [], "{text}");
    }
}

#[test]
fn it_names_every_action_and_the_limits() {
    for action in Action::ALL {
        let named = DOCUMENT.contains(&format!("`{}`", action.name()));
        let asked = !matches!(action, Action::Undecoded | Action::Found | Action::Noise | Action::Recover);
        assert_eq!(named, asked, "{}", action.name());
        assert!(!action.is_stop() || DOCUMENT.matches(&format!("`{}`", action.name())).count() >= 2);
    }
    let limits = format!(
        "at most {} MiB and {MAX_POLICIES} policies; one policy has at most {MAX_POLICY} bytes, {MAX_OPERATORS} operators and {MAX_NESTING} levels",
        MAX_TEXT >> 20
    );
    assert!(DOCUMENT.contains(&limits));
    assert!(DOCUMENT.contains(&format!("the first {MAX_FINDINGS}")));
}

#[test]
fn cases_that_fail_say_how_and_those_that_are_wrong_say_where() {
    let prepared = prepare(
        "@id(\"a\") permit (principal, action, resource) when { principal.kind == \"application\" };",
    );
    let run = |text: &str| {
        let cases = Cases::parse(&prepared, text)?;
        Ok::<_, holdfast_core::Error>(run_cases(&prepared, &cases).remove(0))
    };
    let failure = |text: &str| run(text).unwrap().failure.unwrap();
    let base = "[[case]]\ncaller = \"x\"\naction = \"random\"\n";
    assert_eq!(failure(&format!("{base}expect = \"deny\"")), "is allowed by `a`");
    assert_eq!(failure(&format!("{base}kind = \"auditor\"\nexpect = \"allow\"")), "is denied by no policy");
    assert_eq!(failure(&format!("{base}expect = \"allow\"\nby = [\"b\"]")), "is decided by `a`, not by `b`");
    for (text, detail) in [
        ("[[case]]\ncaller = 3", "line 2: invalid type"),
        (
            "[[case]]\ncaller = \"x\"\naction = \"random\"\nexpect = \"deny\"\nlabel = 1",
            "line 5: unknown field `label`",
        ),
        (
            "[[case]]\ncaller = \"x\"\naction = \"run\"\nexpect = \"deny\"",
            "case 1. x run: there is no action `run`",
        ),
        (
            "[[case]]\ncaller = \"x\"\naction = \"noise\"\nexpect = \"deny\"",
            "case 1. x noise: there is no action `noise`",
        ),
        (
            "[[case]]\ncaller = \"x\"\naction = \"mac\"\nexpect = \"deny\"",
            "case 1. x mac: `mac` is about a key",
        ),
        (
            "[[case]]\ncaller = \"x y\"\naction = \"random\"\nexpect = \"deny\"",
            "case 1. x y random: `caller` is `x y`, not a caller name",
        ),
        (
            "[[case]]\ncaller = \"x\"\naction = \"mac\"\nkey = \"k\"\nstate = \"off\"\nexpect = \"deny\"",
            "case 1. x mac: `state` is `off`, not one of `pre-activation`, `active`",
        ),
        (
            "[[case]]\ncaller = \"x\"\naction = \"random\"\ntime = 2026-01-01\nexpect = \"deny\"",
            "case 1. x random: `time` is `2026-01-01`, not a date and time",
        ),
    ] {
        let error = run(text).unwrap_err();
        assert!(error.detail().starts_with(detail), "{}", error.detail());
    }
}
