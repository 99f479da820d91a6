//! The body of `add-checkpoint` (C2SP tlog-witness v1.0.0): read strictly, bounded, and written.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::merkle::{Hash, MAX_PROOF};
use crate::note::{Note, NoteError};
use crate::text;

/// Largest body that is read, in bytes: a proof, and a note with sixteen signatures of the largest kind.
pub const MAX_REQUEST: usize = 64 << 10;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a size, a proof, an empty line and a note.
    #[error("not a submission: {0}; send `old N`, the proof, an empty line and the checkpoint")]
    Malformed(&'static str),
    /// The note is none.
    #[error("the checkpoint was refused: {0}")]
    Note(#[from] NoteError),
    /// The note is no checkpoint.
    #[error("the checkpoint was refused: {0}")]
    Checkpoint(#[from] CheckpointError),
}

/// A log's newest checkpoint, with the proof that it continues an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The size of the older one, as whoever submits knows it; 0 if there is none.
    pub old: u64,
    /// The consistency proof (RFC 6962 §2.1.2), unverified.
    pub proof: Vec<Hash>,
    /// The checkpoint's note, its signatures unverified.
    pub note: Note,
}

impl Request {
    /// Reads a body; gives what the note says too.
    ///
    /// # Errors
    /// Any [`RequestError`]; also when the older size is the larger one.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Checkpoint), RequestError> {
        let malformed = RequestError::Malformed;
        if bytes.len() > MAX_REQUEST {
            return Err(malformed("it is larger than 64 KiB"));
        }
        let body = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, note) = body.split_once("\n\n").ok_or(malformed("no empty line after the proof"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(text::decimal);
        let old = old.ok_or(malformed("the first line is not `old` and a decimal"))?;
        let proof: Option<Vec<Hash>> = lines.map(text::hash).collect();
        let proof = proof.ok_or(malformed("a line of the proof is not 32 bytes in base64"))?;
        if proof.len() > MAX_PROOF {
            return Err(malformed("the proof has more than 63 hashes"));
        }
        let note = Note::parse(note.as_bytes())?;
        let checkpoint = Checkpoint::from_text(note.text())?;
        if old > checkpoint.size {
            return Err(malformed("the older size is larger than the checkpoint's"));
        }
        Ok((Self { old, proof, note }, checkpoint))
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { old, proof, note } = self;
        writeln!(f, "old {old}")?;
        proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{note}")
    }
}
