//! Imports through the functions below the port, with what `openssl` itself wraps: another implementation of both layers.

use super::fixture::{Entropy, block_on};
use super::store::{Options, SoftwareStore};
use crate::root::RootKey;
use crate::sealing::seal::{Kind, SealedBlob};
use holdfast_core::algorithm::{Algorithm, SignatureScheme};
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::work::{Message, Product, Work};
use holdfast_core::{Error, ErrorKind, KeyId, KeyVersion, Secret, TenantId, Timestamp};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const EXPIRES: Timestamp = Timestamp::from_micros(1000);
const IN_TIME: Timestamp = Timestamp::from_micros(999);

/// A directory of one test, and `openssl` in it.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("holdfast-import-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Runs the line in a shell there.
    fn run(&self, line: &str) {
        let done = Command::new("sh").args(["-euc", line]).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    /// What `docs/operate/import.md` says, for the material in a file and the import key in another.
    fn wrap(&self, public: &[u8], material: &str) -> Vec<u8> {
        fs::write(self.0.join("import.der"), public).unwrap();
        self.run(&format!(
            "openssl rand 32 > kek.bin
             openssl pkeyutl -encrypt -pubin -keyform DER -inkey import.der -in kek.bin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > wrapped.bin
             openssl enc -id-aes256-wrap-pad -K $(od -An -v -tx1 kek.bin | tr -d ' \\n') -iv A65959A6 -in {material} >> wrapped.bin"
        ));
        self.read("wrapped.bin")
    }

    /// The same with an inner key of 16 bytes, which is none of ours.
    fn wrap_with_aes_128(&self, material: &str) -> Vec<u8> {
        self.run(&format!(
            "openssl rand 16 > kek.bin
             openssl pkeyutl -encrypt -pubin -keyform DER -inkey import.der -in kek.bin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > short.bin
             openssl enc -id-aes128-wrap-pad -K $(od -An -v -tx1 kek.bin | tr -d ' \\n') -iv A65959A6 -in {material} >> short.bin"
        ));
        self.read("short.bin")
    }

    fn sha256(&self, name: &str) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.read(name)).as_ref().to_vec()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A store, a tenant, and a key of it that waits.
struct Waiting {
    store: SoftwareStore<Entropy>,
    tenant: TenantId,
    tenant_handle: SealedHandle,
    algorithm: Algorithm,
    begun: Generated,
    desk: Desk,
}

impl Waiting {
    fn new(algorithm: Algorithm) -> Self {
        let root = RootKey::new(Secret::new(vec![1; 32])).unwrap();
        let store = SoftwareStore::open_with(root, Arc::new(Entropy), Options::default()).unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let tenant_handle = store.vault().enroll(&tenant).unwrap();
        let new = new(&tenant, &tenant_handle, 1, algorithm);
        let begun = block_on(store.make_import_key(new, EXPIRES)).unwrap();
        Self { store, tenant, tenant_handle, algorithm, begun, desk: Desk::new() }
    }

    fn material<'a>(&'a self, version: u32, handle: &'a SealedHandle) -> KeyMaterial<'a> {
        let NewVersion { tenant, tenant_handle, key, version, algorithm, exportable, before: _ } =
            new(&self.tenant, &self.tenant_handle, version, self.algorithm);
        let commitment = &self.begun.commitment;
        KeyMaterial { tenant, tenant_handle, key, version, algorithm, exportable, commitment, handle }
    }

    fn wrap(&self, material: &str) -> Vec<u8> {
        self.desk.wrap(self.begun.public.as_ref().unwrap(), material)
    }

    fn finish(&self, bytes: &[u8], check_value: &[u8], now: Timestamp) -> Result<Generated, Error> {
        let waiting = self.material(1, &self.begun.handle);
        let new = new(&self.tenant, &self.tenant_handle, 2, self.algorithm);
        block_on(self.store.import_version(waiting, new, Wrapped { bytes, check_value, now }))
    }

    fn work(&self, imported: &Generated, work: Work<'_>) -> Result<Product, Error> {
        block_on(self.store.use_version(self.material(2, &imported.handle), work))
    }
}

fn new<'a>(
    tenant: &'a TenantId,
    tenant_handle: &'a SealedHandle,
    version: u32,
    algorithm: Algorithm,
) -> NewVersion<'a> {
    let (key, version) = (KeyId::from_bytes([7; 16]), KeyVersion::new(version).unwrap());
    NewVersion { tenant, tenant_handle, key, version, algorithm, exportable: false, before: None }
}

fn kind(handle: &SealedHandle) -> Kind {
    SealedBlob::parse(handle.as_bytes()).unwrap().kind
}

#[test]
fn symmetric_material_comes_in_and_says_that_it_did() {
    for (algorithm, length) in [
        (Algorithm::Aes256Gcm, 32),
        (Algorithm::Xaes256Gcm, 32),
        (Algorithm::Aes256Kwp, 32),
        (Algorithm::HmacSha384, 48),
        (Algorithm::HmacSha512, 64),
    ] {
        let waiting = Waiting::new(algorithm);
        waiting.desk.run(&format!("openssl rand {length} > material"));
        let wrapped = waiting.wrap("material");
        let imported = waiting.finish(&wrapped, &waiting.desk.sha256("material")[..8], IN_TIME).unwrap();
        assert_eq!(imported.custody, Custody::Software);
        assert_eq!((kind(&waiting.begun.handle), kind(&imported.handle)), (Kind::ImportKey, Kind::Imported));
        assert!(imported.public.is_none());
    }
}

#[test]
fn an_imported_mac_key_computes_what_openssl_computes() {
    let waiting = Waiting::new(Algorithm::HmacSha256);
    waiting.desk.run("openssl rand 32 > material; printf message | openssl mac -digest SHA256 -macopt hexkey:$(od -An -v -tx1 material | tr -d ' \\n') -binary HMAC > mac");
    let wrapped = waiting.wrap("material");
    let imported = waiting.finish(&wrapped, &waiting.desk.sha256("material")[..8], IN_TIME).unwrap();
    let product = waiting.work(&imported, Work::Mac { message: b"message" }).unwrap();
    assert!(matches!(product, Product::Bytes(mac) if mac == waiting.desk.read("mac")));
}

#[test]
fn private_keys_come_in_with_the_public_half_that_openssl_shows() {
    let cases = [
        (Algorithm::Rsa2048, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        (Algorithm::EcdsaP256, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        (Algorithm::EcdsaP384, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        (Algorithm::EcdsaP521, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
        (Algorithm::Ed25519, "genpkey -algorithm ED25519"),
        (Algorithm::EcdhP256, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        (Algorithm::EcdhP384, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        (Algorithm::X25519, "genpkey -algorithm X25519"),
    ];
    for (algorithm, make) in cases {
        let waiting = Waiting::new(algorithm);
        waiting.desk.run(&format!(
            "openssl {make} -out pem; openssl pkcs8 -topk8 -nocrypt -in pem -outform DER -out material
             openssl pkey -in pem -pubout -outform DER -out public"
        ));
        let wrapped = waiting.wrap("material");
        let error = waiting.finish(&wrapped, &[0; 32], IN_TIME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{algorithm}: another's check value");
        let imported = waiting.finish(&wrapped, &waiting.desk.sha256("public"), IN_TIME).unwrap();
        assert_eq!(imported.public.as_deref(), Some(&waiting.desk.read("public")[..]), "{algorithm}");
        let product = match SignatureScheme::default_for(algorithm) {
            Some(scheme) => {
                let message = Message::Whole(b"message");
                waiting.work(&imported, Work::Sign { scheme, message })
            }
            None => waiting.work(&imported, Work::Agree { peer: imported.public.as_deref().unwrap() }),
        };
        assert!(product.is_ok(), "{algorithm}: {product:?}");
    }
}

#[test]
fn whatever_is_changed_is_refused_in_the_same_words() {
    let waiting = Waiting::new(Algorithm::Aes256Gcm);
    waiting.desk.run("openssl rand 32 > material");
    let wrapped = waiting.wrap("material");
    let check = waiting.desk.sha256("material")[..8].to_vec();
    let mut wrong = vec![(wrapped[..wrapped.len() - 1].to_vec(), check.clone(), "shorter")];
    // A byte of the outer layer, the first and the last of the inner one, and of the check value.
    for index in [0, 383, 384, wrapped.len() - 1] {
        let mut bytes = wrapped.clone();
        bytes[index] ^= 1;
        wrong.push((bytes, check.clone(), "changed"));
    }
    let mut other = check.clone();
    other[7] ^= 1;
    wrong.push((wrapped.clone(), other, "check value"));
    wrong.push((wrapped.clone(), check[..7].to_vec(), "shorter check value"));
    wrong.push((wrapped[..384].to_vec(), check.clone(), "no inner layer"));
    wrong.push((Vec::new(), check.clone(), "nothing"));
    wrong.push((waiting.desk.wrap_with_aes_128("material"), check.clone(), "an inner key of another length"));
    // For another import key of the same name and algorithm.
    let other = Waiting::new(Algorithm::Aes256Gcm);
    wrong.push((
        waiting.desk.wrap(other.begun.public.as_ref().unwrap(), "material"),
        check.clone(),
        "another's",
    ));
    for (bytes, check, what) in &wrong {
        let error = waiting.finish(bytes, check, IN_TIME).unwrap_err();
        assert_eq!(
            (error.kind(), error.chain().as_str()),
            (ErrorKind::Integrity, "the input does not verify"),
            "{what}"
        );
    }
    assert!(waiting.finish(&wrapped, &check, IN_TIME).is_ok());
}

#[test]
fn an_import_key_expires() {
    let waiting = Waiting::new(Algorithm::Aes256Gcm);
    waiting.desk.run("openssl rand 32 > material");
    let wrapped = waiting.wrap("material");
    let check = &waiting.desk.sha256("material")[..8];
    let error = waiting.finish(&wrapped, check, EXPIRES).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert_eq!(error.detail(), "the import key expired at 1970-01-01T00:00:00.001000Z");
}

#[test]
fn material_of_another_length_or_kind_is_refused_and_named() {
    let ec = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out pem; openssl pkcs8 -topk8 -nocrypt -in pem -outform DER -out material; openssl pkey -in pem -pubout -outform DER -out public";
    let rsa = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out pem; openssl pkcs8 -topk8 -nocrypt -in pem -outform DER -out material; openssl pkey -in pem -pubout -outform DER -out public";
    let cases = [
        (Algorithm::Aes256Gcm, "openssl rand 16 > material"),
        (Algorithm::HmacSha384, "openssl rand 32 > material"),
        (Algorithm::EcdsaP256, ec),
        (Algorithm::EcdhP256, ec),
        (Algorithm::Rsa2048, rsa),
        (Algorithm::Rsa2048, ec),
        (Algorithm::Ed25519, ec),
        (Algorithm::X25519, "openssl rand 48 > material; cp material public"),
    ];
    for (algorithm, make) in cases {
        let waiting = Waiting::new(algorithm);
        waiting.desk.run(make);
        let wrapped = waiting.wrap("material");
        let check = match algorithm.is_asymmetric() {
            true => waiting.desk.sha256("public"),
            false => waiting.desk.sha256("material")[..8].to_vec(),
        };
        let error = waiting.finish(&wrapped, &check, IN_TIME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{algorithm}: {error}");
        assert_eq!(error.detail(), format!("what was wrapped is no key of `{algorithm}`"));
    }
}

#[test]
fn an_import_key_does_no_other_work_and_opens_for_its_own_key_only() {
    let waiting = Waiting::new(Algorithm::HmacSha256);
    let material = waiting.material(1, &waiting.begun.handle);
    assert!(block_on(waiting.store.use_version(material, Work::Mac { message: b"message" })).is_err());
    assert!(waiting.store.examine(waiting.material(1, &waiting.begun.handle)).is_ok());
    waiting.desk.run("openssl rand 32 > material");
    let wrapped = waiting.wrap("material");
    let check = &waiting.desk.sha256("material")[..8];
    let bytes = Wrapped { bytes: &wrapped, check_value: check, now: IN_TIME };
    // The same import key, said to be of another algorithm, or of another key's: the blob does not open.
    for (algorithm, key) in [(Algorithm::Aes256Gcm, 7), (Algorithm::HmacSha256, 8)] {
        let key = KeyId::from_bytes([key; 16]);
        let named = KeyMaterial { algorithm, key, ..waiting.material(1, &waiting.begun.handle) };
        let asked = NewVersion { key, ..new(&waiting.tenant, &waiting.tenant_handle, 2, algorithm) };
        let error = block_on(waiting.store.import_version(named, asked, bytes)).unwrap_err();
        assert_eq!(error.detail(), "a sealed key does not open");
    }
}

#[test]
fn lattice_keys_are_not_imported() {
    let waiting = Waiting::new(Algorithm::HmacSha256);
    let asked = new(&waiting.tenant, &waiting.tenant_handle, 1, Algorithm::MlDsa65);
    let error = block_on(waiting.store.make_import_key(asked, EXPIRES)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
