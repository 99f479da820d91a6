//! A door that is open to everybody: what is public is told there as somebody's who has registered it, and nothing else is done.

use holdfast_conformance::rig::{
    Rig, bytes, call, data_key, decrypt, encrypt, name, new_key, sign, transition,
};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::Operation;
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Call, Inbound};
use holdfast_core::query::Query;
use holdfast_core::{CallerName, Error, ErrorKind};

const PUBLIC: Operation = Operation::PublicKey { version: None };

fn rig(policy: &str) -> Rig {
    let rig = Rig::under(policy);
    let purpose = Some(Purpose::Encrypt);
    now(rig.create(NewKey { purpose, ..new_key("rsa", Algorithm::Rsa2048) })).unwrap();
    rig
}

const POLICY: &str = "permit alice use *\npermit kind:custodian administer *\npermit kind:custodian read *";

fn through<'a>(rig: &'a Rig, only: Option<&'a CallerName>) -> Inbound<'a> {
    Inbound { only, ..rig.inbound_with(&rig.acme, Proof::Open) }
}

fn ask(rig: &Rig, only: Option<&str>, operation: Operation) -> Result<Vec<u8>, Error> {
    let only = only.map(|only| only.parse().unwrap());
    let inbound = through(rig, only.as_ref());
    Ok(bytes(now(rig.pipeline.use_key(&inbound, call("rsa", operation)))?.into_parts().0))
}

#[test]
fn what_is_public_is_told_to_everybody_and_the_log_says_that_it_was_nobody() {
    let rig = rig(POLICY);
    assert!(!ask(&rig, Some("alice"), PUBLIC).unwrap().is_empty());
    let event = rig.log().last().event();
    assert_eq!(
        (&event["caller"]["name"], &event["caller"]["authentication"]),
        (&"alice".into(), &"open".into())
    );
    assert_eq!((&event["action"], &event["outcome"]), (&"public-key".into(), &"success".into()));
}

#[test]
fn nothing_else_is_done_whatever_the_policy_says() {
    let rig = rig(POLICY);
    for operation in [
        encrypt(b"1", Context::EMPTY),
        decrypt(&[0; 256], Context::EMPTY),
        sign(b"1"),
        data_key(32, true, Context::EMPTY),
    ] {
        let performed = rig.keys().performed().len();
        assert_eq!(ask(&rig, Some("alice"), operation).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(rig.log().last().text("outcome"), "refused");
        assert_eq!(rig.keys().performed().len(), performed);
    }
    let alice = "alice".parse().unwrap();
    let inbound = through(&rig, Some(&alice));
    let random = now(rig.pipeline.use_key(&inbound, Call::Random { length: 8 })).unwrap_err();
    assert_eq!(random.kind(), ErrorKind::Denied);
    let read = now(rig.pipeline.query(&inbound, Query::Key(name("rsa")))).map(drop).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Denied);
    // Nor as anybody else, however much they may: there they are nobody, and no log is filled.
    let carol = "carol".parse().unwrap();
    let inbound = through(&rig, Some(&carol));
    let before = rig.log().entries().len();
    let unknown = ErrorKind::Unauthenticated;
    for command in [transition("rsa", Transition::Suspend), Command::RotateKey(name("rsa"))] {
        assert_eq!(now(rig.pipeline.command(&inbound, command)).unwrap_err().kind(), unknown);
    }
    let read = now(rig.pipeline.query(&inbound, Query::Key(name("rsa")))).map(drop).unwrap_err();
    assert_eq!(read.kind(), unknown);
    assert_eq!(ask(&rig, Some("carol"), PUBLIC).unwrap_err().kind(), unknown);
    assert_eq!(rig.log().entries().len(), before);
}

#[test]
fn it_is_open_only_as_whom_the_door_says_and_as_long_as_the_policy_and_nobody_stops_it() {
    let rig = rig(POLICY);
    for nobody in [None, Some("stranger")] {
        assert_eq!(ask(&rig, nobody, PUBLIC).unwrap_err().kind(), ErrorKind::Unauthenticated, "{nobody:?}");
    }
    let suspend = Command::SuspendCaller("alice".parse().unwrap());
    now(rig.command("carol", suspend)).unwrap();
    assert_eq!(ask(&rig, Some("alice"), PUBLIC).unwrap_err().kind(), ErrorKind::Stopped);
    let rig = self::rig("permit kind:custodian administer *");
    assert_eq!(ask(&rig, Some("alice"), PUBLIC).unwrap_err().kind(), ErrorKind::Denied);
}
