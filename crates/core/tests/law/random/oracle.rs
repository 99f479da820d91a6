//! What must hold of the whole log at the end of a play.

use holdfast_conformance::doubles::{Entry, Fate};
use holdfast_core::OperationId;
use holdfast_core::action::{Action, Group};
use holdfast_core::port::Mark;
use std::collections::HashMap;

pub(super) fn summaries(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(Entry::summary).collect()
}

pub(super) fn each_is_closed_once(entries: &[Entry]) {
    let mut of_operation: HashMap<OperationId, Vec<&Entry>> = HashMap::new();
    for entry in entries {
        assert_eq!(entry.fate, Fate::Durable);
        of_operation.entry(entry.operation()).or_default().push(entry);
    }
    for (operation, entries) in of_operation {
        let marks: Vec<_> = entries.iter().map(|entry| entry.mark).collect();
        match marks[..] {
            [Mark::Plain] => {}
            [Mark::Intent(opened), Mark::Outcome(closed, _)] => {
                assert_eq!((opened, closed), (operation, operation));
            }
            _ => panic!("{operation}: {:?}", entries.iter().map(|e| e.summary()).collect::<Vec<_>>()),
        }
    }
}

struct Line {
    action: Action,
    outcome: String,
    key: String,
    sequence: Option<u64>,
    operation: OperationId,
}

pub(super) fn no_success_behind_a_stop(entries: &[Entry]) {
    let lines: Vec<_> = entries
        .iter()
        .map(|entry| Line {
            action: Action::from_name(&entry.text("action")).unwrap(),
            outcome: entry.text("outcome"),
            key: entry.text("key.name"),
            sequence: entry.text("state.sequence").parse().ok(),
            operation: entry.operation(),
        })
        .collect();
    let lifted_by = |stop: Action| match stop {
        Action::SuspendKey => Some(Action::ResumeKey),
        Action::DestroyKey => Some(Action::CancelDestruction),
        Action::SuspendCaller => Some(Action::ResumeCaller),
        Action::SuspendTenant => Some(Action::ResumeTenant),
        _ => None,
    };
    for (at, success) in lines.iter().enumerate() {
        // Every use in these logs that succeeds is alice's.
        if success.action.group() != Group::Use || success.outcome != "success" {
            continue;
        }
        for (stopped_at, stop) in lines[..at].iter().enumerate() {
            let reaches = match stop.action {
                Action::SuspendKey | Action::DestroyKey => stop.key == success.key,
                Action::SuspendCaller | Action::SuspendTenant => true,
                _ => false,
            };
            if !reaches || stop.outcome != "success" {
                continue;
            }
            let is_lifted = lines[..at].iter().any(|intent| {
                let lifts = lifted_by(stop.action) == Some(intent.action) && intent.key == stop.key;
                let outcome = lines
                    .iter()
                    .enumerate()
                    .find(|(_, line)| line.operation == intent.operation && line.outcome == "success");
                lifts
                    && intent.outcome == "intent"
                    && outcome.is_some_and(|(at, line)| at > stopped_at || line.sequence > stop.sequence)
            });
            assert!(is_lifted, "`{}` succeeds behind `{}`", success.action.name(), stop.action.name());
        }
    }
}
