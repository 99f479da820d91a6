//! Who asks: nobody's requests are counted, a caller of one tenant is nobody in another, and proofs are examined again when they must be.

use crate::seen;
use holdfast_conformance::doubles::certificate;
use holdfast_conformance::rig::{AUTHORITY, POLICY, Rig, call, encrypt, new_key, people};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::Command;
use holdfast_core::context::Context;
use holdfast_core::peer::{Peer, Proof};
use holdfast_core::query::Query;
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, ErrorKind, Stage, TenantId};
use std::sync::Arc;

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn encrypt_with(rig: &Rig, tenant: &TenantId, proof: Proof<'_>) -> Result<(), Error> {
    let inbound = rig.inbound_with(tenant, proof);
    now(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY)))).map(|_| ())
}

#[test]
fn what_is_nobodys_is_counted_and_stands_in_no_tenants_log() {
    let rig = rig();
    let before = rig.log().entries().len();
    for _ in 0..3 {
        let error = encrypt_with(&rig, &rig.acme, Proof::None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    }
    let inbound = rig.inbound_with(&rig.acme, Proof::None);
    assert_eq!(
        now(rig.pipeline.query(&inbound, Query::Tenant)).unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    let inbound = rig.inbound_with(&rig.acme, Proof::None);
    let command = Command::SuspendTenant;
    assert_eq!(now(rig.pipeline.command(&inbound, command)).unwrap_err().kind(), ErrorKind::Unauthenticated);
    let inbound = rig.inbound_with(&rig.acme, Proof::None);
    let undecoded = Error::new(ErrorKind::Malformed, Stage::Decode, "garbage");
    assert_eq!(now(rig.pipeline.refuse_undecoded(&inbound, undecoded)).kind(), ErrorKind::Unauthenticated);
    assert_eq!(rig.log().entries().len(), before);
    now(rig.pipeline.housekeep()).unwrap();
    let written: Vec<_> = rig.log().entries().split_off(before);
    let [summary] = &written[..] else { panic!("one summary") };
    assert_eq!(summary.tenant.as_str(), "_gateway");
    assert_eq!(summary.text("action"), "noise");
    let told = ["context.count", "context.reason", "context.source"].map(|path| summary.text(path));
    assert_eq!(told, ["6", "unauthenticated", "192.0.2.0/24"]);
}

#[test]
fn noise_that_cannot_be_written_is_kept_and_written_later() {
    let rig = rig();
    assert!(encrypt_with(&rig, &rig.acme, Proof::None).is_err());
    rig.log().set_full(true);
    assert!(now(rig.pipeline.housekeep()).is_err());
    rig.log().set_full(false);
    rig.pipeline.count_noise(None, "malformed");
    now(rig.pipeline.housekeep()).unwrap();
    let counts: Vec<_> = rig.log().of("_gateway").iter().map(|entry| entry.text("context.count")).collect();
    assert_eq!(counts[counts.len() - 2..], ["1", "1"]);
}

#[test]
fn an_unknown_tenant_looks_like_an_unknown_caller() {
    let rig = rig();
    // Even when a port talks too much.
    rig.registry.chatter("the token of `alice` has expired");
    let nowhere = "nowhere".parse().unwrap();
    let tenant = encrypt_with(&rig, &nowhere, Proof::None).unwrap_err();
    let caller = encrypt_with(&rig, &rig.acme, Proof::None).unwrap_err();
    assert_eq!(seen(&tenant), seen(&caller));
    assert!(caller.chain().contains("has expired"), "the gateway's own log keeps the reason");
}

#[test]
fn another_tenants_credentials_are_nobodys_here() {
    let rig = rig();
    let mut inbound = rig.inbound_at(&rig.other, "alice");
    inbound.tenant = &rig.acme;
    let error = now(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"", Context::EMPTY)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    // Another tenant's authority, with the right name.
    let stranger = certificate("uri:spiffe://acme/alice", b"another's authority");
    assert!(encrypt_with(&rig, &rig.acme, Proof::Certificate(&stranger)).is_err());
    let own = certificate("uri:spiffe://acme/alice", AUTHORITY);
    assert!(encrypt_with(&rig, &rig.acme, Proof::Certificate(&own)).is_ok());
    assert!(encrypt_with(&rig, &rig.other, Proof::Certificate(&own)).is_err());
}

#[test]
fn the_operator_has_no_right_in_a_tenant() {
    let rig = rig();
    let mut inbound = rig.inbound_at(&rig.gateway, "olga");
    assert!(now(rig.pipeline.query(&inbound, Query::Status)).is_ok());
    inbound = rig.inbound_at(&rig.gateway, "olga");
    inbound.tenant = &rig.acme;
    assert_eq!(
        now(rig.pipeline.query(&inbound, Query::Tenant)).unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
}

fn examined(rig: &Rig, peer: &Peer) -> u64 {
    let before = rig.registry.examined();
    encrypt_with(rig, &rig.acme, Proof::Certificate(peer)).unwrap();
    rig.registry.examined() - before
}

#[test]
fn a_connections_certificate_is_examined_once_until_something_changes() {
    let rig = rig();
    let peer = certificate("uri:spiffe://acme/alice", AUTHORITY);
    assert_eq!((examined(&rig, &peer), examined(&rig, &peer)), (1, 0));
    // Any change of the tenant's callers, anchors or policy.
    let anchor =
        Anchor { name: "more".parse().unwrap(), certificate: Arc::from(&b"x"[..]), revocations: None };
    now(rig.command("carol", Command::PutAnchor(anchor))).unwrap();
    assert_eq!((examined(&rig, &peer), examined(&rig, &peer)), (1, 0));
    // What it proves lasts an hour, on a clock that may step back.
    rig.world.step(-7200);
    assert_eq!(examined(&rig, &peer), 0);
    rig.world.step(7200 + 3600);
    assert_eq!(examined(&rig, &peer), 1);
    now(rig.command("carol", Command::RemoveAnchor("own".parse().unwrap()))).unwrap();
    let error = encrypt_with(&rig, &rig.acme, Proof::Certificate(&peer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[test]
fn a_chain_that_proves_nothing_is_examined_once_in_a_while_and_not_for_each_request() {
    let rig = rig();
    let refused = |peer: &Peer, tenant: &TenantId| {
        let before = rig.registry.examined();
        let error = encrypt_with(&rig, tenant, Proof::Certificate(peer)).unwrap_err();
        (seen(&error), rig.registry.examined() - before)
    };
    let stranger = certificate("uri:spiffe://acme/alice", b"another's authority");
    let ((words, first), (again, second)) = (refused(&stranger, &rig.acme), refused(&stranger, &rig.acme));
    assert_eq!((first, second, &again), (1, 0, &words), "in the same words");
    // Another tenant is asked for itself, another connection too, and after a while they are asked again.
    assert_eq!(refused(&stranger, &rig.other).1, 1);
    assert_eq!(refused(&certificate("uri:spiffe://acme/alice", b"another's authority"), &rig.acme).1, 1);
    rig.world.pass(4);
    assert_eq!(refused(&stranger, &rig.acme).1, 0);
    rig.world.pass(2);
    assert_eq!(refused(&stranger, &rig.acme).1, 1);
    // A change of the tenant's anchors is not waited for.
    let anchor = Anchor {
        name: "more".parse().unwrap(),
        certificate: Arc::from(&b"another's authority"[..]),
        revocations: None,
    };
    now(rig.command("carol", Command::PutAnchor(anchor))).unwrap();
    assert_eq!((examined(&rig, &stranger), examined(&rig, &stranger)), (1, 0));
}

#[test]
fn whoever_is_refused_by_many_tenants_is_examined_for_no_more_of_them_for_a_while() {
    let rig = rig();
    let tenants: Vec<TenantId> = (0..12).map(|n| format!("tenant-{n}").parse().unwrap()).collect();
    for tenant in &tenants {
        let inbound = rig.inbound_at(&rig.gateway, "olga");
        let create = Command::CreateTenant(people(tenant.as_str(), POLICY, &rig.world));
        now(rig.pipeline.command(&inbound, create)).unwrap();
    }
    let own = certificate("uri:spiffe://acme/alice", AUTHORITY);
    assert_eq!(examined(&rig, &own), 1);
    let before = rig.registry.examined();
    for tenant in tenants.iter().chain(&tenants) {
        assert!(encrypt_with(&rig, tenant, Proof::Certificate(&own)).is_err());
    }
    assert_eq!(rig.registry.examined() - before, 8);
    // Where they are known they still are.
    assert_eq!(examined(&rig, &own), 0);
    rig.world.pass(5);
    assert!(encrypt_with(&rig, tenants.last().unwrap(), Proof::Certificate(&own)).is_err());
    assert_eq!(rig.registry.examined() - before, 9);
}

#[test]
fn a_known_callers_undecodable_request_is_recorded() {
    let rig = rig();
    let inbound = rig.inbound("alice");
    let error = Error::new(ErrorKind::TooLarge, Stage::Decode, "`plaintext` is too large");
    assert_eq!(now(rig.pipeline.refuse_undecoded(&inbound, error)).kind(), ErrorKind::TooLarge);
    let last = rig.log().last();
    assert_eq!(
        (last.summary(), last.text("caller.name")),
        ("undecoded refused too-large".into(), "alice".into())
    );
    rig.log().set_full(true);
    let inbound = rig.inbound("alice");
    let error = Error::new(ErrorKind::TooLarge, Stage::Decode, "`plaintext` is too large");
    assert_eq!(now(rig.pipeline.refuse_undecoded(&inbound, error)).kind(), ErrorKind::AuditUnavailable);
}
