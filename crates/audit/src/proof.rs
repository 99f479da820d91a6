//! Offline proofs (C2SP tlog-proof@v1, files `.tlog-proof`): an index, its inclusion proof and the checkpoint it
//! leads to.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::key::VerifierKey;
use crate::merkle::{self, Hash, MAX_PROOF};
use crate::note::MAX_NOTE;
use crate::text;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Largest `extra` that is read, in bytes.
const MAX_EXTRA: usize = 64 * 1024;

/// A proof that one entry stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Context that nothing signs; here the entry's opening (32 bytes) when it is disclosed.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// Sibling hashes, leaf side first.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, as published.
    pub checkpoint: String,
}

/// Why a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text is not a proof.
    #[error("not a tlog proof: {0}; make it again with `holdfast audit prove`")]
    Malformed(&'static str),
    /// The checkpoint in it was refused.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry does not lead to the root.
    #[error("entry {index} does not lead to the signed root; the entry or the proof was changed")]
    NotIncluded {
        /// The index that the proof claims.
        index: u64,
    },
}

impl TlogProof {
    /// Reads a proof; its checkpoint is only looked at by [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let malformed = ProofError::Malformed;
        if bytes.len() > MAX_NOTE + 2 * MAX_EXTRA {
            return Err(malformed("it is too large"));
        }
        let proof = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        let (head, checkpoint) = proof.split_once("\n\n").ok_or(malformed("no empty line"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("the first line is not `c2sp.org/tlog-proof@v1`"));
        }
        let extra = match lines.next_if(|line| line.starts_with("extra ")) {
            None => None,
            Some(line) => {
                let extra = line.strip_prefix("extra ").and_then(text::from_base64);
                Some(
                    extra
                        .filter(|extra| extra.len() <= MAX_EXTRA)
                        .ok_or(malformed("`extra` is not base64"))?,
                )
            }
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(text::decimal);
        let index = index.ok_or(malformed("no `index` line"))?;
        let hashes = lines.map(text::hash).collect::<Option<Vec<_>>>();
        let hashes =
            hashes.filter(|hashes| hashes.len() <= MAX_PROOF).ok_or(malformed("a hash is not base64"))?;
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that these bytes are the log's entry at the proof's index. Nothing is said of `extra`.
    ///
    /// # Errors
    /// Any [`ProofError`].
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        let (checkpoint, _) = Checkpoint::open(self.checkpoint.as_bytes(), key)?;
        let leaf = merkle::leaf_hash(entry);
        if !merkle::verify_inclusion(&leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes) {
            return Err(ProofError::NotIncluded { index: self.index });
        }
        Ok(checkpoint)
    }
}

impl std::fmt::Display for TlogProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { extra, index, hashes, checkpoint } = self;
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = extra {
            writeln!(f, "extra {}", text::base64(extra))?;
        }
        writeln!(f, "index {index}")?;
        hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{checkpoint}")
    }
}
