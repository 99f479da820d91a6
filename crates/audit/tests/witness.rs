//! The witness: the worked example, every row of its table, and that it never signs two histories whatever it is sent
//! and however often its power fails.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test may fail"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_audit::checkpoint::Checkpoint;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::key::{Signer, VerifierKey};
use holdfast_audit::merkle::{Frontier, Hash, Nodes, consistency_proof, leaf_hash, root};
use holdfast_audit::note::Note;
use holdfast_audit::witness::{MAX_REQUEST, Request, Verdict, Witness, key_file, origin_hash};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const ORIGIN: &str = "audit.example.org/tenant-a";
const LOG: &str = "audit.example.org/tenant-a+83328a8d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const TIME: u64 = 1_700_000_000;
/// The body of the worked example, byte for byte: from three entries to seven.
const WORKED: &str = "old 3
r1Q2UsQywiH4mU02RkxP9eyB07AqKwww7d7L0RXdLOg=
LHSrgm/1PJHhBQCn325+495Xxk+9xZd/eRYfc0DKlXc=
coRSKw1vLZhYAL5sBQIEYFdrfXWqes0PjFM5s1tYo+c=
FTR1sFsLv81ox81y9Eevrh3U9+ljPRYNwyfPvlGjWTg=

audit.example.org/tenant-a
7
j0VNESMYrr7FMGwOwGk+zHGJZXGCR4WWp+/hEFzvGqU=

— audit.example.org/tenant-a gzKKjR6kh5PbTZlAyQfbMHTThYLW2mz6I+IxxcndKZJYciUMi24rxaX0r1hoIQOJd8VkowKyNH8iZt0n95Njt31eeAg=
";
const COSIGNED: &str = "— witness.example.org/w1 bX75BwAAAABlU/EARmB1ECurutqbL0KyylDQRtTGjJsx+MBtqY/Bmqh4o9MW0fbcT+Nseaky8+3CIqL2LtMPd1UzFvq5BjXQhtvfAA==\n";

fn log() -> Signer {
    Signer::from_seed(ORIGIN, &Zeroizing::new([1; 32])).unwrap()
}

fn witness_key() -> Signer {
    Signer::cosigner_from_seed("witness.example.org/w1", &Zeroizing::new([2; 32])).unwrap()
}

fn open(disk: &SimDisk) -> Witness {
    let witness = Witness::open_on(Arc::new(disk.clone()), Path::new("/"), witness_key()).unwrap();
    witness.know(&[LOG.parse().unwrap()]).unwrap();
    witness
}

/// A history: the hashes of its leaves.
#[derive(Clone)]
struct History(Vec<Hash>);

impl Nodes for History {
    type Error = ();

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ()> {
        let (first, count) = ((index << level) as usize, 1_usize << level);
        let mut frontier = Frontier::default();
        self.0.get(first..first + count).ok_or(())?.iter().for_each(|leaf| frontier.push(*leaf));
        Ok(frontier.root())
    }
}

impl History {
    /// The seven entries of the worked example.
    fn worked() -> Self {
        let names = ["unwrap", "sign", "decrypt", "wrap", "sign", "unwrap", "sign"];
        let entry = |(at, name)| leaf_hash(format!("{{\"seq\":{at},\"op\":\"{name}\"}}").as_bytes());
        Self(names.iter().enumerate().map(entry).collect())
    }

    /// Sixty entries, of which the first `shared` are those of every other such history.
    fn forked(shared: usize, fork: u8) -> Self {
        let leaf = |at: usize| leaf_hash(&[at as u8, if at < shared { 0 } else { fork }]);
        Self((0..60).map(leaf).collect())
    }

    fn root(&self, size: u64) -> Hash {
        root(&mut self.clone(), 0, size).unwrap()
    }

    fn note(&self, size: u64, signer: &Signer) -> Note {
        let root = self.root(size);
        Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: vec![] }.sign(signer).unwrap()
    }

    fn request(&self, old: u64, size: u64) -> Request {
        let proof = consistency_proof(&mut self.clone(), old, size).unwrap();
        Request { old, proof, note: self.note(size, &log()) }
    }
}

fn submit(witness: &Witness, request: &Request) -> Verdict {
    witness.submit(request.to_string().as_bytes(), TIME)
}

#[test]
fn the_worked_example_is_cosigned_byte_for_byte() {
    let disk = SimDisk::new();
    let witness = open(&disk);
    assert_eq!(History::worked().request(3, 7).to_string(), WORKED);
    assert!(matches!(submit(&witness, &History::worked().request(0, 3)), Verdict::Cosigned(_)));
    let verdict = witness.submit(WORKED.as_bytes(), TIME);
    assert_eq!((verdict.status(), verdict.body().as_str()), (200, COSIGNED));
    let (_, note) = WORKED.split_once("\n\n").unwrap();
    // It forgets nothing over a restart.
    let witness = open(&disk.after_power_loss(1));
    assert_eq!(witness.newest(&origin_hash(ORIGIN)).unwrap(), format!("{note}{COSIGNED}"));
    assert_eq!(witness.submit(WORKED.as_bytes(), TIME).body(), "7\n");
}

#[test]
fn every_row_of_the_table() {
    let witness = open(&SimDisk::new());
    let seven = History::worked();
    let say = |body: &str| {
        let verdict = witness.submit(body.as_bytes(), TIME);
        (verdict.status(), verdict.content_type(), verdict.body())
    };
    let status = |body: &str| say(body).0;
    let text = |request: Request| request.to_string();
    // 400: what is no submission, an older size above the newer.
    for bad in ["", "old 0", "old 0\n\n", "old 0\n\nx\n", "new 0\n\n"] {
        assert_eq!(status(bad), 400, "{bad:?}");
    }
    assert_eq!(status(&WORKED.replace("old 3", "old 8")), 400);
    // 404: another log. 403: no signature by its key, or one that does not fit.
    assert_eq!(status(&WORKED.replace("tenant-a", "tenant-b")), 404);
    assert_eq!(status(&WORKED.replace("\n7\n", "\n6\n")), 403);
    let stranger = Signer::from_seed(ORIGIN, &Zeroizing::new([9; 32])).unwrap();
    assert_eq!(status(&text(Request { note: seven.note(3, &stranger), ..seven.request(0, 3) })), 403);
    // 409: it has seen nothing yet, and says so.
    assert_eq!(say(WORKED), (409, "text/x.tlog.size", "0\n".to_owned()));
    // 422: an empty tree with a root, a proof from nothing.
    let empty = Checkpoint { origin: ORIGIN.to_owned(), size: 0, root: Hash([7; 32]), extensions: vec![] };
    let empty = Request { old: 0, proof: vec![], note: empty.sign(&log()).unwrap() };
    assert_eq!(status(&text(empty)), 422);
    assert_eq!(status(&text(Request { proof: vec![Hash([7; 32])], ..seven.request(0, 3) })), 422);
    // 200, twice over nothing; then 409 with the size that it knows.
    assert_eq!(status(&text(seven.request(0, 0))), 200);
    assert_eq!(status(&text(seven.request(0, 3))), 200);
    assert_eq!(say(&text(seven.request(0, 5))), (409, "text/x.tlog.size", "3\n".to_owned()));
    // 422: a proof that does not lead there, none, another root of the same size, a proof where there is none.
    let other = History::forked(0, 5);
    assert_eq!(status(&text(Request { proof: other.request(3, 7).proof, ..seven.request(3, 7) })), 422);
    assert_eq!(status(&text(Request { proof: vec![], ..seven.request(3, 7) })), 422);
    assert_eq!(status(&text(other.request(3, 3))), 422);
    assert_eq!(status(&text(Request { proof: vec![Hash([7; 32])], ..seven.request(3, 3) })), 422);
    assert_eq!(status(&text(other.request(3, 7))), 422);
    // 200: the same again for a newer time, then what continues it. Strangers' lines are neither checked nor kept.
    assert_eq!(status(&text(seven.request(3, 3))), 200);
    let mut more = seven.request(3, 7);
    more.note.add(stranger_line());
    assert_eq!(status(&text(more)), 200);
    let kept = witness.newest(&origin_hash(ORIGIN)).unwrap();
    assert_eq!(Note::parse(kept.as_bytes()).unwrap().signatures().len(), 2);
    assert_eq!(witness.newest(&origin_hash("another")), None);
}

fn stranger_line() -> holdfast_audit::note::NoteSignature {
    let name = "stranger".to_owned();
    holdfast_audit::note::NoteSignature { name, key_id: [1, 2, 3, 4], signature: vec![5; 64] }
}

#[test]
fn strict_bodies() {
    let good = Request::parse(WORKED.as_bytes()).unwrap();
    assert_eq!((good.0.old, good.0.proof.len(), good.1.size), (3, 4, 7));
    assert_eq!(good.0.to_string(), WORKED);
    let hash = "LHSrgm/1PJHhBQCn325+495Xxk+9xZd/eRYfc0DKlXc=\n";
    let bad = [
        ("a leading zero", WORKED.replace("old 3", "old 03")),
        ("a sign", WORKED.replace("old 3", "old +3")),
        ("two spaces", WORKED.replace("old 3", "old  3")),
        ("a capital", WORKED.replace("old 3", "Old 3")),
        ("no size", WORKED.replace("old 3", "old ")),
        ("a size beyond u64", WORKED.replace("old 3", "old 18446744073709551616")),
        ("CRLF", WORKED.replace('\n', "\r\n")),
        ("no padding", WORKED.replace("lXc=", "lXc")),
        ("stray bits", WORKED.replace("lXc=", "lXd=")),
        ("a short hash", WORKED.replace(hash, "AAEC\n")),
        ("64 hashes", WORKED.replace(hash, &hash.repeat(61))),
        ("an empty line more", WORKED.replace("\n\n", "\n\n\n")),
        ("no note", WORKED.split_once("\n\n").unwrap().0.to_owned()),
        ("too large", WORKED.replace("\n— ", &format!("{}\n\n— ", "x".repeat(MAX_REQUEST)))),
    ];
    for (what, body) in bad {
        assert!(Request::parse(body.as_bytes()).is_err(), "{what}");
    }
    assert!(Request::parse(b"old 0\n\n\xff\n").is_err());
    let origin = WORKED.split_once("\n\n").unwrap().1.lines().next().unwrap();
    let longer = |by: usize| {
        let body = WORKED.replacen(origin, &format!("{origin}{}", "x".repeat(by)), 1);
        (body.len(), Request::parse(body.as_bytes()).is_ok())
    };
    let by = MAX_REQUEST - WORKED.len();
    assert_eq!([longer(by), longer(by + 1)], [(65_536, true), (65_537, false)]);
    assert!(Request::parse(WORKED.replace(hash, &hash.repeat(60)).as_bytes()).is_ok(), "63 hashes are taken");
}

#[test]
fn a_private_key_is_read_as_it_was_written() {
    let line = key_file::encode("witness.example.org/w1", &Zeroizing::new([2; 32])).unwrap();
    let signer = key_file::decode(&line).unwrap();
    assert_eq!(signer.verifier(), witness_key().verifier());
    assert!(line.starts_with("PRIVATE+KEY+witness.example.org/w1+6d7ef907+B"));
    for bad in ["", "PRIVATE+KEY+a+b+c", &line.replace("6d7e", "6d7f"), &line.replace("w1", "w2"), &line[1..]]
    {
        assert!(key_file::decode(bad).is_none(), "{bad}");
    }
    // What is decoded is the type and 32 bytes of seed: neither another type nor another length.
    let (head, secret) = line.trim_end().rsplit_once('+').unwrap();
    let typed = STANDARD.decode(secret).unwrap();
    assert_eq!((typed[0], typed.len()), (4, 33));
    let again = |typed: &[u8]| key_file::decode(&format!("{head}+{}", STANDARD.encode(typed)));
    assert!(again(&typed).is_some());
    for bad in [&[], &typed[..1], &typed[..32], &[&typed[..], &[0]].concat(), &[&[1], &typed[1..]].concat()] {
        assert!(again(bad).is_none(), "{bad:?}");
    }
    assert!(key_file::encode("two words", &Zeroizing::new([2; 32])).is_err());
}

#[test]
fn a_memory_that_it_did_not_sign_is_refused() {
    let disk = SimDisk::new();
    let witness = open(&disk);
    submit(&witness, &History::worked().request(0, 3));
    drop(witness);
    let path = Path::new("/logs").join(origin_hash(ORIGIN));
    disk.flip_bit(&path, 30, 0);
    let witness = Witness::open_on(Arc::new(disk), Path::new("/"), witness_key()).unwrap();
    let keys: [VerifierKey; 1] = [LOG.parse().unwrap()];
    let refusal = witness.know(&keys).unwrap_err();
    assert_eq!(refusal.file, path);
    let log_key = Signer::from_seed("w", &Zeroizing::new([2; 32])).unwrap();
    assert!(Witness::open_on(Arc::new(SimDisk::new()), Path::new("/"), log_key).is_err());
}

#[test]
fn after_a_failed_sync_nothing_is_signed_until_the_next_start() {
    let disk = SimDisk::new();
    let witness = open(&disk);
    let seven = History::worked();
    assert_eq!(submit(&witness, &seven.request(0, 3)).status(), 200);
    disk.fail_next_sync(Path::new("/logs"));
    assert_eq!(submit(&witness, &seven.request(3, 5)).status(), 500);
    assert_eq!(submit(&witness, &seven.request(3, 5)).status(), 500);
    let told = witness.newest(&origin_hash(ORIGIN)).unwrap();
    assert!(told.contains("\n3\n"), "what may be lost was told: {told}");
    let witness = open(&disk);
    let size = submit(&witness, &seven.request(0, 7)).body();
    let size = size.trim().parse().unwrap();
    assert_eq!(submit(&witness, &seven.request(size, 7)).status(), 200);
}

/// What is done to a witness.
#[derive(Clone, Debug)]
enum Deed {
    /// A submission: which history, from which size, to which, and whether the proof is of this history.
    Submit {
        fork: usize,
        old: u64,
        size: u64,
        honest: bool,
    },
    /// The size that it knows is asked for first, as a patient liar would.
    SubmitFromWhatItKnows {
        fork: usize,
        size: u64,
    },
    Restart,
    /// The power fails after so many more writes and syncs; what was not durable is lost by this seed.
    PowerLoss {
        after: u64,
        seed: u64,
    },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => (0..2_usize, 0..20_u64, 0..60_u64, any::<bool>())
            .prop_map(|(fork, old, size, honest)| Deed::Submit { fork, old, size, honest }),
        8 => (0..2_usize, 0..60_u64).prop_map(|(fork, size)| Deed::SubmitFromWhatItKnows { fork, size }),
        1 => Just(Deed::Restart),
        2 => (0..6_u64, any::<u64>()).prop_map(|(after, seed)| Deed::PowerLoss { after, seed }),
    ];
    prop::collection::vec(deed, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_never_cosigns_two_histories_whatever_is_submitted(shared in 0..30_usize, deeds in deeds()) {
        let histories = [History::forked(shared, 1), History::forked(shared, 2)];
        let mut disk = SimDisk::new();
        let mut witness = open(&disk);
        let mut cosigned: BTreeMap<u64, Hash> = BTreeMap::new();
        let mut newest = 0;
        let mut losing = None;
        for deed in deeds {
            let (fork, old, size, honest) = match deed {
                Deed::Submit { fork, old, size, honest } => (fork, old, size, honest),
                Deed::SubmitFromWhatItKnows { fork, size } => {
                    let probe = submit(&witness, &histories[fork].request(0, size));
                    match probe {
                        Verdict::Conflict(old) => (fork, old, size, true),
                        Verdict::Cosigned(_) => {
                            cosigned.insert(size, histories[fork].root(size));
                            prop_assert!(size >= newest);
                            newest = size;
                            continue;
                        }
                        Verdict::Malformed(_)
                        | Verdict::Untrusted(_)
                        | Verdict::UnknownLog(_)
                        | Verdict::Inconsistent(_)
                        | Verdict::Failed(_) => (fork, 0, size, true),
                    }
                }
                Deed::Restart => {
                    if losing.is_none() {
                        witness = open(&disk);
                    }
                    continue;
                }
                Deed::PowerLoss { after, seed } => {
                    disk.cut_power_after(after);
                    losing = Some(seed);
                    continue;
                }
            };
            let mut request = histories[fork].request(old.min(size), size);
            request.old = old;
            if !honest {
                request.proof = histories[1 - fork].request(old.min(size), size).proof;
            }
            let verdict = submit(&witness, &request);
            if matches!(verdict, Verdict::Cosigned(_)) {
                prop_assert!(size >= newest, "it cosigned {size} after {newest}");
                newest = size;
                cosigned.insert(size, histories[fork].root(size));
            }
            if let (Verdict::Failed(_), Some(seed)) = (&verdict, losing) {
                disk = disk.after_power_loss(seed);
                losing = None;
                witness = open(&disk);
            }
        }
        let fits = |history: &History| cosigned.iter().all(|(size, root)| history.root(*size) == *root);
        prop_assert!(histories.iter().any(fits), "no one history has all that was cosigned: {cosigned:?}");
    }
}

/// A process that was killed may have named what it did not sync; what the next one remembers outlasts a loss of power all the same.
#[test]
fn what_a_killed_witness_left_unsynced_takes_no_memory_with_it() {
    let histories = [History::forked(3, 1), History::forked(3, 2)];
    for operations in 0..10 {
        let disk = SimDisk::new();
        disk.cut_power_after(operations);
        if let Ok(witness) = Witness::open_on(Arc::new(disk.clone()), Path::new("/"), witness_key()) {
            witness.know(&[LOG.parse().unwrap()]).unwrap();
            drop(submit(&witness, &histories[0].request(0, 20)));
        }
        let disk = disk.after_kill();
        let witness = open(&disk);
        let verdict = submit(&witness, &histories[0].request(0, 30));
        let known = if let Verdict::Conflict(old) = verdict {
            old
        } else {
            assert!(matches!(verdict, Verdict::Cosigned(_)), "{operations}: {verdict:?}");
            30
        };
        for seed in 0..6 {
            let verdict = submit(&open(&disk.after_power_loss(seed)), &histories[1].request(0, 30));
            assert!(matches!(verdict, Verdict::Conflict(old) if old == known), "{operations}: {verdict:?}");
        }
    }
}

#[test]
fn two_submissions_at_once_are_judged_one_after_the_other() {
    for round in 0..40 {
        let witness = open(&SimDisk::new());
        let statuses = std::thread::scope(|scope| {
            let jobs = [1, 2].map(|fork| {
                let witness = &witness;
                scope.spawn(move || submit(witness, &History::forked(0, fork).request(0, 9)).status())
            });
            jobs.map(|job| job.join().unwrap())
        });
        let won = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(won, 1, "round {round}: both or none were cosigned: {statuses:?}");
    }
}
