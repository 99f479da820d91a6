//! A key's versions one by one: back to an earlier one for new work, and their end, which nothing that is still needed comes to.

use holdfast_conformance::doubles::CommitFault;
use holdfast_conformance::rig::{Rig, bytes, data_key, decrypt, encrypt, name, new_key, rewrap};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::inventory::TakenInventory;
use holdfast_core::key::Key;
use holdfast_core::lifecycle::{KeyState, Transition, VersionVerb};
use holdfast_core::port::State;
use holdfast_core::{Error, ErrorKind, KeyVersion};

fn version(number: u32) -> KeyVersion {
    KeyVersion::new(number).unwrap()
}

/// What an order about a version of `kek` is, inventories aside.
fn order(number: u32, verb: VersionVerb, without_inventory: bool) -> Command {
    Command::TransitionVersion { key: name("kek"), version: version(number), verb, without_inventory }
}

/// Deactivates a version of `kek` whatever inventories say.
pub(super) fn deactivate(number: u32) -> Command {
    order(number, VersionVerb::Deactivate, true)
}

/// What a campaign found that was begun when these were the version for new work and the newest one.
pub(super) fn inventory(current: u32, newest: u32, needed: &[u32]) -> TakenInventory {
    let needed = needed.iter().copied().map(version).collect();
    TakenInventory {
        current: version(current),
        newest: version(newest),
        needed,
        items: 7,
        sha256: [7; 32],
        bytes: 99,
    }
}

/// A key `kek` of so many versions, with something under each.
fn rig(algorithm: Algorithm, versions: u32) -> (Rig, Vec<Vec<u8>>) {
    let rig = Rig::new();
    now(rig.create(new_key("kek", algorithm))).unwrap();
    let mut sealed = vec![seal(&rig).unwrap().1];
    for _ in 1..versions {
        now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
        sealed.push(seal(&rig).unwrap().1);
    }
    (rig, sealed)
}

/// Seals something. Gives the version that did it.
fn seal(rig: &Rig) -> Result<(u32, Vec<u8>), Error> {
    let answer = now(rig.use_key("alice", "kek", encrypt(b"data", Context::EMPTY)))?;
    Ok((answer.version.unwrap().get(), bytes(answer)))
}

fn open(rig: &Rig, sealed: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    now(rig.bytes("alice", "kek", decrypt(sealed, Context::EMPTY))).map_err(|error| error.kind())
}

fn carol(rig: &Rig, command: Command) -> Result<Key, Error> {
    match now(rig.command("carol", command))?.done {
        Done::Key(key, _) => Ok(*key),
        other => panic!("{other:?}"),
    }
}

fn record(rig: &Rig, taken: TakenInventory) -> Result<Key, Error> {
    carol(rig, Command::RecordInventory { key: name("kek"), taken })
}

fn roll_back(rig: &Rig) -> Result<Key, Error> {
    carol(rig, Command::RollBackKey(name("kek")))
}

#[test]
fn new_work_goes_back_and_everything_still_opens() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm, 3);
    let key = roll_back(&rig).unwrap();
    assert_eq!((key.newest, key.current), (version(3), version(2)));
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("key.version")], ["roll-back-key success", "2"]);
    assert_eq!(seal(&rig).unwrap().0, 2);
    assert!(now(rig.bytes("alice", "kek", data_key(32, false, Context::EMPTY))).is_ok());
    for sealed in &sealed {
        assert_eq!(open(&rig, sealed).unwrap(), b"data");
    }
    // A rewrap goes where new work goes.
    let moved = now(rig.use_key("alice", "kek", rewrap(&sealed[2], Context::EMPTY, None))).unwrap();
    assert_eq!(moved.version, Some(version(2)));
    assert_eq!(roll_back(&rig).unwrap().current, version(1));
    // A rotation goes on behind the newest, and a rollback then to what is before it.
    let key = carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    assert_eq!((key.newest, key.current), (version(4), version(4)));
    assert_eq!(seal(&rig).unwrap().0, 4);
    assert_eq!(roll_back(&rig).unwrap().current, version(3));
}

#[test]
fn there_is_no_way_back_from_the_first_version_nor_to_one_that_was_given_up() {
    let (rig, _) = rig(Algorithm::Xaes256Gcm, 1);
    let error = roll_back(&rig).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert!(error.remedy_text().contains("key rotate kek"));
    for _ in 0..3 {
        carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    }
    for number in [1, 3] {
        carol(&rig, deactivate(number)).unwrap();
    }
    assert_eq!(roll_back(&rig).unwrap().current, version(2));
    assert_eq!(roll_back(&rig).unwrap_err().kind(), ErrorKind::KeyState);
    assert_eq!(seal(&rig).unwrap().0, 2);
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    carol(&rig, order(1, VersionVerb::Activate, false)).unwrap();
    assert_eq!(roll_back(&rig).unwrap_err().kind(), ErrorKind::KeyState);
    now(rig.transition("kek", Transition::Resume)).unwrap();
    assert_eq!(roll_back(&rig).unwrap().current, version(1));
}

#[test]
fn an_earlier_version_goes_on_counting_its_nonces() {
    let (rig, _) = rig(Algorithm::Aes256Gcm, 2);
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap();
    let count = |number| now(rig.state().count(key.id, version(number), 0)).unwrap();
    roll_back(&rig).unwrap();
    let before = (count(1), count(2));
    seal(&rig).unwrap();
    assert_eq!((count(1), count(2)), (before.0 + 1, before.1));
    // What would be rotated at once is no way back.
    carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    rig.state().set_count(key.id, version(2), 1 << 31);
    let error = roll_back(&rig).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BudgetExhausted);
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().current, version(3));
}

#[test]
fn a_version_ends_step_by_step_and_others_stay() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm, 3);
    let refused = |command| carol(&rig, command).unwrap_err();
    let destroy = |number| order(number, VersionVerb::Destroy, true);
    for command in [deactivate(3), destroy(3)] {
        let error = refused(command);
        assert_eq!(error.kind(), ErrorKind::KeyState);
        assert!(error.detail().contains("new work takes") && error.remedy_text().contains("rotate"));
    }
    assert!(refused(destroy(1)).remedy_text().contains("key deactivate kek --version 1"));
    assert_eq!(refused(deactivate(4)).kind(), ErrorKind::NotFound);
    assert_eq!(refused(order(1, VersionVerb::Activate, true)).kind(), ErrorKind::KeyState);

    let key = carol(&rig, deactivate(1)).unwrap();
    let last = rig.log().last();
    assert_eq!(
        [last.summary(), last.text("key.version"), last.text("subject")],
        ["deactivate-version success", "1", "version 1 without inventory"]
    );
    assert_eq!(open(&rig, &sealed[0]).unwrap(), b"data", "it still opens");
    assert_eq!(refused(deactivate(1)).kind(), ErrorKind::KeyState);
    carol(&rig, order(1, VersionVerb::Activate, false)).unwrap();
    assert_eq!(rig.state().find_version(key.id, version(1)).unwrap().state, KeyState::Active);
    carol(&rig, deactivate(1)).unwrap();

    carol(&rig, destroy(1)).unwrap();
    let gone = rig.state().find_version(key.id, version(1)).unwrap();
    assert_eq!((gone.state, gone.handle.as_bytes()), (KeyState::Destroyed, &[][..]));
    assert!(rig.keys().is_erased(key.id, version(1)) && !rig.keys().is_erased(key.id, version(2)));
    assert!(rig.keys().forgotten().contains(&key.id));
    assert_eq!(open(&rig, &sealed[0]), Err(ErrorKind::KeyState));
    for sealed in &sealed[1..] {
        assert_eq!(open(&rig, sealed).unwrap(), b"data");
    }
    for verb in VersionVerb::ALL {
        assert_eq!(refused(order(1, verb, true)).kind(), ErrorKind::KeyState);
    }
    // What is left goes with the key.
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    assert_eq!(refused(deactivate(2)).kind(), ErrorKind::KeyState);
}

#[test]
fn what_an_inventory_still_needs_is_not_given_up() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm, 3);
    let retire = |number, without| carol(&rig, order(number, VersionVerb::Deactivate, without));
    let error = retire(1, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyState);
    assert!(error.remedy_text().contains("--without-inventory"));

    let key = record(&rig, inventory(3, 3, &[2])).unwrap();
    assert_eq!(key.inventory.as_ref().unwrap().needed, [version(2), version(3)]);
    let last = rig.log().last();
    assert_eq!(
        [last.summary().as_str(), &last.text("subject")],
        ["record-inventory success", "7 items, needs version 2, 3"]
    );
    assert!(last.text("input").contains("0707"), "{}", last.text("input"));
    retire(1, false).unwrap();
    assert_eq!(rig.log().last().text("subject"), "version 1");
    for without in [false, true] {
        let error = retire(2, without).unwrap_err();
        assert!(error.detail().contains("still needed") && error.remedy_text().contains("holdfast rewrap"));
    }
    // Destroying asks again: what is needed by now stays.
    record(&rig, inventory(3, 3, &[1, 2])).unwrap();
    for without in [false, true] {
        let destroy = order(1, VersionVerb::Destroy, without);
        assert_eq!(carol(&rig, destroy).unwrap_err().kind(), ErrorKind::KeyState);
    }
    assert_eq!(open(&rig, &sealed[0]).unwrap(), b"data");
    record(&rig, inventory(3, 3, &[])).unwrap();
    carol(&rig, order(1, VersionVerb::Destroy, false)).unwrap();
    retire(2, false).unwrap();
    // What new work took at the time is needed, whatever the inventory says, and what came later is unknown to it.
    for _ in 0..2 {
        carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    }
    assert!(retire(3, true).unwrap_err().detail().contains("still needed"));
    assert!(retire(4, false).unwrap_err().detail().contains("no inventory"));
    retire(4, true).unwrap();
}

#[test]
fn an_inventory_from_before_a_change_of_new_work_is_none() {
    let (rig, _) = rig(Algorithm::Xaes256Gcm, 3);
    record(&rig, inventory(3, 3, &[])).unwrap();
    // From the rollback on more comes under version 2, of which the inventory says that nobody needs it.
    assert_eq!(roll_back(&rig).unwrap().inventory, None);
    assert!(carol(&rig, deactivate(2)).unwrap_err().detail().contains("new work takes"));
    // A version that a rollback has left can go, once all of it was rewrapped back.
    assert_eq!(
        carol(&rig, order(3, VersionVerb::Deactivate, false)).unwrap_err().kind(),
        ErrorKind::KeyState
    );
    record(&rig, inventory(2, 3, &[])).unwrap();
    carol(&rig, order(3, VersionVerb::Deactivate, false)).unwrap();
    carol(&rig, Command::RotateKey(name("kek"))).unwrap();
    let error = carol(&rig, order(2, VersionVerb::Deactivate, false)).unwrap_err();
    assert!(error.detail().contains("still needed"));
    for stale in [2, 3] {
        assert_eq!(record(&rig, inventory(stale, stale, &[])).unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(record(&rig, inventory(4, 4, &[5])).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(record(&rig, inventory(4, 4, &[2])).is_ok());
    let many: Vec<u32> = (1..=4).collect();
    assert!(record(&rig, inventory(4, 4, &many)).is_ok());
}

#[test]
fn an_inventory_speaks_of_nothing_that_came_after_its_beginning() {
    let rotate = |rig: &Rig| carol(rig, Command::RotateKey(name("kek"))).unwrap();
    let is_refused = |rig: &Rig, taken| {
        let error = record(rig, taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.remedy_text().contains("holdfast rewrap"), "{error:?}");
    };
    // New work took version 2 for a while after it was begun, and something is under that.
    let (rig, _) = rig(Algorithm::Xaes256Gcm, 1);
    rotate(&rig);
    seal(&rig).unwrap();
    roll_back(&rig).unwrap();
    is_refused(&rig, inventory(1, 1, &[]));
    let retire = order(2, VersionVerb::Deactivate, false);
    assert!(carol(&rig, retire).unwrap_err().detail().contains("no inventory"));
    record(&rig, inventory(1, 2, &[2])).unwrap();
    // Or version 1, which is older, before a rotation and a rollback led back to where it was begun.
    let (rig, _) = self::rig(Algorithm::Xaes256Gcm, 2);
    roll_back(&rig).unwrap();
    seal(&rig).unwrap();
    rotate(&rig);
    assert_eq!(roll_back(&rig).unwrap().current, version(2));
    is_refused(&rig, inventory(2, 2, &[]));
    // What it says is of a time that was not.
    is_refused(&rig, inventory(2, 4, &[]));
    record(&rig, inventory(2, 3, &[1])).unwrap();
}

#[test]
fn a_destruction_that_has_begun_is_brought_to_its_end() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm, 2);
    carol(&rig, deactivate(1)).unwrap();
    let id = rig.state().find(&rig.acme, &name("kek")).unwrap().id;
    rig.log().hold();
    rig.state().committing.hold();
    let mut task = Task::begun(rig.command("carol", order(1, VersionVerb::Destroy, true)));
    rig.log().sync();
    assert!(task.turn().is_none());
    assert!(rig.keys().is_erased(id, version(1)), "its end has begun, and the state does not know");
    drop(task);
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.state().find_version(id, version(1)).unwrap().state, KeyState::Destroyed);
    let last = rig.log().last();
    assert_eq!([last.summary(), last.text("reason")], ["destroy-version success", "recovered"]);
    assert_eq!(open(&rig, &sealed[0]), Err(ErrorKind::KeyState));
}

#[test]
fn a_destruction_that_failed_is_given_again() {
    let (rig, sealed) = rig(Algorithm::Xaes256Gcm, 2);
    carol(&rig, deactivate(1)).unwrap();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    let destroy = order(1, VersionVerb::Destroy, true);
    assert_eq!(carol(&rig, destroy.clone()).unwrap_err().kind(), ErrorKind::StateUnavailable);
    assert_eq!(open(&rig, &sealed[1]).unwrap(), b"data");
    carol(&rig, destroy).unwrap();
    assert_eq!(open(&rig, &sealed[0]), Err(ErrorKind::KeyState));
}
