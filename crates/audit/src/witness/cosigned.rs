//! A log's newest cosigned checkpoint, as it lies beside the log: `checkpoint.cosigned`.

use crate::checkpoint::Checkpoint;
use crate::files::LogFiles;
use crate::key::VerifierKey;
use crate::note::{NoteError, Signed};
use crate::verify::VerifyError;

/// What all given witnesses have cosigned.
pub(crate) struct Cosigned {
    /// The log at that size.
    pub(crate) checkpoint: Checkpoint,
    /// The witnesses, with their times.
    pub(crate) by: Vec<Signed>,
}

impl Cosigned {
    /// Reads it, and checks the log's signature and one cosignature by each of these witnesses; nothing if none is given.
    pub(crate) fn read(
        files: &LogFiles,
        log: &VerifierKey,
        witnesses: &[VerifierKey],
    ) -> Result<Option<Self>, VerifyError> {
        let Some(first) = witnesses.first() else { return Ok(None) };
        let missing = |key: &VerifierKey| VerifyError::NotCosigned(key.name().to_owned());
        let bytes = files.read_if_there(&files.cosigned_path())?.ok_or_else(|| missing(first))?;
        let (checkpoint, note) = Checkpoint::open(&bytes, log).map_err(VerifyError::Cosigned)?;
        let mut by = Vec::with_capacity(witnesses.len());
        for witness in witnesses {
            let signed = note.verify(&[witness]).map_err(|error| match error {
                NoteError::Unsigned => missing(witness),
                error @ (NoteError::BadSignature(_) | NoteError::Malformed(_)) => VerifyError::Witness(error),
            })?;
            // A log's own key, given as a witness's, says no time: it vouches for nothing.
            by.push(signed.into_iter().find(|signed| signed.time.is_some()).ok_or_else(|| missing(witness))?);
        }
        Ok(Some(Self { checkpoint, by }))
    }
}
