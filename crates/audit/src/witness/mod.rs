//! A witness (C2SP tlog-witness v1.0.0): remembers the newest checkpoint of each log that it knows, and cosigns a newer
//! one only with the proof that it continues that one. So nobody who asks for its word can be shown two histories.
//!
//! Nothing here speaks HTTP; a [`Verdict`] says with which status and words it is answered.

mod cosigned;
pub mod key_file;
mod request;
mod store;

pub(crate) use cosigned::Cosigned;
pub use request::{MAX_REQUEST, Request, RequestError};
pub use store::origin_hash;

use crate::checkpoint::Checkpoint;
use crate::cosignature::cosign;
use crate::disk::{Disk, RealDisk};
use crate::key::{KeyKind, Signer, VerifierKey};
use crate::merkle::{empty_root, verify_consistency};
use crate::note::{NoteError, NoteSignature};
use crate::refusal::Refusal;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use store::{Row, Store};

/// What a witness says to a submission.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// 200: it cosigned, and will not forget it.
    Cosigned(NoteSignature),
    /// 400: the body is no submission.
    Malformed(RequestError),
    /// 403: none of the log's known keys signed, or one of them did not sign this.
    Untrusted(NoteError),
    /// 404: a log that it does not know.
    UnknownLog(String),
    /// 409: it cosigned another size last, this one.
    Conflict(u64),
    /// 422: it is not proven that the checkpoint continues the one that was cosigned last.
    Inconsistent(&'static str),
    /// 500: it could not make its memory durable, so it signed nothing.
    Failed(Refusal),
}

impl Verdict {
    /// The status of the answer (C2SP tlog-witness, add-checkpoint).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Malformed(_) => 400,
            Self::Untrusted(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
            Self::Failed(_) => 500,
        }
    }

    /// The media type of its body.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "text/x.tlog.size",
            Self::Cosigned(_)
            | Self::Malformed(_)
            | Self::Untrusted(_)
            | Self::UnknownLog(_)
            | Self::Inconsistent(_)
            | Self::Failed(_) => "text/plain; charset=utf-8",
        }
    }

    /// Its body: the cosignature's line, a size, or what was wrong and what to do.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(line) => format!("{line}\n"),
            Self::Malformed(error) => format!("{error}\n"),
            Self::Untrusted(error) => format!("{error}\n"),
            Self::UnknownLog(origin) => {
                format!(
                    "no log `{origin}` is known here; ask who runs this witness to add its verifier key\n"
                )
            }
            Self::Conflict(size) => format!("{size}\n"),
            Self::Inconsistent(problem) => {
                format!("{problem}; if the proof is right, the log has been rewritten or rolled back\n")
            }
            // Which file it is concerns nobody outside.
            Self::Failed(_) => "the witness cannot write; try again later\n".to_owned(),
        }
    }
}

/// The keys of one log, and what is remembered of it.
struct Log {
    /// The name of its file.
    hash: String,
    keys: Vec<VerifierKey>,
    row: Arc<Mutex<Row>>,
}

/// A witness with its memory. Submissions of one log come one after the other, those of several side by side.
pub struct Witness {
    signer: Signer,
    store: Store,
    logs: RwLock<HashMap<String, Log>>,
    /// Every row ever read: a log that is taken off the list and put on again meets the same one.
    rows: Mutex<HashMap<String, Arc<Mutex<Row>>>>,
}

impl Witness {
    /// Opens the memory in a directory that no other process works in; `signer` MUST be a cosigner.
    ///
    /// # Errors
    /// A [`Refusal`] if what lies there is not what this witness wrote.
    pub fn open(dir: &Path, signer: Signer) -> Result<Self, Refusal> {
        Self::open_on(Arc::new(RealDisk), dir, signer)
    }

    /// The same on any [`Disk`].
    ///
    /// # Errors
    /// A [`Refusal`] if what lies there is not what this witness wrote.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, signer: Signer) -> Result<Self, Refusal> {
        if signer.verifier().kind() != KeyKind::Cosignature {
            return Err(Refusal::new(
                dir,
                "the key is no cosigner's",
                "make one with `holdfast witness init`",
            ));
        }
        let store = Store::open(disk, dir, signer.verifier().clone())?;
        Ok(Self { signer, store, logs: RwLock::default(), rows: Mutex::default() })
    }

    /// Its own key: what others check its cosignatures by.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Cosigns for these logs from now on and for no others. A key's name is the log's origin; several keys of one name
    /// are those of one log.
    ///
    /// # Errors
    /// A [`Refusal`] if what is remembered of one of them is damaged; then nothing has changed.
    pub fn know(&self, keys: &[VerifierKey]) -> Result<(), Refusal> {
        let mut logs: HashMap<String, Log> = HashMap::new();
        for key in keys {
            if let Some(log) = logs.get_mut(key.name()) {
                log.keys.push(key.clone());
                continue;
            }
            let row = self.row(key.name())?;
            let hash = origin_hash(key.name());
            logs.insert(key.name().to_owned(), Log { hash, keys: vec![key.clone()], row });
        }
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = logs;
        Ok(())
    }

    /// How many logs it knows.
    #[must_use]
    pub fn log_count(&self) -> usize {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn row(&self, origin: &str) -> Result<Arc<Mutex<Row>>, Refusal> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(origin) {
            return Ok(Arc::clone(row));
        }
        let row = Arc::new(Mutex::new(self.store.load(origin)?));
        rows.insert(origin.to_owned(), Arc::clone(&row));
        Ok(row)
    }

    /// The note that was cosigned last of the log whose origin has this hash ([`origin_hash`]); it is durable.
    #[must_use]
    pub fn newest(&self, hash: &str) -> Option<String> {
        let row = {
            let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
            let log = logs.values().find(|log| log.hash == hash)?;
            Arc::clone(&log.row)
        };
        locked(&row).note.clone()
    }

    /// Judges a submission at `now`, POSIX seconds; cosigns if it continues what was cosigned last. Writes the disk.
    #[must_use]
    pub fn submit(&self, body: &[u8], now: u64) -> Verdict {
        let (request, checkpoint) = match Request::parse(body) {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Malformed(error),
        };
        let (keys, row) = {
            let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
            let Some(Log { keys, row, .. }) = logs.get(&checkpoint.origin) else {
                return Verdict::UnknownLog(checkpoint.origin);
            };
            (keys.clone(), Arc::clone(row))
        };
        let keys: Vec<&VerifierKey> = keys.iter().collect();
        if let Err(error) = request.note.verify(&keys) {
            return Verdict::Untrusted(error);
        }
        // Held until the answer is certain: two submissions of one log never judge by the same row.
        let mut row = locked(&row);
        if row.in_doubt {
            return Verdict::Failed(self.store.in_doubt(&checkpoint.origin));
        }
        if let Err(verdict) = judge(&row, &request, &checkpoint) {
            return verdict;
        }
        let mut note = request.note;
        note.keep_only(&keys);
        let Some(line) = cosign(&note, &self.signer, now) else {
            return Verdict::Inconsistent("this witness has no cosigner's key");
        };
        note.add(line.clone());
        let note = note.to_string();
        if let Err(refusal) = self.store.persist(&checkpoint.origin, &note) {
            row.in_doubt = true;
            return Verdict::Failed(refusal);
        }
        let Checkpoint { size, root, .. } = checkpoint;
        *row = Row { size, root, note: Some(note), in_doubt: false };
        Verdict::Cosigned(line)
    }
}

fn locked(row: &Mutex<Row>) -> MutexGuard<'_, Row> {
    // It is swapped whole, after everything that can go wrong.
    row.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a checkpoint continues what was cosigned last.
fn judge(row: &Row, request: &Request, checkpoint: &Checkpoint) -> Result<(), Verdict> {
    let Checkpoint { size, root, .. } = checkpoint;
    if request.old != row.size {
        return Err(Verdict::Conflict(row.size));
    }
    if *size == 0 && *root != empty_root() {
        return Err(Verdict::Inconsistent("the root of no entries is not the empty tree's"));
    }
    if request.old == 0 && !request.proof.is_empty() {
        return Err(Verdict::Inconsistent("from no entries there is nothing to prove, yet there is a proof"));
    }
    if request.old == *size && row.root != *root {
        return Err(Verdict::Inconsistent("another root was cosigned for this size"));
    }
    if !verify_consistency(row.size, &row.root, *size, root, &request.proof) {
        return Err(Verdict::Inconsistent("the proof does not lead from the last cosigned root to this one"));
    }
    Ok(())
}
