//! What a chain costs that was made to cost much.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::iter;
use std::sync::Arc;

/// Within the time in which all of them are valid.
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, KeyPair::generate().unwrap())
}

type Chain = Vec<Box<[u8]>>;

fn boxed(chain: impl IntoIterator<Item = Vec<u8>>) -> Chain {
    chain.into_iter().map(Vec::into_boxed_slice).collect()
}

/// Says that an authority of one name has issued it, to another, and is one, and none has.
fn pretended(issuer: &str, subject: &str) -> Vec<u8> {
    let (params, key) = authority(issuer);
    let issuer = Issuer::new(params, key);
    let (params, key) = authority(subject);
    params.signed_by(&key, &issuer).unwrap().der().to_vec()
}

fn leaf(issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    leaf.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
}

fn leaf_of(issuer: &str) -> Vec<u8> {
    let (params, key) = authority(issuer);
    leaf(&Issuer::new(params, key))
}

fn anchor(der: &[u8]) -> Anchor {
    Anchor { name: "own".parse().unwrap(), certificate: Arc::from(der), revocations: None }
}

/// As many anchors of one name, and how the last of them issues.
fn namesakes(many: usize) -> (Vec<Anchor>, Issuer<'static, KeyPair>) {
    let mut last = None;
    let anchors = (0..many)
        .map(|_| {
            let (params, key) = authority("acme ca");
            let der = params.self_signed(&key).unwrap().der().to_vec();
            last = Some(Issuer::new(params, key));
            anchor(&der)
        })
        .collect();
    (anchors, last.unwrap())
}

/// What is found of a chain, and how many signatures that took.
fn examine(trust: &Trust, chain: &Chain) -> (Result<Timestamp, Reason>, u32) {
    let Some(meant) = trust.meant(chain) else { return (trust.verify(chain, NOW), 0) };
    let checks = Checks::of(meant.len());
    (trust.verify_within(&checks, &meant, chain, NOW), checks.made())
}

#[test]
fn no_chain_takes_more_signature_checks_than_so_many_for_each_anchor_that_it_leads_to() {
    // Two ways at each step, and at the end of each an authority of the anchors' name.
    let pairs = [("a", "b"), ("b", "c"), ("c", "acme ca")];
    let above = pairs.into_iter().flat_map(|(subject, issuer)| [(); 2].map(|()| pretended(issuer, subject)));
    let chain = boxed(iter::once(leaf_of("a")).chain(above).chain([pretended("acme ca", "acme ca")]));
    let (mut anchors, _) = namesakes(8);
    anchors.extend((0..8).map(|_| anchor(&pretended("other", "other"))));
    let (found, made) = examine(&Trust::new(&anchors).unwrap(), &chain);
    assert_eq!(found, Err(Reason::OtherAnchor));
    assert_eq!(made, checks::MAX_CHECKS + 8 * checks::OF_EACH, "a chain that would take more");
}

#[test]
fn whoever_has_many_anchors_of_one_name_lets_everybody_in_for_whom_one_of_them_vouches() {
    let (anchors, issuer) = namesakes(40);
    let root = anchors.last().unwrap().certificate.to_vec();
    let chain = boxed([leaf(&issuer), root]);
    assert!(Trust::new(&anchors).unwrap().verify(&chain, NOW).is_ok());
}

/// Each is a way to each other one: seven are thousands of paths, whether or not an anchor has that name.
#[test]
fn a_chain_with_more_than_two_authorities_of_one_name_is_not_searched() {
    let (anchors, issuer) = namesakes(1);
    let trust = Trust::new(&anchors).unwrap();
    let shown = |namesakes: usize| {
        boxed(iter::once(leaf(&issuer)).chain((0..namesakes).map(|_| pretended("other", "other"))))
    };
    assert!(trust.verify(&shown(2), NOW).is_ok());
    assert_eq!(examine(&trust, &shown(3)), (Err(Reason::OtherAnchor), 0));
}

#[test]
fn a_chain_that_is_too_long_or_has_what_is_no_certificate_is_not_searched() {
    let (anchors, issuer) = namesakes(1);
    let trust = Trust::new(&anchors).unwrap();
    let with = |length: usize| {
        let (mut params, key) = authority("other");
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 3], vec![0; length]));
        boxed([leaf(&issuer), params.self_signed(&key).unwrap().der().to_vec()])
    };
    assert!(trust.verify(&with(14 << 10), NOW).is_ok());
    assert_eq!(examine(&trust, &with(16 << 10)), (Err(Reason::OtherAnchor), 0));
    let none = boxed([leaf(&issuer), b"none".to_vec()]);
    assert_eq!(examine(&trust, &none), (Err(Reason::OtherAnchor), 0));
}
