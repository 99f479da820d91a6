//! A sealing key that destroyed material lay under gives way to another one, bit by bit, while everything goes on; once, wherever it is cut short.

use holdfast_conformance::doubles::{CommitFault, KeyFault};
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key, transition};
use holdfast_conformance::task::{Task, now};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, NewKey};
use holdfast_core::context::Context;
use holdfast_core::key::Version;
use holdfast_core::lifecycle::{KeyState, Transition, VersionVerb};
use holdfast_core::port::{KeyStore as _, World as _};
use holdfast_core::query::{Found, Query, Traces};
use holdfast_core::sealing_key::{SealingKeyId, SealingKeyState, SealingKeys};
use holdfast_core::{ErrorKind, KeyVersion, TenantId};

const KEYS: usize = 70;

/// A gateway with a key `kek` and many others, each with something under it.
fn rig() -> (Rig, Vec<Vec<u8>>) {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    let sealed = (0..KEYS).map(|number| {
        now(rig.create(new_key(&other(number), Algorithm::Xaes256Gcm))).unwrap();
        now(rig.bytes("alice", &other(number), encrypt(b"data", Context::EMPTY))).unwrap()
    });
    let sealed = sealed.collect();
    (rig, sealed)
}

fn other(number: usize) -> String {
    format!("other-{number}")
}

fn all_open(rig: &Rig, sealed: &[Vec<u8>]) -> bool {
    sealed.iter().enumerate().all(|(number, bytes)| {
        now(rig.bytes("alice", &other(number), decrypt(bytes, Context::EMPTY)))
            .is_ok_and(|out| out == b"data")
    })
}

fn destroy(rig: &Rig, key: &str) {
    for verb in [Transition::Deactivate, Transition::Destroy(None)] {
        now(rig.transition(key, verb)).unwrap();
    }
}

fn destroy_first_version(rig: &Rig, key: &str) {
    for verb in [VersionVerb::Deactivate, VersionVerb::Destroy] {
        let (key, version) = (name(key), KeyVersion::FIRST);
        let order = Command::TransitionVersion { key, version, verb, without_inventory: true };
        now(rig.command("carol", order)).unwrap();
    }
}

fn sealing(rig: &Rig) -> SealingKeys {
    sealing_of(rig, &rig.acme)
}

fn sealing_of(rig: &Rig, tenant: &TenantId) -> SealingKeys {
    rig.pipeline.tenant(tenant).unwrap().data.record.sealing.clone()
}

fn version(rig: &Rig, key: &str, number: u32) -> Version {
    let id = rig.state().find(&rig.acme, &name(key)).unwrap().id;
    rig.state().find_version(id, KeyVersion::new(number).unwrap()).unwrap()
}

fn under(rig: &Rig, key: &str) -> SealingKeyId {
    rig.keys().sealing_key_of(&version(rig, key, 1).handle).unwrap()
}

fn step(rig: &Rig) -> bool {
    now(rig.pipeline.renew_sealing_keys()).unwrap()
}

/// Steps until there is nothing to do, and how many there were.
fn renew(rig: &Rig) -> usize {
    (0..).take_while(|_| step(rig)).count()
}

fn entries(rig: &Rig, summary: &str) -> usize {
    rig.log().of("acme").iter().filter(|entry| entry.summary() == summary).count()
}

fn traces(rig: &Rig, key: &str) -> Traces {
    match now(rig.query("carol", Query::Key(name(key)))).unwrap() {
        Found::Key(_, _, traces) => traces,
        found => panic!("{found:?}"),
    }
}

#[test]
fn what_was_destroyed_opens_no_more_and_everything_else_does() {
    let (rig, sealed) = rig();
    assert_eq!(renew(&rig), 0, "nothing was destroyed");
    let (remnant, before) = (version(&rig, "kek", 1), under(&rig, "other-0"));
    let handle = rig.pipeline.tenant(&rig.acme).unwrap().data.record.handle.clone();
    now(rig.transition("other-1", Transition::Suspend)).unwrap();
    destroy(&rig, "kek");
    assert_eq!(traces(&rig, "kek").sealing_keys, [(before, SealingKeyState::InForce)]);
    assert_eq!(rig.pipeline.sealing_key_changes().waiting, 1);
    while step(&rig) {
        if sealing(&rig).leaving.is_some() {
            assert_eq!(traces(&rig, "kek").sealing_keys, [(before, SealingKeyState::Leaving)]);
        }
        let resumed = Transition::Resume;
        now(rig.transition("other-1", resumed)).unwrap();
        assert!(all_open(&rig, &sealed));
        now(rig.transition("other-1", Transition::Suspend)).unwrap();
    }
    now(rig.transition("other-1", Transition::Resume)).unwrap();
    let after = under(&rig, "other-0");
    assert!((0..KEYS).all(|number| under(&rig, &other(number)) == after) && after != before);
    let at = rig.world.now();
    let [retired] = sealing(&rig).retired[..] else { panic!("{:?}", sealing(&rig)) };
    assert_eq!((retired.id, retired.versions), (before, 70));
    assert!(retired.retired <= at);
    let shown = traces(&rig, "kek").sealing_keys;
    assert_eq!(shown, [(before, SealingKeyState::Retired(Some(retired.retired)))]);
    let changes = rig.pipeline.sealing_key_changes();
    assert_eq!((changes.waiting, changes.resealed, changes.retired), (0, 70, 1));

    // Whoever finds what is left of it on the disk and puts it back.
    let key = rig.state().find(&rig.acme, &name("other-0")).unwrap();
    rig.state().forge_version(Version { key: key.id, ..remnant });
    assert!(now(rig.bytes("alice", "other-0", decrypt(&sealed[0], Context::EMPTY))).is_err());
    assert_ne!(rig.pipeline.tenant(&rig.acme).unwrap().data.record.handle, handle);
}

#[test]
fn a_key_with_more_versions_than_go_over_at_once_goes_over_with_all_of_them() {
    for many in [63, 64, 65, 128, 150] {
        let rig = Rig::new();
        for key in ["a", "kek", "m", "z"] {
            now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
        }
        let sealed = now(rig.bytes("alice", "m", encrypt(b"data", Context::EMPTY))).unwrap();
        (1..many).for_each(|_| drop(now(rig.command("carol", Command::RotateKey(name("m")))).unwrap()));
        destroy(&rig, "kek");
        renew(&rig);
        let newest = sealing(&rig).newest;
        let under = |key: &str, number| rig.keys().sealing_key_of(&version(&rig, key, number).handle);
        assert!((1..=many).all(|number| under("m", number) == newest), "{many}");
        assert!(["a", "z"].into_iter().all(|key| under(key, 1) == newest));
        assert_eq!(sealing(&rig).retired[0].versions, u64::from(many) + 2);
        assert_eq!(now(rig.bytes("alice", "m", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
    }
}

#[test]
fn its_record_names_both_sealing_keys_and_counts() {
    let (rig, _) = rig();
    let before = under(&rig, "other-0");
    destroy(&rig, "kek");
    renew(&rig);
    let log = rig.log().of("acme");
    let of = |action: &str| {
        let own = log.iter().filter(|entry| entry.text("action") == action);
        own.map(|entry| {
            assert_eq!(entry.text("caller.authentication"), "gateway");
            (entry.text("outcome"), entry.text("context.from"), entry.text("context.versions"))
        })
        .collect::<Vec<_>>()
    };
    let (before, none) = (before.to_string(), String::new());
    let told = |outcome: &str, versions: &str| (outcome.to_owned(), before.clone(), versions.to_owned());
    assert_eq!(
        of("change-sealing-key"),
        [("intent".to_owned(), none.clone(), none.clone()), told("success", "")]
    );
    let moved = [told("intent", "63"), told("success", "63"), told("intent", "7"), told("success", "7")];
    assert_eq!(of("reseal-versions"), moved);
    assert_eq!(of("retire-sealing-key"), [told("intent", "70"), told("success", "70")]);
    let last = log.last().unwrap();
    assert_eq!(last.text("context.to"), under(&rig, "other-0").to_string());
}

#[test]
fn many_destructions_are_one_change_and_later_ones_wait_for_the_next() {
    let (rig, sealed) = rig();
    for number in 0..20 {
        destroy(&rig, &other(number));
    }
    destroy(&rig, "kek");
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    destroy(&rig, "other-20");
    assert_eq!((renew(&rig), sealing(&rig).are_at_work()), (0, true), "not at once");
    destroy(&rig, "other-21");
    rig.world.pass(3600);
    assert!(renew(&rig) > 0);
    assert_eq!(sealing(&rig).retired.len(), 2);
    let mut left = sealed.iter().enumerate().skip(22);
    assert!(left.all(|(number, bytes)| {
        now(rig.bytes("alice", &other(number), decrypt(bytes, Context::EMPTY))).is_ok()
    }));
}

#[test]
fn what_is_destroyed_meanwhile_has_its_sealing_key_retired_too() {
    let (rig, _) = rig();
    destroy(&rig, "kek");
    while rig.pipeline.sealing_key_changes().resealed == 0 {
        assert!(step(&rig));
    }
    let first = sealing(&rig).leaving.unwrap();
    let (moved, still): (Vec<_>, Vec<_>) = (0..KEYS).map(other).partition(|key| under(&rig, key) != first);
    destroy(&rig, &still[0]);
    assert_eq!(sealing(&rig).due, None, "it lay under the one that is leaving");
    destroy(&rig, &moved[0]);
    assert!(sealing(&rig).due.is_some());
    renew(&rig);
    rig.world.pass(3600);
    renew(&rig);
    let retired = traces(&rig, &moved[0]).sealing_keys;
    assert!(matches!(retired[..], [(id, SealingKeyState::Retired(Some(_)))] if id != first), "{retired:?}");
    assert_eq!((sealing(&rig).retired.len(), sealing(&rig).are_at_work()), (2, false));
}

#[test]
fn a_destroyed_version_counts_and_material_in_a_device_does_not() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    destroy_first_version(&rig, "kek");
    let key = rig.state().find(&rig.acme, &name("kek")).unwrap();
    assert_eq!((key.state, key.erasure.unwrap().sealed_under.len()), (KeyState::Active, 1));
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    assert!(matches!(traces(&rig, "kek").sealing_keys[..], [(_, SealingKeyState::Retired(Some(_)))]));

    rig.keys().pool(&["a", "b"]);
    destroy(&rig, "kek");
    rig.world.pass(3600);
    assert_eq!((renew(&rig), sealing(&rig).are_at_work()), (0, false));
}

/// Its material is in a device, and in the state besides.
#[test]
fn an_emergency_copy_that_was_destroyed_opens_no_more() {
    for is_whole in [true, false] {
        let rig = Rig::new();
        rig.keys().make_copies();
        rig.keys().pool(&["a", "b"]);
        now(rig.create(NewKey { emergency_copy: true, ..new_key("kek", Algorithm::Xaes256Gcm) })).unwrap();
        let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
        now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
        let (before, remnant) = (under(&rig, "kek"), version(&rig, "kek", 1));
        match is_whole {
            true => destroy(&rig, "kek"),
            false => destroy_first_version(&rig, "kek"),
        }
        assert_eq!(traces(&rig, "kek").sealing_keys, [(before, SealingKeyState::InForce)]);
        renew(&rig);
        let shown = traces(&rig, "kek").sealing_keys;
        assert!(matches!(shown[..], [(id, SealingKeyState::Retired(Some(_)))] if id == before), "{shown:?}");
        if !is_whole {
            // Whoever finds what is left of it on the disk and puts it back.
            rig.state().forge_version(remnant);
            assert!(now(rig.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).is_err());
        }
    }
}

/// Who has begun knows the earlier sealing key alone: what they make is under it, and they would not open what has gone over.
#[test]
fn nothing_goes_over_while_somebody_knows_the_earlier_sealing_key_alone() {
    let (rig, sealed) = rig();
    rig.state().reading.hold();
    let opening = Task::begun(rig.bytes("alice", "other-0", decrypt(&sealed[0], Context::EMPTY)));
    let rotating = Task::begun(rig.command("carol", Command::RotateKey(name("other-1"))));
    rig.state().reading.hold_no_more();
    destroy(&rig, "kek");
    assert!(step(&rig), "the other one is made");
    for _ in 0..3 {
        assert!(!step(&rig), "and waits");
    }
    let before = sealing(&rig).leaving.unwrap();
    assert_eq!((under(&rig, "other-0"), rig.pipeline.sealing_key_changes().resealed), (before, 0));
    rig.state().reading.release();
    assert_eq!(opening.finish().unwrap(), b"data");
    rotating.finish().unwrap();
    assert_eq!(rig.keys().sealing_key_of(&version(&rig, "other-1", 2).handle), Some(before));
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    let newest = sealing(&rig).newest;
    assert_eq!(rig.keys().sealing_key_of(&version(&rig, "other-1", 2).handle), newest);
    assert!(all_open(&rig, &sealed));
}

#[test]
fn whoever_changes_a_key_meanwhile_brings_nothing_back() {
    let (rig, sealed) = rig();
    now(rig.command("carol", Command::RotateKey(name("other-0")))).unwrap();
    destroy(&rig, "kek");
    step(&rig);
    // It has read the version as it was, and writes it when that has gone over.
    rig.state().committing.hold();
    let order = Command::TransitionVersion {
        key: name("other-0"),
        version: KeyVersion::FIRST,
        verb: VersionVerb::Deactivate,
        without_inventory: true,
    };
    let changing = Task::begun(rig.command("carol", order));
    rig.state().committing.hold_no_more();
    renew(&rig);
    assert!(sealing(&rig).retired.len() <= 1);
    rig.state().committing.release();
    changing.finish().unwrap();
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    assert_eq!(version(&rig, "other-0", 1).state, KeyState::Deactivated);
    assert_eq!(Some(under(&rig, "other-0")), sealing(&rig).newest);
    assert!(all_open(&rig, &sealed));
}

#[test]
fn cut_short_anywhere_it_is_done_once() {
    let steps = {
        let (rig, _) = rig();
        destroy(&rig, "kek");
        renew(&rig)
    };
    for cut in 0..=steps {
        let (rig, sealed) = rig();
        destroy(&rig, "kek");
        (0..cut).for_each(|_| assert!(step(&rig)));
        let rig = rig.crash(0).unwrap();
        assert!(all_open(&rig, &sealed), "cut after step {cut}");
        renew(&rig);
        assert_eq!(sealing(&rig).retired.len(), 1, "cut after step {cut}");
        assert_eq!(sealing(&rig).retired[0].versions, 70);
        assert!(!sealing(&rig).are_at_work() && all_open(&rig, &sealed));
    }
}

#[test]
fn whatever_fails_is_tried_again_and_what_a_crash_left_open_is_closed() {
    for fault in [
        CommitFault::Before(ErrorKind::StateUnavailable),
        CommitFault::After(ErrorKind::StateUnavailable),
        CommitFault::Before(ErrorKind::Conflict),
    ] {
        for at in 0..4 {
            let (rig, sealed) = rig();
            destroy(&rig, "kek");
            (0..at).for_each(|_| assert!(step(&rig)));
            rig.state().fault(fault);
            let failed = now(rig.pipeline.renew_sealing_keys()).is_err();
            let rig = if failed { rig.crash(0).unwrap() } else { rig };
            assert!(all_open(&rig, &sealed));
            renew(&rig);
            assert_eq!(sealing(&rig).retired.len(), 1, "{fault:?} at {at}");
            assert!(all_open(&rig, &sealed));
            let open = |action| {
                let entries = |ended: &str| entries(&rig, &format!("{action} {ended}"));
                entries("intent") != entries("success") + entries("recovered") + refused(&rig, action)
            };
            assert!(!["change-sealing-key", "reseal-versions", "retire-sealing-key"].into_iter().any(open));
        }
    }
}

fn refused(rig: &Rig, action: &str) -> usize {
    let log = rig.log().of("acme");
    log.iter().filter(|entry| entry.summary().starts_with(&format!("{action} refused"))).count()
}

#[test]
fn a_key_store_that_fails_is_asked_again_later_and_less_often() {
    let (rig, sealed) = rig();
    destroy(&rig, "kek");
    step(&rig);
    for minutes in [1, 2, 4] {
        rig.keys().fault(KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
        let failed = (0..8).any(|_| now(rig.pipeline.renew_sealing_keys()).is_err());
        assert!(failed);
        rig.world.pass(60 * minutes - 5);
        assert!(!step(&rig), "not before {minutes} minutes");
        rig.world.pass(10);
    }
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    assert!(all_open(&rig, &sealed));
}

#[test]
fn a_stopped_tenant_s_is_changed_too() {
    let (rig, sealed) = rig();
    destroy(&rig, "kek");
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    renew(&rig);
    assert_eq!(sealing(&rig).retired.len(), 1);
    now(rig.command("carol", Command::ResumeTenant)).unwrap();
    assert!(all_open(&rig, &sealed));
}

#[test]
fn what_was_replaced_is_overwritten_as_soon_as_nobody_reads_it() {
    let (rig, _) = rig();
    step(&rig);
    assert!(!rig.state().has_replaced(), "what a start may find");
    destroy(&rig, "kek");
    rig.state().hold_replaced(2);
    renew(&rig);
    assert!(rig.state().has_replaced());
    step(&rig);
    step(&rig);
    assert!(!rig.state().has_replaced());
}

/// The files may hold what was replaced, whatever became of the record.
#[test]
fn what_was_replaced_is_overwritten_also_where_the_record_of_it_fails() {
    let rig = Rig::new();
    for key in ["kek", "left"] {
        now(rig.create(new_key(key, Algorithm::Xaes256Gcm))).unwrap();
    }
    destroy(&rig, "kek");
    assert!(step(&rig), "the other one is made");
    rig.log().hold();
    let mut renewing = Task::begun(rig.pipeline.renew_sealing_keys());
    loop {
        let waiting = rig.log().waiting()[0];
        if rig.log().entries()[waiting].summary() == "retire-sealing-key success" {
            rig.log().fail(waiting);
            break;
        }
        rig.log().resolve(waiting);
        assert!(renewing.turn().is_none());
    }
    assert!(renewing.finish().is_err());
    rig.log().release();
    assert!(sealing(&rig).retired.len() == 1 && rig.state().has_replaced());
    step(&rig);
    assert!(!rig.state().has_replaced());
}

/// Keys `kek` and `left` in both tenants, of which `kek` is destroyed.
fn two_tenants() -> Rig {
    let rig = Rig::new();
    for tenant in [&rig.acme, &rig.other] {
        let order = |command| {
            let inbound = rig.inbound_at(tenant, "carol");
            drop(now(rig.pipeline.command(&inbound, command)).unwrap());
        };
        for key in ["kek", "left"] {
            order(Command::CreateKey(new_key(key, Algorithm::Xaes256Gcm)));
        }
        for verb in [Transition::Deactivate, Transition::Destroy(None)] {
            order(transition("kek", verb));
        }
    }
    rig
}

fn retired(rig: &Rig, tenant: &TenantId) -> usize {
    sealing_of(rig, tenant).retired.len()
}

#[test]
fn a_tenant_whose_sealing_key_cannot_be_retired_holds_up_no_other() {
    for is_first in [true, false] {
        let rig = two_tenants();
        let (stuck, healthy) = if is_first { (&rig.acme, &rig.other) } else { (&rig.other, &rig.acme) };
        rig.keys().jam(stuck, true);
        let fails = || {
            let steps = (0..20).filter_map(|_| now(rig.pipeline.renew_sealing_keys()).err());
            steps.map(|failure| failure.tenant).collect::<Vec<_>>()
        };
        assert_eq!(fails(), [Some(stuck.clone())], "once, and then it rests");
        assert_eq!((retired(&rig, healthy), retired(&rig, stuck)), (1, 0));
        assert!(sealing_of(&rig, stuck).leaving.is_some() && !sealing_of(&rig, healthy).are_at_work());

        // What the other does is not counted as its own success: it is tried less and less often.
        for minutes in [1, 2, 4] {
            rig.world.pass(60 * minutes - 5);
            assert_eq!(fails(), [], "not before {minutes} minutes");
            rig.world.pass(10);
            assert_eq!(fails(), [Some(stuck.clone())]);
        }
        rig.keys().jam(stuck, false);
        rig.world.pass(3600);
        assert_eq!(fails(), []);
        assert_eq!((retired(&rig, healthy), retired(&rig, stuck)), (1, 1));
    }
}

#[test]
fn a_tenant_that_waits_for_a_request_holds_up_no_other() {
    let rig = two_tenants();
    rig.state().reading.hold();
    let rotating = Task::begun(rig.command("carol", Command::RotateKey(name("left"))));
    rig.state().reading.hold_no_more();
    renew(&rig);
    // It goes by the sealing key of before.
    assert!(sealing(&rig).leaving.is_some());
    assert_eq!((retired(&rig, &rig.acme), retired(&rig, &rig.other)), (0, 1));
    rig.state().reading.release();
    rotating.finish().unwrap();
    renew(&rig);
    assert_eq!(retired(&rig, &rig.acme), 1, "nor does the other one's rest");
}
