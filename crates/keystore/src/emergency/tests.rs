//! Copies and requests for them, with age played by what puts a name in front.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a test")]

use super::copy::{self, Copy, Of};
use super::desk::Desk;
use super::{Custodians, Mail, Mailbox, SHARE_LEN};
use crate::software::material::{self, generate};
use crate::software::operate::Step;
use aws_lc_rs::rand;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::emergency::{Approved, CopyState, OpenRequest, OpenedCopy, RequestCopy};
use holdfast_core::frame::Commitment;
use holdfast_core::key::{KeyMaterial, NewVersion, SealedHandle, TokenOrigin};
use holdfast_core::port::World;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, ErrorKind, KeyId, KeyVersion, Secret, TenantId, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::Duration;

const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
const KEY: KeyId = KeyId::from_bytes([1; 16]);
/// Copies that were opened of the first request.
const FIRST: OpenedCopy = OpenedCopy::new(1);
const NAMES: [&str; 3] = ["erin", "frank", "grace"];

/// Clocks that are moved one by one.
#[derive(Default)]
struct Clocks {
    wall: AtomicU64,
    ticks: AtomicU64,
}

impl Clocks {
    fn pass(&self, wall: u64, ticks: u64) {
        self.wall.fetch_add(wall * 1_000_000, Ordering::Relaxed);
        self.ticks.fetch_add(ticks * 1_000_000, Ordering::Relaxed);
    }
}

impl World for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::Relaxed))
    }

    fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
        rand::fill(out).unwrap();
        Ok(())
    }
}

/// `RECIPIENT: TEXT`.
fn letter(recipient: &str, text: &[u8]) -> Vec<u8> {
    [recipient.as_bytes(), b": ", text].concat()
}

#[derive(Default)]
struct Post(Mutex<u32>);

struct Fresh(String);

impl Mail for Post {
    fn seal(&self, recipient: &str, text: &Secret) -> Result<Vec<u8>, Error> {
        Ok(letter(recipient, text.expose()))
    }

    fn mailbox(&self) -> Box<dyn Mailbox> {
        let mut made = self.0.lock().unwrap();
        *made += 1;
        Box::new(Fresh(format!("fresh-{made}")))
    }
}

impl Mailbox for Fresh {
    fn recipient(&self) -> &str {
        &self.0
    }

    fn open(&self, sealed: &[u8]) -> Option<Secret> {
        sealed.strip_prefix(&*letter(&self.0, b"")).map(Secret::from)
    }
}

fn custodians() -> Custodians {
    let each = NAMES.map(|name| (name.parse().unwrap(), format!("age1{name}"))).into();
    Custodians { threshold: 2, each, mail: Box::<Post>::default() }
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn number(number: u32) -> KeyVersion {
    KeyVersion::new(number).unwrap()
}

/// A version's material, and its copy.
struct Made {
    tenant: TenantId,
    handle: SealedHandle,
    number: u32,
    material: Secret,
    copy: Vec<u8>,
}

impl Made {
    fn new(number: u32, world: &Clocks) -> Self {
        let handle = SealedHandle::new(&[u8::try_from(number).unwrap(); 9]);
        let mut made = Self {
            tenant: tenant(),
            handle,
            number,
            material: generate(ALGORITHM, world).unwrap().material,
            copy: vec![],
        };
        made.copy = copy::seal(&Of::version(&made.of()), &made.material, &custodians(), world).unwrap();
        made
    }

    fn of(&self) -> KeyMaterial<'_> {
        KeyMaterial {
            tenant: &self.tenant,
            tenant_handle: &self.handle,
            key: KEY,
            version: number(self.number),
            algorithm: ALGORITHM,
            exportable: false,
            commitment: &Commitment::NONE,
            handle: &self.handle,
        }
    }

    /// A custodian's share, as they open it.
    fn share(&self, of: usize) -> Vec<u8> {
        let copy = Copy::parse(&self.copy).unwrap();
        let share = copy.holders[of].share.strip_prefix(&*letter(&format!("age1{}", NAMES[of]), b""));
        share.unwrap().to_vec()
    }
}

/// Two shares as the copy wants them.
fn two(made: &Made) -> BTreeMap<u8, Secret> {
    let copy = Copy::parse(&made.copy).unwrap();
    let shares = [0, 2].map(|of| {
        let (number, name, share) = copy.check(&made.share(of)).unwrap();
        assert_eq!((usize::from(number), name.as_str()), (of + 1, NAMES[of]));
        (number, share)
    });
    shares.into()
}

fn opened(made: &Made, of: &KeyMaterial<'_>, world: &Clocks) -> Result<Secret, Error> {
    Copy::parse(&made.copy).unwrap().open(&Of::version(of), &two(made), world)
}

#[test]
fn a_copy_opens_by_enough_shares_and_as_nothing_else_than_what_it_is_of() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    assert_eq!(opened(&made, &made.of(), &world).unwrap(), made.material);
    let other: TenantId = "other".parse().unwrap();
    for wrong in [
        KeyMaterial { tenant: &other, ..made.of() },
        KeyMaterial { key: KeyId::from_bytes([2; 16]), ..made.of() },
        KeyMaterial { version: number(2), ..made.of() },
        KeyMaterial { algorithm: Algorithm::HmacSha256, ..made.of() },
    ] {
        assert_eq!(opened(&made, &wrong, &world).unwrap_err().kind(), ErrorKind::Integrity);
    }
    let mut one = two(&made);
    one.remove(&1);
    let copy = Copy::parse(&made.copy).unwrap();
    assert_eq!(copy.open(&Of::version(&made.of()), &one, &world).unwrap_err().kind(), ErrorKind::Malformed);
    // Nothing of the material stands in it, nor of what is given beside it.
    let has = |part: &[u8]| made.copy.windows(part.len()).any(|window| window == part);
    assert!(!has(made.material.expose()));
    assert_eq!(made.share(0).len(), SHARE_LEN);
}

#[test]
fn a_copy_that_was_changed_opens_no_more() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    let shares = two(&made);
    for place in 0..made.copy.len() {
        let mut changed = made.copy.clone();
        changed[place] ^= 1;
        let opens =
            Copy::parse(&changed).and_then(|copy| copy.open(&Of::version(&made.of()), &shares, &world));
        assert!(opens.is_err(), "byte {place}");
    }
    for length in 0..made.copy.len() {
        let cut = Copy::parse(&made.copy[..length]);
        let opens = cut.and_then(|copy| copy.open(&Of::version(&made.of()), &shares, &world));
        assert!(opens.is_err(), "{length} bytes");
    }
}

/// A desk with a request for these versions.
fn asked(made: &[&Made], world: &Clocks) -> (Desk, OpenRequest) {
    let desk = Desk::new(Some(custodians()));
    let request = ask(&desk, made, world);
    (desk, request)
}

fn ask(desk: &Desk, made: &[&Made], world: &Clocks) -> OpenRequest {
    let versions: Vec<_> = made.iter().map(|made| (made.of(), made.copy.clone())).collect();
    let request = RequestCopy {
        key: "payroll".parse().unwrap(),
        seconds: 3600,
        reason: "burnt".into(),
        versions: vec![],
    };
    desk.request(&versions, &request, world.now(), world).unwrap().request.unwrap()
}

/// What a custodian gives for it.
fn given(request: &OpenRequest, shares: &[Vec<u8>]) -> Vec<u8> {
    letter(&request.recipient, &shares.concat())
}

fn give(desk: &Desk, what: &[u8], world: &Clocks) -> Result<CopyState, Error> {
    desk.approve(KEY, what, world.now(), world).map(|approved| approved.state)
}

fn is_in_force(desk: &Desk, made: &Made, world: &Clocks) -> bool {
    desk.find(&made.of(), world.now(), world).is_some()
}

#[test]
fn enough_custodians_put_it_in_force_once_that_is_recorded_and_it_does_what_the_key_does() {
    let world = Clocks::default();
    let (first, second) = (Made::new(1, &world), Made::new(2, &world));
    let (desk, request) = asked(&[&first, &second], &world);
    assert_eq!((request.threshold, request.shares.len(), &*request.reason), (2, 6, "burnt"));
    let state = give(&desk, &given(&request, &[first.share(0), second.share(0)]), &world).unwrap();
    assert_eq!(state.request.unwrap().approved.len(), 1);
    // One version's share alone is not enough for the other.
    let state = give(&desk, &given(&request, &[first.share(1)]), &world).unwrap();
    assert_eq!(state.request.unwrap().approved.len(), 2);
    let state = give(&desk, &given(&request, &[second.share(2)]), &world).unwrap();
    assert!(state.request.is_none());
    assert_eq!(state.in_force.unwrap().versions, [number(1), number(2)]);
    assert!(!is_in_force(&desk, &first, &world));
    desk.enforce(KEY, FIRST);
    let ready = desk.find(&first.of(), world.now(), &world).unwrap();
    let itself = material::load(ALGORITHM, first.material.expose()).unwrap();
    let plaintext = Secret::from(&b"4711"[..]);
    let work = Work::Seal { frame: vec![], plaintext: &plaintext, aad: b"aad" };
    let Step::Done(Product::Bytes(sealed)) = ready.begin(&world, work).unwrap() else { unreachable!() };
    let work = Work::Open { body: &sealed, aad: b"aad" };
    let Step::Done(Product::Secret(back)) = itself.begin(&world, work).unwrap() else { unreachable!() };
    assert_eq!(back, plaintext);
    // Another version of that number has no copy; the same one sealed anew has.
    let other = KeyMaterial { commitment: &Commitment([1; 32]), ..first.of() };
    assert!(desk.find(&other, world.now(), &world).is_none());
    let handle = SealedHandle::new(b"sealed anew");
    let same = KeyMaterial { handle: &handle, ..first.of() };
    assert!(desk.find(&same, world.now(), &world).is_some());
    assert_eq!(desk.in_force(), 2);
    assert!(desk.end(KEY) && !desk.end(KEY));
    assert!(!is_in_force(&desk, &first, &world));
}

/// What is open waits for its record, and no other request takes its place meanwhile.
#[test]
fn what_is_merely_open_is_not_in_force_and_gives_way_to_no_other_request() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    let (desk, request) = asked(&[&made], &world);
    let approve = |of| desk.approve(KEY, &given(&request, &[made.share(of)]), world.now(), &world).unwrap();
    assert_eq!(approve(0).opened, None);
    let Approved { state: answered, opened } = approve(1);
    assert_eq!((answered.request.is_none(), opened), (true, Some(FIRST)));
    // The same again, and one more, are answered the same.
    assert_eq!([approve(1).opened, approve(2).opened], [Some(FIRST); 2]);
    assert_eq!(approve(1).state, answered);
    let state = desk.state(KEY, world.now(), &world);
    assert!(state.in_force.is_none() && state.request.is_some());
    let again = RequestCopy {
        key: "payroll".parse().unwrap(),
        seconds: 60,
        reason: "again".into(),
        versions: vec![],
    };
    let error = desk.request(&[(made.of(), made.copy.clone())], &again, world.now(), &world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.remedy_text().contains("holdfast emergency end"), "{}", error.remedy_text());
    // The record of another request's approval is not its own.
    desk.enforce(KEY, OpenedCopy::new(2));
    assert!(!is_in_force(&desk, &made, &world));
    desk.enforce(KEY, FIRST);
    assert_eq!(desk.state(KEY, world.now(), &world), answered);
    assert!(is_in_force(&desk, &made, &world));
}

#[test]
fn the_end_of_a_version_is_the_end_of_its_own_copy_alone() {
    let world = Clocks::default();
    let (first, second) = (Made::new(1, &world), Made::new(2, &world));
    for is_enforced in [true, false] {
        let (desk, request) = asked(&[&first, &second], &world);
        for of in [0, 1] {
            give(&desk, &given(&request, &[first.share(of), second.share(of)]), &world).unwrap();
        }
        if is_enforced {
            desk.enforce(KEY, FIRST);
        }
        desk.end_version(KEY, number(1));
        desk.enforce(KEY, FIRST);
        assert!(!is_in_force(&desk, &first, &world) && is_in_force(&desk, &second, &world));
        desk.end_version(KEY, number(2));
        assert_eq!(desk.state(KEY, world.now(), &world), CopyState::default());
    }
}

/// A key of a request which, while it decrypts, has somebody else end the request.
struct Ended(Weak<Desk>);

impl Mail for Weak<Desk> {
    fn seal(&self, recipient: &str, text: &Secret) -> Result<Vec<u8>, Error> {
        Ok(letter(recipient, text.expose()))
    }

    fn mailbox(&self) -> Box<dyn Mailbox> {
        Box::new(Ended(self.clone()))
    }
}

impl Mailbox for Ended {
    fn recipient(&self) -> &'static str {
        "fresh"
    }

    fn open(&self, sealed: &[u8]) -> Option<Secret> {
        let (desk, (done, is_done)) = (self.0.upgrade().unwrap(), mpsc::channel());
        thread::spawn(move || done.send(desk.end(KEY)));
        assert_eq!(is_done.recv_timeout(Duration::from_secs(10)), Ok(true), "the desk is locked");
        Fresh("fresh".to_owned()).open(sealed)
    }
}

#[test]
fn nobody_waits_for_what_is_decrypted_and_what_ended_meanwhile_stays_ended() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    let desk = Arc::new_cyclic(|desk: &Weak<Desk>| {
        Desk::new(Some(Custodians { mail: Box::new(desk.clone()), ..custodians() }))
    });
    let request = ask(&desk, &[&made], &world);
    let error = give(&desk, &given(&request, &[made.share(0)]), &world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(desk.state(KEY, world.now(), &world), CopyState::default());
}

#[test]
fn a_wrong_share_is_named_and_ten_of_them_end_the_request() {
    let world = Clocks::default();
    let (made, other) = (Made::new(1, &world), Made::new(2, &world));
    let (desk, request) = asked(&[&made], &world);
    let mut changed = made.share(1);
    changed[40] ^= 1;
    let mut of_nobody = made.share(1);
    of_nobody[17] = 9;
    let wrong = [
        (letter("another", &made.share(0)), "does not open with the request's key"),
        (given(&request, &[]), "holds no shares"),
        (given(&request, &[made.share(0)[..49].to_vec()]), "holds no shares"),
        (given(&request, &[made.share(0), other.share(0)]), "is of none of the copies"),
        (given(&request, &[changed]), "the share of `frank` for version 1 is another one"),
        (given(&request, &[of_nobody]), "the share of nobody for version 1 is another one"),
    ];
    for (what, words) in &wrong {
        let error = give(&desk, what, &world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.detail().contains(words), "{}", error.detail());
    }
    // Nothing of what came with a wrong one counts.
    let state = give(&desk, &given(&request, &[made.share(1)]), &world).unwrap();
    assert_eq!(state.request.unwrap().approved.len(), 1);
    for _ in wrong.len()..10 {
        assert_eq!(give(&desk, b"", &world).unwrap_err().kind(), ErrorKind::Integrity);
    }
    let error = give(&desk, &given(&request, &[made.share(0)]), &world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn shares_are_for_the_request_that_waits_now() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    let (desk, before) = asked(&[&made], &world);
    give(&desk, &given(&before, &[made.share(0)]), &world).unwrap();
    let after = ask(&desk, &[&made], &world);
    assert_ne!(before.fingerprint, after.fingerprint);
    assert!(after.approved.is_empty());
    assert!(give(&desk, &given(&before, &[made.share(1)]), &world).is_err());
    let state = give(&desk, &given(&after, &[made.share(1)]), &world).unwrap();
    assert_eq!(state.request.unwrap().approved.len(), 1);
    // It waits for an hour, by either clock.
    for (wall, ticks) in [(3600, 0), (0, 3600)] {
        let request = ask(&desk, &[&made], &world);
        world.pass(wall, ticks);
        let error = give(&desk, &given(&request, &[made.share(0)]), &world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn what_is_in_force_ends_by_whichever_clock_is_first_and_never_comes_back() {
    for (wall, ticks) in [(3600, 0), (0, 3600)] {
        let world = Clocks::default();
        let made = Made::new(1, &world);
        let (desk, request) = asked(&[&made], &world);
        for of in [0, 1] {
            give(&desk, &given(&request, &[made.share(of)]), &world).unwrap();
        }
        desk.enforce(KEY, FIRST);
        world.pass(3599.min(wall), 3599.min(ticks));
        assert!(is_in_force(&desk, &made, &world));
        world.pass(wall.min(1), ticks.min(1));
        assert!(!is_in_force(&desk, &made, &world));
        // The wall clock steps back.
        world.wall.store(0, Ordering::Relaxed);
        assert!(!is_in_force(&desk, &made, &world));
        assert_eq!(desk.in_force(), 0);
    }
}

#[test]
fn without_custodians_there_is_nothing_and_a_tenant_s_end_is_its_copies_end() {
    let world = Clocks::default();
    let made = Made::new(1, &world);
    let nobody = Desk::new(None);
    let new = NewVersion {
        tenant: &made.tenant,
        tenant_handle: &made.handle,
        key: KEY,
        version: number(1),
        algorithm: ALGORITHM,
        exportable: false,
        before: None,
    };
    assert_eq!(nobody.seal(&new, &made.material, &world).unwrap_err().kind(), ErrorKind::Unsupported);
    let (desk, request) = asked(&[&made], &world);
    let (_, origin) = desk.seal(&new, &made.material, &world).unwrap();
    assert_eq!(origin, TokenOrigin::Copied { custodians: NAMES.map(Into::into).into(), threshold: 2 });
    for of in [0, 1] {
        give(&desk, &given(&request, &[made.share(of)]), &world).unwrap();
    }
    desk.enforce(KEY, FIRST);
    ask(&desk, &[&made], &world);
    desk.end_all(&"other".parse().unwrap());
    assert!(is_in_force(&desk, &made, &world));
    desk.end_all(&tenant());
    let state = desk.state(KEY, world.now(), &world);
    assert!(state.request.is_none() && state.in_force.is_none());
}
