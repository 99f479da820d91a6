//! Ciphertexts open with their own key, version, context, class and protocol, unchanged; and everything else is one and the same refusal.

use crate::seen;
use holdfast_conformance::doubles::Keys;
use holdfast_conformance::rig::{
    Rig, bytes, call, context, data_key, decrypt, encrypt, name, new_key, unwrap, wrap,
};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Family, Hash, Purpose, RsaPadding};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::frame::HEADER_LEN;
use holdfast_core::key::Legacy;
use holdfast_core::operation::{Operation, Output};
use holdfast_core::{Error, ErrorKind, KeyVersion, Protocol, Secret};

fn refusal(rig: &Rig, key: &str, operation: Operation) -> Error {
    now(rig.bytes("alice", key, operation)).unwrap_err()
}

/// What every refusal of a ciphertext looks like.
fn integrity(rig: &Rig, key: &str) -> (ErrorKind, String, String) {
    let error = refusal(rig, key, decrypt(b"garbage", Context::EMPTY));
    assert_eq!(error.kind(), ErrorKind::Integrity);
    seen(&error)
}

const CONTEXT: &[(&str, &str)] = &[("table", "salaries")];

/// A rig with keys `kek` and `other`, two versions each, and what the first version of `kek` made.
fn rig(algorithm: Algorithm) -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    for key in ["kek", "other"] {
        now(rig.create(NewKey { purpose: Some(Purpose::Encrypt), ..new_key(key, algorithm) })).unwrap();
    }
    let context = if algorithm.family() == Family::Aead { context(CONTEXT) } else { Context::EMPTY };
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"4711", context))).unwrap();
    for key in ["kek", "other"] {
        now(rig.command("carol", Command::RotateKey(name(key)))).unwrap();
    }
    (rig, sealed)
}

#[test]
fn any_flipped_bit_is_the_same_refusal() {
    for algorithm in
        [Algorithm::Xaes256Gcm, Algorithm::Aes256Gcm, Algorithm::Aes256GcmSiv, Algorithm::Rsa2048]
    {
        let (rig, sealed) = rig(algorithm);
        let context = || if algorithm.family() == Family::Aead { context(CONTEXT) } else { Context::EMPTY };
        assert_eq!(now(rig.bytes("alice", "kek", decrypt(&sealed, context()))).unwrap(), b"4711");
        let expected = integrity(&rig, "kek");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = refusal(&rig, "kek", decrypt(&flipped, context()));
            assert_eq!(seen(&error), expected, "{algorithm}: bit {bit} of byte {}", bit / 8);
        }
        for length in 0..sealed.len() {
            let error = refusal(&rig, "kek", decrypt(&sealed[..length], context()));
            assert_eq!(seen(&error), expected, "{algorithm}: cut to {length} bytes");
        }
        // Which check it was, in the store's words, stands in the log alone.
        let last = refusal(&rig, "kek", decrypt(&[&sealed[..sealed.len() - 1], &[0, 0]].concat(), context()));
        assert_eq!(seen(&last), expected);
        assert_eq!(rig.log().last().text("detail"), "the input does not verify: the tag is wrong");
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(seen(&refusal(&rig, "kek", decrypt(&longer, context()))), expected);
    }
}

#[test]
fn a_wrong_key_and_a_wrong_context_are_the_same_refusal() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm);
    let expected = integrity(&rig, "kek");
    assert_eq!(seen(&refusal(&rig, "other", decrypt(&sealed, context(CONTEXT)))), expected);
    for wrong in [
        &[][..],
        &[("table", "salarie")],
        &[("Table", "salaries")],
        &[("table", "salaries"), ("", "")][..1],
        &[("table", "salaries"), ("more", "")],
        &[("tables", "alaries")],
    ] {
        let error = now(rig.bytes("alice", "kek", decrypt(&sealed, context(wrong))));
        match wrong == CONTEXT {
            true => assert!(error.is_ok()),
            false => assert_eq!(seen(&error.unwrap_err()), expected, "{wrong:?}"),
        }
    }
}

#[test]
fn every_field_of_the_header_is_bound_even_when_it_is_exchanged_for_a_valid_one() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm);
    let expected = integrity(&rig, "kek");
    let newer = now(rig.bytes("alice", "kek", encrypt(b"4711", context(CONTEXT)))).unwrap();
    let foreign = now(rig.bytes("alice", "other", encrypt(b"4711", context(CONTEXT)))).unwrap();
    for graft in [newer, foreign] {
        // Class and algorithm are the same; key, version and commitment alone and together are another's.
        for fields in [6..22, 22..26, 26..58, 6..26, 22..58, 6..58] {
            let mut mixed = sealed.clone();
            mixed[fields.clone()].copy_from_slice(&graft[fields.clone()]);
            if mixed == sealed {
                continue;
            }
            let error = refusal(&rig, "kek", decrypt(&mixed, context(CONTEXT)));
            assert_eq!(seen(&error), expected, "{fields:?}");
        }
    }
    // A version that never was.
    let mut unknown = sealed.clone();
    unknown[22..26].copy_from_slice(&9u32.to_be_bytes());
    assert_eq!(seen(&refusal(&rig, "kek", decrypt(&unknown, context(CONTEXT)))), expected);
}

#[test]
fn what_one_tenant_made_opens_in_no_other() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm);
    let inbound = rig.inbound_at(&rig.other, "carol");
    let create = Command::CreateKey(new_key("kek", Algorithm::Xaes256Gcm));
    now(rig.pipeline.command(&inbound, create)).unwrap();
    let inbound = rig.inbound_at(&rig.other, "alice");
    let call = call("kek", decrypt(&sealed, context(CONTEXT)));
    let error = now(rig.pipeline.use_key(&inbound, call)).unwrap_err();
    assert_eq!(seen(&error), integrity(&rig, "kek"));
}

#[test]
fn what_one_protocol_made_opens_through_no_other() {
    for algorithm in [Algorithm::Xaes256Gcm, Algorithm::Rsa2048] {
        let (rig, _) = rig(algorithm);
        let through = |protocol, operation| {
            let mut inbound = rig.inbound("alice");
            inbound.protocol = protocol;
            let released = now(rig.pipeline.use_key(&inbound, call("kek", operation)))?;
            Ok::<_, Error>(bytes(released.into_parts().0))
        };
        let sealed = through(Protocol::AwsXks, encrypt(b"4711", Context::EMPTY)).unwrap();
        assert_eq!(through(Protocol::AwsXks, decrypt(&sealed, Context::EMPTY)).unwrap(), b"4711");
        let error = through(Protocol::Native, decrypt(&sealed, Context::EMPTY)).unwrap_err();
        assert_eq!(seen(&error), integrity(&rig, "kek"), "{algorithm}");
    }
}

#[test]
fn classes_are_separate_data_keys_open_by_decrypting_and_wrapped_bytes_only_by_unwrapping() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let wrappers = [Algorithm::Xaes256Gcm, Algorithm::Rsa2048, Algorithm::Aes256Kw, Algorithm::Aes256Kwp];
    for algorithm in wrappers {
        let new = NewKey { purpose: Some(Purpose::Wrap), ..new_key(algorithm.name(), algorithm) };
        now(rig.create(new)).unwrap();
    }
    let expected = integrity(&rig, "kek");
    let as_class = |sealed: &[u8], class: u8| {
        let mut changed = sealed.to_vec();
        changed[4] = class;
        changed
    };
    let data = now(rig.bytes("alice", "kek", encrypt(b"4711", Context::EMPTY))).unwrap();
    let key = now(rig.bytes("alice", "kek", data_key(32, false, Context::EMPTY))).unwrap();
    assert_eq!((data[4], key[4]), (1, 3));
    assert!(now(rig.bytes("alice", "kek", decrypt(&data, Context::EMPTY))).is_ok());
    assert!(now(rig.bytes("alice", "kek", decrypt(&key, Context::EMPTY))).is_ok());
    for (sealed, classes) in [(&data, [2, 3]), (&key, [1, 2])] {
        for class in classes {
            let error = refusal(&rig, "kek", decrypt(&as_class(sealed, class), Context::EMPTY));
            assert_eq!(seen(&error), expected, "class {class}");
        }
    }
    // Those without associated data as well: there it is the header alone that says so.
    for wrapper in wrappers.map(Algorithm::name) {
        let wrapped = now(rig.bytes("alice", wrapper, wrap(b"47114711", Context::EMPTY))).unwrap();
        assert_eq!(wrapped[4], 2);
        assert!(now(rig.bytes("alice", wrapper, unwrap(&wrapped, Context::EMPTY))).is_ok());
        for class in [1, 3] {
            let error = refusal(&rig, wrapper, unwrap(&as_class(&wrapped, class), Context::EMPTY));
            assert_eq!(seen(&error), expected, "{wrapper} class {class}");
        }
    }
}

#[test]
fn every_algorithm_that_seals_opens_what_it_sealed() {
    let rig = Rig::new();
    for algorithm in Algorithm::ALL {
        for purpose in algorithm.purposes().iter().filter(|p| matches!(p, Purpose::Encrypt | Purpose::Wrap)) {
            let key = format!("{algorithm}-{}", purpose.name());
            now(rig.create(NewKey { purpose: Some(*purpose), ..new_key(&key, *algorithm) })).unwrap();
            let is_wrapping = *purpose == Purpose::Wrap;
            let sealing = if is_wrapping { wrap } else { encrypt };
            let opening = if is_wrapping { unwrap } else { decrypt };
            let sealed = now(rig.bytes("alice", &key, sealing(b"sixteen bytes 16", Context::EMPTY))).unwrap();
            assert_eq!(&sealed[..4], b"HFC\x01");
            assert_eq!(sealed[5], algorithm.code());
            let opened = now(rig.bytes("alice", &key, opening(&sealed, Context::EMPTY))).unwrap();
            assert_eq!(opened, b"sixteen bytes 16", "{key}");
            // Where an algorithm cannot bind a context, it is refused, never ignored.
            for operation in
                [sealing(b"sixteen bytes 16", context(CONTEXT)), opening(&sealed, context(CONTEXT))]
            {
                let done = now(rig.bytes("alice", &key, operation)).map_err(|error| error.kind());
                match algorithm.family() {
                    Family::Aead => assert_ne!(done, Err(ErrorKind::Unsupported), "{key}"),
                    _ => assert_eq!(done.unwrap_err(), ErrorKind::Unsupported, "{key}"),
                }
            }
        }
    }
}

#[test]
fn a_data_key_is_shown_only_when_it_is_asked_for() {
    let (rig, _) = rig(Algorithm::Xaes256Gcm);
    let answer = now(rig.use_key("alice", "kek", data_key(32, true, context(CONTEXT)))).unwrap();
    let Output::DataKey { ciphertext, plaintext: Some(plaintext) } = answer.output else { panic!("both") };
    assert_eq!(plaintext.len(), 32);
    let opened = now(rig.bytes("alice", "kek", decrypt(&ciphertext, context(CONTEXT)))).unwrap();
    assert_eq!(opened, plaintext.expose());
    let answer = now(rig.use_key("alice", "kek", data_key(32, false, context(CONTEXT)))).unwrap();
    assert!(matches!(answer.output, Output::DataKey { plaintext: None, .. }));
    for length in [0, 1025] {
        let error = refusal(&rig, "kek", data_key(length, true, Context::EMPTY));
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}

fn rsa(legacy: Legacy) -> (Rig, KeyVersion) {
    let rig = Rig::new();
    let purpose = Some(Purpose::Encrypt);
    now(rig.create(NewKey { purpose, legacy, ..new_key("rsa", Algorithm::Rsa2048) })).unwrap();
    (rig, KeyVersion::FIRST)
}

#[test]
fn legacy_paddings_are_for_keys_that_were_created_for_them() {
    let sha1 = RsaPadding::Oaep { hash: Hash::Sha1, mgf1: Hash::Sha1 };
    let sha1_mask = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha1 };
    let modern = RsaPadding::Oaep { hash: Hash::Sha512, mgf1: Hash::Sha256 };
    for (sha1_oaep, rsa_pkcs1_decrypt) in [(false, false), (true, false), (false, true), (true, true)] {
        let (rig, version) = rsa(Legacy { rsa_pkcs1_decrypt, sha1_oaep });
        let key = rig.state().find(&rig.acme, &name("rsa")).unwrap();
        let handle = rig.state().find_version(key.id, version).unwrap().handle;
        for (padding, may_encrypt, may_decrypt) in [
            (modern, true, true),
            (sha1, sha1_oaep, sha1_oaep),
            (sha1_mask, sha1_oaep, sha1_oaep),
            (RsaPadding::Pkcs1v15, false, rsa_pkcs1_decrypt),
        ] {
            let plaintext = Secret::from(&b"4711"[..]);
            let sealing = Operation::Encrypt { plaintext, context: Context::EMPTY, padding: Some(padding) };
            let sealed = now(rig.bytes("alice", "rsa", sealing)).map_err(|error| error.kind());
            assert_eq!(sealed.is_ok(), may_encrypt, "{padding:?}");
            if let Err(kind) = sealed {
                assert_eq!(kind, ErrorKind::Unsupported);
            }
            let ciphertext = Keys::encrypt_outside(&handle, padding, b"4711");
            let opening = Operation::Decrypt {
                ciphertext,
                context: Context::EMPTY,
                padding: Some(padding),
                bare: Some(version),
            };
            let opened = now(rig.bytes("alice", "rsa", opening)).map_err(|error| error.kind());
            match may_decrypt {
                true => assert_eq!(opened, Ok(b"4711".to_vec()), "{padding:?}"),
                false => assert_eq!(opened, Err(ErrorKind::Unsupported), "{padding:?}"),
            }
        }
    }
}

#[test]
fn a_bare_ciphertext_is_none_of_ours_and_ours_is_none_bare() {
    let (rig, version) = rsa(Legacy::default());
    let sealed = now(rig.bytes("alice", "rsa", encrypt(b"4711", Context::EMPTY))).unwrap();
    let bare = |ciphertext: &[u8], number| Operation::Decrypt {
        ciphertext: ciphertext.to_vec(),
        context: Context::EMPTY,
        padding: None,
        bare: Some(number),
    };
    // Ours is bound by its label; stripped of its header it opens nothing.
    let error = refusal(&rig, "rsa", bare(&sealed[HEADER_LEN..], version));
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let error = refusal(&rig, "rsa", bare(&sealed[HEADER_LEN..], KeyVersion::new(2).unwrap()));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let error = refusal(&rig, "kek", bare(&sealed, version));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // Paddings are RSA's alone.
    let padding = Some(RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha256 });
    let plaintext = Secret::from(&b"4711"[..]);
    let error = refusal(&rig, "kek", Operation::Encrypt { plaintext, context: Context::EMPTY, padding });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_digest_must_be_of_the_schemes_length() {
    let rig = Rig::new();
    now(rig.create(new_key("signer", Algorithm::EcdsaP256))).unwrap();
    now(rig.create(new_key("edward", Algorithm::Ed25519))).unwrap();
    let sign = |length| Operation::Sign { message: vec![1; length], is_digest: true, scheme: None };
    assert!(now(rig.bytes("alice", "signer", sign(32))).is_ok());
    assert_eq!(refusal(&rig, "signer", sign(31)).kind(), ErrorKind::Malformed);
    assert_eq!(refusal(&rig, "edward", sign(32)).kind(), ErrorKind::Unsupported);
}
