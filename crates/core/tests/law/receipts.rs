//! Receipts: signed for what is durable, given for results and refusals alike, and only to who asked.

use holdfast_conformance::rig::{Rig, call, encrypt, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::pipeline::Inbound;
use holdfast_core::query::Query;
use holdfast_core::receipt::{LeafHash, SignedReceipt, Statement};

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn asking<'a>(rig: &'a Rig, who: &str) -> Inbound<'a> {
    Inbound { wants_receipt: true, ..rig.inbound(who) }
}

/// What the log signs for its newest record: the double's signature is the statement itself.
fn of_the_last(rig: &Rig) -> SignedReceipt {
    let last = rig.log().last();
    let index = u64::try_from(rig.log().of("acme").len()).unwrap() - 1;
    let statement = Statement { operation: last.operation(), index, leaf: LeafHash::of(&last.bytes) };
    SignedReceipt::new(format!("acme {statement:?}"))
}

#[test]
fn who_asks_gets_one_for_a_result_a_refusal_a_command_and_a_query() {
    let rig = rig();
    let encrypt = || call("kek", encrypt(b"data", Context::EMPTY));
    let (_, receipt, _) = now(rig.pipeline.use_key(&asking(&rig, "alice"), encrypt())).unwrap().into_parts();
    assert_eq!(receipt, Some(of_the_last(&rig)));
    let refused = now(rig.pipeline.use_key(&asking(&rig, "bob"), encrypt())).unwrap_err();
    assert_eq!(refused.receipt(), Some(&of_the_last(&rig)));
    let suspend = transition("kek", Transition::Suspend);
    let (_, receipt, _) = now(rig.pipeline.command(&asking(&rig, "carol"), suspend)).unwrap().into_parts();
    assert_eq!(receipt, Some(of_the_last(&rig)), "of the outcome");
    let refused = now(rig.pipeline.command(&asking(&rig, "carol"), transition("kek", Transition::Activate)))
        .unwrap_err();
    assert_eq!(refused.receipt(), Some(&of_the_last(&rig)));
    let (_, receipt, _) =
        now(rig.pipeline.query(&asking(&rig, "audrey"), Query::Tenant)).unwrap().into_parts();
    assert_eq!(receipt, Some(of_the_last(&rig)));
    let refused = now(rig.pipeline.query(&asking(&rig, "bob"), Query::Tenant)).unwrap_err();
    assert_eq!(refused.receipt(), Some(&of_the_last(&rig)));
}

#[test]
fn each_item_of_a_batch_has_its_own() {
    let rig = rig();
    let items = ["kek", "none"]
        .map(|key| (rig.pipeline.new_operation().unwrap(), Ok(call(key, encrypt(b"data", Context::EMPTY)))));
    let results = now(rig.pipeline.use_keys(&asking(&rig, "alice"), items.into())).unwrap();
    let [Ok(released), Err(refused)] = &results[..] else { panic!("{results:?}") };
    assert_eq!(refused.receipt(), Some(&of_the_last(&rig)));
    assert!(released.receipt.is_some());
    assert_ne!(released.receipt.as_ref(), refused.receipt());
}

#[test]
fn nobody_else_gets_one() {
    let rig = rig();
    let (_, receipt, _) =
        now(rig.release("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap().into_parts();
    assert_eq!(receipt, None);
    assert_eq!(now(rig.bytes("bob", "kek", encrypt(b"data", Context::EMPTY))).unwrap_err().receipt(), None);
}

#[test]
fn nothing_is_signed_before_it_is_durable() {
    let rig = rig();
    rig.log().hold();
    let inbound = asking(&rig, "bob");
    let refused = Task::begun(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY))));
    assert_eq!(rig.log().attested(), 0);
    rig.log().fail(rig.log().waiting()[0]);
    assert_eq!(refused.finish().unwrap_err().receipt(), None);
    assert_eq!(rig.log().attested(), 0);
}
