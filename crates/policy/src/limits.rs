//! Bounds on a policy text, checked before it is parsed: parsing and evaluating descend once per level of nesting.

use crate::fault::{Fault, Lines};

/// The most bytes of a policy text: as much as a request with one can bring.
pub const MAX_TEXT: usize = 4 << 20;
/// The most policies of a new text. Ten thousand, each about one caller and one key, take some two seconds to read and as much to check; as
/// many that can be about anything, four and seven (`examples/check_bench.rs`).
pub const MAX_POLICIES: usize = 12_000;
/// The most faults or findings that are told of one text: whoever has mended these checks it again.
pub const MAX_FINDINGS: usize = 100;
/// The most bytes of one policy, comments not counted.
pub const MAX_POLICY: usize = 8192;
/// The deepest nesting of parentheses, brackets and braces.
pub const MAX_NESTING: usize = 16;
/// The most operators of one policy: a chain of them nests as deeply as it is long.
pub const MAX_OPERATORS: usize = 100;

/// What has been seen of one policy.
#[derive(Default)]
struct Seen {
    bytes: usize,
    depth: usize,
    /// Twice the number of operators: each half of `&&` and `||` counts for itself.
    halves: usize,
}

/// A text that is to be in force: what [`check`] refuses, and too many policies.
pub(crate) fn check_new(text: &str) -> Result<(), Fault> {
    match check(text)? {
        0..=MAX_POLICIES => Ok(()),
        policies => Err(Fault {
            policy: None,
            line: 1,
            detail: format!("the text has {policies} policies, more than {MAX_POLICIES}"),
            remedy: "speak of groups and labels instead of naming every caller and key".to_owned(),
        }),
    }
}

/// Reads a text roughly: strings, comments, brackets, the semicolon that ends a policy. How many policies there are.
pub(crate) fn check(text: &str) -> Result<usize, Fault> {
    let refuse = |at: usize, detail: String, remedy: &str| {
        Err(Fault { policy: None, line: Lines::of(text).line(at), detail, remedy: remedy.to_owned() })
    };
    if text.len() > MAX_TEXT {
        let detail = format!("the text has {} bytes, more than {MAX_TEXT}", text.len());
        return refuse(0, detail, "speak of groups and labels instead of naming every caller and key");
    }
    let mut seen = Seen::default();
    let mut policies = 0_usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, next)| *next != b'\n').is_some() {}
                continue;
            }
            b'"' => {
                while let Some((_, inner)) = bytes.next() {
                    seen.bytes = seen.bytes.saturating_add(1);
                    match inner {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'(' | b'[' | b'{' => seen.depth = seen.depth.saturating_add(1),
            b')' | b']' | b'}' => seen.depth = seen.depth.saturating_sub(1),
            b'&' | b'|' => seen.halves = seen.halves.saturating_add(1),
            b'+' | b'-' | b'*' | b'!' | b'.' => seen.halves = seen.halves.saturating_add(2),
            // `if … then … else if …` nests as deeply as it is long.
            b'e' if text.get(at..).is_some_and(|rest| rest.starts_with("else")) => {
                seen.halves = seen.halves.saturating_add(2);
            }
            b';' if seen.depth == 0 => {
                seen = Seen::default();
                policies = policies.saturating_add(1);
                continue;
            }
            _ => {}
        }
        seen.bytes = seen.bytes.saturating_add(usize::from(!byte.is_ascii_whitespace()));
        if seen.depth > MAX_NESTING {
            let detail = format!("more than {MAX_NESTING} parentheses stand within each other");
            return refuse(at, detail, "split the policy into several: each permits by itself");
        }
        if seen.bytes > MAX_POLICY || seen.halves > 2 * MAX_OPERATORS {
            let detail = format!(
                "a policy has more than {MAX_POLICY} bytes or {MAX_OPERATORS} operators, or its `;` is missing"
            );
            return refuse(at, detail, "split the policy into several: each permits by itself");
        }
    }
    Ok(policies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_the_most_that_there_may_be() {
        let bounds: [(&str, usize); 11] = [
            ("(", MAX_NESTING),
            ("[", MAX_NESTING),
            ("{", MAX_NESTING),
            ("&&", MAX_OPERATORS),
            ("||", MAX_OPERATORS),
            ("+", MAX_OPERATORS),
            ("-", MAX_OPERATORS),
            ("*", MAX_OPERATORS),
            ("!", MAX_OPERATORS),
            (".", MAX_OPERATORS),
            ("else ", MAX_OPERATORS),
        ];
        for (part, most) in bounds {
            assert_eq!(check(&part.repeat(most)), Ok(0), "{part}");
            assert!(check(&part.repeat(most + 1)).is_err(), "{part}");
        }
        // White space is none of a policy's bytes.
        assert_eq!(check(&"e ".repeat(MAX_POLICY)), Ok(0));
        assert!(check(&"e ".repeat(MAX_POLICY + 1)).is_err());
        assert_eq!(check(&" ".repeat(MAX_TEXT)), Ok(0));
    }

    #[test]
    fn many_policies_are_fine_and_one_endless_one_is_not() {
        let one = "permit (principal, action, resource) when { \"(((\\\"\" == \";\" }; // (((((\n";
        assert_eq!(check(&one.repeat(MAX_POLICIES + 1)), Ok(MAX_POLICIES + 1));
        assert_eq!(check_new(&one.repeat(MAX_POLICIES)), Ok(()));
        assert!(check_new(&one.repeat(MAX_POLICIES + 1)).is_err());
        for bad in [
            format!("permit (principal, action, resource) when {{ {}true }};", "(".repeat(17)),
            format!("permit (principal, action, resource) when {{ true{} }};", " && true".repeat(101)),
            format!(
                "permit (principal, action, resource) when {{ {}true }};",
                "if true then true else ".repeat(101)
            ),
            format!("permit (principal, action, resource) when {{ \"{}\" == \"\" }};", "x".repeat(9000)),
            " ".repeat(MAX_TEXT + 1),
        ] {
            assert!(check(&bad).is_err());
        }
        // A comment hides its brackets, whatever else has a slash does not.
        assert_eq!(check(&format!("// {}\n", "(".repeat(17))), Ok(0));
        assert!(check(&format!("/ {}", "(".repeat(17))).is_err());
        // A semicolon ends a policy where no bracket is open.
        assert!(check(&"(;".repeat(17)).is_err());
        assert_eq!(
            check("\n\n((((((((((((((((((((((((((((((((((((((((((((((((((((((((").unwrap_err().line,
            3
        );
    }
}
