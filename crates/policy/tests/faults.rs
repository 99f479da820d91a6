//! What a policy text is refused for, in which words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::*;
use holdfast_core::ErrorKind;
use holdfast_core::caller::CallerKind;
use holdfast_policy::{MAX_FINDINGS, MAX_POLICIES};

/// The first fault and its remedy.
fn refused(text: &str) -> (String, String) {
    let error = policy().prepare(&tenant(), text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(!error.remedy_text().is_empty());
    (error.detail().to_owned(), error.remedy_text().to_owned())
}

#[test]
fn names_policy_line_and_remedy() {
    let rows: &[(&str, &str, &str)] = &[
        (
            "\npermit (principal, action, resource);",
            "policy text, line 2: a policy has no id",
            "write `@id(\"…\")` in front",
        ),
        (
            "@id(\"a b\") permit (principal, action, resource);",
            "policy text, line 1: `a b` cannot be the id of a policy",
            "write 1 to 128 of A-Z",
        ),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            "policy `a`, line 2: the id stands at line 1 already",
            "give every policy its own `@id`",
        ),
        (
            "@id(\"a\")\npermit (principal == ?principal, action, resource);",
            "policy `a`, line 1: a policy with a slot such as `?principal` means nothing by itself",
            "write the caller, group or key",
        ),
        (
            "@id(\"a\")\npermit (principal, action, resource)\nwhen { resource.hasTag(\"team\") && };",
            "policy text, line 3: unexpected token `}`",
            "",
        ),
        (
            "@id(\"a\")\npermit (principal == Holdfast::User::\"x\", action, resource);",
            "policy `a`, line 2: unrecognized entity type `Holdfast::User`",
            "write `Holdfast::Caller`",
        ),
        (
            "@id(\"a\")\npermit (principal, action == Holdfast::Action::\"encrpyt\", resource);",
            "policy `a`, line 2: unrecognized action `Holdfast::Action::\"encrpyt\"`",
            "write an action's name",
        ),
        (
            "@id(\"a\")\npermit (principal, action == Holdfast::Action::\"encrypt\", resource)\nwhen { resource.team == \"x\" };",
            "policy `a`, line 3: attribute `team`",
            "a caller has `name` and `kind`; a key has",
        ),
        (
            "@id(\"a\")\npermit (principal, action in Holdfast::Action::\"use\", resource)\nwhen { resource.exportable };",
            "policy `a`, line 3: attribute `exportable`",
            "write `resource is Holdfast::Key` in the scope",
        ),
        (
            "@id(\"a\")\npermit (principal, action == Holdfast::Action::\"encrypt\", resource)\nwhen { resource.getTag(\"team\") == \"x\" };",
            "policy `a`, line 3: unable to guarantee safety of access to tag",
            "ask first whether it is there",
        ),
        (
            "@id(\"a\")\npermit (principal, action == Holdfast::Action::\"encrypt\", resource)\nwhen { context.source.isLoopback() };",
            "policy `a`, line 3: unable to guarantee safety of access to optional attribute",
            "ask first whether it is there: `context has source",
        ),
        (
            "@id(\"a\")\npermit (principal, action == Holdfast::Action::\"encrypt\", resource)\nwhen { principal.kind == 3 };",
            "policy `a`, line 3: ",
            "compare values of one type only",
        ),
    ];
    for (text, detail, remedy) in rows {
        let (said, help) = refused(text);
        assert!(said.starts_with(detail), "{said}\n{help}");
        assert!(help.contains(remedy), "{said}\n{help}");
        assert!(!said.contains('\n') && !said.ends_with('.'), "{said}");
    }
}

#[test]
fn every_fault_is_told_in_the_order_of_lines() {
    let text = "permit (principal, action, resource);\n@id(\"x\") permit (principal, action, resource);\n@id(\"x\") permit (principal, action, resource);";
    let lines: Vec<usize> =
        policy().read(&tenant(), text).unwrap_err().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 3]);
    assert!(refused(text).1.ends_with("1 more to mend, which `holdfast policy check` lists"));
}

#[test]
fn of_many_faults_the_first_are_told_and_that_there_are_more() {
    let told = |one: &str| {
        let text: String = (0..300).map(|number| one.replace("NNN", &number.to_string())).collect();
        let faults = policy().read(&tenant(), &text).unwrap_err();
        let error = policy().prepare(&tenant(), &text).unwrap_err();
        assert!(error.remedy_text().contains("; 100 more to mend"), "{}", error.remedy_text());
        faults
    };
    for one in [
        "\npermit (principal, action, resource);",
        "\n@id(\"p-NNN\") permit (principal == ?principal, action, resource);",
        "\n@id(\"p-NNN\") permit (principal == Holdfast::User::\"x\", action, resource);",
        "\n@id(\"p-NNN\") permit (principal, action, resource) when { resource.team == 1 };",
        "\n@id(\"p-NNN\") permit (principal, action, resource) when { && };",
    ] {
        let faults = told(one);
        assert_eq!(faults.len(), MAX_FINDINGS + 1, "{one}");
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert!(lines.is_sorted() && lines[0] == 2, "{one}: {lines:?}");
        assert_eq!(faults[MAX_FINDINGS].detail, "more is wrong than these first 100 things");
        // As many as fit are told, each at its own line.
        let each: std::collections::BTreeSet<_> = lines.iter().collect();
        assert!(each.len() >= MAX_FINDINGS / 3, "{one}: {lines:?}");
    }
}

#[test]
fn a_new_text_has_so_many_policies_and_one_in_force_may_have_more() {
    let text: String = (0..=MAX_POLICIES)
        .map(|number| format!("@id(\"p-{number}\")forbid(principal==Holdfast::Caller::\"a\",action==Holdfast::Action::\"mac\",resource);"))
        .collect();
    let faults = policy().read(&tenant(), &text).unwrap_err();
    assert_eq!(faults[0].detail, "the text has 12001 policies, more than 12000");
    assert_eq!(faults.len(), 1);
    let custodian = caller(&record("carol", CallerKind::Custodian, &[]));
    assert!(policy().examine(&custodian, &[], &text).unreadable.is_some());
    assert_eq!(prepare(&text).len(), MAX_POLICIES + 1);
}

#[test]
fn hostile_texts_are_refused_without_a_stack_overflow() {
    let within = "permit (principal, action, resource) when {";
    let mut worst = Vec::new();
    // At the limits, where everything is parsed, and far beyond them.
    for (nesting, operators) in [(14, 96), (4000, 20_000)] {
        let (open, close) = ("(".repeat(nesting), ")".repeat(nesting));
        let bodies = [
            format!("{open}true{}{close}", " && true".repeat(operators)),
            format!("{open}1{} == 1{close}", " + 1".repeat(operators)),
            format!("{open}{}true{close}", "if true then true else ".repeat(operators)),
            format!("{open}{{a: 1}}{} == 1{close}", ".a".repeat(operators)),
            format!("{open}{}true{close}", "!".repeat(operators)),
            format!("{}true{}", "if ".repeat(operators), " then true else true".repeat(operators)),
            format!("{}1{} == [1]", "[".repeat(nesting), "]".repeat(nesting)),
            format!("{}1{} == 1", "{a: ".repeat(nesting), "}".repeat(nesting)),
            format!("{}principal.kind == \"a\"{}", "(true && ".repeat(nesting), ")".repeat(nesting)),
        ];
        worst.extend(bodies.map(|body| format!("@id(\"a\") {within} {body} }};")));
    }
    for text in worst {
        // Two megabytes is what a runtime's worker has.
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        let read = thread
            .spawn(move || {
                // Checking descends as well.
                if let Ok(prepared) = policy().read(&tenant(), &text) {
                    let custodian = caller(&record("carol", CallerKind::Custodian, &[]));
                    drop(policy().check(&prepared, &custodian, &[]));
                }
            })
            .unwrap();
        read.join().unwrap();
    }
}
