//! Changed bytes: whatever becomes of a certificate or a revocation list, nobody is taken for somebody else, and nothing panics.
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
use holdfast_core::port::Identify as _;
use holdfast_core::tenant::Anchor;
use holdfast_identity::{Prepared, Registrations};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A tenant with three callers, and the certificates of one of them: by name, by key, through an intermediate.
struct Scene {
    root: Authority,
    middle: Authority,
    leaf: Leaf,
    below: Leaf,
    revoked: Vec<u8>,
    prepared: Prepared,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let root = Authority::new("acme ca");
    let middle = root.below("acme issuing", |_| {});
    // One letter apart, so that a flipped bit makes one name of the other.
    let leaf = root.issue(&["uri:spiffe://acme/a", "dns:a.acme.example"]);
    let below = middle.issue(&["uri:spiffe://acme/a"]);
    let own = Leaf::self_signed(&["uri:spiffe://acme/c"], |_| {});
    let callers = [
        caller("a", &[uri("spiffe://acme/a"), leaf.pin()]),
        caller("b", &[uri("spiffe://acme/b"), dns("b.acme.example")]),
        caller("c", &[uri("spiffe://acme/c"), uri("spiffe://acme/`"), dns("c.acme.example"), own.pin()]),
    ];
    let revoked = root.revoke(&[77], 2);
    let prepared = prepare(&callers, &[root.anchor()]);
    Scene { root, middle, leaf, below, revoked, prepared }
});

/// Nobody, or the one whose certificate it was.
fn is_harmless(prepared: &Prepared, chain: &[&[u8]]) -> Result<(), String> {
    match told(who(prepared, chain, at(0))) {
        Err(_) => Ok(()),
        Ok((name, _)) if name == "a" => Ok(()),
        Ok((name, matched)) => Err(format!("taken for `{name}` by `{matched}`")),
    }
}

#[test]
fn no_changed_byte_of_a_certificate_makes_it_somebody_elses() {
    let Scene { leaf, below, middle, prepared, .. } = &*SCENE;
    for place in 0..leaf.der.len() {
        for mask in [1, 2, 3, 0x20, 0x80, 0xff] {
            let mut changed = leaf.der.clone();
            changed[place] ^= mask;
            is_harmless(prepared, &[&changed]).unwrap_or_else(|what| panic!("byte {place} ^ {mask}: {what}"));
        }
    }
    for place in 0..below.der.len() {
        let mut changed = below.der.clone();
        changed[place] ^= 3;
        is_harmless(prepared, &[&changed, &middle.der]).unwrap_or_else(|what| panic!("byte {place}: {what}"));
    }
}

#[test]
fn no_changed_byte_of_a_certificate_leaves_its_names_vouched_for() {
    let Scene { root, leaf, .. } = &*SCENE;
    // Without the pinned key, so that only the signature speaks for it.
    let prepared =
        prepare(&[caller("a", &[uri("spiffe://acme/a"), dns("a.acme.example")])], &[root.anchor()]);
    assert!(who(&prepared, &[&leaf.der], at(0)).is_ok());
    for place in 0..leaf.der.len() {
        let mut changed = leaf.der.clone();
        changed[place] ^= 1;
        assert!(who(&prepared, &[&changed], at(0)).is_err(), "byte {place}");
    }
}

#[test]
fn no_changed_byte_of_a_revocation_list_brings_a_certificate_back() {
    let Scene { root, leaf, revoked, .. } = &*SCENE;
    let callers = [caller("a", &[uri("spiffe://acme/a")])];
    let anchor = |list: &[u8]| Anchor { revocations: Some(list.into()), ..root.anchor() };
    for place in 0..revoked.len() {
        let mut changed = revoked.clone();
        changed[place] ^= 1;
        if let Ok(prepared) = Registrations::new(&holdfast_core::Secret::new(vec![7; 32]))
            .prepare(&callers, &[anchor(&changed)])
        {
            assert!(who(&prepared, &[&leaf.der], at(0)).is_err(), "byte {place}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_cut_out_and_put_in_is_harmless(
        from in 0usize..2000,
        length in 0usize..40,
        instead in proptest::collection::vec(any::<u8>(), 0..40),
        which in 0u8..3,
    ) {
        let Scene { leaf, below, middle, prepared, .. } = &*SCENE;
        let change = |der: &[u8]| {
            let from = from % der.len();
            let to = (from + length).min(der.len());
            [&der[..from], &instead, &der[to..]].concat()
        };
        let outcome = match which {
            0 => is_harmless(prepared, &[&change(&leaf.der)]),
            1 => is_harmless(prepared, &[&change(&below.der), &middle.der]),
            _ => is_harmless(prepared, &[&below.der, &change(&middle.der)]),
        };
        prop_assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn registrations_of_anything_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        from in 0usize..2000,
        mask in 1u8..,
    ) {
        let Scene { root, revoked, .. } = &*SCENE;
        let change = |der: &[u8]| {
            let mut changed = der.to_vec();
            let at = from % changed.len();
            changed[at] ^= mask;
            changed
        };
        for (certificate, list) in [
            (bytes.clone(), None),
            (root.der.clone(), Some(bytes)),
            (change(&root.der), Some(revoked.clone())),
            (root.der.clone(), Some(change(revoked))),
        ] {
            let anchor = Anchor {
                certificate: certificate.into(),
                revocations: list.map(Into::into),
                ..root.anchor()
            };
            let _either = Registrations::new(&holdfast_core::Secret::new(vec![7; 32])).prepare(&[], &[anchor]);
        }
    }
}
