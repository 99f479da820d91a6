//! Bearer tokens: the right secret of a live token, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "what fails here is a test"
)]

mod common;

use aws_lc_rs::digest::{SHA256, digest};
use common::*;
use holdfast_core::caller::{Authentication, CallerRecord, Token};
use holdfast_core::peer::Proof;
use holdfast_core::{Secret, TokenId};
use holdfast_identity::{Prepared, Reason};
use std::sync::Arc;

fn token(id: u8, secret: &[u8]) -> Token {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    Token {
        id: TokenId::from_bytes([id; 16]),
        hash,
        expires: at(100),
        form: holdfast_core::caller::TokenForm::Bearer,
    }
}

fn show(prepared: &Prepared, id: u8, secret: &[u8], now: i64) -> Result<(String, String), Reason> {
    let proof = Proof::Bearer { id: TokenId::from_bytes([id; 16]), secret: Secret::from(secret) };
    told(ask(prepared, &proof, at(now)))
}

#[test]
fn a_token_is_its_callers_until_it_expires() {
    let callers =
        [caller_with_token("payroll", token(1, b"alpha")), caller_with_token("web", token(2, b"beta"))];
    let prepared = prepare(&callers, &[]);
    assert_eq!(show(&prepared, 1, b"alpha", 0), is("payroll", "token"));
    assert_eq!(show(&prepared, 2, b"beta", 99), is("web", "token"));
    assert_eq!(show(&prepared, 1, b"alpha", 100), Err(Reason::Expired));
    assert_eq!(show(&prepared, 1, b"alpha", 10_000), Err(Reason::Expired));
    let proof = Proof::Bearer { id: TokenId::from_bytes([1; 16]), secret: Secret::from(&b"alpha"[..]) };
    let found = ask(&prepared, &proof, at(0)).unwrap();
    assert_eq!(found.valid_until, at(100));
    assert_eq!(found.authentication, Authentication::Bearer(TokenId::from_bytes([1; 16])));
}

#[test]
fn a_wrong_secret_and_an_unknown_token_are_one_and_the_same() {
    let callers =
        [caller_with_token("payroll", token(1, b"alpha")), caller_with_token("web", token(2, b"beta"))];
    let prepared = prepare(&callers, &[]);
    let hash = token(1, b"alpha").hash;
    for secret in [&b""[..], b"alph", b"alphaa", b"Alpha", b"beta", &hash, &[0; 32]] {
        assert_eq!(show(&prepared, 1, secret, 0), Err(Reason::Unknown));
        assert_eq!(show(&prepared, 9, secret, 0), Err(Reason::Unknown));
    }
    // Whoever does not know the secret does not learn that the token has expired.
    assert_eq!(show(&prepared, 1, b"beta", 10_000), Err(Reason::Unknown));
    assert_eq!(told(ask(&prepared, &Proof::None, at(0))), Err(Reason::NoProof));
}

#[test]
fn each_of_a_callers_tokens_is_its_own() {
    let record = caller_with_token("payroll", token(1, b"alpha"));
    let second = Token { expires: at(10), ..token(2, b"beta") };
    let record = Arc::new(CallerRecord {
        tokens: vec![record.tokens[0].clone(), second],
        ..CallerRecord::clone(&record)
    });
    let prepared = prepare(&[record], &[]);
    assert_eq!(show(&prepared, 1, b"alpha", 20), is("payroll", "token"));
    assert_eq!(show(&prepared, 2, b"beta", 9), is("payroll", "token"));
    assert_eq!(show(&prepared, 2, b"beta", 20), Err(Reason::Expired));
    assert_eq!(show(&prepared, 1, b"beta", 9), Err(Reason::Unknown));
}

#[test]
fn two_callers_never_share_a_token() {
    let callers =
        [caller_with_token("payroll", token(1, b"alpha")), caller_with_token("web", token(1, b"beta"))];
    assert_eq!(unprepared(&callers, &[]), "callers `payroll` and `web` share a token");
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}
