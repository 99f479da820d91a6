//! The store as a whole, through the functions below the port: only the pipeline can make the port's proofs.

use super::fixture::{Dry, Entropy, block_on};
use super::pool::Lane;
use super::store::{Options, SoftwareStore};
use crate::root::RootKey;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Waker};
use holdfast_core::algorithm::{Algorithm, Family, Hash, RsaPadding, SignatureScheme};
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::port::{Health, KeyStore, World};
use holdfast_core::work::{Message, Product, Work};
use holdfast_core::{Error, ErrorKind, KeyId, KeyVersion, Secret, TenantId};
use std::sync::{Arc, mpsc};

const OAEP: RsaPadding = RsaPadding::Oaep { hash: Hash::Sha256, mgf1: Hash::Sha1 };

fn open<W: World>(byte: u8, world: W, options: Options) -> SoftwareStore<W> {
    let root = RootKey::new(Secret::new(vec![byte; 32])).unwrap();
    SoftwareStore::open_with(root, Arc::new(world), options).unwrap()
}

/// A store with one tenant.
struct House {
    store: SoftwareStore<Entropy>,
    tenant: TenantId,
    tenant_handle: SealedHandle,
}

/// A version of a key in it.
struct Made {
    key: KeyId,
    version: KeyVersion,
    algorithm: Algorithm,
    generated: Generated,
}

impl House {
    fn new(options: Options) -> Self {
        let store = open(1, Entropy, options);
        let tenant = "acme".parse().unwrap();
        let tenant_handle = store.vault().enroll(&tenant).unwrap();
        Self { store, tenant, tenant_handle }
    }

    fn make(&self, key: u8, version: u32, algorithm: Algorithm) -> Made {
        let (key, version) = (KeyId::from_bytes([key; 16]), KeyVersion::new(version).unwrap());
        let generated = block_on(self.store.generate_version(NewVersion {
            tenant: &self.tenant,
            tenant_handle: &self.tenant_handle,
            key,
            version,
            algorithm,
            exportable: false,
            before: None,
        }));
        Made { key, version, algorithm, generated: generated.unwrap() }
    }

    fn material<'a>(&'a self, made: &'a Made) -> KeyMaterial<'a> {
        KeyMaterial {
            tenant: &self.tenant,
            tenant_handle: &self.tenant_handle,
            key: made.key,
            version: made.version,
            algorithm: made.algorithm,
            exportable: false,
            commitment: &made.generated.commitment,
            handle: &made.generated.handle,
        }
    }

    fn work(&self, made: &Made, work: Work<'_>) -> Result<Product, Error> {
        block_on(self.store.use_version(self.material(made), work))
    }
}

fn bytes(product: Result<Product, Error>) -> Vec<u8> {
    let Product::Bytes(bytes) = product.unwrap() else { panic!("another product") };
    bytes
}

fn secret(product: Result<Product, Error>) -> Secret {
    let Product::Secret(secret) = product.unwrap() else { panic!("another product") };
    secret
}

fn valid(product: Result<Product, Error>) -> bool {
    let Product::Valid(valid) = product.unwrap() else { panic!("another product") };
    valid
}

fn seal<'a>(plaintext: &'a Secret, aad: &'a [u8]) -> Work<'a> {
    Work::Seal { frame: b"header".to_vec(), plaintext, aad }
}

#[test]
fn every_algorithm_does_its_work_from_a_sealed_handle() {
    let house = House::new(Options::default());
    let plaintext = Secret::new(vec![9; 32]);
    for algorithm in Algorithm::ALL.iter().copied() {
        let made = house.make(algorithm.code(), 1, algorithm);
        assert_eq!(made.generated.custody, Custody::Software);
        assert_eq!(made.generated.public.is_some(), algorithm.is_asymmetric());
        match algorithm.family() {
            Family::Aead => {
                let frame = bytes(house.work(&made, seal(&plaintext, b"aad")));
                let body = frame.strip_prefix(b"header").unwrap();
                assert_eq!(secret(house.work(&made, Work::Open { body, aad: b"aad" })), plaintext);
                assert_eq!(
                    house.work(&made, Work::Open { body, aad: b"" }).unwrap_err().kind(),
                    ErrorKind::Integrity
                );
                let Product::DataKey { frame, plaintext } =
                    house.work(&made, Work::SealRandom { frame: Vec::new(), length: 64, aad: b"" }).unwrap()
                else {
                    panic!("a data key was asked for")
                };
                assert_eq!(plaintext.len(), 64);
                assert_eq!(secret(house.work(&made, Work::Open { body: &frame, aad: b"" })), plaintext);
            }
            Family::KeyWrap => {
                for bytes_len in [32, 64 << 10] {
                    let plaintext = Secret::new(vec![9; bytes_len]);
                    let frame =
                        bytes(house.work(&made, Work::WrapKey { frame: b"h".to_vec(), bytes: &plaintext }));
                    let body = frame.strip_prefix(b"h").unwrap();
                    assert_eq!(secret(house.work(&made, Work::UnwrapKey { body })), plaintext);
                }
            }
            Family::Rsa => {
                let frame = bytes(house.work(
                    &made,
                    Work::RsaEncrypt {
                        frame: b"h".to_vec(),
                        plaintext: &plaintext,
                        padding: OAEP,
                        label: b"l",
                    },
                ));
                let body = frame.strip_prefix(b"h").unwrap();
                let open = |label| Work::RsaDecrypt { body, padding: OAEP, label };
                assert_eq!(secret(house.work(&made, open(b"l"))), plaintext);
                assert_eq!(house.work(&made, open(b"m")).unwrap_err().kind(), ErrorKind::Integrity);
                for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
                    signs(&house, &made, SignatureScheme::RsaPss(hash));
                    signs(&house, &made, SignatureScheme::RsaPkcs1v15(hash));
                }
            }
            Family::Signature => signs(&house, &made, SignatureScheme::default_for(algorithm).unwrap()),
            Family::Hmac => {
                let mac = bytes(house.work(&made, Work::Mac { message: b"m" }));
                assert!(valid(house.work(&made, Work::VerifyMac { message: b"m", mac: &mac })));
                assert!(!valid(house.work(&made, Work::VerifyMac { message: b"n", mac: &mac })));
                assert!(!valid(house.work(&made, Work::VerifyMac { message: b"m", mac: &mac[1..] })));
            }
            Family::Agreement => {
                let peer = house.make(200, 1, algorithm);
                let (ours, theirs) =
                    (made.generated.public.clone().unwrap(), peer.generated.public.clone().unwrap());
                let shared = secret(house.work(&made, Work::Agree { peer: &theirs }));
                assert_eq!(secret(house.work(&peer, Work::Agree { peer: &ours })), shared);
            }
            Family::Kem => {
                let Product::Encapsulated { ciphertext, secret: shared } =
                    house.work(&made, Work::Encapsulate).unwrap()
                else {
                    panic!("an encapsulation was asked for")
                };
                assert_eq!(secret(house.work(&made, Work::Decapsulate { ciphertext: &ciphertext })), shared);
                let short = Work::Decapsulate { ciphertext: &ciphertext[1..] };
                assert_eq!(house.work(&made, short).unwrap_err().kind(), ErrorKind::Malformed);
            }
        }
    }
}

/// Signs a message and, where the scheme hashes, its digest; each verifies as the other.
fn signs(house: &House, made: &Made, scheme: SignatureScheme) {
    let whole = Message::Whole(b"message");
    let sign = |message| house.work(made, Work::Sign { scheme, message });
    let verify =
        |message, signature: &[u8]| valid(house.work(made, Work::Verify { scheme, message, signature }));
    let signature = bytes(sign(whole));
    assert!(verify(whole, &signature), "{scheme:?}");
    assert!(!verify(Message::Whole(b"another"), &signature));
    assert!(!verify(whole, &signature[1..]) && !verify(whole, b""));
    let Some(hash) = scheme.hash() else {
        assert_eq!(sign(Message::Digest(&[0; 64])).unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    };
    let digest = aws_lc_rs::digest::digest(super::digest::library(hash), b"message");
    let digest = Message::Digest(digest.as_ref());
    assert!(verify(digest, &signature));
    assert!(verify(whole, &bytes(sign(digest))));
    assert_eq!(sign(Message::Digest(&[0; 5])).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn an_operation_of_another_family_is_unsupported() {
    let house = House::new(Options::default());
    let plaintext = Secret::new(vec![9; 32]);
    let scheme = SignatureScheme::Ed25519;
    let message = Message::Whole(b"m");
    for algorithm in Algorithm::ALL.iter().copied() {
        let made = house.make(algorithm.code(), 1, algorithm);
        let frame = Vec::new;
        let works = [
            (Family::Aead, Work::Seal { frame: frame(), plaintext: &plaintext, aad: b"" }),
            (Family::Aead, Work::SealRandom { frame: frame(), length: 32, aad: b"" }),
            (Family::Aead, Work::Open { body: &[0; 64], aad: b"" }),
            (Family::KeyWrap, Work::WrapKey { frame: frame(), bytes: &plaintext }),
            (Family::KeyWrap, Work::UnwrapKey { body: &[0; 64] }),
            (
                Family::Rsa,
                Work::RsaEncrypt { frame: frame(), plaintext: &plaintext, padding: OAEP, label: b"" },
            ),
            (Family::Rsa, Work::RsaDecrypt { body: &[0; 64], padding: OAEP, label: b"" }),
            (Family::Signature, Work::Sign { scheme, message }),
            (Family::Signature, Work::Verify { scheme, message, signature: &[0; 64] }),
            (Family::Hmac, Work::Mac { message: b"" }),
            (Family::Hmac, Work::VerifyMac { message: b"", mac: b"" }),
            (Family::Agreement, Work::Agree { peer: &[9; 32] }),
            (Family::Kem, Work::Encapsulate),
            (Family::Kem, Work::Decapsulate { ciphertext: &[0; 1088] }),
        ];
        for (family, work) in works {
            let text = format!("{algorithm} {work:?}");
            let unsupported = match house.work(&made, work) {
                Ok(_) => false,
                Err(error) => error.kind() == ErrorKind::Unsupported,
            };
            let fits = family == algorithm.family()
                && (family != Family::Signature || algorithm == Algorithm::Ed25519);
            assert_eq!(unsupported, !fits, "{text}");
        }
    }
}

#[test]
fn rsa_encrypts_by_oaep_alone_and_says_when_it_is_too_much() {
    let house = House::new(Options::default());
    let made = house.make(1, 1, Algorithm::Rsa2048);
    let encrypt = |length: usize, padding| {
        let plaintext = Secret::new(vec![9; length]);
        house.work(&made, Work::RsaEncrypt { frame: Vec::new(), plaintext: &plaintext, padding, label: b"" })
    };
    assert_eq!(encrypt(8, RsaPadding::Pkcs1v15).unwrap_err().kind(), ErrorKind::Unsupported);
    // RFC 8017 §7.1: k − 2·hLen − 2.
    for (hash, room) in [(Hash::Sha1, 214), (Hash::Sha256, 190), (Hash::Sha512, 126)] {
        let padding = RsaPadding::Oaep { hash, mgf1: Hash::Sha256 };
        assert!(encrypt(room, padding).is_ok());
        assert_eq!(encrypt(room + 1, padding).unwrap_err().kind(), ErrorKind::Malformed);
    }
}

#[test]
fn a_handle_works_for_nothing_else_even_when_its_key_stands_ready() {
    let house = House::new(Options::default());
    let made = house.make(1, 1, Algorithm::Aes256Gcm);
    let plaintext = Secret::new(vec![9; 32]);
    let other: TenantId = "other".parse().unwrap();
    let other_handle = house.store.vault().enroll(&other).unwrap();
    let right = house.material(&made);
    let use_as = |material| block_on(house.store.use_version(material, seal(&plaintext, b"")));
    assert!(use_as(right).is_ok(), "it stands ready from now on");
    let next = made.version.next().unwrap();
    let wrong = [
        KeyMaterial { tenant: &other, ..right },
        KeyMaterial { tenant: &other, tenant_handle: &other_handle, ..right },
        KeyMaterial { tenant_handle: &other_handle, ..right },
        KeyMaterial { key: KeyId::from_bytes([2; 16]), ..right },
        KeyMaterial { version: next, ..right },
        KeyMaterial { algorithm: Algorithm::Aes256GcmSiv, ..right },
        KeyMaterial { exportable: true, ..right },
        KeyMaterial { handle: &other_handle, ..right },
    ];
    for material in wrong {
        assert_eq!(use_as(material).unwrap_err().kind(), ErrorKind::KeyStoreUnavailable, "{material:?}");
    }
    assert!(use_as(right).is_ok());
}

#[test]
fn another_root_key_opens_nothing() {
    let house = House::new(Options::default());
    let made = house.make(1, 1, Algorithm::Aes256Gcm);
    let stranger = open(2, Entropy, Options::default());
    assert_ne!(stranger.root_id(), house.store.root_id());
    let plaintext = Secret::new(vec![9; 32]);
    let error = block_on(stranger.use_version(house.material(&made), seal(&plaintext, b""))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyStoreUnavailable);
    assert_eq!(error.detail(), "a sealed key was sealed by another sealing key");
    let same = open(1, Entropy, Options::default());
    assert!(block_on(same.use_version(house.material(&made), seal(&plaintext, b""))).is_ok());
}

#[test]
fn versions_are_keys_of_their_own() {
    let house = House::new(Options::default());
    let (first, second) = (house.make(1, 1, Algorithm::Xaes256Gcm), house.make(1, 2, Algorithm::Xaes256Gcm));
    assert_ne!(first.generated.commitment, second.generated.commitment);
    let plaintext = Secret::new(vec![9; 32]);
    let frame = bytes(house.work(&first, seal(&plaintext, b"")));
    let body = &frame[6..];
    assert!(house.work(&second, Work::Open { body, aad: b"" }).is_err());
    assert_eq!(secret(house.work(&first, Work::Open { body, aad: b"" })), plaintext);
}

#[test]
fn forgetting_reaches_what_is_being_loaded() {
    let house = House::new(Options { threads: 1, ..Options::default() });
    let made = house.make(1, 1, Algorithm::Rsa2048);
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let busy = move || {
        started.send(()).unwrap();
        released.recv().unwrap();
        Ok(())
    };
    let busy = house.store.pool().run(Lane::Short, busy).unwrap();
    has_started.recv().unwrap();
    let work = Work::Sign { scheme: SignatureScheme::RsaPss(Hash::Sha256), message: Message::Whole(b"m") };
    let mut signing = pin!(house.store.use_version(house.material(&made), work));
    assert!(signing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    house.store.forget(made.key);
    release.send(()).unwrap();
    block_on(busy).unwrap();
    assert!(block_on(signing).is_ok(), "what had begun is finished");
    assert_eq!(house.store.ready(), 0, "and nothing of it is kept");
}

#[test]
fn forgetting_empties_the_cache_of_one_key() {
    let house = House::new(Options::default());
    let plaintext = Secret::new(vec![9; 32]);
    let made: Vec<_> = [(1, 1), (1, 2), (17, 1)]
        .map(|(key, version)| house.make(key, version, Algorithm::Aes256GcmSiv))
        .into();
    for made in &made {
        house.work(made, seal(&plaintext, b"")).unwrap();
    }
    assert_eq!(house.store.ready(), 3);
    house.store.forget(KeyId::from_bytes([1; 16]));
    assert_eq!(house.store.ready(), 1);
}

#[test]
fn memory_is_bounded_and_old_keys_still_work() {
    let house = House::new(Options { cached_keys: 16, ..Options::default() });
    let plaintext = Secret::new(vec![9; 32]);
    let made: Vec<_> = (1..=100).map(|version| house.make(1, version, Algorithm::Aes256Gcm)).collect();
    for made in made.iter().chain(&made) {
        let frame = bytes(house.work(made, seal(&plaintext, b"")));
        assert_eq!(secret(house.work(made, Work::Open { body: &frame[6..], aad: b"" })), plaintext);
    }
    assert!(house.store.ready() <= 16);
}

#[test]
fn many_threads_use_and_forget_at_once() {
    let house = House::new(Options { cached_keys: 32, ..Options::default() });
    let made: Vec<_> = (1..=8).map(|key| house.make(key, 1, Algorithm::Xaes256Gcm)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (house, made) = (&house, &made);
            scope.spawn(move || {
                for round in 0..200 {
                    let made = &made[(round + thread) % made.len()];
                    let plaintext = Secret::new(vec![9; 32]);
                    let frame = bytes(house.work(made, seal(&plaintext, b"")));
                    assert_eq!(
                        secret(house.work(made, Work::Open { body: &frame[6..], aad: b"" })),
                        plaintext
                    );
                    if round % 7 == thread {
                        house.store.forget(made.key);
                    }
                }
            });
        }
    });
}

#[test]
fn health_comes_from_what_works_now() {
    assert_eq!(open(1, Entropy, Options::default()).health(), Health::Ready);
    assert!(matches!(open(1, Dry, Options::default()).health(), Health::Unready(why) if why == "no entropy"));
    let house = House::new(Options { threads: 1, queue: 1, ..Options::default() });
    let made = house.make(1, 1, Algorithm::MlDsa65);
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let busy = move || {
        started.send(()).unwrap();
        released.recv().unwrap();
        Ok(())
    };
    let busy = house.store.pool().run(Lane::Short, busy).unwrap();
    has_started.recv().unwrap();
    let queued = house.store.pool().run(Lane::Short, || Ok(())).unwrap();
    assert!(matches!(house.store.health(), Health::Unready(_)));
    let work = Work::Sign { scheme: SignatureScheme::MlDsa65, message: Message::Whole(b"m") };
    assert_eq!(house.work(&made, work).unwrap_err().kind(), ErrorKind::Throttled);
    release.send(()).unwrap();
    block_on(busy).unwrap();
    block_on(queued).unwrap();
    assert_eq!(house.store.health(), Health::Ready);
}

#[test]
fn without_entropy_nothing_is_made() {
    let store = open(1, Dry, Options::default());
    assert!(store.vault().enroll(&"acme".parse().unwrap()).is_err());
}

#[test]
fn a_version_is_examined_without_being_kept() {
    let house = House::new(Options::default());
    let made = house.make(3, 1, Algorithm::Aes256GcmSiv);
    house.store.examine(house.material(&made)).unwrap();
    assert_eq!(house.store.ready(), 0);
    let other = house.make(3, 2, Algorithm::Aes256GcmSiv);
    let mut exchanged = house.material(&made);
    exchanged.handle = &other.generated.handle;
    assert!(house.store.examine(exchanged).is_err());
    let strange = open(2, Entropy, Options::default());
    assert!(strange.examine(house.material(&made)).is_err());
}
