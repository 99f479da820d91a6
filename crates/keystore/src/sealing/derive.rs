//! One secret, several keys: HKDF-SHA-256 (RFC 5869) with a label for each use, so that no key ever serves two.
//!
//! ```text
//! HKDF-Extract(salt = "holdfast/key-store/v1", ikm = secret)
//! HKDF-Expand(prk, info = label of the use, length)
//! ```

use crate::refusal;
use aws_lc_rs::hkdf;
use holdfast_core::Error;

const SALT: &[u8] = b"holdfast/key-store/v1";

/// What a derived value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The key that seals tenants' sealing keys, from the root key.
    SealTenantKeys,
    /// The key that seals the material of key versions, from a tenant's sealing key.
    SealMaterial,
    /// The public name of a sealing key.
    SealerId,
    /// The commitment that stands in ciphertexts, from a symmetric key's material.
    Commitment,
}

impl Use {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::SealTenantKeys => b"seal tenant keys",
            Self::SealMaterial => b"seal key material",
            Self::SealerId => b"name of a sealing key",
            Self::Commitment => b"key commitment",
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out` with what `secret` gives for `purpose`.
///
/// The secret goes in as HKDF's input keying material, so that even an HMAC key's own codes say nothing of the result.
pub(crate) fn fill(secret: &[u8], purpose: Use, out: &mut [u8]) -> Result<(), Error> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
    prk.expand(&[purpose.label()], Length(out.len())).and_then(|okm| okm.fill(out)).map_err(refusal::library)
}

/// The same for parts outside of the key store, under a salt of their own.
pub(crate) fn fill_for_others(
    secret: &[u8],
    label: &str,
    context: &[u8],
    out: &mut [u8],
) -> Result<(), Error> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"holdfast/root-key/v1").extract(secret);
    let info: [&[u8]; 3] = [label.as_bytes(), &[0], context];
    prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).map_err(refusal::library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_do_not_share_a_value() {
        let uses = [Use::SealTenantKeys, Use::SealMaterial, Use::SealerId, Use::Commitment];
        let values: std::collections::BTreeSet<_> = uses
            .into_iter()
            .map(|purpose| {
                let mut out = [0; 32];
                fill(&[7; 32], purpose, &mut out).unwrap();
                out
            })
            .collect();
        assert_eq!(values.len(), uses.len());
    }
}
