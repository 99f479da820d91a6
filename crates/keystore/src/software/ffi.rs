//! RSA encryption and decryption with AWS-LC's own functions: the crate's only unsafe code.
//!
//! The safe bindings offer OAEP only with the same hash for the label and inside MGF1; peers exist that choose them apart (a label hash of
//! SHA-256 with MGF1 of SHA-1 is a common default). All RSA encryption goes this one way, so that there is one key object and one path.
#![expect(unsafe_code, reason = "the safe bindings have no OAEP with an MGF1 hash of its own")]

use aws_lc_sys as lc;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use holdfast_core::Secret;
use holdfast_core::algorithm::{Hash, RsaPadding};

/// An RSA key: both halves, or the public one.
pub(crate) struct RsaPkey(NonNull<lc::EVP_PKEY>);

// SAFETY: an EVP_PKEY may be used by several threads at once as long as none calls a mutating function (AWS-LC's evp.h). After `parse`
// only `EVP_PKEY_CTX_new` (which counts an atomic reference), `EVP_PKEY_size` and, at the end, `EVP_PKEY_free` are called with it, and
// the RSA blinding inside has its own lock.
unsafe impl Send for RsaPkey {}
// SAFETY: as above.
unsafe impl Sync for RsaPkey {}

impl Drop for RsaPkey {
    fn drop(&mut self) {
        // SAFETY: the pointer came from one of the two parsers and is freed once, here. AWS-LC wipes what it frees.
        unsafe { lc::EVP_PKEY_free(self.0.as_ptr()) }
    }
}

/// One operation's parameters, freed when it ends.
struct Operation(NonNull<lc::EVP_PKEY_CTX>);

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `EVP_PKEY_CTX_new` and is freed once, here.
        unsafe { lc::EVP_PKEY_CTX_free(self.0.as_ptr()) }
        // SAFETY: no argument. The queue belongs to this thread; what failed has been answered by then.
        unsafe { lc::ERR_clear_error() }
    }
}

type Parser = unsafe extern "C" fn(*mut lc::CBS) -> *mut lc::EVP_PKEY;
type Init = unsafe extern "C" fn(*mut lc::EVP_PKEY_CTX) -> c_int;
type Run = unsafe extern "C" fn(*mut lc::EVP_PKEY_CTX, *mut u8, *mut usize, *const u8, usize) -> c_int;

impl RsaPkey {
    /// From PKCS#8 (RFC 5208). AWS-LC checks the key's consistency. `None` for anything else.
    pub(crate) fn parse(pkcs8: &[u8]) -> Option<Self> {
        Self::parse_with(lc::EVP_parse_private_key, pkcs8)
    }

    /// The public half alone, from DER SubjectPublicKeyInfo (RFC 5280 §4.1). `None` for anything else.
    pub(crate) fn parse_public(spki: &[u8]) -> Option<Self> {
        Self::parse_with(lc::EVP_parse_public_key, spki)
    }

    /// An RSA key after which nothing is left to read.
    fn parse_with(parser: Parser, der: &[u8]) -> Option<Self> {
        let mut reader = MaybeUninit::<lc::CBS>::uninit();
        // SAFETY: `CBS_init` writes the whole struct, which then borrows `der`; that outlives this function.
        let mut reader = unsafe {
            lc::CBS_init(reader.as_mut_ptr(), der.as_ptr(), der.len());
            reader.assume_init()
        };
        // SAFETY: `reader` is initialised; the result is null or a new reference that we own.
        let key = NonNull::new(unsafe { parser(&raw mut reader) }).map(Self);
        // SAFETY: no argument.
        unsafe { lc::ERR_clear_error() }
        let key = key?;
        // SAFETY: both point to live objects, which are only read.
        let (kind, rest) = unsafe { (lc::EVP_PKEY_id(key.0.as_ptr()), lc::CBS_len(&raw const reader)) };
        (kind == lc::EVP_PKEY_RSA && rest == 0).then_some(key)
    }

    /// Length of the modulus in bytes: also of every ciphertext.
    pub(crate) fn modulus_len(&self) -> usize {
        // SAFETY: the key lives as long as `self` and is only read.
        let size = unsafe { lc::EVP_PKEY_size(self.0.as_ptr()) };
        usize::try_from(size).unwrap_or(0)
    }

    /// Encrypts with the public half into `out`, which must have the modulus's length. `None` if the padding does not take such input.
    pub(crate) fn encrypt(
        &self,
        padding: RsaPadding,
        label: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Option<()> {
        let written =
            self.run(lc::EVP_PKEY_encrypt_init, lc::EVP_PKEY_encrypt, padding, label, plaintext, out)?;
        (written == out.len()).then_some(())
    }

    /// Decrypts. `None` whatever is wrong; the work is the same: AWS-LC checks both paddings in constant time, after the same private
    /// operation, and the buffer is made before and wiped after either way.
    pub(crate) fn decrypt(&self, padding: RsaPadding, label: &[u8], body: &[u8]) -> Option<Secret> {
        let mut length = 0;
        let mut plaintext = Secret::fill_with(self.modulus_len(), |out| {
            let written =
                self.run(lc::EVP_PKEY_decrypt_init, lc::EVP_PKEY_decrypt, padding, label, body, out);
            written.map(|written| length = written).ok_or(())
        })
        .ok()?;
        plaintext.expose_mut().truncate(length);
        Some(plaintext)
    }

    /// RSA's bare operations (RFC 8017 §5.1): the public one for `encrypt`, else the private one.
    pub(crate) fn bare(&self, input: &[u8], encrypt: bool) -> Option<Vec<u8>> {
        let (init, run): (Init, Run) = match encrypt {
            true => (lc::EVP_PKEY_encrypt_init, lc::EVP_PKEY_encrypt),
            false => (lc::EVP_PKEY_decrypt_init, lc::EVP_PKEY_decrypt),
        };
        let mut out = vec![0; self.modulus_len()];
        // SAFETY: as in `run`.
        let operation =
            Operation(NonNull::new(unsafe { lc::EVP_PKEY_CTX_new(self.0.as_ptr(), null_mut()) })?);
        let context = operation.0.as_ptr();
        let mut length = out.len();
        // SAFETY: as in `run`.
        unsafe {
            succeeded(init(context))?;
            succeeded(lc::EVP_PKEY_CTX_set_rsa_padding(context, lc::RSA_NO_PADDING))?;
            succeeded(run(context, out.as_mut_ptr(), &raw mut length, input.as_ptr(), input.len()))?;
        }
        (length == out.len()).then_some(out)
    }

    fn run(
        &self,
        init: Init,
        run: Run,
        padding: RsaPadding,
        label: &[u8],
        input: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        // SAFETY: the key is live; `EVP_PKEY_CTX_new` takes its own reference, and the null engine means none.
        let operation =
            Operation(NonNull::new(unsafe { lc::EVP_PKEY_CTX_new(self.0.as_ptr(), null_mut()) })?);
        let context = operation.0.as_ptr();
        // SAFETY: `context` is live and owned by `operation` until the end of this function.
        succeeded(unsafe { init(context) })?;
        set_padding(&operation, padding, label)?;
        let mut length = out.len();
        // SAFETY: `out` is valid for `length` bytes, which AWS-LC respects and replaces by what it wrote; `input` is valid for its length;
        // they do not overlap, being a unique and a shared borrow.
        succeeded(unsafe { run(context, out.as_mut_ptr(), &raw mut length, input.as_ptr(), input.len()) })?;
        Some(length)
    }
}

fn set_padding(operation: &Operation, padding: RsaPadding, label: &[u8]) -> Option<()> {
    let context = operation.0.as_ptr();
    match padding {
        RsaPadding::Oaep { hash, mgf1 } => {
            // SAFETY: `context` is live and initialised for encryption or decryption; the hashes are static objects.
            unsafe {
                succeeded(lc::EVP_PKEY_CTX_set_rsa_padding(context, lc::RSA_PKCS1_OAEP_PADDING))?;
                succeeded(lc::EVP_PKEY_CTX_set_rsa_oaep_md(context, digest(hash)))?;
                succeeded(lc::EVP_PKEY_CTX_set_rsa_mgf1_md(context, digest(mgf1)))?;
            }
            if label.is_empty() { Some(()) } else { set_label(operation, label) }
        }
        RsaPadding::Pkcs1v15 => {
            // SAFETY: as above.
            succeeded(unsafe { lc::EVP_PKEY_CTX_set_rsa_padding(context, lc::RSA_PKCS1_PADDING) })
        }
    }
}

fn set_label(operation: &Operation, label: &[u8]) -> Option<()> {
    // SAFETY: `label` is valid for its length, which is not zero; the result is null or a copy that we own.
    let copy = NonNull::new(unsafe { lc::OPENSSL_memdup(label.as_ptr().cast(), label.len()) })?;
    // SAFETY: `operation` is live and set to OAEP; on success it owns the copy and frees it with itself.
    let taken = succeeded(unsafe {
        lc::EVP_PKEY_CTX_set0_rsa_oaep_label(operation.0.as_ptr(), copy.as_ptr().cast(), label.len())
    });
    if taken.is_none() {
        // SAFETY: it was not taken, so the copy is still ours, and is freed once.
        unsafe { lc::OPENSSL_free(copy.as_ptr()) }
    }
    taken
}

fn digest(hash: Hash) -> *const lc::EVP_MD {
    // SAFETY: these take no argument and return a static object.
    unsafe {
        match hash {
            Hash::Sha1 => lc::EVP_sha1(),
            Hash::Sha256 => lc::EVP_sha256(),
            Hash::Sha384 => lc::EVP_sha384(),
            Hash::Sha512 => lc::EVP_sha512(),
        }
    }
}

fn succeeded(code: c_int) -> Option<()> {
    (code == 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rsa_key_is_refused() {
        assert!(RsaPkey::parse(b"").is_none());
        assert!(RsaPkey::parse(&[0x30; 40]).is_none());
        let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        );
        assert!(RsaPkey::parse(pair.unwrap().to_pkcs8v1().unwrap().as_ref()).is_none());
    }
}
