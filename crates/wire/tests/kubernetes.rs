//! The KMS v2 plugin API: messages as another encoder writes them, every refusal, and the table of codes that the page has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what fails here is a test"
)]

use holdfast_core::ErrorKind;
use holdfast_wire::kubernetes::grpc::{self, Code};
use holdfast_wire::kubernetes::{
    Call, DecryptRequest, EncryptRequest, MAX_CIPHERTEXT, MAX_KEY_ID, MAX_PLAINTEXT, code, decode,
    decrypt_response, encrypt_response, status_response,
};
use std::collections::BTreeMap;

const KEY_ID: &str = "holdfast:01JDCZRGZKA9Q6W8T2V4X6Y8Z0:3.4:1764288000000000";
const UID: &str = "2f0c1b9e-6f0e-4c5a-9d51-1a2b3c4d5e6f";
const CIPHERTEXT: &[u8] = b"\xff\0sealed";

fn seed() -> Vec<u8> {
    (0..32).collect()
}

/// The recorded bytes of a message.
fn recorded(name: &str) -> Vec<u8> {
    let all = include_str!("../../../fixtures/kubernetes/messages.txt");
    let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    let digits = line.trim_matches('-').as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn path(method: &str) -> String {
    format!("/v2.KeyManagementService/{method}")
}

#[test]
fn requests_of_another_encoder_are_read() {
    let body = |name| grpc::framed(&recorded(name));
    assert_eq!(decode(&path("Status"), &body("StatusRequest")), Ok(Call::Status));
    let plaintext = seed();
    let encrypt = Call::Encrypt(EncryptRequest { plaintext: &plaintext, uid: UID });
    assert_eq!(decode(&path("Encrypt"), &body("EncryptRequest")), Ok(encrypt));
    let decrypt = Call::Decrypt(DecryptRequest { ciphertext: CIPHERTEXT, uid: UID, key_id: KEY_ID });
    assert_eq!(decode(&path("Decrypt"), &body("DecryptRequest")), Ok(decrypt));
}

#[test]
fn responses_are_what_another_encoder_writes() {
    assert_eq!(status_response("ok", KEY_ID), recorded("StatusResponse"));
    assert_eq!(encrypt_response(CIPHERTEXT, KEY_ID), recorded("EncryptResponse"));
    assert_eq!(*decrypt_response(&seed()), recorded("DecryptResponse"));
}

#[test]
fn no_plaintext_is_printed() {
    let plaintext = b"hunter2";
    let shown = format!("{:?}", Call::Encrypt(EncryptRequest { plaintext, uid: UID }));
    assert!(shown.contains(UID) && !shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
}

/// A field of bytes or text with its number.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let (low, high) = ((value.len() & 0x7f) as u8 | 0x80, (value.len() >> 7) as u8);
    [&[number << 3 | 2, low, high], value].concat()
}

#[track_caller]
fn refused(method: &str, message: &[u8], with: Code, words: &str) {
    let refused = decode(&path(method), &grpc::framed(message)).unwrap_err();
    assert_eq!(refused.code, with, "{refused}");
    assert!(refused.words.contains(words), "{refused}");
}

#[test]
fn what_cannot_be_is_refused_with_its_code() {
    let uid = field(2, UID.as_bytes());
    let encrypt = |plaintext: &[u8]| [field(1, plaintext), uid.clone()].concat();
    assert!(decode(&path("Encrypt"), &grpc::framed(&encrypt(&[1; MAX_PLAINTEXT]))).is_ok());
    let invalid = Code::InvalidArgument;
    refused("Encrypt", &encrypt(&[1; MAX_PLAINTEXT + 1]), invalid, "longer than 512");
    refused("Encrypt", &uid, invalid, "`plaintext` is empty");
    refused("Encrypt", &encrypt(b""), invalid, "`plaintext` is empty");
    refused("Encrypt", &field(1, b"x"), invalid, "`uid` is empty");
    refused("Encrypt", &[field(1, b"x"), field(2, &[b'x'; 257])].concat(), invalid, "`uid` is longer");
    refused("Encrypt", &[field(1, b"x"), field(2, b"\xff")].concat(), invalid, "not of this method");
    refused("Encrypt", &[0x08, 1], invalid, "not of this method");

    let decrypt =
        |ciphertext: &[u8], key_id: &[u8]| [field(1, ciphertext), uid.clone(), field(3, key_id)].concat();
    let largest = decrypt(&[1; MAX_CIPHERTEXT], &[b'k'; MAX_KEY_ID]);
    assert!(decode(&path("Decrypt"), &grpc::framed(&largest)).is_ok());
    refused("Decrypt", &decrypt(&[1; MAX_CIPHERTEXT + 1], b"k"), invalid, "`ciphertext`");
    refused("Decrypt", &decrypt(b"", b"k"), invalid, "`ciphertext`");
    refused("Decrypt", &decrypt(b"c", b""), invalid, "`key_id`");
    refused("Decrypt", &decrypt(b"c", &[b'k'; MAX_KEY_ID + 1]), invalid, "`key_id`");
    refused("Decrypt", &[field(1, b"c"), field(3, b"k")].concat(), invalid, "`uid` is empty");
    refused("Decrypt", &recorded("DecryptRequest-annotated"), invalid, "`annotations`");
    refused("Status", b"\xff", invalid, "not of this method");
    // What a later version adds is passed over; none of it means anything here.
    assert_eq!(decode(&path("Status"), &grpc::framed(&field(9, b"new"))), Ok(Call::Status));

    for method in ["Version", "status", ""] {
        refused(method, b"", Code::Unimplemented, "KMS v2");
    }
    let v1 = decode("/v1beta1.KeyManagementService/Encrypt", &grpc::framed(b"")).unwrap_err();
    assert_eq!(v1.code, Code::Unimplemented);
}

/// Each kind stands in the page's table exactly once, with its code.
#[test]
fn the_page_has_the_code_of_every_kind() {
    let page = include_str!("../../../docs/protocols/kubernetes-kms.md");
    let (_, rest) = page.split_once("\n## Codes\n").unwrap();
    let mut told = BTreeMap::new();
    for line in rest.split("\n## ").next().unwrap().lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kinds, ..] = cells.as_slice() else { continue };
        for kind in kinds.split(", ").filter_map(|kind| kind.strip_prefix('`')?.strip_suffix('`')) {
            assert_eq!(told.insert(kind.to_owned(), name.trim_matches('`').to_owned()), None, "{kind}");
        }
    }
    let expected: BTreeMap<_, _> =
        ErrorKind::ALL.map(|kind| (kind.code().to_owned(), code(kind).name().to_owned())).into();
    assert_eq!(told, expected);
}

/// The numbers are gRPC's own (`statuscodes.md`).
#[test]
fn codes_have_their_numbers() {
    let all = [
        (Code::Ok, 0, "OK"),
        (Code::InvalidArgument, 3, "INVALID_ARGUMENT"),
        (Code::DeadlineExceeded, 4, "DEADLINE_EXCEEDED"),
        (Code::PermissionDenied, 7, "PERMISSION_DENIED"),
        (Code::ResourceExhausted, 8, "RESOURCE_EXHAUSTED"),
        (Code::FailedPrecondition, 9, "FAILED_PRECONDITION"),
        (Code::Unimplemented, 12, "UNIMPLEMENTED"),
        (Code::Internal, 13, "INTERNAL"),
        (Code::Unavailable, 14, "UNAVAILABLE"),
    ];
    for (code, number, name) in all {
        assert_eq!((code.number(), code.name()), (number, name));
    }
}
