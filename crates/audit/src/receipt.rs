//! Receipts: a log's signed word, given at once, that a record stands at an index. Format in `docs/receipts.md`.
//!
//! A receipt is a signed note (C2SP signed-note) with the log's key. It comes before any checkpoint covers the record, so it proves
//! nothing about the tree; it is what the tree is held to later.

use crate::key::{Signer, VerifierKey};
use crate::merkle::{Hash, leaf_hash};
use crate::note::{Note, NoteError};
use crate::text;

/// The first line. No origin of ours looks like it and the third line is no root alone, so nobody takes a receipt for a checkpoint.
const TITLE: &str = "holdfast/receipt/v1";

/// What a log says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log's origin.
    pub origin: String,
    /// The operation's id as its record writes it.
    pub operation: String,
    /// The index of the record.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Why a receipt was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The note was refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not a receipt's.
    #[error("not a receipt: {0}; give the file as it was written")]
    Malformed(&'static str),
    /// Rightly signed, but by the key of another log.
    #[error("the receipt is of `{found}`, not of `{wanted}`; give the file or the key of the other log")]
    Origin {
        /// The origin in the text.
        found: String,
        /// The name of the key it was checked with.
        wanted: String,
    },
}

impl Receipt {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { origin, operation, index, leaf } = self;
        format!("{TITLE}\n{origin}\noperation {operation}\nindex {index}\nleaf {leaf}\n")
    }

    /// Signs it as the log's note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if a value holds a control character.
    pub fn sign(&self, signer: &Signer) -> Result<Note, NoteError> {
        Note::sign(&self.to_text(), signer)
    }

    /// Reads a signed receipt, without looking at its signature: to find out which log it is of.
    ///
    /// # Errors
    /// Any [`ReceiptError`] but [`ReceiptError::Origin`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, Note), ReceiptError> {
        let note = Note::parse(bytes)?;
        Ok((Self::from_text(note.text())?, note))
    }

    /// Reads a signed receipt and checks that the log of this key signed it.
    ///
    /// # Errors
    /// Any [`ReceiptError`].
    pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<Self, ReceiptError> {
        let (receipt, note) = Self::parse(bytes)?;
        note.verify(&[key])?;
        if receipt.origin != key.name() {
            return Err(ReceiptError::Origin { found: receipt.origin, wanted: key.name().to_owned() });
        }
        Ok(receipt)
    }

    fn from_text(text: &str) -> Result<Self, ReceiptError> {
        let malformed = ReceiptError::Malformed;
        let mut lines = text::lines(text).ok_or(malformed("the last line does not end"))?;
        if lines.next() != Some(TITLE) {
            return Err(malformed("its first line is not `holdfast/receipt/v1`"));
        }
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed("no origin"))?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let operation =
            field("operation").filter(|value| !value.is_empty()).ok_or(malformed("no operation"))?;
        let index = field("index").and_then(text::decimal).ok_or(malformed("the index is not a decimal"))?;
        let leaf =
            field("leaf").and_then(text::hash).ok_or(malformed("the leaf is not 32 bytes in base64"))?;
        if lines.next().is_some() {
            return Err(malformed("there are more lines than five"));
        }
        Ok(Self { origin: origin.to_owned(), operation: operation.to_owned(), index, leaf })
    }

    /// Whether it is of this record.
    #[must_use]
    pub fn is_of(&self, entry: &[u8]) -> bool {
        leaf_hash(entry) == self.leaf
    }
}

/// The signed receipts in a file that may hold several, one after the other.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    let begin = format!("{TITLE}\n");
    let mut starts: Vec<usize> = text.match_indices(&begin).map(|(at, _)| at).collect();
    starts.retain(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'));
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| text.get(*start..end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use zeroize::Zeroizing;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed("audit.example.org/tenant-a", &Zeroizing::new([seed; 32])).unwrap()
    }

    fn receipt() -> Receipt {
        Receipt {
            origin: "audit.example.org/tenant-a".to_owned(),
            operation: "01M8603WGQCK8BTQP5S8WE36EX".to_owned(),
            index: 5,
            leaf: leaf_hash(b"{\"seq\":5,\"op\":\"X\"}"),
        }
    }

    #[test]
    fn what_was_signed_is_read_back_and_nothing_else_is() {
        let signed = receipt().sign(&signer(1)).unwrap().to_string();
        assert_eq!(Receipt::open(signed.as_bytes(), signer(1).verifier()), Ok(receipt()));
        assert!(receipt().is_of(b"{\"seq\":5,\"op\":\"X\"}"));
        assert!(!receipt().is_of(b"{\"seq\":5,\"op\":\"Y\"}"));
        assert!(Receipt::open(signed.as_bytes(), signer(2).verifier()).is_err());
        for at in 0..signed.len() {
            let mut bad = signed.clone().into_bytes();
            bad[at] ^= 1;
            assert!(Receipt::open(&bad, signer(1).verifier()).is_err(), "byte {at}");
        }
        let twice = format!("{signed}{signed}");
        assert_eq!(split(&twice), [signed.as_str(), signed.as_str()]);
        assert!(split("").is_empty());
    }

    #[test]
    fn a_receipt_is_no_checkpoint_and_a_checkpoint_no_receipt() {
        let (log, signed) = (signer(1), receipt().sign(&signer(1)).unwrap().to_string());
        assert!(Checkpoint::open(signed.as_bytes(), log.verifier()).is_err());
        let checkpoint = Checkpoint {
            origin: "audit.example.org/tenant-a".to_owned(),
            size: 5,
            root: receipt().leaf,
            extensions: vec![],
        };
        let signed = checkpoint.sign(&log).unwrap().to_string();
        assert!(matches!(Receipt::open(signed.as_bytes(), log.verifier()), Err(ReceiptError::Malformed(_))));
    }
}
