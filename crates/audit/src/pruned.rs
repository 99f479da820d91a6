//! What a log says of entries that it no longer keeps: the file `pruned` beside its checkpoint, a signed note (C2SP signed-note).
//!
//! Hash tiles stay, so the tree, its checkpoints and the leaf hashes of what was pruned go on being provable. The operation that is named
//! stands in the log as an entry of action `prune-audit`: whoever verifies finds it there.

use crate::files::LogFiles;
use crate::key::{Signer, VerifierKey};
use crate::note::{Note, NoteError};
use crate::refusal::Refusal;
use crate::text;

/// The first line. No origin of ours looks like it, so nobody takes it for a checkpoint.
const TITLE: &str = "holdfast/pruned/v1";
const REMEDY: &str = "keep the directory as evidence, and ask who runs the gateway";

/// From where on a log keeps its entries, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The log's origin.
    pub origin: String,
    /// The operation that recorded it, as its record writes it.
    pub operation: String,
    /// The first entry that is kept; a multiple of 256.
    pub first: u64,
}

impl Pruned {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { origin, operation, first } = self;
        format!("{TITLE}\n{origin}\noperation {operation}\nfirst {first}\n")
    }

    /// Signs it as the log's note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if a value holds a control character.
    pub fn sign(&self, signer: &Signer) -> Result<Note, NoteError> {
        Note::sign(&self.to_text(), signer)
    }

    /// Reads it without looking at its signature.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, Note)> {
        let note = Note::parse(bytes).ok()?;
        let mut lines = text::lines(note.text())?.skip_while(|line| *line == TITLE);
        let origin = lines.next().filter(|line| !line.is_empty())?.to_owned();
        let operation =
            lines.next()?.strip_prefix("operation ").filter(|value| !value.is_empty())?.to_owned();
        let first = lines.next()?.strip_prefix("first ").and_then(text::decimal)?;
        let pruned = Self { origin, operation, first };
        (lines.next().is_none() && pruned.to_text() == note.text()).then_some((pruned, note))
    }

    /// Whether an entry of the log is the record of it: the gateway's own, of this operation, that keeps what is kept here.
    #[must_use]
    pub fn is_recorded_by(&self, entry: &[u8]) -> bool {
        // Most entries are about something else, and are not parsed.
        let names = std::str::from_utf8(entry).is_ok_and(|entry| entry.contains(&self.operation));
        let Some(event) = names.then(|| serde_json::from_slice::<serde_json::Value>(entry).ok()).flatten()
        else {
            return false;
        };
        let is = |name: &str, value: &str| event.get(name).and_then(serde_json::Value::as_str) == Some(value);
        is("action", "prune-audit")
            && is("operation", &self.operation)
            && is("subject", &self.first.to_string())
    }
}

/// What lies in a log's directory, if anything does; nobody's signature is checked.
pub(crate) fn read(files: &LogFiles) -> Result<Option<Pruned>, Refusal> {
    Ok(raw(files)?.map(|(pruned, _)| pruned))
}

/// The same, signed by the log of this key.
pub(crate) fn read_signed(files: &LogFiles, key: &VerifierKey) -> Result<Option<Pruned>, Refusal> {
    let path = files.pruned_path();
    let Some((pruned, note)) = raw(files)? else { return Ok(None) };
    note.verify(&[key]).map_err(|error| Refusal::new(&path, error.to_string(), REMEDY))?;
    if pruned.origin != key.name() {
        return Err(Refusal::new(&path, format!("it is of the log `{}`", pruned.origin), REMEDY));
    }
    Ok(Some(pruned))
}

/// The refusal of what no entry of the log records.
pub(crate) fn unrecorded(files: &LogFiles, pruned: &Pruned) -> Refusal {
    let Pruned { operation, first, .. } = pruned;
    let problem = format!("no entry of the log records that those before {first} go (operation {operation})");
    Refusal::new(&files.pruned_path(), problem, REMEDY)
}

fn raw(files: &LogFiles) -> Result<Option<(Pruned, Note)>, Refusal> {
    let path = files.pruned_path();
    let Some(bytes) = files.read_if_there(&path)? else { return Ok(None) };
    let parsed = Pruned::parse(&bytes);
    parsed
        .map(Some)
        .ok_or_else(|| Refusal::new(&path, "it does not say from where on entries are kept", REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written_and_no_other_way() {
        let signer = Signer::from_seed("test.example/a", &[7; 32].into()).unwrap();
        let pruned = Pruned { origin: "test.example/a".into(), operation: "01ABC".into(), first: 512 };
        let note = pruned.sign(&signer).unwrap().to_string();
        assert_eq!(Pruned::parse(note.as_bytes()).unwrap().0, pruned);
        for wrong in [
            note.replace("first 512", "first 0512"),
            note.replace("holdfast/pruned/v1\n", ""),
            note.replace("operation 01ABC\n", ""),
        ] {
            assert_eq!(Pruned::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let entry = |action, subject| {
            format!(r#"{{"action":"{action}","operation":"01ABC","subject":"{subject}"}}"#).into_bytes()
        };
        assert!(pruned.is_recorded_by(&entry("prune-audit", "512")));
        assert!(!pruned.is_recorded_by(&entry("prune-audit", "256")));
        assert!(!pruned.is_recorded_by(&entry("encrypt", "512")));
        assert!(!pruned.is_recorded_by(b"01ABC"));
    }
}
