//! Key encapsulation: ML-KEM-768 (FIPS 203).
//!
//! A key's material is the expanded decapsulation key, 2,400 bytes: `dk_PKE ‖ ek ‖ H(ek) ‖ z` (FIPS 203, algorithm 16). Its public half
//! is given as the raw encapsulation key of 1,184 bytes.

use super::material::Fresh;
use super::signature::{rejected, rejected_material};
use crate::refusal;
use aws_lc_rs::kem::{AlgorithmId, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::{Error, Secret};

/// Where the encapsulation key stands in the decapsulation key: after 384·k bytes, k = 3.
const EK_AT: usize = 1152;
/// Length of the encapsulation key in bytes: 384·k + 32.
const EK_LEN: usize = 1184;
/// Length of a ciphertext in bytes.
const CIPHERTEXT_LEN: usize = 1088;

/// A key pair, both halves ready.
pub(crate) struct KemKey {
    decapsulation: DecapsulationKey<AlgorithmId>,
    encapsulation: EncapsulationKey<AlgorithmId>,
}

/// Makes a key.
pub(crate) fn generate() -> Result<Fresh, Error> {
    let key = DecapsulationKey::generate(&ML_KEM_768).map_err(refusal::library)?;
    let material = Secret::from(key.key_bytes().map_err(refusal::library)?.as_ref());
    let public = key.encapsulation_key().and_then(|key| key.key_bytes().map(|bytes| bytes.as_ref().to_vec()));
    Fresh::asymmetric(Algorithm::MlKem768, material, &public.map_err(refusal::library)?)
}

impl KemKey {
    pub(crate) fn new(material: &[u8]) -> Result<Self, Error> {
        let decapsulation = DecapsulationKey::new(&ML_KEM_768, material).map_err(rejected)?;
        let public =
            material.get(EK_AT..).and_then(|rest| rest.get(..EK_LEN)).ok_or_else(rejected_material)?;
        let encapsulation = EncapsulationKey::new(&ML_KEM_768, public).map_err(rejected)?;
        Ok(Self { decapsulation, encapsulation })
    }

    /// A new shared secret and the ciphertext that only this key opens.
    pub(crate) fn encapsulate(&self) -> Result<(Vec<u8>, Secret), Error> {
        let (ciphertext, secret) = self.encapsulation.encapsulate().map_err(refusal::library)?;
        Ok((ciphertext.as_ref().to_vec(), Secret::from(secret.as_ref())))
    }

    /// The shared secret inside a ciphertext. A ciphertext that was not made for this key gives a secret that nobody knows (implicit
    /// rejection, FIPS 203 §6.3), not an error.
    ///
    /// # Errors
    /// `malformed` for a ciphertext of another length.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, Error> {
        if ciphertext.len() != CIPHERTEXT_LEN {
            return Err(refusal::malformed(
                "an ML-KEM-768 ciphertext has 1,088 bytes",
                "send the ciphertext as it came from the encapsulation",
            ));
        }
        let secret = self.decapsulation.decapsulate(ciphertext.into()).map_err(refusal::library)?;
        Ok(Secret::from(secret.as_ref()))
    }
}
