//! The C2SP text formats: a worked example byte for byte, what strict parsers refuse, and other implementations.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

use holdfast_audit::checkpoint::{Checkpoint, CheckpointError};
use holdfast_audit::cosignature::cosign;
use holdfast_audit::key::{KeyError, Signer, VerifierKey, is_key_name};
use holdfast_audit::merkle::Hash;
use holdfast_audit::note::{Note, NoteError, NoteSignature};
use holdfast_audit::proof::{ProofError, TlogProof};
use proptest::prelude::*;
use zeroize::Zeroizing;

const LOG: &str = "audit.example.org/tenant-a+83328a8d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const WITNESS: &str = "witness.example.org/w1+6d7ef907+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
const PROOF: &str = "c2sp.org/tlog-proof@v1
index 5
NMK9nq//kwVjMUojkyOIfayVK2MzMT3y26U6ysAUfNo=
8/t+MAse78cNPhNw88HL5eW7VN2Nyrai+qUxCcWKMOM=
AgWMH961H1Lwxt+XZvlKJKhJWydr6d+w0ICJ55mRags=

audit.example.org/tenant-a
7
j0VNESMYrr7FMGwOwGk+zHGJZXGCR4WWp+/hEFzvGqU=

— audit.example.org/tenant-a gzKKjR6kh5PbTZlAyQfbMHTThYLW2mz6I+IxxcndKZJYciUMi24rxaX0r1hoIQOJd8VkowKyNH8iZt0n95Njt31eeAg=
— witness.example.org/w1 bX75BwAAAABlU/EARmB1ECurutqbL0KyylDQRtTGjJsx+MBtqY/Bmqh4o9MW0fbcT+Nseaky8+3CIqL2LtMPd1UzFvq5BjXQhtvfAA==
";
const ENTRY_5: &[u8] = b"{\"seq\":5,\"op\":\"unwrap\"}";

fn checkpoint() -> &'static str {
    PROOF.split_once("\n\n").unwrap().1
}

fn log_key() -> VerifierKey {
    LOG.parse().unwrap()
}

fn witness_key() -> VerifierKey {
    WITNESS.parse().unwrap()
}

#[test]
fn the_worked_example_is_made_byte_for_byte() {
    let log = Signer::from_seed("audit.example.org/tenant-a", &Zeroizing::new([1; 32])).unwrap();
    let witness = Signer::cosigner_from_seed("witness.example.org/w1", &Zeroizing::new([2; 32])).unwrap();
    assert_eq!(log.verifier().to_string(), LOG);
    assert_eq!(witness.verifier().to_string(), WITNESS);
    let parsed = TlogProof::parse(PROOF.as_bytes()).unwrap();
    let root = Checkpoint::from_text(Note::parse(checkpoint().as_bytes()).unwrap().text()).unwrap().root;
    let made = Checkpoint { origin: log.verifier().name().to_owned(), size: 7, root, extensions: vec![] };
    let mut note = made.sign(&log).unwrap();
    let line = cosign(&note, &witness, 1_700_000_000).unwrap();
    note.add(line);
    assert_eq!(note.to_string(), checkpoint());
    let made =
        TlogProof { extra: None, index: 5, hashes: parsed.hashes.clone(), checkpoint: note.to_string() };
    assert_eq!(made.to_string(), PROOF);
    assert!(cosign(&note, &log, 1).is_none(), "a log's key does not cosign");
}

#[test]
fn the_worked_example_verifies_and_nothing_else_does() {
    let proof = TlogProof::parse(PROOF.as_bytes()).unwrap();
    assert_eq!(proof.verify(ENTRY_5, &log_key()).unwrap().size, 7);
    let other = proof.verify(b"{\"seq\":5,\"op\":\"unwrap\"} ", &log_key());
    assert_eq!(other, Err(ProofError::NotIncluded { index: 5 }));
    let moved = TlogProof { index: 4, ..proof.clone() };
    assert_eq!(moved.verify(ENTRY_5, &log_key()), Err(ProofError::NotIncluded { index: 4 }));

    let (checkpoint, note) = Checkpoint::open(checkpoint().as_bytes(), &log_key()).unwrap();
    assert_eq!((checkpoint.size, checkpoint.origin.as_str()), (7, "audit.example.org/tenant-a"));
    let signed = note.verify(&[&witness_key(), &log_key()]).unwrap();
    assert_eq!(signed.iter().map(|by| by.time).collect::<Vec<_>>(), [None, Some(1_700_000_000)]);
    let stranger = Signer::from_seed("stranger", &Zeroizing::new([3; 32])).unwrap();
    assert_eq!(note.verify(&[stranger.verifier()]), Err(NoteError::Unsigned));
    // A good signature by the log over another origin's text is still another log's.
    let foreign = Checkpoint { origin: "other".to_owned(), ..checkpoint };
    let log = Signer::from_seed("audit.example.org/tenant-a", &Zeroizing::new([1; 32])).unwrap();
    let foreign = foreign.sign(&log).unwrap().to_string();
    assert!(matches!(Checkpoint::open(foreign.as_bytes(), &log_key()), Err(CheckpointError::Origin { .. })));
}

#[test]
fn other_implementations_agree() {
    use signed_note::Verifier as _;
    let note = signed_note::Note::from_bytes(checkpoint().as_bytes()).unwrap();
    let verifier = signed_note::StandardVerifier::new(LOG).unwrap();
    assert_eq!(verifier.key_id().to_be_bytes(), log_key().id());
    let (verified, _) = note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!(verified.len(), 1);
    let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((theirs.origin(), theirs.size()), ("audit.example.org/tenant-a", 7));
}

/// The example of C2SP signed-note.
#[test]
fn verifier_keys() {
    let example = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    assert_eq!(example.parse::<VerifierKey>().unwrap().to_string(), example);
    let refused = |text: &str| text.parse::<VerifierKey>().unwrap_err();
    assert!(matches!(refused(&example.replace("530d", "530e")), KeyError::Hash(_)));
    assert!(matches!(refused(&example.replace("530d", "530D")), KeyError::Hash(_)));
    assert!(matches!(refused(&example.replace("foo", "fo o")), KeyError::Name(_)));
    assert!(matches!(refused(&example.replace("+Ae", "+Be")), KeyError::Kind(5)));
    for bad in ["", "a", "a+b", "a+b+c", &format!("{example}\n"), &example[..example.len() - 1]] {
        assert!(matches!(refused(bad), KeyError::Malformed(_)), "{bad:?}");
    }
}

#[test]
fn key_names() {
    for good in ["a", "audit.example.org/tenant-a", "witness.example.org/w1", &"x".repeat(255)] {
        assert!(is_key_name(good), "{good}");
    }
    for bad in ["", " ", "a b", "a+b", "a\u{7}", "a\nb", "a\u{a0}b", &"x".repeat(256)] {
        assert!(!is_key_name(bad), "{bad:?}");
    }
}

#[test]
fn strict_notes() {
    let good = checkpoint();
    let last = good.lines().last().unwrap();
    let bad = [
        ("no newline at the end", good.trim_end().to_owned()),
        ("CRLF", good.replace('\n', "\r\n")),
        ("a tab", good.replace("7\n", "7\t\n")),
        ("no empty line", good.replace("\n\n", "\n")),
        ("an empty line at the end", format!("{good}\n")),
        ("a hyphen for the dash", good.replace('\u{2014}', "-")),
        ("two spaces", good.replace("— a", "—  a")),
        ("no base64", good.replace("gzKK", "gz*K")),
        ("stray bits in base64", good.replace("eAg=", "eAh=")),
        ("no padding", good.replace("eAg=", "eAg")),
        ("a signature too short", good.replace(last, "— witness.example.org/w1 bX75Bw==")),
        ("too many signatures", format!("{good}{}", format!("{last}\n").repeat(64))),
        ("too large", good.replacen("\n\n", &format!("\n{}\n\n", "x".repeat(300_000)), 1)),
        ("text without newline", "\n\n— a AAAAAAAA\n".replacen('\n', "", 1)),
    ];
    for (what, note) in bad {
        assert!(matches!(Note::parse(note.as_bytes()), Err(NoteError::Malformed(_))), "{what}: {note}");
    }
    assert!(Note::parse(b"\xff\n\n\xe2\x80\x94 a AAAAAAAA\n").is_err());
    let sixteen = format!("{good}{}", format!("{last}\n").repeat(16));
    assert_eq!(Note::parse(sixteen.as_bytes()).unwrap().signatures().len(), 18);
    let split = Note::parse("a\n\nb\n\n— a AAAAAAAA\n".as_bytes()).unwrap();
    assert_eq!(split.text(), "a\n\nb\n", "the last empty line counts");
}

#[test]
fn the_bounds_are_the_most_that_is_read() {
    let (text, lines) = checkpoint().split_once("\n\n").unwrap();
    let note = |bytes: usize| {
        let padded = |pad: usize| format!("{text}\n{}\n\n{lines}", "x".repeat(pad));
        Note::parse(padded(bytes - padded(0).len()).as_bytes())
    };
    assert!(note(262_144).is_ok());
    assert_eq!(note(262_145), Err(NoteError::Malformed("it is larger than 256 KiB")));
    let line = lines.lines().last().unwrap();
    let signed = |count| Note::parse(format!("{text}\n\n{}", format!("{line}\n").repeat(count)).as_bytes());
    assert_eq!(signed(64).unwrap().signatures().len(), 64);
    assert!(signed(65).is_err());
    // Parsing looks at the size alone of what stands behind the empty line.
    let proof =
        |bytes: usize| TlogProof::parse(format!("{PROOF}{}", "x".repeat(bytes - PROOF.len())).as_bytes());
    assert!(proof(393_216).is_ok());
    assert_eq!(proof(393_217), Err(ProofError::Malformed("it is too large")));
    let extra = |len| TlogProof { extra: Some(vec![7; len]), ..TlogProof::parse(PROOF.as_bytes()).unwrap() };
    assert_eq!(TlogProof::parse(extra(65_536).to_string().as_bytes()), Ok(extra(65_536)));
    assert!(TlogProof::parse(extra(65_537).to_string().as_bytes()).is_err());
}

#[test]
fn of_known_keys_the_first_line_is_kept_and_no_other() {
    let mut note = Note::parse(checkpoint().as_bytes()).unwrap();
    let [log, witness] = note.signatures() else { panic!("two lines") };
    let (log, witness) = (log.clone(), witness.clone());
    let same_name = NoteSignature { key_id: witness.key_id, ..log.clone() };
    let same_id = NoteSignature { name: "audit.example.org/tenant-b".to_owned(), ..log.clone() };
    let again = NoteSignature { signature: vec![7; 64], ..log.clone() };
    for line in [same_name.clone(), same_id.clone(), again] {
        note.add(line);
    }
    note.keep_only(&[&witness_key(), &log_key()]);
    assert_eq!(note.signatures(), [log.clone(), witness]);
    note.keep_only(&[&log_key()]);
    assert_eq!(note.signatures(), std::slice::from_ref(&log));
    note.keep_only(&[]);
    assert_eq!(note.signatures(), []);
    // Nor does a line that is only like it take its place.
    for line in [same_name, same_id, log.clone()] {
        note.add(line);
    }
    note.keep_only(&[&log_key()]);
    assert_eq!(note.signatures(), [log]);
}

#[test]
fn strict_checkpoints_and_proofs() {
    let text = "origin\n7\nj0VNESMYrr7FMGwOwGk+zHGJZXGCR4WWp+/hEFzvGqU=\n";
    assert_eq!(Checkpoint::from_text(text).unwrap().to_text(), text);
    let extended = format!("{text}more\n");
    assert_eq!(Checkpoint::from_text(&extended).unwrap().extensions, ["more"]);
    let bad = [
        text.replace("7\n", "07\n"),
        text.replace("7\n", "+7\n"),
        text.replace("7\n", "\n"),
        text.replace("7\n", "18446744073709551616\n"),
        text.replace("origin", ""),
        text.replace("GqU=", "GqV="),
        text.replace("j0VN", ""),
        format!("{text}\n"),
        text.trim_end().to_owned(),
    ];
    for bad in bad {
        assert!(Checkpoint::from_text(&bad).is_err(), "{bad}");
    }
    let proof = |change: &dyn Fn(&str) -> String| TlogProof::parse(change(PROOF).as_bytes());
    let extra = proof(&|good| good.replace("index", "extra AAEC\nindex")).unwrap();
    assert_eq!(extra.extra.as_deref(), Some([0, 1, 2].as_slice()));
    assert_eq!(TlogProof::parse(extra.to_string().as_bytes()).unwrap(), extra);
    assert!(proof(&|good| good.replace("@v1", "@v2")).is_err());
    assert!(proof(&|good| good.replace("index 5", "index 05")).is_err());
    assert!(proof(&|good| good.replace("index 5\n", "")).is_err());
    assert!(proof(&|good| good.replace("index 5", "extra AAF=\nindex 5")).is_err());
    assert!(proof(&|good| good.replace("index 5", "index 5\nextra AAEC")).is_err());
    assert!(proof(&|good| good.replace("\n8/t+", "\r\n8/t+")).is_err());
    let hash = "8/t+MAse78cNPhNw88HL5eW7VN2Nyrai+qUxCcWKMOM=\n";
    assert!(proof(&|good| good.replace(hash, &hash.repeat(61))).is_ok());
    assert!(proof(&|good| good.replace(hash, &hash.repeat(62))).is_err());
}

proptest! {
    #[test]
    fn what_parses_is_written_back_the_same(text in "(\\PC|\n){0,80}", line in "[— a-c+/=\n]{0,60}") {
        for note in [format!("{text}\n\n{line}\n"), format!("{text}\n\n— name AAAAAAAA\n")] {
            if let Ok(parsed) = Note::parse(note.as_bytes()) {
                prop_assert_eq!(parsed.to_string(), note);
            }
        }
        if let Ok(key) = line.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), line);
        }
    }

    #[test]
    fn one_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = PROOF.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let verified = TlogProof::parse(&bytes).and_then(|proof| {
            let checkpoint = proof.verify(ENTRY_5, &log_key())?;
            // The log's key says nothing of the witness's line: that needs the witness's key.
            Note::parse(proof.checkpoint.as_bytes()).unwrap().verify(&[&log_key(), &witness_key()])
                .map_err(CheckpointError::from).map(|signed| (checkpoint, signed.len())).map_err(ProofError::from)
        });
        // A flip in a key's name or id makes its line a stranger's.
        prop_assert!(verified.is_err() || verified.unwrap().1 < 2);
    }

    #[test]
    fn checkpoints_round_trip(origin in "[a-z./]{1,20}", size: u64, root: [u8; 32]) {
        let checkpoint = Checkpoint { origin, size, root: Hash(root), extensions: vec![] };
        prop_assert_eq!(Checkpoint::from_text(&checkpoint.to_text()).unwrap(), checkpoint);
    }
}
