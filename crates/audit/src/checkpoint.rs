//! Checkpoints (C2SP tlog-checkpoint v1.0.0): what a log says of itself at one size, as a signed note.

use crate::key::{Signer, VerifierKey};
use crate::merkle::Hash;
use crate::note::{Note, NoteError};
use crate::text;

/// A log's size and root under its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name for ever; also the name of its key.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Hash,
    /// Further lines, none of them empty. We write none.
    pub extensions: Vec<String>,
}

/// Why a checkpoint was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note was refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not origin, size and root.
    #[error("not a checkpoint: {0}; fetch the file again from its source")]
    Malformed(&'static str),
    /// Rightly signed, but by the key of another log.
    #[error("the checkpoint is of `{found}`, not of `{wanted}`; give the file or the key of the other log")]
    Origin {
        /// The origin in the text.
        found: String,
        /// The name of the key it was checked with.
        wanted: String,
    },
}

impl Checkpoint {
    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let mut lines = text::lines(text).ok_or(malformed("the last line does not end"))?;
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed("no origin"))?;
        let size = lines.next().and_then(text::decimal).ok_or(malformed("the size is not a decimal"))?;
        let root =
            lines.next().and_then(text::hash).ok_or(malformed("the root is not 32 bytes in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(malformed("an extension line is empty"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }

    /// Reads a signed checkpoint and checks that the log of this key signed it. Gives the note too, which may hold
    /// witnesses' lines.
    ///
    /// # Errors
    /// Any [`CheckpointError`].
    pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<(Self, Note), CheckpointError> {
        let note = Note::parse(bytes)?;
        note.verify(&[key])?;
        let checkpoint = Self::from_text(note.text())?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin { found: checkpoint.origin, wanted: key.name().to_owned() });
        }
        Ok((checkpoint, note))
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { origin, size, root, extensions } = self;
        let mut text = format!("{origin}\n{size}\n{root}\n");
        extensions.iter().for_each(|line| text.extend([line, "\n"]));
        text
    }

    /// Signs it as the log's note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the origin holds a control character.
    pub fn sign(&self, signer: &Signer) -> Result<Note, NoteError> {
        Note::sign(&self.to_text(), signer)
    }
}
