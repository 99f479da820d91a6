//! Cosignatures (C2SP tlog-cosignature v1, Ed25519): a witness's word that it saw this checkpoint grow from earlier
//! ones.

use crate::key::{KeyKind, Signer, VerifierKey};
use crate::note::{Note, NoteSignature};

/// The bytes that a witness signs: two lines, then the checkpoint's whole text.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Makes the signature line of a witness for a checkpoint; `time` in POSIX seconds. Nothing if the signer is not a
/// cosigner.
#[must_use]
pub fn cosign(checkpoint: &Note, signer: &Signer, time: u64) -> Option<NoteSignature> {
    let key = signer.verifier();
    (key.kind() == KeyKind::Cosignature).then(|| {
        let mut signature = time.to_be_bytes().to_vec();
        signature.extend(signer.sign(message(time, checkpoint.text()).as_bytes()));
        NoteSignature { name: key.name().to_owned(), key_id: key.id(), signature }
    })
}

/// Checks eight bytes of time and an Ed25519 signature; gives the time if they fit.
pub(crate) fn check(text: &str, key: &VerifierKey, signature: &[u8]) -> Option<u64> {
    let (time, signature) = signature.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    key.signed(message(time, text).as_bytes(), signature).then_some(time)
}
