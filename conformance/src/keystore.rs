//! What every key store MUST do (the contract of [`KeyStore`]), asked through a real pipeline, which alone has the proofs.

use crate::doubles::{Journal, Records};
use crate::rig::{
    POLICY, Rig, bytes, call, context, data_key, decrypt, encrypt, name, new_key, rewrap, sign, unwrap,
    verify, wrap,
};
use crate::task::block_on;
use holdfast_core::algorithm::{Algorithm, Family, Hash, Purpose, RsaPadding, SignatureScheme};
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::frame::HEADER_LEN;
use holdfast_core::key::{Custody, Key, Legacy, Version};
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::{Operation, Output};
use holdfast_core::port::{Health, KeyStore};
use holdfast_core::{Error, ErrorKind, KeyVersion, Secret};
use std::collections::BTreeSet;

/// Runs every test. `open` opens the same store each time it is called: what one has made the next one can use.
///
/// Gives the algorithms that the store can hold, so that the caller can say which they should be.
pub async fn suite<K: KeyStore>(open: impl AsyncFn() -> K) -> Vec<Algorithm> {
    let rig = found(&open).await;
    assert_eq!(rig.keys().health(), Health::Ready);
    let mut held = Vec::new();
    for algorithm in Algorithm::ALL {
        let made = rig.create(new_key(&format!("probe-{algorithm}"), *algorithm)).await;
        match made {
            Ok(_) => held.push(*algorithm),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{algorithm}: {}", error.chain()),
        }
    }
    let unsaid =
        rig.create(NewKey { algorithm: None, ..new_key("unsaid", Algorithm::Ed25519) }).await.unwrap();
    assert_eq!(unsaid.algorithm, rig.keys().default_algorithm());
    assert_eq!((unsaid.algorithm.family(), unsaid.purpose), (Family::Aead, Purpose::Encrypt));
    for algorithm in &held {
        match algorithm.family() {
            Family::Aead => {
                aead(&rig, *algorithm).await;
                every_change_is_the_same_refusal(&rig, *algorithm).await;
            }
            Family::KeyWrap => key_wrap(&rig, *algorithm).await,
            Family::Rsa => rsa(&rig, *algorithm).await,
            Family::Signature => signatures(&rig, *algorithm).await,
            Family::Hmac => mac(&rig, *algorithm).await,
            Family::Agreement => agreement(&rig, *algorithm).await,
            Family::Kem => kem(&rig, *algorithm).await,
        }
        public_halves(&rig, *algorithm).await;
    }
    random_bytes(&rig).await;
    let aead =
        held.iter().copied().find(|algorithm| algorithm.family() == Family::Aead).expect("it encrypts");
    a_handle_is_bound_to_its_key(&rig, aead).await;
    what_was_forgotten_is_found_again(&rig, aead).await;
    many_at_once(&rig, aead).await;
    what_a_device_keeps_is_not_rotated_into_software(&rig, aead).await;
    another_sealing_key_opens_what_is_left(&rig, aead).await;
    another_process_uses_what_was_made(rig, &open, aead).await;
    held
}

async fn found<K: KeyStore>(open: &impl AsyncFn() -> K) -> Rig<K, Records, Journal> {
    Rig::found(open().await, Records::default(), Journal::default(), POLICY).await.unwrap()
}

type Bench<K> = Rig<K, Records, Journal>;

const CONTEXT: &[(&str, &str)] = &[("table", "salaries"), ("row", "4711")];

/// A key for a purpose, with two versions; legacy operations are on.
async fn key<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm, purpose: Purpose) -> String {
    let key = format!("{algorithm}-{}-{}", purpose.name(), rig.log().entries().len());
    let legacy = Legacy { rsa_pkcs1_decrypt: true, sha1_oaep: true };
    let promised = rig.keys().custody(algorithm);
    let record =
        rig.create(NewKey { purpose: Some(purpose), legacy, ..new_key(&key, algorithm) }).await.unwrap();
    assert_eq!(record.custody, promised, "what the policy was asked about is what was made");
    key
}

async fn rotate<K: KeyStore>(rig: &Bench<K>, key: &str) {
    rig.command("carol", Command::RotateKey(name(key))).await.unwrap();
}

async fn refused<K: KeyStore>(
    rig: &Bench<K>,
    key: &str,
    operation: Operation,
) -> (ErrorKind, String, String) {
    let error = rig.bytes("alice", key, operation).await.unwrap_err();
    (error.kind(), error.to_string(), error.remedy_text().to_owned())
}

async fn aead<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Encrypt).await;
    let mut sealed = Vec::new();
    for length in [0, 1, 15, 16, 17, 4096, 1 << 20] {
        let plaintext: Vec<u8> = (0..length).map(|index: usize| index.to_le_bytes()[0]).collect();
        let ciphertext = rig.bytes("alice", &key, encrypt(&plaintext, context(CONTEXT))).await.unwrap();
        let again = rig.bytes("alice", &key, encrypt(&plaintext, context(CONTEXT))).await.unwrap();
        assert_ne!(ciphertext, again, "{algorithm}: a nonce was used twice");
        let bare = &ciphertext[HEADER_LEN..];
        assert!(bare.len() >= length + 16 + 12, "{algorithm}: no room for nonce and tag");
        assert!(length < 16 || !bare.windows(16).any(|window| *window == plaintext[..16]), "{algorithm}");
        sealed.push((plaintext, ciphertext));
    }
    let long = "x".repeat(Context::MAX_BYTES - 5);
    let all = [("a", &*long)];
    let most = rig.bytes("alice", &key, encrypt(&vec![7; 1 << 20], context(&all))).await.unwrap();
    let opened = rig.bytes("alice", &key, decrypt(&most, context(&all))).await.unwrap();
    assert_eq!(opened.len(), 1 << 20, "{algorithm}: the longest input with the longest context");
    rotate(rig, &key).await;
    for (plaintext, ciphertext) in &sealed {
        let opened = rig.bytes("alice", &key, decrypt(ciphertext, context(CONTEXT))).await.unwrap();
        assert_eq!(opened, *plaintext, "{algorithm}: {} bytes", plaintext.len());
    }
    let moved = rig.bytes("alice", &key, rewrap(&sealed[4].1, context(CONTEXT), None)).await.unwrap();
    assert_eq!(rig.bytes("alice", &key, decrypt(&moved, context(CONTEXT))).await.unwrap(), sealed[4].0);
    let mut keys = BTreeSet::new();
    for length in [1, 16, 32, 1024] {
        let answer = rig.use_key("alice", &key, data_key(length, true, context(CONTEXT))).await.unwrap();
        let Output::DataKey { ciphertext, plaintext: Some(plaintext) } = answer.output else {
            panic!("both")
        };
        assert_eq!(plaintext.len(), length);
        let opened = rig.bytes("alice", &key, decrypt(&ciphertext, context(CONTEXT))).await.unwrap();
        assert_eq!(opened, plaintext.expose());
        assert!(length < 16 || keys.insert(opened[..16].to_vec()), "{algorithm}: a data key came twice");
    }
    let wrapper = self::key(rig, algorithm, Purpose::Wrap).await;
    let wrapped = rig.bytes("alice", &wrapper, wrap(b"any bytes", context(CONTEXT))).await.unwrap();
    assert_eq!(rig.bytes("alice", &wrapper, unwrap(&wrapped, context(CONTEXT))).await.unwrap(), b"any bytes");
}

async fn every_change_is_the_same_refusal<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Encrypt).await;
    let sealed = rig.bytes("alice", &key, encrypt(b"4711", context(CONTEXT))).await.unwrap();
    let expected = refused(rig, &key, decrypt(b"garbage", context(CONTEXT))).await;
    assert_eq!(expected.0, ErrorKind::Integrity);
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let got = refused(rig, &key, decrypt(&flipped, context(CONTEXT))).await;
        assert_eq!(got, expected, "{algorithm}: bit {bit}");
    }
    for length in 0..sealed.len() {
        let got = refused(rig, &key, decrypt(&sealed[..length], context(CONTEXT))).await;
        assert_eq!(got, expected, "{algorithm}: cut to {length}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(refused(rig, &key, decrypt(&longer, context(CONTEXT))).await, expected);
    assert_eq!(refused(rig, &key, decrypt(&sealed, Context::EMPTY)).await, expected);
    assert_eq!(refused(rig, &key, decrypt(&sealed, context(&CONTEXT[..1]))).await, expected);
}

async fn key_wrap<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Wrap).await;
    let mut wrapped = Vec::new();
    for length in [16, 24, 32, 64, 256] {
        let plaintext = vec![7; length];
        wrapped.push((
            plaintext.clone(),
            rig.bytes("alice", &key, wrap(&plaintext, Context::EMPTY)).await.unwrap(),
        ));
    }
    for length in [1, 7, 9, 20] {
        let done = rig.bytes("alice", &key, wrap(&vec![7; length], Context::EMPTY)).await;
        match algorithm == Algorithm::Aes256Kwp {
            true => wrapped.push((vec![7; length], done.unwrap())),
            false => assert_eq!(done.unwrap_err().kind(), ErrorKind::Malformed, "{length} bytes"),
        }
    }
    rotate(rig, &key).await;
    for (plaintext, ciphertext) in &wrapped {
        let opened = rig.bytes("alice", &key, unwrap(ciphertext, Context::EMPTY)).await.unwrap();
        assert_eq!(opened, *plaintext);
        let bare = Operation::Unwrap {
            ciphertext: ciphertext[HEADER_LEN..].to_vec(),
            context: Context::EMPTY,
            padding: None,
            bare: Some(KeyVersion::FIRST),
        };
        assert_eq!(rig.bytes("alice", &key, bare).await.unwrap(), *plaintext);
    }
    let sealed = &wrapped[0].1;
    let expected = refused(rig, &key, unwrap(b"garbage", Context::EMPTY)).await;
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let got = refused(rig, &key, unwrap(&flipped, Context::EMPTY)).await;
        assert_eq!(got, expected, "{algorithm}: bit {bit}");
    }
}

async fn rsa<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    signatures(rig, algorithm).await;
    let key = key(rig, algorithm, Purpose::Encrypt).await;
    let paddings = [Hash::Sha1, Hash::Sha256, Hash::Sha512]
        .into_iter()
        .flat_map(|hash| [Hash::Sha1, Hash::Sha256].map(|mgf1| RsaPadding::Oaep { hash, mgf1 }));
    for padding in paddings {
        let seal = Operation::Encrypt {
            plaintext: Secret::from(&b"4711"[..]),
            context: Context::EMPTY,
            padding: Some(padding),
        };
        let sealed = match rig.bytes("alice", &key, seal).await {
            Ok(sealed) => sealed,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{algorithm} {padding:?}: {error}");
                continue;
            }
        };
        let open = |ciphertext: &[u8]| Operation::Decrypt {
            ciphertext: ciphertext.to_vec(),
            context: Context::EMPTY,
            padding: Some(padding),
            bare: None,
        };
        assert_eq!(rig.bytes("alice", &key, open(&sealed)).await.unwrap(), b"4711", "{padding:?}");
        let mut flipped = sealed;
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(refused(rig, &key, open(&flipped)).await.0, ErrorKind::Integrity, "{padding:?}");
    }
    let too_long = rig.bytes("alice", &key, encrypt(&[7; 1024], Context::EMPTY)).await.unwrap_err();
    assert!(matches!(too_long.kind(), ErrorKind::Malformed | ErrorKind::TooLarge), "{too_long}");
}

async fn signatures<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Sign).await;
    let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
    let schemes = hashes
        .into_iter()
        .flat_map(|hash| {
            [SignatureScheme::RsaPss(hash), SignatureScheme::RsaPkcs1v15(hash), SignatureScheme::Ecdsa(hash)]
        })
        .chain([SignatureScheme::Ed25519, SignatureScheme::MlDsa65])
        .filter(|scheme| scheme.fits(algorithm));
    for scheme in schemes {
        let sign = |message: &[u8], is_digest| Operation::Sign {
            message: message.to_vec(),
            is_digest,
            scheme: Some(scheme),
        };
        let check = |message: &[u8], is_digest, signature: &[u8]| Operation::Verify {
            message: message.to_vec(),
            is_digest,
            scheme: Some(scheme),
            signature: signature.to_vec(),
            version: None,
        };
        let signature = rig.bytes("alice", &key, sign(b"message", false)).await.unwrap();
        let valid = async |operation| rig.bytes("alice", &key, operation).await.unwrap() == [1];
        assert!(valid(check(b"message", false, &signature)).await, "{algorithm} {}", scheme.name());
        assert!(!valid(check(b"massage", false, &signature)).await);
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert!(
                !valid(check(b"message", false, &flipped)).await,
                "{algorithm} {} byte {at}",
                scheme.name()
            );
        }
        for wrong in [&[][..], &[0], &signature[1..]] {
            assert!(!valid(check(b"message", false, wrong)).await, "{algorithm} {}", scheme.name());
        }
        if let Some(hash) = scheme.hash() {
            let digest = vec![0x5a; hash.len()];
            let signature = rig.bytes("alice", &key, sign(&digest, true)).await.unwrap();
            assert!(valid(check(&digest, true, &signature)).await);
            assert!(!valid(check(&digest, false, &signature)).await, "a digest is no message");
        }
    }
    let signature = rig.bytes("alice", &key, sign(b"message")).await.unwrap();
    rotate(rig, &key).await;
    let valid =
        async |version| rig.bytes("alice", &key, verify(b"message", &signature, version)).await.unwrap();
    assert_eq!((valid(Some(1)).await, valid(None).await), (vec![1], vec![0]), "{algorithm}");
}

async fn mac<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Mac).await;
    let code = rig.bytes("alice", &key, Operation::Mac { message: b"message".to_vec() }).await.unwrap();
    let length = match algorithm {
        Algorithm::HmacSha384 => 48,
        Algorithm::HmacSha512 => 64,
        _ => 32,
    };
    assert_eq!(code.len(), length);
    rotate(rig, &key).await;
    let check = async |message: &[u8], mac: &[u8], version: Option<u32>| {
        let version = version.and_then(KeyVersion::new);
        let operation = Operation::VerifyMac { message: message.to_vec(), mac: mac.to_vec(), version };
        rig.bytes("alice", &key, operation).await.unwrap() == [1]
    };
    assert!(check(b"message", &code, Some(1)).await);
    assert!(!check(b"message", &code, None).await, "another version has another key");
    assert!(!check(b"massage", &code, Some(1)).await);
    assert!(!check(b"message", &code[1..], Some(1)).await && !check(b"message", &[], Some(1)).await);
}

/// The public half of a key's version, or of the newest.
async fn public<K: KeyStore>(rig: &Bench<K>, key: &str, version: Option<u32>) -> Result<Vec<u8>, Error> {
    let version = version.and_then(KeyVersion::new);
    rig.bytes("alice", key, Operation::PublicKey { version }).await
}

async fn agreement<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let (ours, theirs) =
        (key(rig, algorithm, Purpose::Agree).await, key(rig, algorithm, Purpose::Agree).await);
    let agree = async |key: &str, peer: &[u8], version: Option<u32>| {
        let version = version.and_then(KeyVersion::new);
        rig.bytes("alice", key, Operation::Agree { peer: peer.to_vec(), version }).await
    };
    let (our_half, their_half) =
        (public(rig, &ours, None).await.unwrap(), public(rig, &theirs, None).await.unwrap());
    let shared = agree(&ours, &their_half, None).await.unwrap();
    assert_eq!(agree(&theirs, &our_half, None).await.unwrap(), shared, "{algorithm}: both have the same");
    rotate(rig, &ours).await;
    assert_eq!(agree(&ours, &their_half, Some(1)).await.unwrap(), shared);
    assert_ne!(agree(&ours, &their_half, None).await.unwrap(), shared);
    for absurd in [&[][..], &[0], &[0; 32], &[0; 65], b"no key at all"] {
        let kind = agree(&ours, absurd, None).await.map_err(|error| error.kind());
        let refused = [Err(ErrorKind::Malformed), Err(ErrorKind::Integrity)];
        assert!(refused.contains(&kind), "{algorithm}: {absurd:?}");
    }
}

async fn kem<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Encapsulate).await;
    let answer = rig.use_key("alice", &key, Operation::Encapsulate).await.unwrap();
    let Output::Encapsulated { ciphertext, secret } = answer.output else { panic!("an encapsulation") };
    rotate(rig, &key).await;
    let open = async |version| {
        let operation = Operation::Decapsulate { ciphertext: ciphertext.clone(), version };
        rig.bytes("alice", &key, operation).await.unwrap()
    };
    assert_eq!(open(Some(KeyVersion::FIRST)).await, secret.expose(), "{algorithm}");
    assert_ne!(open(None).await, secret.expose());
}

async fn public_halves<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, algorithm.purposes()[0]).await;
    let first = public(rig, &key, None).await;
    if !algorithm.is_asymmetric() {
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    }
    let first = first.unwrap();
    rotate(rig, &key).await;
    assert_eq!(public(rig, &key, Some(1)).await.unwrap(), first);
    assert_ne!(public(rig, &key, None).await.unwrap(), first, "{algorithm}: a new version is a new key");
}

async fn random_bytes<K: KeyStore>(rig: &Bench<K>) {
    let mut seen = BTreeSet::new();
    for length in [1, 16, 32, 33, 1024] {
        let bytes = rig.random("alice", length).await.unwrap();
        assert_eq!(bytes.len(), length);
        assert!(length < 16 || seen.insert(bytes[..16].to_vec()));
    }
}

/// Each field that a handle is bound to, exchanged: nothing opens, nothing is sealed.
async fn a_handle_is_bound_to_its_key<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let ours = key(rig, algorithm, Purpose::Encrypt).await;
    let theirs = key(rig, algorithm, Purpose::Encrypt).await;
    rotate(rig, &ours).await;
    let record = |key: &str| rig.state().find(&rig.acme, &name(key)).unwrap();
    let version =
        |key: &Key, number| rig.state().find_version(key.id, KeyVersion::new(number).unwrap()).unwrap();
    let (our_key, their_key) = (record(&ours), record(&theirs));
    let sealed = rig.bytes("alice", &ours, encrypt(b"4711", Context::EMPTY)).await.unwrap();
    let check = async |what: &str| {
        for operation in [encrypt(b"4711", Context::EMPTY), decrypt(&sealed, Context::EMPTY)] {
            assert!(rig.bytes("alice", &ours, operation).await.is_err(), "{what}");
        }
        rig.keys().forget(our_key.id);
    };
    let newest = version(&our_key, 2);
    rig.keys().forget(our_key.id);
    for (what, other) in
        [("another key's", version(&their_key, 1)), ("another version's", version(&our_key, 1))]
    {
        let mut forged = newest.clone();
        forged.handle = other.handle;
        rig.state().forge_version(forged);
        check(what).await;
    }
    let mut cut = newest.clone();
    cut.handle = holdfast_core::key::SealedHandle::new(&newest.handle.as_bytes()[1..]);
    rig.state().forge_version(cut);
    check("a handle that was cut").await;
    rig.state().forge_version(newest);
    rig.state().forge_key(Key { exportable: true, ..our_key.clone() });
    check("another exportability").await;
    rig.state().forge_key(our_key.clone());
    assert_eq!(rig.bytes("alice", &ours, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
}

async fn what_was_forgotten_is_found_again<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Encrypt).await;
    let sealed = rig.bytes("alice", &key, encrypt(b"4711", Context::EMPTY)).await.unwrap();
    rig.transition(&key, Transition::Suspend).await.unwrap();
    assert_eq!(refused(rig, &key, decrypt(&sealed, Context::EMPTY)).await.0, ErrorKind::KeyState);
    rig.transition(&key, Transition::Resume).await.unwrap();
    assert_eq!(rig.bytes("alice", &key, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
}

async fn many_at_once<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let key = key(rig, algorithm, Purpose::Encrypt).await;
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let key = &key;
            scope.spawn(move || {
                for index in 0..25u32 {
                    let plaintext = [thread.to_be_bytes(), index.to_be_bytes()].concat();
                    let sealed =
                        block_on(rig.bytes("alice", key, encrypt(&plaintext, Context::EMPTY))).unwrap();
                    let opened = block_on(rig.bytes("alice", key, decrypt(&sealed, Context::EMPTY))).unwrap();
                    assert_eq!(opened, plaintext);
                    if index % 10 == 0 {
                        rig.keys().forget(rig.state().find(&rig.acme, &name(key)).unwrap().id);
                    }
                }
            });
        }
    });
}

/// Whatever is made for it is made where it is, or nowhere.
async fn what_a_device_keeps_is_not_rotated_into_software<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    for custody in [Custody::Token, Custody::VendorAttested] {
        let key = key(rig, algorithm, Purpose::Encrypt).await;
        let record = || rig.state().find(&rig.acme, &name(&key)).unwrap();
        let before = record();
        rig.state().forge_key(Key { custody, ..before.clone() });
        match rig.command("carol", Command::RotateKey(name(&key))).await {
            Ok(_) => assert_ne!(record().custody, Custody::Software),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable, "{}", error.chain());
                assert_eq!(record().newest, before.newest);
            }
        }
    }
}

/// What was destroyed was sealed: its sealing key goes, and everything that lay under it works on.
async fn another_sealing_key_opens_what_is_left<K: KeyStore>(rig: &Bench<K>, algorithm: Algorithm) {
    let (gone, left) =
        (key(rig, algorithm, Purpose::Encrypt).await, key(rig, algorithm, Purpose::Encrypt).await);
    let sealed = rig.bytes("alice", &left, encrypt(b"4711", Context::EMPTY)).await.unwrap();
    rotate(rig, &left).await;
    let found = |key: &str| {
        let id = rig.state().find(&rig.acme, &name(key)).unwrap().id;
        rig.state().find_version(id, KeyVersion::FIRST).unwrap()
    };
    let (remnant, before) = (found(&gone), found(&left));
    let tenant = || rig.pipeline.tenant(&rig.acme).unwrap().data.record.clone();
    let earlier = tenant().handle;
    for verb in [Transition::Deactivate, Transition::Destroy(None)] {
        rig.transition(&gone, verb).await.unwrap();
    }
    while rig.pipeline.renew_sealing_keys().await.unwrap() {
        assert_eq!(rig.bytes("alice", &left, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
    }
    assert_eq!(rig.bytes("alice", &left, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
    rotate(rig, &left).await;
    assert_eq!(rig.bytes("alice", &left, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
    let after = found(&left);
    if rig.keys().custody(algorithm) != Custody::Software {
        assert_eq!((tenant().handle, &after.handle), (earlier, &before.handle), "a device has the material");
        return;
    }
    let under = |version: &Version| rig.keys().sealing_key_of(&version.handle).unwrap();
    assert_eq!(under(&remnant), under(&before));
    assert_ne!(under(&after), under(&before));
    assert_eq!(
        tenant().sealing.retired.iter().map(|retired| retired.id).collect::<Vec<_>>(),
        [under(&before)]
    );
    assert_ne!(tenant().handle, earlier);
    // Whoever puts back what is left of a sealed version somewhere has nothing.
    rig.state().forge_version(before);
    assert!(rig.bytes("alice", &left, decrypt(&sealed, Context::EMPTY)).await.is_err());
    rig.state().forge_version(after);
    assert_eq!(rig.bytes("alice", &left, decrypt(&sealed, Context::EMPTY)).await.unwrap(), b"4711");
}

async fn another_process_uses_what_was_made<K: KeyStore>(
    rig: Bench<K>,
    open: &impl AsyncFn() -> K,
    algorithm: Algorithm,
) {
    let key = key(&rig, algorithm, Purpose::Encrypt).await;
    let sealed = rig.bytes("alice", &key, encrypt(b"4711", Context::EMPTY)).await.unwrap();
    let (state, log, world) = (rig.state().clone(), rig.log().clone(), rig.world.clone());
    drop(rig);
    let recovery = log.recovery();
    let rig = Rig::open(open().await, state, log, world, recovery).await.unwrap();
    let inbound = rig.inbound("alice");
    let released =
        rig.pipeline.use_key(&inbound, call(&key, decrypt(&sealed, Context::EMPTY))).await.unwrap();
    assert_eq!(bytes(released.into_parts().0), b"4711");
    rig.transition(&key, Transition::Deactivate).await.unwrap();
    rig.transition(&key, Transition::Destroy(None)).await.unwrap();
    assert_eq!(refused(&rig, &key, decrypt(&sealed, Context::EMPTY)).await.0, ErrorKind::KeyState);
    is_erased_everywhere(&rig, &key).await;
}

/// Whoever may hold something of a destroyed key has been asked to erase it, and nothing is kept by which it could be found.
async fn is_erased_everywhere<K: KeyStore>(rig: &Bench<K>, key: &str) {
    let mut destroyed = rig.state().find(&rig.acme, &name(key)).unwrap();
    for _ in 0..100 {
        if !destroyed.is_to_erase() {
            break;
        }
        rig.pipeline.finish_what_waits().await.unwrap();
        rig.world.step(5);
        destroyed = rig.state().find(&rig.acme, &name(key)).unwrap();
    }
    let erasure = destroyed.erasure.unwrap();
    assert!(erasure.pending.is_empty(), "{erasure:?}");
    let version = rig.state().find_version(destroyed.id, destroyed.newest).unwrap();
    assert!(version.handle.as_bytes().is_empty());
}
