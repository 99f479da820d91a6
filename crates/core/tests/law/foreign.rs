//! Ciphertexts of a protocol's own form: without our header, bound to what the protocol says, and to nothing that could be another's.

use crate::seen;
use holdfast_conformance::doubles::KeyFault;
use holdfast_conformance::rig::{Rig, context, decrypt, encrypt, name, new_key};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::frame::HEADER_LEN;
use holdfast_core::operation::{Associate, Operation};
use holdfast_core::pipeline::Inbound;
use holdfast_core::{Error, ErrorKind, KeyVersion, Protocol, Secret};

const GCM: Algorithm = Algorithm::Aes256Gcm;

/// Binds to what it is told to, and to the version behind it.
#[derive(Debug)]
struct To(Vec<u8>);

impl Associate for To {
    fn associated(&self, version: KeyVersion) -> Vec<u8> {
        [&self.0[..], &version.get().to_be_bytes()].concat()
    }

    fn brought(&self) -> &[u8] {
        &self.0
    }

    fn integrity(&self, version: KeyVersion, body: &[u8]) -> [u8; 32] {
        let mut value = [u8::try_from(version.get()).unwrap(); 32];
        value[1] = *body.last().unwrap();
        value
    }
}

fn seal(to: &[u8], checked: bool) -> Operation {
    let associated = Box::new(To(to.to_vec()));
    Operation::Seal { plaintext: Secret::from(&b"4711"[..]), associated, algorithms: &[GCM], checked }
}

fn open(body: &[u8], version: u32, to: &[u8]) -> Operation {
    let version = KeyVersion::new(version).unwrap();
    Operation::Open {
        body: body.to_vec(),
        version,
        associated: Box::new(To(to.to_vec())),
        algorithms: &[GCM],
    }
}

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(NewKey { purpose: Some(Purpose::Encrypt), ..new_key("kek", GCM) })).unwrap();
    rig
}

fn use_it(rig: &Rig, operation: Operation) -> Result<Vec<u8>, Error> {
    now(rig.bytes("alice", "kek", operation))
}

#[test]
fn it_opens_with_its_version_and_what_it_was_bound_to_alone() {
    for checked in [false, true] {
        let rig = rig();
        let sealed = use_it(&rig, seal(b"for you", checked)).unwrap();
        let ours = use_it(&rig, encrypt(b"4711", Context::EMPTY)).unwrap();
        assert_eq!(sealed.len() + HEADER_LEN, ours.len(), "no header");
        now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
        assert_eq!(use_it(&rig, open(&sealed, 1, b"for you")).unwrap(), b"4711");
        let mut seen_of = vec![];
        for (version, to) in [(1, &b"for me"[..]), (2, b"for you"), (9, b"for you"), (1, b"")] {
            let error = use_it(&rig, open(&sealed, version, to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity, "{version} {to:?}");
            seen_of.push(seen(&error));
        }
        for length in 0..sealed.len() {
            seen_of.push(seen(&use_it(&rig, open(&sealed[..length], 1, b"for you")).unwrap_err()));
        }
        seen_of.dedup();
        assert_eq!(seen_of.len(), 1, "{seen_of:?}");
    }
}

#[test]
fn the_event_commits_to_what_it_was_bound_to_and_hides_it() {
    let rig = rig();
    use_it(&rig, seal(b"for you", false)).unwrap();
    let event = rig.log().last().event();
    assert_eq!((&event["action"], &event["associated"]["bytes"]), (&"encrypt".into(), &7.into()));
    assert!(event["associated"]["hmac_sha256"].is_string() && !event.to_string().contains("for you"));
    // Also where there is nothing: that is said, too.
    use_it(&rig, seal(b"", false)).unwrap();
    assert_eq!(rig.log().last().event()["associated"]["bytes"], 0);
    use_it(&rig, encrypt(b"4711", Context::EMPTY)).unwrap();
    assert!(rig.log().last().event().get("associated").is_none());
}

/// What would make it another protocol's, or ours, is a defect of whoever asks so; nothing is encrypted then, and nothing opened.
#[test]
fn nothing_is_bound_as_a_ciphertext_of_ours_is() {
    let rig = rig();
    let ours = use_it(&rig, encrypt(b"4711", Context::EMPTY)).unwrap();
    let performed = rig.keys().performed().len();
    for to in [&b"holdfast/binding/v1\0"[..], b"holdfast/binding/v1\0\x01\x02"] {
        let error = use_it(&rig, seal(to, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let error = use_it(&rig, open(&ours[HEADER_LEN..], 1, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    assert_eq!(rig.keys().performed().len(), performed);
    assert_eq!(use_it(&rig, open(&ours[HEADER_LEN..], 1, b"")).unwrap_err().kind(), ErrorKind::Integrity);
    let sealed = use_it(&rig, seal(b"", false)).unwrap();
    let framed = [&ours[..HEADER_LEN], &sealed].concat();
    assert_eq!(use_it(&rig, decrypt(&framed, Context::EMPTY)).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn a_key_of_another_algorithm_is_not_used() {
    let rig = rig();
    now(rig.create(NewKey { purpose: Some(Purpose::Encrypt), ..new_key("x", Algorithm::Xaes256Gcm) }))
        .unwrap();
    for operation in [seal(b"", false), open(&[0; 32], 1, b"")] {
        assert_eq!(now(rig.bytes("alice", "x", operation)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn a_protocol_that_has_forms_for_several_algorithms_takes_keys_of_each() {
    let rig = rig();
    now(rig.create(NewKey { purpose: Some(Purpose::Encrypt), ..new_key("x", Algorithm::Xaes256Gcm) }))
        .unwrap();
    let algorithms = &[GCM, Algorithm::Xaes256Gcm];
    for key in ["kek", "x"] {
        let to = || Box::new(To(b"for you".to_vec()));
        let plaintext = Secret::from(&b"4711"[..]);
        let seal = Operation::Seal { plaintext, associated: to(), algorithms, checked: false };
        let body = now(rig.bytes("alice", key, seal)).unwrap();
        let open = Operation::Open { body, version: KeyVersion::FIRST, associated: to(), algorithms };
        assert_eq!(now(rig.bytes("alice", key, open)).unwrap(), b"4711");
    }
}

#[test]
fn what_is_checked_and_does_not_open_again_is_given_to_nobody() {
    let rig = rig();
    for faults in [
        &[KeyFault::Flip][..],
        &[KeyFault::Pass, KeyFault::Flip],
        &[KeyFault::Pass, KeyFault::Fail(ErrorKind::Integrity)],
    ] {
        faults.iter().for_each(|fault| rig.keys().fault(*fault));
        let error = use_it(&rig, seal(b"", true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{faults:?}");
        assert_eq!(error.to_string(), "what was encrypted does not open again");
        assert_eq!(rig.log().last().text("outcome"), "refused");
    }
    for faults in [&[KeyFault::WrongProduct][..], &[KeyFault::Pass, KeyFault::WrongProduct]] {
        faults.iter().for_each(|fault| rig.keys().fault(*fault));
        assert_eq!(use_it(&rig, seal(b"", true)).unwrap_err().kind(), ErrorKind::Internal, "{faults:?}");
    }
    // Unchecked, it is not noticed here.
    rig.keys().fault(KeyFault::Flip);
    let sealed = use_it(&rig, seal(b"", false)).unwrap();
    assert_eq!(use_it(&rig, open(&sealed, 1, b"")).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn what_the_protocol_says_is_recorded_and_binds_nothing() {
    let rig = rig();
    let says = context(&[("awsPrincipalArn", "arn:aws:iam::1:role/a")]);
    let inbound = Inbound { request: &says, protocol: Protocol::AwsXks, ..rig.inbound("alice") };
    let call = holdfast_conformance::rig::call("kek", seal(b"", false));
    now(rig.pipeline.use_key(&inbound, call)).unwrap();
    let event = rig.log().last().event();
    assert_eq!(event["protocol"]["says"]["awsPrincipalArn"], "arn:aws:iam::1:role/a");
    assert!(event.get("context").is_none());
    // Said otherwise, it opens all the same.
    let sealed = use_it(&rig, seal(b"", false)).unwrap();
    assert_eq!(use_it(&rig, open(&sealed, 1, b"")).unwrap(), b"4711");
}

#[test]
fn a_checked_ciphertext_comes_with_the_value_that_was_taken_of_it_and_no_other_does() {
    let rig = rig();
    let asked = |checked| {
        let inbound = rig.inbound("alice");
        let call = holdfast_conformance::rig::call("kek", seal(b"for you", checked));
        now(rig.pipeline.use_key(&inbound, call)).unwrap().into_parts().0
    };
    let answer = asked(true);
    let value = answer.integrity.unwrap();
    let body = holdfast_conformance::rig::bytes(answer);
    assert_eq!((value[0], value[1]), (1, *body.last().unwrap()));
    assert_eq!(asked(false).integrity, None);
}
