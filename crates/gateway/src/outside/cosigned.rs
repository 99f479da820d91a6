//! `DIR/audit/TENANT/checkpoint.cosigned`: the newest checkpoint that a witness cosigned, with the log's signature and the
//! cosignatures that came for it (a C2SP signed note).

use crate::directory::write_private;
use crate::fault::Fault;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::key::VerifierKey;
use holdfast_audit::note::{Note, NoteSignature};
use std::path::{Path, PathBuf};

/// Where it lies.
fn path(log: &Path) -> PathBuf {
    log.join("checkpoint.cosigned")
}

fn read(log: &Path) -> Option<Note> {
    // What cannot be read is made anew by the next cosignature; nothing is believed for its sake.
    Note::parse(&std::fs::read(path(log)).ok()?).ok()
}

/// How many entries a witness's cosignature there covers, and when it was made, POSIX seconds.
pub(super) fn known(log: &Path, witness: &VerifierKey) -> Option<(u64, u64)> {
    let note = read(log)?;
    let time = note.verify(&[witness]).ok()?.first()?.time?;
    Some((Checkpoint::from_text(note.text()).ok()?.size, time))
}

/// Puts a note with these cosignatures in its place, durably. Others' that stand there for the same checkpoint stay.
///
/// # Errors
/// When it cannot be written.
pub(super) fn put(log: &Path, checkpoint: &Note, lines: Vec<NoteSignature>) -> Result<(), Fault> {
    let same = |a: &NoteSignature, b: &NoteSignature| a.name == b.name && a.key_id == b.key_id;
    let mut note = checkpoint.clone();
    let earlier = read(log).filter(|earlier| earlier.text() == note.text());
    let earlier: Vec<_> = earlier.iter().flat_map(Note::signatures).cloned().collect();
    for line in lines.into_iter().chain(earlier) {
        if !note.signatures().iter().any(|there| same(there, &line)) {
            note.add(line);
        }
    }
    write_private(&path(log), note.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_audit::cosignature::cosign;
    use holdfast_audit::key::Signer;
    use holdfast_audit::merkle::Hash;
    use zeroize::Zeroizing;

    #[test]
    fn cosignatures_of_one_checkpoint_gather_and_go_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = Signer::from_seed("log", &Zeroizing::new([1; 32])).unwrap();
        let [one, two] = [2, 3].map(|seed| {
            Signer::cosigner_from_seed(&format!("w{seed}"), &Zeroizing::new([seed; 32])).unwrap()
        });
        let note = |size| {
            let checkpoint =
                Checkpoint { origin: "log".to_owned(), size, root: Hash([0; 32]), extensions: vec![] };
            checkpoint.sign(&log).unwrap()
        };
        assert_eq!(known(dir.path(), one.verifier()), None);
        put(dir.path(), &note(5), vec![cosign(&note(5), &one, 10).unwrap()]).unwrap();
        put(dir.path(), &note(5), vec![cosign(&note(5), &two, 20).unwrap()]).unwrap();
        assert_eq!(known(dir.path(), one.verifier()), Some((5, 10)));
        assert_eq!(known(dir.path(), two.verifier()), Some((5, 20)));
        // A newer word of the same witness takes the older one's place.
        put(dir.path(), &note(5), vec![cosign(&note(5), &one, 30).unwrap()]).unwrap();
        assert_eq!(known(dir.path(), one.verifier()), Some((5, 30)));
        put(dir.path(), &note(6), vec![cosign(&note(6), &two, 40).unwrap()]).unwrap();
        assert_eq!(known(dir.path(), one.verifier()), None);
        assert_eq!(read(dir.path()).unwrap().signatures().len(), 2);
        std::fs::write(path(dir.path()), "damaged").unwrap();
        put(dir.path(), &note(6), vec![cosign(&note(6), &one, 50).unwrap()]).unwrap();
        assert_eq!(known(dir.path(), one.verifier()), Some((6, 50)));
    }
}
