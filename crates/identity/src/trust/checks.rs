//! How many signatures are checked for one chain.

use core::sync::atomic::{AtomicU32, Ordering};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// The most signatures that are checked for one chain, under all of a tenant's anchors together, beside [`OF_EACH`]. A chain of four of which each
/// authority is an anchor with a list takes fourteen; the library itself would check a hundred for every anchor.
pub(super) const MAX_CHECKS: u32 = 32;
/// More for each anchor of a name that the chain leads to: of namesakes all but one are tried in vain, under what they have not signed and under a root
/// that was shown with it.
pub(super) const OF_EACH: u32 = 4;

/// What one chain may still cost.
#[derive(Debug)]
pub(super) struct Checks {
    most: u32,
    asked: AtomicU32,
    made: AtomicU32,
}

impl Checks {
    /// Under so many anchors.
    pub(super) fn of(anchors: usize) -> Self {
        let most =
            u32::try_from(anchors).unwrap_or(u32::MAX).saturating_mul(OF_EACH).saturating_add(MAX_CHECKS);
        Self { most, asked: AtomicU32::new(0), made: AtomicU32::new(0) }
    }

    /// The library's algorithms, counting.
    pub(super) fn algorithms(&self) -> Algorithms<'_> {
        let counted = |algorithm: &&'static dyn SignatureVerificationAlgorithm| Counted {
            algorithm: *algorithm,
            checks: self,
        };
        Algorithms(webpki::ALL_VERIFICATION_ALGS.iter().map(counted).collect())
    }

    /// Whether one was asked for that was not made.
    pub(super) fn are_spent(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > self.most
    }

    /// How many were made.
    #[cfg(test)]
    pub(super) fn made(&self) -> u32 {
        self.made.load(Ordering::Relaxed)
    }

    fn take(&self) -> Result<(), InvalidSignature> {
        match self.asked.fetch_add(1, Ordering::Relaxed) < self.most {
            true => Ok(()),
            false => Err(InvalidSignature),
        }
    }
}

/// Algorithms that count together.
pub(super) struct Algorithms<'a>(Vec<Counted<'a>>);

impl Algorithms<'_> {
    /// As the library takes them.
    pub(super) fn each(&self) -> Vec<&dyn SignatureVerificationAlgorithm> {
        self.0.iter().map(|counted| counted as &dyn SignatureVerificationAlgorithm).collect()
    }
}

#[derive(Debug)]
struct Counted<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    checks: &'a Checks,
}

impl SignatureVerificationAlgorithm for Counted<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.checks.take()?;
        self.checks.made.fetch_add(1, Ordering::Relaxed);
        self.algorithm.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}
