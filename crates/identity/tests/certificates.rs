//! Who is recognised by a certificate, and above all who is not.
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
use holdfast_core::caller::{Authentication, CallerRecord};
use holdfast_identity::{Reason, certificate_expiry, credential_from_certificate};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use std::sync::Arc;

#[test]
fn a_name_that_an_anchor_vouches_for_is_recognised() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&["uri:spiffe://acme/payroll", "dns:payroll.acme.example"]);
    for (credential, matched) in [
        (uri("spiffe://acme/payroll"), "uri:spiffe://acme/payroll"),
        (dns("payroll.acme.example"), "dns:payroll.acme.example"),
        (leaf.pin(), "key"),
    ] {
        let prepared = prepare(&[caller("payroll", &[credential])], &[ours.anchor()]);
        let found = who(&prepared, &[&leaf.der], at(0)).unwrap();
        assert_eq!(found.valid_until, at(in_days(3)));
        let Authentication::MutualTls { key_hash, .. } = &found.authentication else { panic!() };
        assert_eq!(*key_hash, Some(leaf.key_hash()));
        assert_eq!(told(Ok(found)), is("payroll", matched));
    }
}

#[test]
fn another_tenants_authority_vouches_for_nobody_here() {
    let (ours, theirs) = (Authority::new("acme ca"), Authority::new("globex ca"));
    let prepared = prepare(&[caller("payroll", &[uri("spiffe://acme/payroll")])], &[ours.anchor()]);
    let forged = theirs.issue(&["uri:spiffe://acme/payroll"]);
    assert_eq!(told(who(&prepared, &[&forged.der], at(0))), Err(Reason::OtherAnchor));
    assert_eq!(told(who(&prepared, &[&forged.der, &theirs.der], at(0))), Err(Reason::OtherAnchor));
    assert_eq!(told(who(&prepared, &[&forged.der, &ours.der], at(0))), Err(Reason::OtherAnchor));

    // One that has taken our authority's very name, and shows our authority's certificate with it.
    let impostor = Authority::new("acme ca");
    let forged = impostor.issue(&["uri:spiffe://acme/payroll"]);
    for chain in [&[&*forged.der][..], &[&forged.der, &ours.der], &[&forged.der, &impostor.der]] {
        assert_eq!(told(who(&prepared, chain, at(0))), Err(Reason::OtherAnchor));
    }
}

#[test]
fn a_certificate_that_its_holder_signed_proves_no_name() {
    let ours = Authority::new("acme ca");
    let prepared = prepare(&[caller("payroll", &[uri("spiffe://acme/payroll")])], &[ours.anchor()]);
    let alone = Leaf::self_signed(&["uri:spiffe://acme/payroll"], |_| {});
    assert_eq!(told(who(&prepared, &[&alone.der], at(0))), Err(Reason::OtherAnchor));
    let named = Leaf::self_signed(&["uri:spiffe://acme/payroll"], |params| {
        params.distinguished_name.push(DnType::CommonName, "acme ca");
    });
    assert_eq!(told(who(&prepared, &[&named.der], at(0))), Err(Reason::OtherAnchor));
    assert_eq!(told(who(&prepared, &[&named.der, &ours.der], at(0))), Err(Reason::OtherAnchor));
    let nobody = prepare(&[caller("payroll", &[uri("spiffe://acme/payroll")])], &[]);
    assert_eq!(told(who(&nobody, &[&alone.der], at(0))), Err(Reason::OtherAnchor));
}

#[test]
fn a_caller_cannot_issue_certificates_for_others() {
    let ours = Authority::new("acme ca");
    let callers =
        [caller("payroll", &[uri("spiffe://acme/payroll")]), caller("web", &[uri("spiffe://acme/web")])];
    let prepared = prepare(&callers, &[ours.anchor()]);
    let web = ours.issue(&["uri:spiffe://acme/web"]);
    assert_eq!(told(who(&prepared, &[&web.der], at(0))), is("web", "uri:spiffe://acme/web"));
    let forged = web.as_authority().issue(&["uri:spiffe://acme/payroll"]);
    assert_eq!(told(who(&prepared, &[&forged.der, &web.der], at(0))), Err(Reason::OtherAnchor));
}

#[test]
fn a_pinned_key_needs_no_authority_and_proves_nobody_elses_name() {
    let ours = Authority::new("acme ca");
    let own = Leaf::self_signed(&[], |params| params.extended_key_usages.clear());
    let prepared = prepare(&[caller("laptop", &[own.pin()])], &[]);
    assert_eq!(told(who(&prepared, &[&own.der], at(0))), is("laptop", "key"));

    // A name for which nobody vouches says nothing.
    let boasting = Leaf::self_signed(&["uri:spiffe://acme/payroll"], |_| {});
    let callers = [caller("laptop", &[boasting.pin()]), caller("payroll", &[uri("spiffe://acme/payroll")])];
    let prepared = prepare(&callers, &[ours.anchor()]);
    assert_eq!(told(who(&prepared, &[&boasting.der], at(0))), is("laptop", "key"));
}

#[test]
fn a_certificate_that_fits_two_callers_is_refused() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&["uri:spiffe://acme/payroll", "dns:web.acme.example"]);
    let payroll = caller("payroll", &[uri("spiffe://acme/payroll")]);
    let web = caller("web", &[dns("web.acme.example")]);
    let pinned = caller("laptop", &[leaf.pin()]);
    for two in [[&payroll, &web], [&payroll, &pinned], [&pinned, &web], [&web, &payroll]] {
        let prepared = prepare(&two.map(Arc::clone), &[ours.anchor()]);
        assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::Ambiguous));
    }
    // Three credentials of one caller are no ambiguity.
    let all = [leaf.pin(), uri("spiffe://acme/payroll"), dns("web.acme.example")];
    let prepared = prepare(&[caller("payroll", &all)], &[ours.anchor()]);
    assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), is("payroll", "key"));
}

#[test]
fn a_certificate_counts_in_its_own_time_only() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&["uri:spiffe://acme/payroll"]);
    for credential in [uri("spiffe://acme/payroll"), leaf.pin()] {
        let prepared = prepare(&[caller("payroll", &[credential])], &[ours.anchor()]);
        for (seconds, is_valid) in [
            (in_days(-2) - 1, false),
            (in_days(-2), true),
            (in_days(3) - 1, true),
            (in_days(3), false),
            (in_days(30), false),
        ] {
            let found = told(who(&prepared, &[&leaf.der], at(seconds)));
            assert_eq!(found.as_ref().err(), (!is_valid).then_some(&Reason::Expired), "{seconds}");
        }
    }
    assert_eq!(certificate_expiry(&leaf.der), Some(at(in_days(3)).seconds()));
    assert_eq!(certificate_expiry(b"no certificate"), None);
}

#[test]
fn only_a_certificate_for_clients_proves_a_name() {
    let ours = Authority::new("acme ca");
    let prepared = prepare(&[caller("payroll", &[uri("spiffe://acme/payroll")])], &[ours.anchor()]);
    for (purposes, is_recognised) in [
        (vec![], false),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], false),
        (vec![ExtendedKeyUsagePurpose::Any], false),
        (vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth], true),
    ] {
        let leaf =
            ours.issue_with(&["uri:spiffe://acme/payroll"], |params| params.extended_key_usages = purposes);
        let found = told(who(&prepared, &[&leaf.der], at(0)));
        assert_eq!(found.err(), (!is_recognised).then_some(Reason::OtherPurpose));
    }
}

#[test]
fn dns_names_are_compared_without_case_and_wildcards_never() {
    let ours = Authority::new("acme ca");
    for registered in ["payroll.acme.example", "Payroll.ACME.example"] {
        let prepared = prepare(&[caller("payroll", &[dns(registered)])], &[ours.anchor()]);
        for shown in ["dns:payroll.acme.example", "dns:PAYROLL.acme.Example"] {
            let leaf = ours.issue(&[shown]);
            assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), is("payroll", "dns:payroll.acme.example"));
        }
        for other in [
            "dns:*.acme.example",
            "dns:acme.example",
            "dns:x.payroll.acme.example",
            "dns:payroll.acme.example.",
        ] {
            let leaf = ours.issue(&[other]);
            assert_eq!(told(who(&prepared, &[&leaf.der], at(0))).ok(), None, "{other}");
        }
    }
    // Not even where somebody has managed to register one.
    let prepared = prepare(&[caller("all", &[dns("*.acme.example")])], &[ours.anchor()]);
    for shown in ["dns:*.acme.example", "dns:payroll.acme.example"] {
        let leaf = ours.issue(&[shown]);
        assert_eq!(told(who(&prepared, &[&leaf.der], at(0))).ok(), None, "{shown}");
    }
}

#[test]
fn uris_are_compared_byte_by_byte() {
    let ours = Authority::new("acme ca");
    let prepared = prepare(&[caller("payroll", &[uri("spiffe://acme/payroll")])], &[ours.anchor()]);
    for other in [
        "spiffe://ACME/payroll",
        "spiffe://acme/payroll/",
        "spiffe://acme/payroll/x",
        "spiffe://acme/p%61yroll",
    ] {
        let leaf = ours.issue(&[&format!("uri:{other}")]);
        assert_eq!(told(who(&prepared, &[&leaf.der], at(0))), Err(Reason::Unknown), "{other}");
    }
}

#[test]
fn no_other_part_of_a_certificate_names_its_holder() {
    let ours = Authority::new("acme ca");
    let callers =
        [caller("payroll", &[dns("payroll.acme.example")]), caller("web", &[uri("web@acme.example")])];
    let prepared = prepare(&callers, &[ours.anchor()]);
    let by_subject = ours.issue_with(&["dns:other.acme.example"], |params| {
        params.distinguished_name.push(DnType::CommonName, "payroll.acme.example");
    });
    assert_eq!(told(who(&prepared, &[&by_subject.der], at(0))), Err(Reason::Unknown));
    let by_subject = ours.issue_with(&[], |params| {
        params.distinguished_name.push(DnType::CommonName, "payroll.acme.example");
    });
    assert_eq!(told(who(&prepared, &[&by_subject.der], at(0))), Err(Reason::Unknown));
    let by_mail = ours.issue(&["email:web@acme.example"]);
    assert_eq!(told(who(&prepared, &[&by_mail.der], at(0))), Err(Reason::Unknown));
    // A DNS name is no URI, and the other way round.
    let as_uri = ours.issue(&["uri:payroll.acme.example"]);
    assert_eq!(told(who(&prepared, &[&as_uri.der], at(0))), Err(Reason::Unknown));
}

#[test]
fn what_is_no_certificate_is_nobody() {
    let prepared = prepare(&[], &[Authority::new("acme ca").anchor()]);
    assert_eq!(told(who(&prepared, &[], at(0))), Err(Reason::NoProof));
    let leaf = Authority::new("acme ca").issue(&["uri:a:b"]);
    let longer = [&*leaf.der, b"\0"].concat();
    for bad in [&b""[..], b"garbage", &leaf.der[1..], &leaf.der[..leaf.der.len() - 1], &longer] {
        assert_eq!(told(who(&prepared, &[bad], at(0))), Err(Reason::Malformed));
        assert_eq!(credential_from_certificate(bad).unwrap_err().to_string(), "not a certificate");
    }
    let many: Vec<String> = (0..65).map(|number| format!("uri:spiffe://acme/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let crowded = Authority::new("acme ca").issue(&many);
    assert_eq!(told(who(&prepared, &[&crowded.der], at(0))), Err(Reason::Malformed));
}

#[test]
fn a_suspended_caller_is_recognised_so_that_its_attempts_are_recorded() {
    let ours = Authority::new("acme ca");
    let leaf = ours.issue(&["uri:spiffe://acme/payroll"]);
    let record = caller("payroll", &[uri("spiffe://acme/payroll")]);
    let record = Arc::new(CallerRecord { suspended: true, ..CallerRecord::clone(&record) });
    let found = who(&prepare(&[record], &[ours.anchor()]), &[&leaf.der], at(0)).unwrap();
    assert!(found.record.suspended);
}

#[test]
fn two_callers_never_share_a_credential() {
    let hash = holdfast_core::caller::Credential::KeyHash([7; 32]);
    for (one, other) in [
        (uri("spiffe://acme/x"), uri("spiffe://acme/x")),
        (dns("x.acme.example"), dns("X.acme.Example")),
        (hash.clone(), hash),
    ] {
        let callers = [
            caller("payroll", core::slice::from_ref(&one)),
            caller("web", &[uri("spiffe://acme/web"), other.clone()]),
        ];
        assert_eq!(unprepared(&callers, &[]), "callers `payroll` and `web` share a credential");
        // Of one caller, twice the same is no harm.
        prepare(&[caller("payroll", &[one, other])], &[]);
    }
}

#[test]
fn what_a_certificate_says_can_be_read_to_register_it() {
    let leaf = Authority::new("acme ca").issue(&[
        "dns:Payroll.acme.example",
        "dns:*.acme.example",
        "uri:spiffe://acme/payroll",
    ]);
    let facts = credential_from_certificate(&leaf.der).unwrap();
    assert_eq!(
        (facts.dns, facts.uris),
        (vec!["payroll.acme.example".to_owned()], vec!["spiffe://acme/payroll".to_owned()])
    );
    assert_eq!((facts.not_before, facts.not_after), (at(in_days(-2)), at(in_days(3))));
    assert!(facts.for_clients);
}
