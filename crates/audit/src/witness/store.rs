//! What a witness remembers: of each log the newest note that it cosigned, a file each.
//!
//! A note is handed out, by answer or by reading, only after its file survives a loss of power. Without that a witness
//! could forget what it signed, and sign what contradicts it.

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, create_dirs_durably, read_if_there, replace};
use crate::key::VerifierKey;
use crate::merkle::{Hash, empty_root};
use crate::note::Note;
use crate::refusal::Refusal;
use aws_lc_rs::digest::{SHA256, digest};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEEP: &str = "restore the newest copy of this file; if there is none, found a witness with another name, \
                    and let the log's auditors know";

/// The name of a log's file: SHA-256 of its origin in lower-case hexadecimal, as C2SP tlog-witness names it.
#[must_use]
pub fn origin_hash(origin: &str) -> String {
    digest(&SHA256, origin.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is remembered of one log.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The number of entries that was cosigned last; 0 if nothing was.
    pub(super) size: u64,
    /// Their root.
    pub(super) root: Hash,
    /// The note with the log's signature and ours.
    pub(super) note: Option<String>,
    /// A sync failed, so nobody knows what the disk holds: nothing is signed until the next start has read it.
    pub(super) in_doubt: bool,
}

/// The directory of the files.
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    key: VerifierKey,
}

impl Store {
    /// Opens or makes `logs/` in a witness's directory, which MUST exist.
    pub(super) fn open(disk: Arc<dyn Disk>, base: &Path, key: VerifierKey) -> Result<Self, Refusal> {
        let dir = base.join("logs");
        // What a crash left visible may not be durable yet, and is about to be believed.
        let made = create_dirs_durably(&*disk, base, &dir)
            .and_then(|()| disk.sync_dir(base))
            .and_then(|()| disk.sync_dir(&dir));
        made.map_err(|error| Refusal::io(&dir, error))?;
        Ok(Self { disk, dir, key })
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(origin_hash(origin))
    }

    /// Reads what is remembered of a log. Only what carries our own good cosignature is believed.
    pub(super) fn load(&self, origin: &str) -> Result<Row, Refusal> {
        let path = self.path(origin);
        let bytes = read_if_there(&*self.disk, &path).map_err(|error| Refusal::io(&path, error))?;
        let Some(bytes) = bytes else {
            return Ok(Row { size: 0, root: empty_root(), note: None, in_doubt: false });
        };
        let refuse = |problem: String| Refusal::new(&path, problem, KEEP);
        let note = Note::parse(&bytes).map_err(|error| refuse(error.to_string()))?;
        note.verify(&[&self.key])
            .map_err(|_| refuse(format!("it carries no good cosignature of `{}`", self.key.name())))?;
        let checkpoint = Checkpoint::from_text(note.text()).map_err(|error| refuse(error.to_string()))?;
        if checkpoint.origin != origin {
            return Err(refuse(format!("it is of `{}`, not of `{origin}`", checkpoint.origin)));
        }
        let Checkpoint { size, root, .. } = checkpoint;
        Ok(Row { size, root, note: Some(note.to_string()), in_doubt: false })
    }

    /// Puts a newer note in the file's place, durably. After an error the row is in doubt.
    pub(super) fn persist(&self, origin: &str, note: &str) -> Result<(), Refusal> {
        let path = self.path(origin);
        let written =
            replace(&*self.disk, &path, note.as_bytes()).and_then(|()| self.disk.sync_dir(&self.dir));
        written.map_err(|error| Refusal::io(&path, error))
    }

    /// What to say of a row in doubt.
    pub(super) fn in_doubt(&self, origin: &str) -> Refusal {
        Refusal::new(
            &self.path(origin),
            "it could not be written",
            "mend the disk, then start the witness again",
        )
    }
}
