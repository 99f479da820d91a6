//! Both sides of the wire against each other: what a client asks is what core is asked; what core answers is what the client reads.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what fails here is a test"
)]

use holdfast_core::algorithm::{Algorithm, Hash, Purpose, RsaPadding, SignatureScheme};
use holdfast_core::caller::{CallerKind, CallerRecord, Credential, Token, TokenForm};
use holdfast_core::command::{Command, Done, Durability, Outcome};
use holdfast_core::context::Context;
use holdfast_core::destruction::{Destruction, Erasure, WaitingPeriod};
use holdfast_core::emergency::{CopyState, InForce, OpenRequest, SealedShare};
use holdfast_core::frame::Commitment;
use holdfast_core::import::Past;
use holdfast_core::inventory::Inventory;
use holdfast_core::key::{Custody, Key, Legacy, SealedHandle, Version};
use holdfast_core::lifecycle::{KeyState, Transition, VersionVerb};
use holdfast_core::operation::{Answer, Operation, Output};
use holdfast_core::port::Page;
use holdfast_core::query::{AuditPath, Found, Query, Traces};
use holdfast_core::receipt::SignedReceipt;
use holdfast_core::schedule::{RotationPeriod, Schedule};
use holdfast_core::sealing_key::{SealingKeyId, SealingKeyState};
use holdfast_core::tenant::TakenBackup;
use holdfast_core::{
    Epoch, Error, ErrorKind, KeyId, KeyName, KeyVersion, MemberName, OperationId, Protocol, Secret, Stage,
    TenantId, Timestamp, TokenId,
};
use holdfast_wire::native::client::{self, Failure, Request};
use holdfast_wire::native::encode::{self, Backups, Body, Encoded, Response};
use holdfast_wire::native::field::{
    Bounded, Bytes, CertificateBytes, ContextPairs, CredentialText, CrlBytes, LabelMap, LegacyList, List,
    Name, ObjectLabel, PolicyText, ReasonText, SecretBytes, VersionNumber, Word,
};
use holdfast_wire::native::message::{self, UseRequest};
use holdfast_wire::native::{Call, decode_any, token};
use proptest::prelude::*;
use std::sync::Arc;

const OPERATION: OperationId = OperationId::from_bytes([7; 16]);

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn key() -> KeyName {
    "payroll".parse().unwrap()
}

/// What the gateway makes of a client's request.
fn received<T>(request: &Request<T>) -> Call {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let body = request.body.as_ref().map_or(&[][..], |body| body.as_bytes());
    decode_any(request.method.name(), path, query, body).unwrap()
}

fn operation<T>(request: &Request<T>) -> Operation {
    match received(request) {
        Call::Use { tenant: whose, key: which, operation } => {
            assert_eq!((whose, which), (tenant(), key()));
            operation
        }
        other => panic!("{other:?}"),
    }
}

fn command<T>(request: &Request<T>) -> Command {
    match received(request) {
        Call::Command { tenant: whose, command } => {
            assert_eq!(whose, tenant());
            command
        }
        other => panic!("{other:?}"),
    }
}

fn query<T>(request: &Request<T>) -> Query {
    match received(request) {
        Call::Query { tenant: whose, query } => {
            assert_eq!(whose, tenant());
            query
        }
        other => panic!("{other:?}"),
    }
}

fn answered<T: serde::de::DeserializeOwned>(request: &Request<T>, output: Output) -> (T, bool) {
    let answer =
        Answer { output, algorithm: Some(Algorithm::Rsa2048), version: KeyVersion::new(9), integrity: None };
    let response = encode::answer(OPERATION, Ok(answer));
    let is_secret = matches!(response.body, Body::Secret(_));
    (request.parse(response.status, response.body.as_bytes()).unwrap(), is_secret)
}

fn context(pairs: &[(&str, &str)]) -> Context {
    Context::new(pairs.iter().map(|(name, value)| (Box::from(*name), Box::from(*value))).collect()).unwrap()
}

proptest! {
    #[test]
    fn encrypt_and_decrypt(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        name in "\\PC{1,20}",
        value: String,
        version in 1_u32..,
    ) {
        let bound = context(&[(&name, &value)]);
        let encrypt = message::Encrypt {
            plaintext: SecretBytes(Secret::from(&bytes[..])),
            context: Some(ContextPairs(bound.clone())),
            padding: None,
        };
        let request = client::use_key(&tenant(), &key(), &encrypt);
        match operation(&request) {
            Operation::Encrypt { plaintext, context, padding: None } => {
                prop_assert_eq!(plaintext.expose(), &bytes[..]);
                prop_assert_eq!(context, bound.clone());
            }
            other => panic!("{other:?}"),
        }
        let (answer, is_secret) = answered(&request, Output::Ciphertext(bytes.clone()));
        prop_assert_eq!(&answer.ciphertext, &Bytes(bytes.clone()));
        prop_assert_eq!((answer.algorithm, answer.key_version.0.get(), is_secret), (Word(Algorithm::Rsa2048), 9, false));

        let decrypt = message::Decrypt {
            ciphertext: Bytes(bytes.clone()),
            context: Some(ContextPairs(bound.clone())),
            padding: Some(Word(RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha1 })),
            key_version: KeyVersion::new(version).map(VersionNumber),
        };
        let request = client::use_key(&tenant(), &key(), &decrypt);
        match operation(&request) {
            Operation::Decrypt { ciphertext, context, padding, bare } => {
                prop_assert_eq!(&ciphertext, &bytes);
                prop_assert_eq!(context, bound);
                prop_assert_eq!(padding, Some(RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha1 }));
                prop_assert_eq!(bare, KeyVersion::new(version));
            }
            other => panic!("{other:?}"),
        }
        let (answer, is_secret) = answered(&request, Output::Plaintext(Secret::from(&bytes[..])));
        prop_assert_eq!(answer.plaintext.0.expose(), &bytes[..]);
        prop_assert!(is_secret);
    }
}

#[test]
fn the_other_uses() {
    let bytes = || Bytes(b"some bytes".to_vec());
    let secret = || SecretBytes(Secret::from(&b"some bytes"[..]));
    let ask = |request: &dyn Fn() -> Operation| format!("{:?}", request());
    let some = format!("{:?}", b"some bytes".to_vec());
    let none = format!("{:?}", Context::EMPTY);

    let wrap =
        message::Wrap { plaintext: secret(), context: None, padding: Some(Word(RsaPadding::Pkcs1v15)) };
    let request = client::use_key(&tenant(), &key(), &wrap);
    assert_eq!(operation(&request).input(), b"some bytes");
    assert_eq!(
        ask(&|| operation(&request)),
        format!("Wrap {{ bytes: Secret(10 bytes), context: {none}, padding: Some(Pkcs1v15) }}")
    );

    let unwrap = message::Unwrap { ciphertext: bytes(), context: None, padding: None, key_version: None };
    let request = client::use_key(&tenant(), &key(), &unwrap);
    assert_eq!(
        ask(&|| operation(&request)),
        format!("Unwrap {{ ciphertext: {some}, context: {none}, padding: None, bare: None }}")
    );

    let data_key = message::DataKey { length: None, with_plaintext: None, context: None };
    let request = client::use_key(&tenant(), &key(), &data_key);
    assert_eq!(
        ask(&|| operation(&request)),
        format!("DataKey {{ length: 32, with_plaintext: true, context: {none} }}")
    );
    let output = |plaintext| Output::DataKey { ciphertext: b"some bytes".to_vec(), plaintext };
    assert!(matches!(answered(&request, output(None)), (answer, false) if answer.plaintext.is_none()));
    assert!(
        matches!(answered(&request, output(Some(secret().0))), (answer, true) if answer.plaintext == Some(secret()))
    );
    let data_key = message::DataKey { length: Some(Bounded(64)), with_plaintext: Some(false), context: None };
    let request = client::use_key(&tenant(), &key(), &data_key);
    assert!(matches!(operation(&request), Operation::DataKey { length: 64, with_plaintext: false, .. }));

    let rewrap = message::Rewrap {
        ciphertext: bytes(),
        context: None,
        target_key: Some(Name("other".parse().unwrap())),
    };
    let request = client::use_key(&tenant(), &key(), &rewrap);
    assert!(
        matches!(operation(&request), Operation::Rewrap { target: Some(target), .. } if target.as_str() == "other")
    );

    let scheme = SignatureScheme::RsaPss(Hash::Sha512);
    let sign = message::Sign { message: None, digest: Some(bytes()), scheme: Some(Word(scheme)) };
    let request = client::use_key(&tenant(), &key(), &sign);
    assert_eq!(
        ask(&|| operation(&request)),
        format!("Sign {{ message: {some}, is_digest: true, scheme: Some(RsaPss(Sha512)) }}")
    );
    let (answer, _) = answered(&request, Output::Signature(bytes().0, scheme));
    assert_eq!((answer.signature, answer.scheme), (bytes(), Word(scheme)));

    let verify = message::Verify {
        signature: Bytes(b"a signature".to_vec()),
        message: Some(bytes()),
        digest: None,
        scheme: None,
        key_version: KeyVersion::new(3).map(VersionNumber),
    };
    let request = client::use_key(&tenant(), &key(), &verify);
    let signature = format!("{:?}", b"a signature".to_vec());
    assert_eq!(
        ask(&|| operation(&request)),
        format!(
            "Verify {{ message: {some}, is_digest: false, scheme: None, signature: {signature}, version: Some(KeyVersion(3)) }}"
        )
    );
    assert!(!answered(&request, Output::Valid(false)).0.valid);

    let mac = message::Mac { message: bytes() };
    let request = client::use_key(&tenant(), &key(), &mac);
    assert!(matches!(operation(&request), Operation::Mac { message } if message == b"some bytes"));
    assert_eq!(answered(&request, Output::Mac(bytes().0)).0.mac, bytes());

    let verify_mac =
        message::VerifyMac { message: bytes(), mac: Bytes(b"a code".to_vec()), key_version: None };
    let request = client::use_key(&tenant(), &key(), &verify_mac);
    assert!(
        matches!(operation(&request), Operation::VerifyMac { mac, version: None, .. } if mac == b"a code")
    );

    let agree = message::Agree { peer_public_key: bytes(), key_version: None };
    let request = client::use_key(&tenant(), &key(), &agree);
    assert!(matches!(operation(&request), Operation::Agree { peer, version: None } if peer == b"some bytes"));
    assert!(
        matches!(answered(&request, Output::SharedSecret(secret().0)), (answer, true) if answer.shared_secret == secret())
    );

    let request = client::use_key(&tenant(), &key(), &message::Encapsulate {});
    assert!(matches!(operation(&request), Operation::Encapsulate));
    let output = Output::Encapsulated { ciphertext: bytes().0, secret: secret().0 };
    assert!(
        matches!(answered(&request, output), (answer, true) if answer.ciphertext == bytes() && answer.shared_secret == secret())
    );

    let decapsulate =
        message::Decapsulate { ciphertext: bytes(), key_version: KeyVersion::new(2).map(VersionNumber) };
    let request = client::use_key(&tenant(), &key(), &decapsulate);
    assert!(
        matches!(operation(&request), Operation::Decapsulate { version: Some(version), .. } if version.get() == 2)
    );

    let request = client::public_key(&tenant(), &key(), KeyVersion::new(2));
    assert!(
        matches!(operation(&request), Operation::PublicKey { version: Some(version) } if version.get() == 2)
    );
    let (answer, _) = answered(&request, Output::PublicKey(bytes().0.into()));
    assert_eq!(
        answer.public_key_pem.unwrap(),
        "-----BEGIN PUBLIC KEY-----\nc29tZSBieXRlcw==\n-----END PUBLIC KEY-----\n"
    );

    let request = client::random(&tenant(), &message::Random { length: Bounded(16) });
    assert!(matches!(received(&request), Call::Random { length: 16, .. }));
    assert!(
        matches!(answered(&request, Output::Random(secret().0)), (answer, true) if answer.random == secret())
    );
}

#[test]
fn an_encapsulation_key_has_no_pem() {
    let output = Output::PublicKey(vec![1, 2, 3].into());
    let answer =
        Answer { output, algorithm: Some(Algorithm::MlKem768), version: KeyVersion::new(1), integrity: None };
    let response = encode::answer(OPERATION, Ok(answer));
    let answer: message::PublicKeyAnswer = client::parse(response.status, response.body.as_bytes()).unwrap();
    assert!(answer.public_key_pem.is_none());
}

#[test]
fn a_batch() {
    let item = |name: &str, request| message::BatchItem { key: Name(name.parse().unwrap()), request };
    let plaintext = || SecretBytes(Secret::from(&b"hunter2"[..]));
    let batch = message::Batch {
        items: vec![
            item(
                "a",
                UseRequest::Encrypt(message::Encrypt {
                    plaintext: plaintext(),
                    context: None,
                    padding: None,
                }),
            ),
            item("b", UseRequest::Mac(message::Mac { message: Bytes(b"m".to_vec()) })),
            item("c", UseRequest::Encapsulate(message::Encapsulate {})),
        ],
    };
    let request = client::batch(&tenant(), &batch);
    let Call::Batch { items, .. } = received(&request) else { panic!("no batch") };
    let asked: Vec<_> = items
        .iter()
        .map(|item| item.as_ref().map(|(key, operation)| (key.as_str(), operation.action().name())).unwrap())
        .collect();
    assert_eq!(asked, [("a", "encrypt"), ("b", "mac"), ("c", "encapsulate")]);

    let answer = |output| {
        Ok(Answer {
            output,
            algorithm: Some(Algorithm::Xaes256Gcm),
            version: KeyVersion::new(1),
            integrity: None,
        })
    };
    let denied = Err(Error::new(ErrorKind::Denied, Stage::Decide, "policy `p` forbids"));
    let receipt = || Some(SignedReceipt::new("signed\n"));
    let encrypted = answer(Output::Ciphertext(vec![1])).map(|answer| (answer, receipt()));
    let results = vec![(OPERATION, encrypted), (OPERATION, denied)];
    let response = encode::batch(results);
    assert!(matches!(response.body, Body::Plain(_)));
    let read = request.parse(response.status, response.body.as_bytes()).unwrap();
    let [first, second] = &read.items[..] else { panic!("{read:?}") };
    assert_eq!((first.status, first.operation_id.0), (200, OPERATION));
    assert_eq!(first.result.as_ref().unwrap().ciphertext, Some(Bytes(vec![1])));
    assert_eq!((first.receipt.as_deref(), second.receipt.as_deref()), (Some("signed\n"), None));
    assert_eq!((second.status, second.result.is_none()), (403, true));
    assert_eq!(second.problem.as_ref().unwrap().error_kind(), Some(ErrorKind::Denied));

    let response = encode::batch(vec![(
        OPERATION,
        answer(Output::Plaintext(plaintext().0)).map(|answer| (answer, None)),
    )]);
    assert!(matches!(response.body, Body::Secret(_)));
}

fn a_key() -> (Key, Version) {
    let id = KeyId::from_bytes([1; 16]);
    let key = Key {
        id,
        tenant: tenant(),
        name: key(),
        algorithm: Algorithm::EcdsaP256,
        purpose: Purpose::Sign,
        state: KeyState::Suspended,
        resumes_to: KeyState::Active,
        exportable: true,
        legacy: Legacy { rsa_pkcs1_decrypt: false, sha1_oaep: true },
        emergency_copy: true,
        protocol: Some(Protocol::AwsXks),
        labels: [("team".into(), "finance".into())].into(),
        newest: KeyVersion::new(4).unwrap(),
        current: KeyVersion::new(3).unwrap(),
        waits: true,
        schedule: Some(Schedule {
            period: RotationPeriod::of_days(90).unwrap(),
            due: Timestamp::from_micros(1_803_000_000_000_000),
        }),
        inventory: Some(Arc::new(Inventory {
            newest: KeyVersion::new(4).unwrap(),
            needed: vec![KeyVersion::new(4).unwrap()],
            items: 1200,
            sha256: [7; 32],
            recorded: Timestamp::from_micros(1_795_460_599_000_000),
        })),
        destruction: Some(Destruction {
            state: KeyState::Deactivated,
            resumes_to: KeyState::Active,
            ordered: Timestamp::from_micros(1_803_000_000_000_000),
            period: WaitingPeriod::of_days(7).unwrap(),
            up: 5,
        }),
        erasure: Some(Arc::new(
            Erasure::begun(
                (Timestamp::from_micros(7), 1),
                None,
                ["a", "b"].map(|name| name.parse().unwrap()),
            )
            .after(&["b".parse().unwrap()]),
        )),
        custody: Custody::Software,
        archive: None,
        renewed: 0,
        created: Timestamp::from_micros(1_795_460_597_123_456),
        epoch: Epoch(12),
    };
    let version = Version {
        key: id,
        number: KeyVersion::new(4).unwrap(),
        state: KeyState::Active,
        handle: SealedHandle::new(b"hunter2: a handle is nobody's business"),
        public: Some(vec![4, 5, 6].into()),
        commitment: commitment(),
        commit: 7,
        created: Timestamp::from_micros(1_795_460_598_000_000),
    };
    (key, version)
}

fn commitment() -> Commitment {
    Commitment(*b"hunter2: a commitment is neither")
}

fn a_caller() -> CallerRecord {
    CallerRecord {
        name: "pay".parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec!["payments".parse().unwrap()],
        credentials: vec![
            Credential::Uri("spiffe://acme/pay".into()),
            Credential::KeyHash([0xab; 32]),
            Credential::Issued {
                issuer: "https://idp.acme".into(),
                subject: Some("repo:acme/pay:ref".into()),
            },
            Credential::Issued { issuer: "https://idp.acme".into(), subject: None },
        ],
        tokens: vec![Token {
            id: TokenId::from_bytes([2; 16]),
            hash: *b"hunter2: a hash of a token's key",
            expires: Timestamp::from_micros(5),
            form: TokenForm::Bearer,
        }],
        suspended: false,
    }
}

fn done<T: serde::de::DeserializeOwned>(request: &Request<T>, done: Done) -> T {
    let response =
        encode::outcome(201, Outcome { done, durability: Durability::InForce }, Backups::Verified(Some(3)));
    assert!(!String::from_utf8_lossy(response.body.as_bytes()).contains("hunter2"));
    request.parse(response.status, response.body.as_bytes()).unwrap()
}

fn response(encoded: Encoded) -> Response {
    match encoded {
        Encoded::Response(response) => {
            assert!(!String::from_utf8_lossy(response.body.as_bytes()).contains("hunter2"));
            response
        }
        other @ (Encoded::Status | Encoded::Pool) => panic!("{other:?}"),
    }
}

fn found<T: serde::de::DeserializeOwned>(request: &Request<T>, found: Found) -> T {
    let response = response(encode::found(found, Backups::NotKept));
    request.parse(response.status, response.body.as_bytes()).unwrap()
}

#[test]
fn keys() {
    let create = message::CreateKey {
        name: Name(key()),
        algorithm: Some(Word(Algorithm::Rsa3072)),
        purpose: Some(Word(Purpose::Encrypt)),
        exportable: Some(true),
        legacy: Some(LegacyList(Legacy { rsa_pkcs1_decrypt: true, sha1_oaep: false })),
        labels: Some(LabelMap([("a".into(), "b".into())].into())),
        prepared: Some(true),
        emergency_copy: Some(true),
        protocol: Some(Word(Protocol::AwsXks)),
    };
    let request = client::create_key(&tenant(), &create);
    match command(&request) {
        Command::CreateKey(new) => {
            assert_eq!(
                (new.name, new.algorithm, new.purpose),
                (key(), Some(Algorithm::Rsa3072), Some(Purpose::Encrypt))
            );
            assert!(new.emergency_copy && new.protocol == Some(Protocol::AwsXks));
            assert!(new.exportable && new.prepared && new.legacy.rsa_pkcs1_decrypt && !new.legacy.sha1_oaep);
            assert_eq!(new.labels.get("a").map(|value| &**value), Some("b"));
        }
        other => panic!("{other:?}"),
    }
    let (record, version) = a_key();
    let shown = done(&request, Done::Key(Box::new(record.clone()), Arc::new(version.clone())));
    assert_eq!((shown.name.0, shown.id.0, shown.epoch), (record.name.clone(), record.id, 12));
    assert_eq!((shown.state.0, shown.newest_version.0), (KeyState::Suspended, record.newest));
    assert_eq!(shown.current_version, Some(VersionNumber(record.current)));
    assert_eq!((shown.waits_for_backup, shown.emergency_copy), (Some(true), Some(true)));
    assert_eq!(shown.protocol, Some(Word(Protocol::AwsXks)));
    assert_eq!(shown.schedule.unwrap().every_days, 90);
    let destruction = shown.destruction.unwrap();
    assert_eq!((destruction.after_days, destruction.state_before.0), (7, KeyState::Deactivated));
    assert_eq!(destruction.due.0.seconds() - destruction.ordered.0.seconds(), 7 * 86_400);
    let erasure = shown.erasure.unwrap();
    let names =
        |members: &[Name<MemberName>]| members.iter().map(|name| name.0.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&erasure.absent_on), names(&erasure.pending_on)), (vec!["b".into()], vec!["a".into()]));
    let inventory = shown.inventory.unwrap();
    assert_eq!((inventory.items, inventory.report_sha256), (1200, Bytes(vec![7; 32])));
    assert_eq!(inventory.needed_versions, [VersionNumber(KeyVersion::new(4).unwrap())]);
    assert_eq!(
        (shown.created.0, shown.labels.0, shown.legacy.0),
        (record.created, record.labels.clone(), record.legacy)
    );
    assert_eq!(
        (shown.public_key, shown.durability),
        (Some(Bytes(vec![4, 5, 6])), Some(Word(Durability::InForce)))
    );

    let short = message::CreateKey {
        name: Name(key()),
        algorithm: None,
        purpose: None,
        exportable: None,
        legacy: None,
        labels: None,
        prepared: None,
        emergency_copy: None,
        protocol: None,
    };
    match command(&client::create_key(&tenant(), &short)) {
        Command::CreateKey(new) => {
            assert_eq!((new.algorithm, new.purpose), (None, None));
            assert!(
                !new.exportable && !new.prepared && new.legacy == Legacy::default() && new.labels.is_empty()
            );
            assert!(!new.emergency_copy && new.protocol.is_none());
        }
        other => panic!("{other:?}"),
    }

    let request = client::keys(&tenant(), Some(&key()), Some(7));
    assert!(matches!(query(&request), Query::Keys { after: Some(after), limit: 7 } if after == key()));
    assert!(matches!(query(&client::keys(&tenant(), None, None)), Query::Keys { after: None, limit: 100 }));
    let page = found(&request, Found::Keys(Page { rows: vec![record.clone()], more: true }));
    assert_eq!((page.keys.len(), page.next), (1, Some(Name(key()))));
    assert!(found(&request, Found::Keys(Page { rows: vec![record.clone()], more: false })).next.is_none());

    let request = client::versions(&tenant(), &key(), KeyVersion::new(3), None);
    assert!(
        matches!(query(&request), Query::Versions { after: Some(after), limit: 100, .. } if after.get() == 3)
    );
    let page = found(&request, Found::Versions(Page { rows: vec![version.clone()], more: true }));
    assert_eq!(page.next, Some(VersionNumber(version.number)));

    let request = client::key(&tenant(), &key());
    assert!(matches!(query(&request), Query::Key(name) if name == key()));
    let backup = TakenBackup {
        name: "holdfast-1.age".into(),
        commit: 3,
        taken: Timestamp::from_micros(1),
        expires: Some(Timestamp::from_micros(2)),
        sha256: [9; 32],
    };
    let id = |byte| SealingKeyId::from_bytes([byte; 8]);
    let retired = SealingKeyState::Retired(Some(Timestamp::from_micros(7)));
    let traces = Traces {
        backups: vec![backup],
        sealing_keys: vec![(id(1), retired), (id(2), SealingKeyState::Leaving)],
    };
    let shown = found(&request, Found::Key(Box::new(record), Arc::new(version), traces));
    let [retired, leaving] = &shown.sealed_under[..] else { panic!("{:?}", shown.sealed_under) };
    assert_eq!((retired.id.as_str(), retired.is_retired()), ("0101010101010101", true));
    assert_eq!(retired.retired.as_ref().unwrap().0, Timestamp::from_micros(7));
    assert!(leaving.state == "leaving" && !leaving.is_retired() && leaving.retired.is_none());
    assert!(shown.durability.is_none());
    let held = &shown.held_by[0];
    assert_eq!((held.name.as_str(), held.expires.unwrap().0), ("holdfast-1.age", Timestamp::from_micros(2)));
    assert_eq!(held.sha256, Bytes(vec![9; 32]));

    let confirm = message::ConfirmArchive { code: Bytes(vec![7; 32]) };
    assert!(matches!(
        command(&client::confirm_archive(&tenant(), &key(), &confirm)),
        Command::ConfirmArchive { code, .. } if code == [7; 32]
    ));
    assert!(
        matches!(command(&client::archive_key(&tenant(), &key())), Command::ArchiveKey(name) if name == key())
    );
    let operation: OperationId = "01JDQZ8X5G9Q0V3N4B7T2M6K8R".parse().unwrap();
    let versions = List(vec![message::ArchivedVersion {
        version: VersionNumber(KeyVersion::FIRST),
        sealed: Bytes(vec![1, 2]),
    }]);
    let unarchive = message::UnarchiveKey { archive: Name(operation), versions };
    match command(&client::unarchive_key(&tenant(), &key(), &unarchive)) {
        Command::UnarchiveKey(asked) => {
            assert_eq!((asked.key, asked.archive), (key(), operation));
            assert_eq!(asked.versions, [(KeyVersion::FIRST, [1, 2].as_slice().into())]);
        }
        other => panic!("{other:?}"),
    }

    let labels = message::LabelKey { labels: LabelMap::default(), expected_epoch: Some(4) };
    assert!(matches!(
        command(&client::label_key(&tenant(), &key(), &labels)),
        Command::LabelKey { expected: Some(Epoch(4)), .. }
    ));
    assert!(
        matches!(command(&client::rotate_key(&tenant(), &key())), Command::RotateKey(name) if name == key())
    );
    assert!(
        matches!(command(&client::roll_back_key(&tenant(), &key())), Command::RollBackKey(name) if name == key())
    );
    let import = message::BeginImport {
        name: Name(key()),
        algorithm: Word(Algorithm::Aes256Gcm),
        purpose: None,
        labels: None,
        protocol: Some(Word(Protocol::MsDke)),
        seconds: Some(Bounded(60)),
    };
    let request = client::begin_import(&tenant(), &import);
    assert!(matches!(
        command(&request),
        Command::BeginImport(begin) if begin.seconds == 60 && begin.new.name == key() && begin.new.prepared
            && begin.new.protocol == Some(Protocol::MsDke)
    ));
    let adopt = |label: Option<&str>, id: Option<&[u8]>, uses, only| message::AdoptKey {
        name: Name(key()),
        algorithm: Word(Algorithm::Aes256Gcm),
        object_label: label.map(|label| ObjectLabel(label.into())),
        object_id: id.map(|id| Bytes(id.to_vec())),
        purpose: None,
        legacy: None,
        labels: None,
        protocol: Some(Word(Protocol::MsDke)),
        prior_uses: uses,
        decrypt_only: only,
        accept_extractable: only,
    };
    assert!(matches!(
        command(&client::adopt_key(&tenant(), &adopt(Some("legacy"), None, Some(7), None))),
        Command::AdoptKey(asked) if asked.label.as_deref() == Some("legacy")
            && asked.id.is_none() && asked.past == Past::Uses(7) && !asked.accept_extractable
            && asked.new.name == key() && asked.new.protocol == Some(Protocol::MsDke) && !asked.new.prepared && !asked.new.exportable
    ));
    assert!(matches!(
        command(&client::adopt_key(&tenant(), &adopt(None, Some(&[1, 2]), None, Some(true)))),
        Command::AdoptKey(asked) if asked.label.is_none() && asked.id.as_deref() == Some(&[1, 2][..])
            && asked.past == Past::DecryptOnly && asked.accept_extractable
    ));
    let begun = Done::ImportBegun {
        key: Box::new(a_key().0),
        public: Arc::from(&b"public"[..]),
        expires: Timestamp::from_micros(60),
    };
    let begun = done(&request, begun);
    assert_eq!((begun.import.0, begun.expires.0), (a_key().0.id, Timestamp::from_micros(60)));
    assert!(begun.public_key_pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    for (prior_uses, decrypt_only, past) in [
        (None, None, Past::Untold),
        (Some(1000), Some(false), Past::Uses(1000)),
        (None, Some(true), Past::DecryptOnly),
    ] {
        let (wrapped, check_value) = (Bytes(vec![7; 424]), Bytes(vec![8; 8]));
        let import = message::FinishImport { wrapped, check_value, prior_uses, decrypt_only };
        let asked = command(&client::finish_import(&tenant(), &key(), &import));
        assert!(matches!(
            asked,
            Command::FinishImport(finish) if finish.past == past && finish.key == key() && *finish.wrapped == [7; 424]
        ));
    }
    for verb in VersionVerb::ALL {
        for without in [None, Some(false), Some(true)] {
            let version = VersionNumber(KeyVersion::FIRST);
            let order = message::TransitionVersion { version, without_inventory: without };
            let asked = command(&client::transition_version(&tenant(), &key(), verb, &order));
            assert!(matches!(
                asked,
                Command::TransitionVersion { version: KeyVersion::FIRST, verb: received, without_inventory, .. }
                    if received == verb && without_inventory == without.unwrap_or(false)
            ));
        }
    }
    let taken = message::RecordInventory {
        current_version: VersionNumber(KeyVersion::new(3).unwrap()),
        newest_version: VersionNumber(KeyVersion::new(4).unwrap()),
        needed_versions: List(vec![VersionNumber(KeyVersion::FIRST)]),
        items: 1200,
        report_sha256: Bytes(vec![7; 32]),
        report_bytes: 731,
    };
    match command(&client::record_inventory(&tenant(), &key(), &taken)) {
        Command::RecordInventory { taken, .. } => {
            assert_eq!((taken.current.get(), taken.needed, taken.items), (3, vec![KeyVersion::FIRST], 1200));
            assert_eq!((taken.newest.get(), taken.sha256, taken.bytes), (4, [7; 32], 731));
        }
        other => panic!("{other:?}"),
    }
    for days in [None, Some(1), Some(90), Some(3650)] {
        let schedule = message::ScheduleKey { every_days: days.map(|days| Bounded(u64::from(days))) };
        let asked = command(&client::schedule_key(&tenant(), &key(), &schedule));
        let expected = days.and_then(RotationPeriod::of_days);
        assert!(matches!(asked, Command::ScheduleKey { period, .. } if period == expected));
    }
    let days = |days| Transition::Destroy(WaitingPeriod::of_days(days));
    for verb in Transition::ALL.into_iter().chain([days(0), days(365)]) {
        let asked = command(&client::transition_key(&tenant(), &key(), verb));
        match verb {
            Transition::Activate => {
                assert!(matches!(asked, Command::ActivateKey { unprotected: false, .. }), "{asked:?}");
            }
            _ => {
                assert!(matches!(asked, Command::TransitionKey { verb: received, .. } if received == verb));
            }
        }
    }
    let asked = command(&client::activate_unprotected(&tenant(), &key()));
    assert!(matches!(asked, Command::ActivateKey { unprotected: true, .. }), "{asked:?}");
    let verified = message::VerifyBackup {
        sha256: Bytes(vec![7; 32]),
        bytes: 99,
        commit: 12,
        proof: Bytes(vec![8; 32]),
    };
    match received(&client::verify_backup(&verified)) {
        Call::Command { tenant: whose, command: Command::VerifyBackup(said) } => {
            assert!(whose.is_gateway());
            assert_eq!((said.sha256, said.bytes, said.commit, said.proof), ([7; 32], 99, 12, [8; 32]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn callers_and_anchors() {
    let name = || "pay".parse().unwrap();
    let put = message::PutCaller {
        kind: Word(CallerKind::Application),
        groups: Some(List(vec![Name("payments".parse().unwrap())])),
        credentials: Some(List(a_caller().credentials.into_iter().map(CredentialText).collect())),
    };
    let request = client::put_caller(&tenant(), &name(), &put);
    match command(&request) {
        Command::PutCaller(record) => assert_eq!(record, CallerRecord { tokens: vec![], ..a_caller() }),
        other => panic!("{other:?}"),
    }
    let shown = done(&request, Done::Caller(Arc::new(a_caller())));
    assert_eq!((shown.kind.0, shown.tokens[0].id.0), (CallerKind::Application, TokenId::from_bytes([2; 16])));

    let request = client::suspend_caller(&tenant(), &name());
    assert!(matches!(command(&request), Command::SuspendCaller(caller) if caller == name()));
    // A stop that is in force and not yet durable answers without the record.
    assert_eq!(done(&request, Done::Tenant(tenant(), Epoch(2))).durability, Word(Durability::InForce));
    assert_eq!(done(&request, Done::Caller(Arc::new(a_caller()))).durability, Word(Durability::InForce));
    assert!(matches!(command(&client::resume_caller(&tenant(), &name())), Command::ResumeCaller(_)));
    assert!(matches!(command(&client::remove_caller(&tenant(), &name())), Command::RemoveCaller(_)));

    let request =
        client::issue_token(&tenant(), &name(), &message::IssueToken { lifetime_seconds: Bounded(60) });
    assert!(matches!(command(&request), Command::IssueToken { seconds: 60, .. }));
    let id = TokenId::from_bytes([3; 16]);
    let issued = || Done::Token {
        id,
        secret: Secret::new(vec![9; 32]),
        expires: Timestamp::from_micros(60),
        form: TokenForm::Bearer,
    };
    let response =
        encode::outcome(201, Outcome { done: issued(), durability: Durability::Durable }, Backups::NotKept);
    assert!(matches!(response.body, Body::Secret(_)));
    let (parsed, secret) = token::parse(&done(&request, issued()).token.0).unwrap();
    assert_eq!((parsed, secret), (id, Secret::new(vec![9; 32])));
    assert!(
        matches!(command(&client::revoke_token(&tenant(), &name(), id)), Command::RevokeToken { token, .. } if token == id)
    );

    let put =
        message::PutAnchor { certificate: CertificateBytes(vec![1; 99]), crl: Some(CrlBytes(vec![2; 99])) };
    match command(&client::put_anchor(&tenant(), &name(), &put)) {
        Command::PutAnchor(anchor) => {
            assert_eq!(
                (&*anchor.certificate, anchor.revocations.as_deref()),
                (&[1; 99][..], Some(&[2; 99][..]))
            );
            let listed =
                found(&client::callers(&tenant()), Found::Callers(vec![Arc::new(a_caller())], vec![anchor]));
            assert_eq!(
                (listed.callers.len(), &listed.anchors[0].certificate),
                (1, &CertificateBytes(vec![1; 99]))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(command(&client::remove_anchor(&tenant(), &name())), Command::RemoveAnchor(_)));
    assert!(matches!(query(&client::callers(&tenant())), Query::Callers));
}

#[test]
fn tenants_policies_and_the_log() {
    let create = message::CreateTenant {
        tenant: Name(tenant()),
        callers: List(vec![message::NewCaller {
            name: Name("a".parse().unwrap()),
            kind: Word(CallerKind::Custodian),
            groups: None,
            credentials: None,
        }]),
        anchors: Some(List(vec![message::NewAnchor {
            name: Name("ca".parse().unwrap()),
            certificate: CertificateBytes(vec![1]),
            crl: None,
        }])),
        policy: Some(PolicyText("permit(principal, action, resource);".into())),
    };
    match received(&client::create_tenant(&create)) {
        Call::Command { tenant: whose, command: Command::CreateTenant(new) } => {
            assert!(whose.is_gateway());
            assert_eq!(
                (new.tenant, new.callers.len(), new.anchors.len(), new.policy.is_some()),
                (tenant(), 1, 1, true)
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(query(&client::tenant(&tenant())), Query::Tenant));
    let request = client::suspend_tenant(&tenant());
    assert!(matches!(command(&request), Command::SuspendTenant));
    assert_eq!(done(&request, Done::Tenant(tenant(), Epoch(8))).epoch, 8);
    assert!(matches!(command(&client::resume_tenant(&tenant())), Command::ResumeTenant));
    for (days, retention) in [(None, None), (Some(30), holdfast_core::retention::Retention::of_days(30))] {
        let set = message::SetRetention { days: days.map(holdfast_wire::native::field::Bounded) };
        let ordered = command(&client::set_retention(&tenant(), &set));
        assert!(matches!(ordered, Command::SetRetention(ordered) if ordered == retention));
    }

    let set = message::SetPolicy { text: PolicyText("// é \u{1F512} \n".into()), expected_version: Some(4) };
    let request = client::set_policy(&tenant(), &set);
    assert!(
        matches!(command(&request), Command::SetPolicy { text, expected: Some(4) } if text == set.text.0)
    );
    assert_eq!(done(&request, Done::Policy(5, vec![])).version, 5);
    let restore = message::RestorePolicy { version: 2, expected_version: None };
    assert!(matches!(
        command(&client::restore_policy(&tenant(), &restore)),
        Command::RestorePolicy { version: 2, expected: None }
    ));
    assert!(matches!(query(&client::policy(&tenant(), None)), Query::Policy { version: None }));
    assert!(matches!(query(&client::policy(&tenant(), Some(3))), Query::Policy { version: Some(3) }));
    let check = message::CheckPolicy { text: set.text };
    assert!(matches!(query(&client::check_policy(&tenant(), &check)), Query::CheckPolicy { .. }));
    let question = message::ExplainPolicy {
        caller: Name("pay".parse().unwrap()),
        action: Word(holdfast_core::action::Action::Decrypt),
        key: None,
        context: Some(ContextPairs(context(&[("a", "b")]))),
    };
    let request = client::explain_policy(&tenant(), &question);
    assert!(
        matches!(query(&request), Query::ExplainPolicy { key: None, context: asked, .. } if asked == context(&[("a", "b")]))
    );
    let explanation =
        holdfast_core::query::Explanation { allowed: true, policies: vec!["p".into()], reasons: vec![] };
    assert!(found(&request, Found::Explanation(explanation)).allowed);

    let path = AuditPath::new("tile/0/x001/234.p/5").unwrap();
    assert!(matches!(query(&client::audit_file(&tenant(), &path)), Query::AuditFile(asked) if asked == path));
    assert!(
        matches!(received(&client::status()), Call::Query { tenant, query: Query::Status } if tenant.is_gateway())
    );
}

#[test]
fn a_problem_is_read_and_anything_else_is_none_of_ours() {
    let request = client::key(&tenant(), &key());
    let response = encode::problem(
        &Error::new(ErrorKind::KeyState, Stage::Resolve, "key `payroll` is suspended"),
        Some(OPERATION),
    );
    match request.parse(response.status, response.body.as_bytes()) {
        Err(Failure::Problem(problem)) => {
            assert_eq!(problem.error_kind(), Some(ErrorKind::KeyState));
            assert_eq!(problem.operation, Some(Name(OPERATION)));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(request.parse(502, b"<html>"), Err(Failure::Unintelligible { status: 502 })));
    assert!(matches!(request.parse(200, b"<html>"), Err(Failure::Unintelligible { status: 200 })));
    // An older client passes over what it does not know.
    let answer: message::VerifyAnswer =
        client::parse(200, br#"{"valid":true,"algorithm":"ed25519","key_version":1,"a_newer_field":[1]}"#)
            .unwrap();
    assert!(answer.valid);
}

#[test]
fn emergency_copies() {
    let ask = |versions: Option<&[u32]>| message::RequestCopy {
        seconds: Bounded(14_400),
        reason: ReasonText("both devices burnt".into()),
        versions: versions.map(|numbers| {
            List(numbers.iter().map(|number| VersionNumber(KeyVersion::new(*number).unwrap())).collect())
        }),
    };
    for (versions, expected) in [(None, vec![]), (Some(&[1, 3][..]), vec![1, 3])] {
        match command(&client::request_copy(&tenant(), &key(), &ask(versions))) {
            Command::RequestCopy(asked) => {
                assert_eq!((asked.key, asked.seconds, &*asked.reason), (key(), 14_400, "both devices burnt"));
                let numbers: Vec<_> = asked.versions.iter().map(|version| version.get()).collect();
                assert_eq!(numbers, expected);
            }
            other => panic!("{other:?}"),
        }
    }
    let given = message::ApproveCopy { shares: Bytes(vec![7; 99]) };
    assert!(matches!(
        command(&client::approve_copy(&tenant(), &key(), &given)),
        Command::ApproveCopy { key: of, shares } if of == key() && *shares == [7; 99]
    ));
    let end = client::end_copy(&tenant(), &key());
    assert!(matches!(command(&end), Command::EndCopy(of) if of == key()));
    let look = client::emergency_copy(&tenant(), &key());
    assert!(matches!(query(&look), Query::Copy(of) if of == key()));

    let (record, at) = (a_key().0, Timestamp::from_micros);
    let name = |name: &str| name.parse::<holdfast_core::CallerName>().unwrap();
    let request = OpenRequest {
        recipient: "age1x".into(),
        fingerprint: "abcd".into(),
        seconds: 14_400,
        reason: "burnt".into(),
        expires: at(60),
        versions: vec![KeyVersion::FIRST],
        threshold: 2,
        approved: vec![name("erin")],
        shares: vec![SealedShare {
            custodian: name("frank"),
            version: KeyVersion::FIRST,
            share: Box::from([1, 2, 3]),
        }],
    };
    let in_force = InForce {
        versions: vec![KeyVersion::FIRST],
        since: at(1),
        until: at(2),
        approved: vec![name("erin"), name("frank")],
    };
    let state = CopyState { request: Some(request), in_force: Some(in_force) };
    let shown = found(&look, Found::Copy(Box::new(record.clone()), state.clone()));
    assert!(shown.durability.is_none());
    let shown = done(&end, Done::Copy(Box::new(record), state));
    assert_eq!((shown.key.0, shown.durability), (key(), Some(Word(Durability::InForce))));
    let (request, in_force) = (shown.request.unwrap(), shown.in_force.unwrap());
    assert_eq!((request.recipient.as_str(), request.fingerprint.as_str()), ("age1x", "abcd"));
    assert_eq!((request.seconds, request.reason.as_str(), request.expires.0), (14_400, "burnt", at(60)));
    assert_eq!((request.threshold, request.approved), (2, vec![Name(name("erin"))]));
    assert_eq!(request.versions, [VersionNumber(KeyVersion::FIRST)]);
    let share = &request.shares[0];
    assert_eq!((share.custodian.0.as_str(), &share.share.0[..]), ("frank", &[1, 2, 3][..]));
    assert_eq!((in_force.since.0, in_force.until.0, in_force.approved.len()), (at(1), at(2), 2));
}
