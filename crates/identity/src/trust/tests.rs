//! What a chain costs that was made to cost much.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
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

/// Every certificate of it says that an authority of this name issued it, and is one, and none is.
fn hostile_chain(name: &str) -> Vec<Box<[u8]>> {
    let (params, key) = authority(name);
    let issuer = Issuer::new(params, key);
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut chain = vec![leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()];
    for _ in 0..7 {
        let (params, key) = authority(name);
        chain.push(params.self_signed(&key).unwrap().der().to_vec());
    }
    chain.into_iter().map(Vec::into_boxed_slice).collect()
}

#[test]
fn no_chain_takes_more_signature_checks_than_so_many_however_many_anchors_there_are() {
    let anchors: Vec<_> = (0..8)
        .map(|_| {
            let (params, key) = authority("acme ca");
            let der = params.self_signed(&key).unwrap().der().to_vec();
            Anchor { name: "own".parse().unwrap(), certificate: Arc::from(&*der), revocations: None }
        })
        .collect();
    let checks = Checks::new();
    let found = Trust::new(&anchors).unwrap().verify_within(&checks, &hostile_chain("acme ca"), NOW);
    assert_eq!(found, Err(Reason::OtherAnchor));
    assert_eq!(checks.made(), checks::MAX_CHECKS, "a chain that would take more");
}
