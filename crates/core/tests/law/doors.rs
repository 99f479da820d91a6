//! Doors of protocols: a caller that is one's own comes through it and by no other way, whatever is shown.

use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{Rig, call, encrypt, new_key};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential};
use holdfast_core::command::{Command, Durability};
use holdfast_core::context::Context;
use holdfast_core::peer::{IssuedToken, Proof, ProviderCertificate};
use holdfast_core::pipeline::Inbound;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, Error, ErrorKind};

const ISSUER: &str = "https://idp.example";

fn caller(name: &str, kind: CallerKind, subject: Option<&str>) -> CallerRecord {
    CallerRecord {
        name: name.parse().unwrap(),
        kind,
        groups: vec![],
        credentials: vec![Credential::Issued { issuer: ISSUER.into(), subject: subject.map(Box::from) }],
        tokens: vec![],
        suspended: false,
    }
}

fn rig() -> Rig {
    let rig = Rig::under(
        "permit alice use *\npermit door use *\npermit ana use *\npermit kind:custodian administer *",
    );
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn register(rig: &Rig, record: CallerRecord) -> Result<(), Error> {
    now(rig.command("carol", Command::PutCaller(record))).map(drop)
}

fn encrypts(rig: &Rig, inbound: &Inbound<'_>) -> Result<(), ErrorKind> {
    now(rig.pipeline.use_key(inbound, call("kek", encrypt(b"1", Context::EMPTY))))
        .map(drop)
        .map_err(|error| error.kind())
}

fn about(rig: &Rig, subject: &str) -> IssuedToken {
    let now = rig.world.now();
    IssuedToken::examined(ISSUER.into(), Some(subject.into()), (now, now.plus_seconds(60)))
}

#[test]
fn a_doors_caller_is_let_in_by_no_other_way() {
    let rig = rig();
    register(&rig, caller("door", CallerKind::Application, None)).unwrap();
    let [alice, door]: [CallerName; 2] = ["alice", "door"].map(|name| name.parse().unwrap());
    let token = about(&rig, "somebody");
    let issued = || rig.inbound_with(&rig.acme, Proof::Issued(&token));
    assert_eq!((encrypts(&rig, &issued()), encrypts(&rig, &rig.inbound("alice"))), (Ok(()), Ok(())));
    rig.pipeline.reserve([&alice, &door].map(|it| (rig.acme.clone(), it.clone()))).unwrap();
    let unknown = Err(ErrorKind::Unauthenticated);
    assert_eq!((encrypts(&rig, &issued()), encrypts(&rig, &rig.inbound("alice"))), (unknown, unknown));
    let through = |only, inbound| encrypts(&rig, &Inbound { only: Some(only), ..inbound });
    assert_eq!(through(&door, issued()), Ok(()));
    assert_eq!(through(&alice, rig.inbound("alice")), Ok(()));
    // Each through its own.
    assert_eq!(through(&alice, issued()), unknown);
    assert_eq!(through(&door, rig.inbound("alice")), unknown);
    // It is said once.
    assert_eq!(rig.pipeline.reserve([]).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn who_has_a_registration_of_their_own_comes_through_a_door_like_anybody() {
    let rig = rig();
    register(&rig, caller("ana", CallerKind::Application, Some("ana"))).unwrap();
    let [ana, door]: [CallerName; 2] = ["ana", "door"].map(|name| name.parse().unwrap());
    let token = about(&rig, "ana");
    let through =
        |only| encrypts(&rig, &Inbound { only, ..rig.inbound_with(&rig.acme, Proof::Issued(&token)) });
    let who = || rig.log().last().text("caller.name").to_owned();
    assert_eq!(
        through(Some(&door)),
        Err(ErrorKind::Unauthenticated),
        "the door takes nobody of the issuer yet"
    );
    register(&rig, caller("door", CallerKind::Application, None)).unwrap();
    for (only, expected) in [(Some(&door), "door"), (Some(&ana), "ana"), (None, "ana")] {
        assert_eq!((through(only), who()), (Ok(()), expected.to_owned()));
    }
}

#[test]
fn a_stop_of_somebodys_own_registration_holds_at_a_door_that_takes_anybody() {
    let rig = || {
        let rig = rig();
        register(&rig, caller("ana", CallerKind::Application, Some("ana"))).unwrap();
        register(&rig, caller("door", CallerKind::Application, None)).unwrap();
        rig
    };
    let [ana, door]: [CallerName; 2] = ["ana", "door"].map(|name| name.parse().unwrap());
    let through = |rig: &Rig, subject| {
        let token = about(rig, subject);
        encrypts(rig, &Inbound { only: Some(&door), ..rig.inbound_with(&rig.acme, Proof::Issued(&token)) })
    };
    for stop in [Command::SuspendCaller(ana.clone()), Command::RemoveCaller(ana.clone())] {
        // What is under way when it comes.
        let rig = rig();
        let token = about(&rig, "ana");
        let inbound = Inbound { only: Some(&door), ..rig.inbound_with(&rig.acme, Proof::Issued(&token)) };
        rig.keys().performing.hold();
        let use_key = rig.pipeline.use_key(&inbound, call("kek", encrypt(b"1", Context::EMPTY)));
        let under_way = Task::begun(use_key);
        now(rig.command("carol", stop.clone())).unwrap();
        rig.keys().performing.release();
        assert_eq!(under_way.finish().map(drop).unwrap_err().kind(), ErrorKind::Stopped, "{stop:?}");
        assert_eq!(rig.log().last().summary(), "encrypt refused stopped");
    }
    // While it is in force alone, and for as long as it stands.
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let suspended = now(rig.command("carol", Command::SuspendCaller(ana.clone()))).unwrap();
    assert_eq!(suspended.durability, Durability::InForce);
    assert_eq!(through(&rig, "ana"), Err(ErrorKind::Stopped));
    now(rig.pipeline.keep_up()).unwrap();
    assert_eq!(through(&rig, "ana"), Err(ErrorKind::Stopped));
    let last = rig.log().last();
    assert_eq!((last.summary(), last.text("caller.name")), ("encrypt refused stopped".into(), "door".into()));
    let token = about(&rig, "ana");
    let inbound = Inbound { only: Some(&door), ..rig.inbound_with(&rig.acme, Proof::Issued(&token)) };
    let recognised = rig.pipeline.recognise(&inbound).unwrap();
    assert_eq!(rig.pipeline.standing(&recognised, &[]).unwrap_err().kind(), ErrorKind::Stopped);
    // Nobody else is stopped by it.
    assert_eq!(through(&rig, "bea"), Ok(()));
    now(rig.command("carol", Command::ResumeCaller(ana.clone()))).unwrap();
    assert_eq!(through(&rig, "ana"), Ok(()));
    // Whoever is removed is anybody of the issuer from then on, as the documents say: who is to stay out is suspended.
    now(rig.command("carol", Command::RemoveCaller(ana))).unwrap();
    assert_eq!(through(&rig, "ana"), Ok(()));
}

#[test]
fn nobody_who_administers_or_reads_is_anybody_of_an_issuer() {
    let rig = rig();
    for kind in [CallerKind::Custodian, CallerKind::Auditor] {
        let error = register(&rig, caller("any", kind, None)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", kind.name());
        register(&rig, caller(kind.name(), kind, Some(kind.name()))).unwrap();
    }
    register(&rig, caller("any", CallerKind::Application, None)).unwrap();
}

#[test]
fn a_providers_certificate_lets_in_its_doors_caller_alone_and_only_while_it_is_valid() {
    let rig = rig();
    register(&rig, CallerRecord { credentials: vec![], ..caller("door", CallerKind::Application, None) })
        .unwrap();
    let [door, nobody]: [CallerName; 2] = ["door", "nobody"].map(|name| name.parse().unwrap());
    let now_at = rig.world.now();
    let through = |only: Option<&CallerName>, valid: (u64, u64)| {
        let valid = (now_at.plus_seconds(valid.0), now_at.plus_seconds(valid.1));
        let certificate = ProviderCertificate::examined([7; 32], "hsm.example".into(), valid);
        let proof = Proof::Provider(&certificate);
        encrypts(&rig, &Inbound { only, ..rig.inbound_with(&rig.acme, proof) })
    };
    assert_eq!(through(Some(&door), (0, 60)), Ok(()));
    let event = rig.log().last().event();
    assert_eq!(event["caller"]["name"], "door");
    assert_eq!(event["caller"]["authentication"], "mtls");
    let unknown = Err(ErrorKind::Unauthenticated);
    for (only, valid) in
        [(None, (0, 60)), (Some(&nobody), (0, 60)), (Some(&door), (1, 60)), (Some(&door), (0, 0))]
    {
        assert_eq!(through(only, valid), unknown, "{only:?} {valid:?}");
    }
}

#[test]
fn a_providers_certificate_makes_nobody_more_than_an_application() {
    let rig = rig();
    for (kind, expected) in [
        (CallerKind::Application, Ok(())),
        (CallerKind::Custodian, Err(ErrorKind::Unauthenticated)),
        (CallerKind::Auditor, Err(ErrorKind::Unauthenticated)),
    ] {
        register(&rig, CallerRecord { credentials: vec![], ..caller(kind.name(), kind, None) }).unwrap();
        let door: CallerName = kind.name().parse().unwrap();
        let now_at = rig.world.now();
        let valid = (now_at, now_at.plus_seconds(60));
        let certificate = ProviderCertificate::examined([7; 32], "hsm.example".into(), valid);
        let inbound = rig.inbound_with(&rig.acme, Proof::Provider(&certificate));
        let inbound = Inbound { only: Some(&door), ..inbound };
        let found = rig.pipeline.recognise(&inbound).map(drop).map_err(|error| error.kind());
        assert_eq!(found, expected, "{}", kind.name());
    }
}
