//! Frames, written and read again.

use super::*;
use proptest::prelude::*;

const ID: Id = [7; 16];
const HASHES: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

fn requests() -> Vec<Request<'static>> {
    let nonce = [9; NONCE_LEN];
    let mut all = vec![
        Request::Probe,
        Request::Random { length: 32 },
        Request::Destroy { id: ID, label: "" },
        Request::Destroy { id: ID, label: "acme/salaries/2" },
        Request::Seal { id: ID, nonce, aad: b"aad", plaintext: b"plain" },
        Request::Open { id: ID, nonce, aad: b"", ciphertext: b"sealed" },
        Request::Wrap { id: ID, padded: true, bytes: b"b" },
        Request::Unwrap { id: ID, padded: false, body: b"b" },
        Request::RsaDecrypt { id: ID, padding: RsaPadding::Pkcs1v15, label: b"", body: b"b" },
        Request::Sign { id: ID, scheme: SignatureScheme::Ed25519, input: b"message" },
        Request::Sign { id: ID, scheme: SignatureScheme::MlDsa65, input: b"" },
        Request::Agree { id: ID, peer: b"point" },
        Request::RsaBare { id: ID, body: b"b" },
    ];
    all.extend(Algorithm::ALL.iter().map(|algorithm| Request::Generate {
        algorithm: *algorithm,
        id: ID,
        label: "acme/salaries/1",
        travels: algorithm.is_asymmetric(),
    }));
    all.push(Request::BringIn {
        algorithm: Algorithm::Rsa2048,
        id: ID,
        label: "acme/salaries/2",
        travels: true,
        carrier: &[8; 32],
        wrapped: b"wrapped",
        modulus: b"modulus",
        exponent: b"exponent",
    });
    for (id, label, private) in
        [(b"\x01".as_slice(), "legacy", true), (b"", "legacy", false), (b"\x01", "", false)]
    {
        let object = Object { id, label, private };
        all.extend([
            Request::LookUp { object },
            Request::PointOut { id: ID, object },
            Request::DestroyExisting { id: ID, object },
        ]);
    }
    all.push(Request::WrapOut { id: ID, private: true });
    all.push(Request::UnwrapIn {
        algorithm: Algorithm::Rsa2048,
        id: ID,
        label: "acme/salaries/1",
        wrapped: b"wrapped",
        modulus: b"modulus",
        exponent: b"exponent",
    });
    for hash in HASHES {
        all.push(Request::Mac { id: ID, hash, message: b"m" });
        for scheme in
            [SignatureScheme::RsaPss(hash), SignatureScheme::RsaPkcs1v15(hash), SignatureScheme::Ecdsa(hash)]
        {
            all.push(Request::Sign { id: ID, scheme, input: b"digest" });
        }
        let padding = RsaPadding::Oaep { hash, mgf1: Hash::Sha1 };
        all.push(Request::RsaDecrypt { id: ID, padding, label: b"label", body: b"b" });
    }
    all
}

fn replies() -> Vec<Reply<'static>> {
    let evidence = Evidence::from_byte(0b10111).unwrap();
    assert!(evidence.is_confined());
    vec![
        Reply::Done(b"result"),
        Reply::Made(Made { evidence, public: b"public", exponent: b"\x01\x00\x01" }),
        Reply::Welcome(Welcome {
            manufacturer: "m",
            model: "o",
            serial: "s",
            firmware: "2.6",
            mechanisms: b"12345678",
            kek: b"fingerprint",
            confined: 2,
            through_itself: true,
        }),
        Reply::Existing(Existing {
            evidence,
            uses: Uses::ENCRYPT.with(Uses::DECRYPT),
            key_type: 0x1f,
            length: 32,
            parameters: b"curve",
            id: b"\x01",
            label: "legacy",
            public: b"public",
            exponent: b"\x01\x00\x01",
        }),
        Reply::Refused(Refusal::NotOne(b"\x01\x07\x00")),
        Reply::Refused(Refusal::Integrity),
        Reply::Refused(Refusal::Malformed),
        Reply::Refused(Refusal::Unsupported),
        Reply::Refused(Refusal::NoSuchKey),
        Reply::Refused(Refusal::Gone),
        Reply::Refused(Refusal::Busy),
        Reply::Refused(Refusal::Pin("C_Login: CKR_PIN_INCORRECT")),
        Reply::Refused(Refusal::Fault("C_Sign: CKR_GENERAL_ERROR")),
    ]
}

fn body(buffer: &Buffer) -> &[u8] {
    let (head, body) = buffer.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*head) as usize, body.len());
    body
}

#[test]
fn what_is_written_is_read_again_and_nothing_shorter_or_longer() {
    let mut buffer = Buffer::default();
    for (number, request) in (0..).zip(requests()) {
        request.encode(number, &mut buffer).unwrap();
        let frame = body(&buffer);
        assert_eq!(Request::decode(frame), Ok((number, request)));
        for length in 0..frame.len() {
            assert_eq!(Request::decode(&frame[..length]), Err(NotAFrame), "{request:?} cut to {length}");
        }
        assert_eq!(Request::decode(&[frame, &[0]].concat()), Err(NotAFrame));
        assert_eq!(Reply::decode(frame), Err(NotAFrame), "no request is a reply");
    }
    for (number, reply) in (0..).zip(replies()) {
        reply.encode(number, &mut buffer).unwrap();
        let frame = body(&buffer);
        assert_eq!(Reply::decode(frame), Ok((number, reply.clone())));
        for length in 0..frame.len() {
            assert_eq!(Reply::decode(&frame[..length]), Err(NotAFrame), "{reply:?} cut to {length}");
        }
        assert_eq!(Reply::decode(&[frame, &[0]].concat()), Err(NotAFrame));
        assert_eq!(Request::decode(frame), Err(NotAFrame), "no reply is a request");
    }
    let hello = Hello {
        module: "/m.so",
        token: "t",
        pin: b"1234",
        kek: "k",
        closed: b"/d\0",
        sessions: 4,
        processors: 2,
    };
    hello.encode(&mut buffer).unwrap();
    assert_eq!(Hello::decode(body(&buffer)), Ok(hello));
    assert_eq!(Hello::decode(&body(&buffer)[..9]), Err(NotAFrame));
}

#[test]
fn a_longer_frame_is_not_written() {
    let mut buffer = Buffer::default();
    let message = vec![0; MAX_FRAME];
    assert_eq!(
        Request::Mac { id: ID, hash: Hash::Sha256, message: &message }.encode(1, &mut buffer),
        Err(NotAFrame)
    );
    let fits = &message[..1 << 20];
    Request::Mac { id: ID, hash: Hash::Sha256, message: fits }.encode(1, &mut buffer).unwrap();
}

#[test]
fn only_what_never_came_out_is_confined() {
    let confined: Vec<u8> =
        (0..=u8::MAX).filter(|byte| Evidence::from_byte(*byte).is_some_and(Evidence::is_confined)).collect();
    assert_eq!(confined, [0b10111, 0b11_0111, 0b101_0111, 0b111_0111]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let mut buffer = Buffer::default();
        if let Ok((number, request)) = Request::decode(&bytes) {
            request.encode(number, &mut buffer).unwrap();
            prop_assert_eq!(body(&buffer), &bytes);
        }
        if let Ok((number, reply)) = Reply::decode(&bytes) {
            reply.encode(number, &mut buffer).unwrap();
            prop_assert_eq!(body(&buffer), &bytes);
        }
    }
}
