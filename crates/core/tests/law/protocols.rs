//! Keys of one protocol: what has no associated data is held in its protocol by its key alone.

use holdfast_conformance::rig::{
    Rig, bytes, call, data_key, decrypt, encrypt, name, new_key, rewrap, sign, unwrap, verify, wrap,
};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Hash, Purpose, Wrapping};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::operation::Operation;
use holdfast_core::schedule::RotationPeriod;
use holdfast_core::{Error, ErrorKind, Protocol, Secret};

const NOTHING: Context = Context::EMPTY;

fn create(rig: &Rig, key: &str, algorithm: Algorithm, protocol: Option<Protocol>) {
    let purpose = Some(Purpose::Encrypt);
    now(rig.create(NewKey { protocol, purpose, ..new_key(key, algorithm) })).unwrap();
}

fn through(rig: &Rig, protocol: Protocol, key: &str, operation: Operation) -> Result<Vec<u8>, Error> {
    let mut inbound = rig.inbound("alice");
    inbound.protocol = protocol;
    Ok(bytes(now(rig.pipeline.use_key(&inbound, call(key, operation)))?.into_parts().0))
}

/// The wrong door, said in words that help, and in the log.
fn is_refused(rig: &Rig, error: &Error) -> bool {
    let last = rig.log().last();
    assert_eq!((last.text("outcome").as_str(), last.text("stage").as_str()), ("refused", "resolve"));
    assert!(last.text("detail").contains("created for protocol"), "{}", last.text("detail"));
    error.kind() == ErrorKind::Unsupported && error.to_string().contains("created for protocol")
}

#[test]
fn a_key_of_one_protocol_works_through_no_other() {
    let rig = Rig::new();
    for own in Protocol::OF_KEYS {
        let rsa = format!("rsa-{}", own.name());
        create(&rig, &rsa, Algorithm::Rsa2048, Some(own));
        let sealed = through(&rig, own, &rsa, encrypt(b"4711", NOTHING)).unwrap();
        assert_eq!(through(&rig, own, &rsa, decrypt(&sealed, NOTHING)).unwrap(), b"4711");
        let event = rig.log().last().event();
        assert_eq!(event["key"]["protocol"], own.name());
        for other in Protocol::OF_KEYS.into_iter().filter(|other| *other != own) {
            for operation in [encrypt(b"4711", NOTHING), decrypt(&sealed, NOTHING)] {
                let error = through(&rig, other, &rsa, operation).unwrap_err();
                assert!(is_refused(&rig, &error), "{own:?} {other:?} {error}");
            }
            // What is public of it is no secret, but no business of a protocol that has keys of its own.
            let public = through(&rig, other, &rsa, Operation::PublicKey { version: None });
            assert_eq!(public.is_err(), other.has_own_keys(), "{own:?} {other:?}");
        }
    }
}

#[test]
fn no_operation_of_any_purpose_is_excepted() {
    let rig = Rig::new();
    let own = Some(Protocol::MsDke);
    for (key, algorithm, purpose) in [
        ("encrypts", Algorithm::Aes256Gcm, Purpose::Encrypt),
        ("wraps", Algorithm::Aes256Kw, Purpose::Wrap),
        ("signs", Algorithm::EcdsaP256, Purpose::Sign),
        ("macs", Algorithm::HmacSha256, Purpose::Mac),
        ("agrees", Algorithm::X25519, Purpose::Agree),
        ("encapsulates", Algorithm::MlKem768, Purpose::Encapsulate),
    ] {
        now(rig.create(NewKey { purpose: Some(purpose), protocol: own, ..new_key(key, algorithm) })).unwrap();
    }
    let empty = || vec![0; 32];
    for (key, operation) in [
        ("encrypts", data_key(32, true, NOTHING)),
        ("wraps", wrap(&[7; 16], NOTHING)),
        ("wraps", unwrap(&[7; 24], NOTHING)),
        ("signs", sign(b"4711")),
        ("signs", verify(b"4711", &[0; 64], None)),
        ("macs", Operation::Mac { message: empty() }),
        ("macs", Operation::VerifyMac { message: empty(), mac: empty(), version: None }),
        ("agrees", Operation::Agree { peer: empty(), version: None }),
        ("encapsulates", Operation::Encapsulate),
        ("encapsulates", Operation::Decapsulate { ciphertext: empty(), version: None }),
    ] {
        let performed = rig.keys().performed().len();
        let error = through(&rig, Protocol::Native, key, operation).unwrap_err();
        assert!(is_refused(&rig, &error), "{key} {error}");
        assert_eq!(rig.keys().performed().len(), performed, "nothing was done");
    }
}

#[test]
fn a_protocol_with_keys_of_its_own_takes_no_other() {
    let rig = Rig::new();
    create(&rig, "any", Algorithm::Rsa2048, None);
    let sealed = now(rig.bytes("alice", "any", encrypt(b"4711", NOTHING))).unwrap();
    for protocol in Protocol::OF_KEYS {
        let opened = through(&rig, protocol, "any", encrypt(b"4711", NOTHING));
        let public = through(&rig, protocol, "any", Operation::PublicKey { version: None });
        if protocol.has_own_keys() {
            assert!(is_refused(&rig, &public.unwrap_err()));
            assert!(is_refused(
                &rig,
                &through(&rig, protocol, "any", decrypt(&sealed, NOTHING)).unwrap_err()
            ));
            assert!(opened.is_err());
        } else {
            assert!(opened.is_ok() && public.is_ok(), "{protocol:?}");
        }
    }
}

#[test]
fn nothing_is_rewrapped_from_or_to_such_a_key_elsewhere() {
    let rig = Rig::new();
    create(&rig, "any", Algorithm::Aes256Gcm, None);
    create(&rig, "theirs", Algorithm::Aes256Gcm, Some(Protocol::GoogleCse));
    let ours = now(rig.bytes("alice", "any", encrypt(b"4711", NOTHING))).unwrap();
    let theirs = through(&rig, Protocol::GoogleCse, "theirs", encrypt(b"4711", NOTHING)).unwrap();
    for (key, sealed, target) in
        [("any", &ours, Some("theirs")), ("theirs", &theirs, Some("any")), ("theirs", &theirs, None)]
    {
        let error = now(rig.bytes("alice", key, rewrap(sealed, NOTHING, target))).unwrap_err();
        assert!(is_refused(&rig, &error), "{key} {target:?} {error}");
    }
}

#[test]
fn it_is_for_life() {
    let rig = Rig::new();
    create(&rig, "kek", Algorithm::Rsa2048, Some(Protocol::MsDke));
    for command in [
        Command::RotateKey(name("kek")),
        Command::RollBackKey(name("kek")),
        Command::LabelKey { key: name("kek"), labels: [("a".into(), "b".into())].into(), expected: None },
    ] {
        now(rig.command("carol", command)).unwrap();
        let error = through(&rig, Protocol::Native, "kek", encrypt(b"4711", NOTHING)).unwrap_err();
        assert!(is_refused(&rig, &error));
        assert!(through(&rig, Protocol::MsDke, "kek", encrypt(b"4711", NOTHING)).is_ok());
    }
}

/// Who may not use it learns nothing of it, through the wrong door as through the right one.
#[test]
fn a_forbidden_key_does_not_say_whose_it_is() {
    let rig = Rig::under("permit kind:custodian administer *");
    create(&rig, "kek", Algorithm::Rsa2048, Some(Protocol::MsDke));
    let own = through(&rig, Protocol::MsDke, "kek", encrypt(b"4711", NOTHING)).unwrap_err();
    let other = through(&rig, Protocol::Native, "kek", encrypt(b"4711", NOTHING)).unwrap_err();
    assert_eq!((own.kind(), own.to_string()), (ErrorKind::Denied, other.to_string()));
}

fn wrap_bare(wrapping: Wrapping) -> Operation {
    Operation::WrapBare { bytes: Secret::from(&[7; 32][..]), wrapping }
}

fn unwrap_bare(wrapped: &[u8], wrapping: Wrapping) -> Operation {
    Operation::UnwrapBare { wrapped: wrapped.to_vec(), wrapping }
}

const KW: Wrapping = Wrapping::AesKw;
const KWP: Wrapping = Wrapping::AesKwp;
const OAEP: Wrapping = Wrapping::RsaOaep(Hash::Sha256);
const LEGACY: Wrapping = Wrapping::RsaOaep(Hash::Sha1);

fn create_to_wrap(rig: &Rig, key: &str, algorithm: Algorithm, protocol: Option<Protocol>) {
    let purpose = Some(Purpose::Wrap);
    now(rig.create(NewKey { protocol, purpose, ..new_key(key, algorithm) })).unwrap();
}

#[test]
fn what_is_bound_to_nothing_is_wrapped_under_a_key_of_one_protocol_and_one_version_alone() {
    let rig = Rig::new();
    let ekm = Protocol::AzureEkm;
    for (key, algorithm, wrapping) in [
        ("kw", Algorithm::Aes256Kw, KW),
        ("kwp", Algorithm::Aes256Kwp, KWP),
        ("rsa", Algorithm::Rsa2048, OAEP),
    ] {
        create_to_wrap(&rig, key, algorithm, Some(ekm));
        let wrapped = through(&rig, ekm, key, wrap_bare(wrapping)).unwrap();
        assert_eq!(rig.log().last().text("action"), "wrap");
        assert_eq!(through(&rig, ekm, key, unwrap_bare(&wrapped, wrapping)).unwrap(), [7; 32]);
        let (used, last) = (rig.keys().performed().len(), rig.log().last());
        assert_eq!((last.text("action").as_str(), &last.event()["key"]["version"]), ("unwrap", &1.into()));
        // A key does what it was made for, and SHA-1 only if it was made for that too.
        for other in [KW, KWP, OAEP, LEGACY].into_iter().filter(|other| *other != wrapping) {
            for operation in [wrap_bare(other), unwrap_bare(&wrapped, other)] {
                let error = through(&rig, ekm, key, operation).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{key} {other:?}");
            }
        }
        assert_eq!(rig.keys().performed().len(), used, "nothing was done");
        // The native API has no word for it, and no way to such a key.
        let theirs = through(&rig, Protocol::Native, key, unwrap(&wrapped, NOTHING)).unwrap_err();
        assert!(is_refused(&rig, &theirs));
    }
    // A service that asked for it under other keys would be a defect, whichever key it is.
    for protocol in Protocol::OF_KEYS.into_iter().filter(|other| *other != ekm) {
        let key = format!("of-{protocol}");
        create_to_wrap(&rig, &key, Algorithm::Aes256Kw, Some(protocol));
        for operation in [wrap_bare(KW), unwrap_bare(&[7; 40], KW)] {
            let error = through(&rig, protocol, &key, operation).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{protocol}");
        }
    }
}

#[test]
fn a_key_whose_ciphertexts_name_no_version_is_given_no_other() {
    let rig = Rig::new();
    create_to_wrap(&rig, "kek", Algorithm::Aes256Kw, Some(Protocol::AzureEkm));
    create_to_wrap(&rig, "other", Algorithm::Aes256Kw, None);
    let wrapped = through(&rig, Protocol::AzureEkm, "kek", wrap_bare(KW)).unwrap();
    let period = RotationPeriod::of_days(90);
    for command in [Command::RotateKey(name("kek")), Command::ScheduleKey { key: name("kek"), period }] {
        let error = now(rig.command("carol", command)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("one version"), "{error}");
    }
    now(rig.command("carol", Command::RotateKey(name("other")))).unwrap();
    assert_eq!(through(&rig, Protocol::AzureEkm, "kek", unwrap_bare(&wrapped, KW)).unwrap(), [7; 32]);
}
