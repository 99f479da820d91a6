//! A log's newest cosigned checkpoint, as it lies beside the log: `checkpoint.cosigned`.

use crate::checkpoint::Checkpoint;
use crate::files::LogFiles;
use crate::key::VerifierKey;
use crate::note::{Note, NoteError, Signed};
use crate::policy::Policy;
use crate::verify::VerifyError;

/// What witnesses have cosigned.
pub(crate) struct Cosigned {
    /// The log at that size.
    pub(crate) checkpoint: Checkpoint,
    /// The witnesses that did, with their times.
    pub(crate) by: Vec<Signed>,
    /// The names of the known ones that did not.
    pub(crate) missing: Vec<String>,
}

impl Cosigned {
    /// Reads it, checks the log's signature and the cosignatures of the witnesses that the policy knows, and whether they are its quorum.
    /// Nothing if none of them cosigned and none has to.
    pub(crate) fn read(
        files: &LogFiles,
        log: &VerifierKey,
        policy: &Policy,
    ) -> Result<Option<Self>, VerifyError> {
        if policy.witnesses().next().is_none() {
            return Ok(None);
        }
        let bytes = files.read_if_there(&files.cosigned_path())?;
        let opened = bytes.map(|bytes| Checkpoint::open(&bytes, log).map_err(VerifyError::Cosigned));
        let opened = opened.transpose()?;
        let (mut signed, mut missing) = (Vec::new(), Vec::new());
        for witness in policy.witnesses() {
            let found = opened.as_ref().map(|(_, note)| cosignature(note, witness)).transpose()?.flatten();
            match found {
                Some(cosignature) => signed.push((witness, cosignature)),
                None => missing.push(witness.name().to_owned()),
            }
        }
        let is_met = policy.is_met(|witness| signed.iter().any(|(cosigner, _)| *cosigner == witness));
        let by: Vec<_> = signed.into_iter().map(|(_, cosignature)| cosignature).collect();
        if !is_met {
            let cosigned = by.into_iter().map(|signed| signed.name).collect();
            return Err(VerifyError::NotCosigned { cosigned, missing });
        }
        let opened = opened.filter(|_| !by.is_empty());
        Ok(opened.map(|(checkpoint, _)| Self { checkpoint, by, missing }))
    }
}

/// A witness's cosignature, if there is one. A log's own key, given as a witness's, says no time: it vouches for nothing.
fn cosignature(note: &Note, witness: &VerifierKey) -> Result<Option<Signed>, VerifyError> {
    match note.verify(&[witness]) {
        Ok(signed) => Ok(signed.into_iter().find(|signed| signed.time.is_some())),
        Err(NoteError::Unsigned) => Ok(None),
        Err(error @ (NoteError::BadSignature(_) | NoteError::Malformed(_))) => {
            Err(VerifyError::Witness(error))
        }
    }
}
