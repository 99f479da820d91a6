//! What can happen in a play.

use holdfast_conformance::rig::{name, transition};
use holdfast_core::KeyVersion;
use holdfast_core::command::Command;
use holdfast_core::destruction::WaitingPeriod;
use holdfast_core::key::Labels;
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::tenant::Anchor;
use proptest::prelude::*;
use std::sync::Arc;

pub(super) const KEYS: [&str; 2] = ["k0", "k1"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Encrypt,
    Decrypt,
    DataKey,
    Random,
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Alice,
    Bob,
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Suspend(u8),
    Resume(u8),
    Destroy(u8),
    DestroyTomorrow(u8),
    CancelDestruction(u8),
    Rotate(u8),
    RollBack(u8),
    DeactivateFirst(u8),
    DestroyFirst(u8),
    Label(u8),
    SuspendAlice,
    ResumeAlice,
    SuspendTenant,
    ResumeTenant,
    PutAnchor,
    RemoveAnchor,
    Missing,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Use(Who, u8, What),
    Batch(u8, u8),
    Order(Order),
    Query(bool),
    Housekeep,
    Day,
    TakeAway(bool),
    Turn(u8),
    Resolve(u8),
    Sync,
    HoldKeys(bool),
    HoldCommits(bool),
    HoldReads(bool),
    FailKeys(bool),
    FailCommit(u8),
    FailReads(u8),
    FailAppend,
    FillLog(bool),
    LoseLog,
    Crash(u8),
}

pub(super) fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        5 => (0..2u8).prop_map(Order::Suspend),
        4 => (0..2u8).prop_map(Order::Resume),
        1 => (0..2u8).prop_map(Order::Destroy),
        2 => (0..2u8).prop_map(Order::DestroyTomorrow),
        2 => (0..2u8).prop_map(Order::CancelDestruction),
        2 => (0..2u8).prop_map(Order::Rotate),
        1 => (0..2u8).prop_map(Order::RollBack),
        1 => (0..2u8).prop_map(Order::DeactivateFirst),
        1 => (0..2u8).prop_map(Order::DestroyFirst),
        1 => (0..2u8).prop_map(Order::Label),
        2 => Just(Order::SuspendAlice),
        2 => Just(Order::ResumeAlice),
        2 => Just(Order::SuspendTenant),
        2 => Just(Order::ResumeTenant),
        1 => Just(Order::PutAnchor),
        1 => Just(Order::RemoveAnchor),
        1 => Just(Order::Missing),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let who = prop_oneof![8 => Just(Who::Alice), 1 => Just(Who::Bob), 1 => Just(Who::Nobody)];
    let what = prop_oneof![
        3 => Just(What::Encrypt),
        2 => Just(What::Decrypt),
        1 => Just(What::DataKey),
        1 => Just(What::Random),
        1 => Just(What::Missing),
    ];
    prop_oneof![
        14 => (who, 0..2u8, what).prop_map(|(who, key, what)| Step::Use(who, key, what)),
        2 => (0..2u8, 1..4u8).prop_map(|(key, items)| Step::Batch(key, items)),
        12 => orders().prop_map(Step::Order),
        2 => any::<bool>().prop_map(Step::Query),
        3 => Just(Step::Housekeep),
        1 => Just(Step::Day),
        1 => any::<bool>().prop_map(Step::TakeAway),
        24 => any::<u8>().prop_map(Step::Turn),
        14 => any::<u8>().prop_map(Step::Resolve),
        4 => Just(Step::Sync),
        3 => any::<bool>().prop_map(Step::HoldKeys),
        3 => any::<bool>().prop_map(Step::HoldCommits),
        3 => any::<bool>().prop_map(Step::HoldReads),
        1 => any::<bool>().prop_map(Step::FailKeys),
        2 => (0..5u8).prop_map(Step::FailCommit),
        1 => (1..3u8).prop_map(Step::FailReads),
        1 => Just(Step::FailAppend),
        2 => any::<bool>().prop_map(Step::FillLog),
        1 => Just(Step::LoseLog),
        1 => (0..3u8).prop_map(Step::Crash),
    ]
}

pub(super) fn command(order: Order) -> Command {
    let key = |key: u8| KEYS[usize::from(key)];
    let alice = || "alice".parse().unwrap();
    let anchor = || "more".parse().unwrap();
    match order {
        Order::Suspend(number) => transition(key(number), Transition::Suspend),
        Order::Resume(number) => transition(key(number), Transition::Resume),
        Order::Destroy(number) => transition(key(number), Transition::Destroy(None)),
        Order::DestroyTomorrow(number) => {
            transition(key(number), Transition::Destroy(WaitingPeriod::of_days(1)))
        }
        Order::CancelDestruction(number) => transition(key(number), Transition::CancelDestruction),
        Order::Rotate(number) => Command::RotateKey(name(key(number))),
        Order::RollBack(number) => Command::RollBackKey(name(key(number))),
        Order::DeactivateFirst(number) => first(key(number), VersionVerb::Deactivate),
        Order::DestroyFirst(number) => first(key(number), VersionVerb::Destroy),
        Order::Label(number) => {
            Command::LabelKey { key: name(key(number)), labels: Labels::new(), expected: None }
        }
        Order::SuspendAlice => Command::SuspendCaller(alice()),
        Order::ResumeAlice => Command::ResumeCaller(alice()),
        Order::SuspendTenant => Command::SuspendTenant,
        Order::ResumeTenant => Command::ResumeTenant,
        Order::PutAnchor => Command::PutAnchor(Anchor {
            name: anchor(),
            certificate: Arc::from(&b"x"[..]),
            revocations: None,
        }),
        Order::RemoveAnchor => Command::RemoveAnchor(anchor()),
        Order::Missing => transition("missing", Transition::Suspend),
    }
}

/// An order about a key's first version.
fn first(key: &str, verb: VersionVerb) -> Command {
    Command::TransitionVersion { key: name(key), version: KeyVersion::FIRST, verb, without_inventory: true }
}

/// Which lifting order undoes a stop.
pub(super) fn lift_of(stop: Order) -> Option<Order> {
    match stop {
        Order::Suspend(key) => Some(Order::Resume(key)),
        Order::DestroyTomorrow(key) => Some(Order::CancelDestruction(key)),
        Order::SuspendAlice => Some(Order::ResumeAlice),
        Order::SuspendTenant => Some(Order::ResumeTenant),
        _ => None,
    }
}

/// Whether a stop is about a use for good: until it is lifted.
pub(super) fn concerns(stop: Order, who: Who, key: Option<u8>) -> bool {
    match stop {
        Order::Suspend(stopped) | Order::Destroy(stopped) | Order::DestroyTomorrow(stopped) => {
            key == Some(stopped)
        }
        Order::SuspendAlice => who == Who::Alice,
        Order::SuspendTenant => true,
        _ => false,
    }
}
