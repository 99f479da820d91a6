//! Trust anchors: what they vouch for, through whom, and until when.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "what fails here is a test"
)]

mod common;

use common::*;
use holdfast_core::ErrorKind;
use holdfast_core::caller::CallerRecord;
use holdfast_core::port::Identify;
use holdfast_core::tenant::Anchor;
use holdfast_identity::{Reason, Registrations};
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints,
    SerialNumber,
};
use std::sync::Arc;

const NAME: &str = "uri:spiffe://acme/payroll";

fn payroll() -> [Arc<CallerRecord>; 1] {
    [caller("payroll", &[uri("spiffe://acme/payroll")])]
}

#[test]
fn a_revoked_certificate_is_refused_and_the_others_are_not() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&[NAME]);
    let other = ours.issue_with(&[NAME], |params| params.serial_number = Some(SerialNumber::from(78)));
    let prepared = prepare(&payroll(), &[ours.anchor_with(&ours.revoke(&[77], 2))]);
    assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::Revoked));
    let found = who(&prepared, &[&other.der], at(0)).unwrap();
    assert_eq!(found.valid_until, at(in_days(2)), "no longer than the revocation list");
    let prepared = prepare(&payroll(), &[ours.anchor_with(&ours.revoke(&[77], 90))]);
    assert_eq!(who(&prepared, &[&other.der], at(0)).unwrap().valid_until, at(in_days(3)));
}

#[test]
fn a_revocation_list_that_has_run_out_vouches_for_nobody() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&[NAME]);
    let prepared = prepare(&payroll(), &[ours.anchor_with(&ours.revoke(&[], 2))]);
    assert!(who(&prepared, &[&leaf.der], at(in_days(2) - 1)).is_ok());
    assert_eq!(told(who(&prepared, &[&leaf.der], at(in_days(2)))), Err(Reason::StatusUnknown));
}

/// Whichever of several vouches first: the next time each is asked again.
#[test]
fn what_one_anchor_says_ends_what_is_remembered_of_all() {
    let root = Authority::new("acme root");
    let issuing = root.below("acme ca", |_| {});
    let leaf = issuing.issue(&[NAME]);
    let anchors = [root.anchor(), issuing.anchor_with(&issuing.revoke(&[], 2))];
    for anchors in [anchors.clone(), {
        let [a, b] = anchors;
        [b, a]
    }] {
        let prepared = prepare(&payroll(), &anchors);
        let found = who(&prepared, &[&leaf.der, &issuing.der], at(0)).unwrap();
        assert_eq!(found.valid_until, at(in_days(2)));
    }
}

#[test]
fn a_forged_revocation_list_is_not_taken() {
    let (ours, impostor) = (Authority::new("acme ca"), Authority::new("acme ca"));
    let refused = unprepared(&payroll(), &[ours.anchor_with(&impostor.revoke(&[], 2))]);
    assert_eq!(refused, "trust anchor `own`: a revocation list that the authority's key has not signed");
    let list = ours.revoke(&[77], 2);
    for bit in [list.len() / 2, list.len() - 1] {
        let mut changed = list.clone();
        changed[bit] ^= 1;
        let refused = unprepared(&payroll(), &[ours.anchor_with(&changed)]);
        assert!(refused.starts_with("trust anchor `own`: "), "{refused}");
    }
    let unable = Authority::with("acme ca", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(
        unprepared(&payroll(), &[unable.anchor_with(&list)]),
        "trust anchor `own`: its certificate does not let it sign revocation lists"
    );
}

#[test]
fn a_revocation_list_gives_way_to_a_newer_one_only() {
    let (ours, other) = (Authority::new("acme ca"), Authority::new("globex ca"));
    let replace = |before: &Anchor, after: &Anchor| {
        Registrations::new(&holdfast_core::Secret::new(vec![7; 32]))
            .replace(before, after)
            .map_err(|error| (error.kind(), error.to_string()))
    };
    let numbered = |number| ours.anchor_with(&ours.list(number, &[77], 2));
    let older = "trust anchor `own`: its revocation list is newer than this one";
    assert_eq!(replace(&numbered(7), &numbered(6)), Err((ErrorKind::Conflict, older.to_owned())));
    for (before, after) in [
        (numbered(7), numbered(7)),
        (numbered(7), numbered(300)),
        (ours.anchor(), numbered(1)),
        (ours.anchor(), ours.anchor()),
        // Another authority counts for itself.
        (numbered(7), other.anchor_with(&other.list(1, &[], 2))),
    ] {
        assert_eq!(replace(&before, &after), Ok(()));
    }
    let lost = "trust anchor `own`: it has a revocation list, and would lose it";
    for after in [ours.anchor(), other.anchor()] {
        assert_eq!(replace(&numbered(7), &after), Err((ErrorKind::Conflict, lost.to_owned())));
    }
}

#[test]
fn one_authoritys_list_says_nothing_of_anothers_certificates() {
    let (ours, second) = (Authority::new("acme ca"), Authority::new("acme second ca"));
    let (leaf, other) = (ours.issue(&[NAME]), second.issue(&[NAME]));
    let prepared = prepare(&payroll(), &[ours.anchor_with(&ours.revoke(&[77], 2)), second.anchor()]);
    assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::Revoked));
    assert!(who(&prepared, &[&other.der], at(0)).is_ok(), "the same serial number of another authority");
    let prepared = prepare(&payroll(), &[second.anchor(), ours.anchor_with(&ours.revoke(&[77], 2))]);
    assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::Revoked), "in whatever order");
}

#[test]
fn whom_the_issuing_authority_revokes_no_anchor_above_it_vouches_for() {
    let root = Authority::new("acme root");
    let middle = root.below("acme issuing", |_| {});
    let leaf = middle.issue(&[NAME]);
    let who = |anchors: &[_], now| {
        told(who(&prepare(&payroll(), anchors), &[&leaf.der, &middle.der], now)).map(|_| ())
    };
    let revoking = middle.anchor_with(&middle.revoke(&[77], 2));
    let clearing = middle.anchor_with(&middle.revoke(&[], 2));
    for above in [root.anchor(), root.anchor_with(&root.revoke(&[], 2))] {
        for (list, now, expected) in [
            (&revoking, at(0), Err(Reason::Revoked)),
            (&clearing, at(0), Ok(())),
            (&clearing, at(in_days(2)), Err(Reason::StatusUnknown)),
        ] {
            assert_eq!(who(&[above.clone(), list.clone()], now), expected);
            assert_eq!(who(&[list.clone(), above.clone()], now), expected, "in whatever order");
        }
    }
}

#[test]
fn whoever_is_revoked_hides_that_behind_nothing_else_that_is_wrong_with_the_chain() {
    let root = Authority::new("acme root");
    let middle = root.below("acme issuing", |_| {});
    let leaf = middle.issue(&[NAME]);
    let own = |change: fn(&mut rcgen::CertificateParams)| Authority::with("acme issuing", change).der;
    let expired = vec![own(|params| params.not_after = days(-1))];
    let many: Vec<_> = (0..6).map(|_| own(|_| {})).collect();
    for until in [2, -1] {
        let anchors = [root.anchor(), middle.anchor_with(&middle.revoke(&[77], until))];
        for beside in [&expired, &many] {
            let mut chain = vec![&*leaf.der, &*middle.der];
            chain.extend(beside.iter().map(|der| &**der));
            let found = told(who(&prepare(&payroll(), &anchors), &chain, at(0)));
            assert!(matches!(found, Err(Reason::Revoked | Reason::OtherAnchor)), "{found:?}");
        }
    }
    // A list that has run out is hidden no better; one that clears them, and is whole, refuses nobody for what else is shown.
    let mut chain = vec![&*leaf.der, &*middle.der];
    chain.extend(expired.iter().map(|der| &**der));
    let ran_out = [root.anchor(), middle.anchor_with(&middle.revoke(&[], -1))];
    assert_eq!(told(who(&prepare(&payroll(), &ran_out), &chain, at(0))), Err(Reason::StatusUnknown));
    let clearing = [root.anchor(), middle.anchor_with(&middle.revoke(&[], 2))];
    assert!(who(&prepare(&payroll(), &clearing), &chain, at(0)).is_ok());
    // Another authority's list of the same name is none of this one's.
    let namesake = Authority::new("acme issuing");
    let anchors = [root.anchor(), namesake.anchor_with(&namesake.revoke(&[77], 2))];
    assert!(who(&prepare(&payroll(), &anchors), &[&leaf.der, &middle.der], at(0)).is_ok());
}

#[test]
fn an_intermediate_vouches_where_no_revocation_list_is_asked() {
    let root = Authority::new("acme root");
    let middle = root.below("acme issuing", |params| params.not_after = days(1));
    let leaf = middle.issue(&[NAME]);
    let prepared = prepare(&payroll(), &[root.anchor()]);
    let found = who(&prepared, &[&leaf.der, &middle.der], at(0)).unwrap();
    assert_eq!(found.valid_until, at(in_days(1)), "no longer than the intermediate");
    // Whatever else is shown beside it changes nothing.
    let stray = Authority::with("stray", |params| params.not_after = days(-1));
    let found = who(&prepared, &[&leaf.der, &stray.der, &middle.der, &root.der], at(0)).unwrap();
    assert_eq!(found.valid_until, at(in_days(1)));
    assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::OtherAnchor), "not shown");
    let late = at(in_days(1) + 1);
    assert_eq!(told(who(&prepared, &[&leaf.der, &middle.der], late)), Err(Reason::Expired));
}

#[test]
fn with_a_revocation_list_every_certificate_of_the_chain_must_be_covered() {
    let root = Authority::new("acme root");
    let middle = root.below("acme issuing", |params| params.serial_number = Some(SerialNumber::from(5)));
    let leaf = middle.issue(&[NAME]);
    let chain = [&*leaf.der, &middle.der];
    for revoked in [&[][..], &[5]] {
        let prepared = prepare(&payroll(), &[root.anchor_with(&root.revoke(revoked, 2))]);
        let refused = told(who(&prepared, &chain, at(0))).unwrap_err();
        assert!(matches!(refused, Reason::StatusUnknown | Reason::Revoked), "{refused}");
    }
    // The authority that issues is an anchor of its own then.
    let prepared = prepare(&payroll(), &[middle.anchor_with(&middle.revoke(&[], 2))]);
    assert!(who(&prepared, &chain, at(0)).is_ok());
    let prepared = prepare(&payroll(), &[middle.anchor_with(&middle.revoke(&[77], 2))]);
    assert_eq!(told(who(&prepared, &chain, at(0))), Err(Reason::Revoked));
}

#[test]
fn what_binds_an_intermediate_binds_what_it_issues() {
    let root = Authority::new("acme root");
    let prepared = prepare(&[caller("payroll", &[dns("payroll.acme.example")])], &[root.anchor()]);
    let only = |domain: &str| NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: vec![],
    };
    let name = "dns:payroll.acme.example";
    let allowed = root.below("partner", |params| params.name_constraints = Some(only("acme.example")));
    assert!(who(&prepared, &[&allowed.issue(&[name]).der, &allowed.der], at(0)).is_ok());
    let partner = root.below("partner", |params| params.name_constraints = Some(only("partner.example")));
    assert_eq!(
        told(who(&prepared, &[&partner.issue(&[name]).der, &partner.der], at(0))),
        Err(Reason::OtherAnchor)
    );
    let servers = root
        .below("servers", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(
        told(who(&prepared, &[&servers.issue(&[name]).der, &servers.der], at(0))),
        Err(Reason::OtherPurpose)
    );
    let short = root.below("short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.below("below", |_| {});
    assert!(who(&prepared, &[&short.issue(&[name]).der, &short.der], at(0)).is_ok());
    assert_eq!(
        told(who(&prepared, &[&below.issue(&[name]).der, &below.der, &short.der], at(0))),
        Err(Reason::OtherAnchor)
    );
}

#[test]
fn an_anchor_is_an_authoritys_certificate_and_nothing_else() {
    let ours = Authority::new("acme ca");
    let refused = "trust anchor `own`: not a certificate authority's certificate";
    let of = |der: &[u8]| holdfast_core::tenant::Anchor { certificate: der.into(), ..ours.anchor() };
    let leaf = ours.issue(&[NAME]);
    // Else that caller could vouch for all the others.
    assert_eq!(unprepared(&payroll(), &[of(&leaf.der)]), refused);
    assert_eq!(unprepared(&payroll(), &[of(&Leaf::self_signed(&[NAME], |_| {}).der)]), refused);
    let no_issuer = Authority::with("acme ca", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(unprepared(&payroll(), &[no_issuer.anchor()]), refused);
    for bad in [&b""[..], b"garbage", &[&*ours.der, b"\0"].concat(), &ours.revoke(&[], 2)] {
        assert_eq!(unprepared(&payroll(), &[of(bad)]), refused);
    }
}

#[test]
fn a_revocation_list_is_the_anchors_own_and_ends() {
    let ours = Authority::new("acme ca");
    let list = ours.revoke(&[77], 2);
    let of = |der: &[u8]| unprepared(&payroll(), &[ours.anchor_with(der)]);
    assert_eq!(
        of(&Authority::new("globex ca").revoke(&[], 2)),
        "trust anchor `own`: a revocation list of another authority"
    );
    for bad in [&b""[..], b"garbage", &ours.der, &list[..list.len() - 1]] {
        assert_eq!(of(bad), "trust anchor `own`: not a revocation list");
    }
    assert_eq!(
        of(&without_next_update(&list)),
        "trust anchor `own`: a revocation list without its next update"
    );
}

/// A revocation list without its `nextUpdate`; its signature fits no more, but nobody gets as far as that.
fn without_next_update(list: &[u8]) -> Vec<u8> {
    let outer = parts(value(list).0);
    let to_be_signed = parts(value(outer[0]).0);
    // version, signature, issuer, thisUpdate, nextUpdate, …
    assert_eq!((to_be_signed[3][0], to_be_signed[4][0]), (0x17, 0x17), "two points in time");
    let kept = [&to_be_signed[..4], &to_be_signed[5..]].concat();
    sequence(&[&[&*sequence(&kept)][..], &outer[1..]].concat())
}

/// What a DER value holds, and what follows it.
fn value(der: &[u8]) -> (&[u8], &[u8]) {
    let (from, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
    };
    der[from..].split_at(length)
}

fn parts(mut der: &[u8]) -> Vec<&[u8]> {
    let mut parts = vec![];
    while !der.is_empty() {
        let rest = value(der).1;
        parts.push(&der[..der.len() - rest.len()]);
        der = rest;
    }
    parts
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], &length[..], &body].concat()
}
