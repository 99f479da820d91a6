use super::*;
use crate::world::SystemWorld;
use age::secrecy::ExposeSecret as _;
use holdfast_core::InstanceId;
use holdfast_keystore::root::RootKey;
use std::path::PathBuf;
use tempfile::TempDir;

const MINUTE: u64 = 60_000_000;
const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// Custodians with real age identities, and a directory for their files.
pub(crate) struct People {
    dir: TempDir,
    custodians: Vec<NewCustodian>,
}

impl People {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let meet = |name: &str| {
            let identity = Identity::generate();
            let secret = identity.to_string();
            std::fs::write(dir.path().join(format!("{name}.key")), secret.expose_secret()).unwrap();
            NewCustodian { name: name.parse().unwrap(), recipient: identity.to_public() }
        };
        let custodians = NAMES.map(meet).to_vec();
        Self { dir, custodians }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn begin(&self, root: &RootKey, instance: InstanceId, generation: u32) -> Ceremony {
        let files = self.path(&generation.to_string());
        Ceremony::begin(root, (instance, generation, 3), &self.custodians, &files, &SystemWorld::new())
            .unwrap()
    }

    fn opened(&self, name: &str, generation: u32) -> custodian::Opened {
        let share = self.path(&generation.to_string()).join(format!("{name}.age"));
        custodian::open_share(&share, &self.path(&format!("{name}.key"))).unwrap()
    }

    /// A whole ceremony.
    pub(crate) fn shared(&self, root: &RootKey, instance: InstanceId, generation: u32) -> Roster {
        let mut ceremony = self.begin(root, instance, generation);
        for Asked { name, challenge, .. } in ceremony.open().cloned().collect::<Vec<_>>() {
            let proof = self.opened(name.as_str(), generation).prove(&challenge).to_string();
            ceremony.prove(name.as_str(), &proof).unwrap();
        }
        ceremony.finish("2026-11-27T00:00:00Z".to_owned(), vec![]).unwrap()
    }

    fn seal(&self, name: &str, generation: u32, gathering: &Gathering) -> Vec<u8> {
        self.seal_to(name, generation, gathering.recipient())
    }

    pub(crate) fn order(&self, name: &str, generation: u32, challenge: &[u8]) -> Result<[u8; 32], Fault> {
        self.opened(name, generation).order_seal(challenge, &self.path(&format!("{name}.key")))
    }

    pub(crate) fn seal_to(&self, name: &str, generation: u32, recipient: &str) -> Vec<u8> {
        self.opened(name, generation).seal_to(&recipient.parse().unwrap()).unwrap()
    }
}

pub(crate) fn root() -> RootKey {
    RootKey::generate(&SystemWorld::new()).unwrap()
}

pub(crate) fn instance(last: char) -> InstanceId {
    format!("01JDCZRGZKA9Q6W8T2V4X6Y8Z{last}").parse().unwrap()
}

fn names(progress: &Progress) -> Vec<&str> {
    progress.given.iter().map(|name| name.as_str()).collect()
}

#[test]
fn it_ends_when_each_custodian_has_proven_and_a_wrong_proof_is_named() {
    let people = People::new();
    let mut ceremony = people.begin(&root(), instance('0'), 1);
    let asked: Vec<_> = ceremony.open().cloned().collect();
    assert_eq!(ceremony.progress(), (0, 5));
    let bobs = people.opened("bob", 1);
    // Bob's share under Alice's name, under another challenge, and something that is no proof.
    let wrong = bobs.prove(&asked[0].challenge).to_string();
    let error = ceremony.prove("alice", &wrong).unwrap_err();
    assert_eq!(error.to_string(), "the proof of `alice` is wrong: of another share, or of another challenge");
    assert!(error.remedy_text().unwrap().contains(&asked[0].challenge.to_string()));
    assert!(ceremony.prove("bob", &wrong).is_err());
    assert!(ceremony.prove("bob", "0000").unwrap_err().to_string().contains("one letter of it is wrong"));
    assert!(ceremony.prove("mallory", &wrong).unwrap_err().to_string().contains("`mallory`"));
    for Asked { name, challenge, .. } in &asked[..4] {
        let proof = people.opened(name.as_str(), 1).prove(challenge).to_string();
        ceremony.prove(name.as_str(), &proof).unwrap();
    }
    assert_eq!(ceremony.open().map(|asked| asked.name.as_str()).collect::<Vec<_>>(), ["erin"]);
    let error = ceremony.finish(String::new(), vec![]).unwrap_err();
    assert!(error.to_string().contains("`erin` has not proven"));
}

#[test]
fn nobody_opens_another_s_share_and_no_file_holds_one_in_clear() {
    let people = People::new();
    let root = root();
    let roster = people.shared(&root, instance('0'), 1);
    let file = people.path("1/alice.age");
    let error = custodian::open_share(&file, &people.path("bob.key")).err().unwrap();
    assert!(error.to_string().ends_with("does not open"), "{error}");
    for name in NAMES {
        let text = std::fs::read_to_string(people.path(&format!("1/{name}.age"))).unwrap();
        assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{text}");
    }
    let text = roster.to_text().unwrap();
    assert_eq!(Roster::parse(&text).unwrap(), roster);
    let opened = people.opened("alice", 1);
    let share = String::from_utf8(opened.line().expose().to_vec()).unwrap();
    let digits = share.split(':').nth(6).unwrap();
    assert!(digits.len() == 64 && !text.contains(digits));
}

#[test]
fn what_cannot_be_shared_is_refused_before_anything_is_written() {
    let mut people = People::new();
    let begin = |people: &People, threshold| {
        let files = people.path("none");
        Ceremony::begin(
            &root(),
            (instance('0'), 1, threshold),
            &people.custodians,
            &files,
            &SystemWorld::new(),
        )
        .err()
    };
    for threshold in [0, 1, 6] {
        assert!(begin(&people, threshold).unwrap().to_string().contains("of 5 shares cannot be"));
    }
    let alice = people.custodians[0].clone();
    people.custodians[1].name = "ALICE".parse().unwrap();
    assert!(begin(&people, 3).unwrap().to_string().contains("two custodians are called"));
    people.custodians[1] = NewCustodian { name: "bob".parse().unwrap(), ..alice };
    assert!(begin(&people, 3).unwrap().to_string().contains("is another custodian's as well"));
    assert!(!people.path("none").exists());
}

#[test]
fn enough_shares_give_the_root_key_and_each_is_checked_at_once() {
    let people = People::new();
    let (root, now) = (root(), 5);
    let elsewhere = people.shared(&root, instance('1'), 3);
    let earlier = people.shared(&root, instance('0'), 1);
    let roster = people.shared(&root, instance('0'), 2);
    let mut gathering = Gathering::begin(roster);
    let refused = |gathering: &mut Gathering, sealed: &[u8]| {
        let before = gathering.progress(now);
        let error = gathering.give(sealed, now).err().unwrap();
        assert_eq!((error.kind(), gathering.progress(now)), (holdfast_core::ErrorKind::Malformed, before));
        error.detail().to_owned()
    };
    let old = people.seal("alice", 1, &gathering);
    assert_eq!(refused(&mut gathering, &old), "share 1 is of generation 1, and generation 2 is in force");
    let strange = people.seal("alice", 3, &gathering);
    assert!(
        refused(&mut gathering, &strange)
            .starts_with("share 1 is of another gateway, 01JDCZRGZKA9Q6W8T2V4X6Y8Z1")
    );
    let other = Gathering::begin(earlier.clone());
    let misdirected = people.seal("alice", 2, &other);
    assert_eq!(refused(&mut gathering, &misdirected), "what came is not encrypted to this start's fresh key");
    assert!(refused(&mut gathering, b"").contains("not encrypted"));

    let alice = people.seal("alice", 2, &gathering);
    for _ in 0..3 {
        let Ok(Given::More(progress)) = gathering.give(&alice, now) else { panic!("one of three") };
        assert_eq!(names(&progress), ["alice"], "the same again changes nothing");
    }
    let erin = people.seal("erin", 2, &gathering);
    assert!(matches!(gathering.give(&erin, now), Ok(Given::More(_))));
    let carol = people.seal("carol", 2, &gathering);
    let Ok(Given::Root(found, progress)) = gathering.give(&carol, now) else { panic!("three of three") };
    assert_eq!(found.id().unwrap(), root.id().unwrap());
    assert_eq!(names(&progress), ["alice", "carol", "erin"]);
    assert_eq!(names(&gathering.progress(now)), [""; 0]);
    drop(elsewhere);
}

#[test]
fn a_share_that_was_not_handed_out_is_named() {
    let people = People::new();
    let root = root();
    people.shared(&root, instance('0'), 1);
    // A second sharing that claims to be the first: all but the commitments is right.
    let others = People::new();
    let mut gathering = Gathering::begin(others.shared(&root, instance('0'), 1));
    let forged = people.seal("dave", 1, &gathering);
    let error = gathering.give(&forged, 0).err().unwrap();
    assert_eq!(
        error.detail(),
        "share 4, of `dave`, is not the one that was handed out: its commitment differs"
    );
}

#[test]
fn shares_that_wait_too_long_are_forgotten() {
    let people = People::new();
    let mut gathering = Gathering::begin(people.shared(&root(), instance('0'), 1));
    let (alice, bob) = (people.seal("alice", 1, &gathering), people.seal("bob", 1, &gathering));
    assert_eq!(gathering.expire(MINUTE), None);
    assert!(gathering.give(&alice, MINUTE).is_ok());
    assert!(gathering.give(&bob, 15 * MINUTE).is_ok());
    assert_eq!(gathering.expire(15 * MINUTE), Some(16 * MINUTE));
    assert_eq!(names(&gathering.progress(16 * MINUTE - 1)), ["alice", "bob"]);
    assert_eq!(names(&gathering.progress(16 * MINUTE)), [""; 0]);
    // A quarter of an hour from the first of the next set.
    assert!(gathering.give(&bob, 20 * MINUTE).is_ok());
    assert_eq!(gathering.expire(21 * MINUTE), Some(35 * MINUTE));
}

#[test]
fn a_list_that_is_none_is_refused() {
    let people = People::new();
    let text = people.shared(&root(), instance('0'), 1).to_text().unwrap();
    let wrong = [
        ("format = 1", "format = 2"),
        ("format = 1", "format = 1\nmore = 1"),
        ("generation = 1", "generation = 0"),
        ("threshold = 3", "threshold = 1"),
        ("threshold = 3", "threshold = 6"),
        ("number = 2", "number = 1"),
        ("number = 2", "number = 0"),
        ("name = \"bob\"", "name = \"alice\""),
        ("name = \"bob\"", "name = \"../bob\""),
        ("recipient = \"age1", "recipient = \"age2"),
        ("commitment = \"", "commitment = \"0"),
        ("root = \"", "root = \"0"),
        ("instance = \"", "instance = \"0"),
    ];
    assert!(Roster::parse(&text).is_ok());
    for (from, to) in wrong {
        assert!(text.contains(from), "{from}\n{text}");
        assert!(Roster::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn enough_shares_open_nothing_by_a_list_that_somebody_has_changed() {
    let people = People::new();
    let root = root();
    let text = people.shared(&root, instance('0'), 1).to_text().unwrap();
    let given = |roster: Roster| {
        let mut gathering = Gathering::begin(roster);
        let mut last = None;
        for name in ["alice", "bob", "carol"] {
            last = Some(gathering.give(&people.seal(name, 1, &gathering), 0));
        }
        (last.unwrap(), gathering.holds())
    };
    let erin = people.custodians[4].recipient.to_string();
    let stranger = Identity::generate().to_public().to_string();
    for (from, to) in [
        ("\"bob\"", "\"mallory\""),
        (&*erin, &*stranger),
        ("made = \"2026-11-27", "made = \"2026-11-28"),
        ("\nmac = ", "\nshared_by = [\"mallory\"]\nmac = "),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        let (given, held) = given(Roster::parse(&text.replacen(from, to, 1)).unwrap());
        let error = given.err().unwrap();
        assert!(error.detail().contains("`root.shares` is not as it was written"), "{to}: {error}");
        assert_eq!(held, 0, "they are forgotten");
    }
    let without = Roster { mac: None, ..Roster::parse(&text).unwrap() };
    assert!(matches!(given(without).0, Ok(Given::Root(_, Progress { has_code: false, .. }))));
    let (given, _) = given(Roster::parse(&text).unwrap());
    assert!(matches!(given, Ok(Given::Root(_, Progress { has_code: true, .. }))));
}
