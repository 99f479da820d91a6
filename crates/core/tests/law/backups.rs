//! Backups: taken under a recorded command, and what comes back from one is another gateway in which nothing works until somebody says so.

use holdfast_conformance::doubles::{Journal, Keys, PROOF, Records, Registry, Rules, TestPorts, Vault};
use holdfast_conformance::rig::{Rig, decrypt, encrypt, name, new_key, transition};
use holdfast_conformance::task::now;
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::command::{Command, Done, VerifiedBackup};
use holdfast_core::context::Context;
use holdfast_core::destruction::WaitingPeriod;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::pipeline::{EarlierLog, Engines, OpenIntent, Pipeline, Restoration, Restored};
use holdfast_core::port::{State, World as _};
use holdfast_core::{Error, ErrorKind, InstanceId, KeyVersion, OperationId};

fn rig() -> Rig {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn back_up(rig: &Rig, who: &str) -> Result<Done, Error> {
    let inbound = rig.inbound_at(&rig.gateway, who);
    now(rig.pipeline.command(&inbound, Command::BackUp)).map(|released| released.into_parts().0.done)
}

fn is_protected(rig: &Rig, key: &str) -> bool {
    let key = rig.state().find(&rig.acme, &name(key)).unwrap();
    key.is_protected(rig.pipeline.verified())
}

/// Says that a backup of this commit opens.
fn verify(rig: &Rig, who: &str, commit: u64, proof: [u8; 32]) -> Result<(), Error> {
    let verified = VerifiedBackup { sha256: [7; 32], bytes: 3, commit, proof };
    let inbound = rig.inbound_at(&rig.gateway, who);
    now(rig.pipeline.command(&inbound, Command::VerifyBackup(verified))).map(|_| ())
}

#[test]
fn a_key_is_unprotected_until_a_verified_backup_holds_its_newest_version() {
    let rig = rig();
    let vault = &rig.pipeline.engines().archive;
    assert!(!is_protected(&rig, "kek"));
    let at = rig.state().position().sequence;
    vault.hold(at);
    now(rig.create(new_key("later", Algorithm::Ed25519))).unwrap();
    let Done::BackedUp(archived, _) = back_up(&rig, "olga").unwrap() else { panic!("a backup") };
    assert_eq!((archived.state.sequence, rig.pipeline.backed_up()), (at, Some(at)));
    assert!(!is_protected(&rig, "kek"), "nobody knows yet whether it opens");
    verify(&rig, "olga", at, PROOF).unwrap();
    assert!(is_protected(&rig, "kek") && !is_protected(&rig, "later"));
    let last = rig.log().last();
    assert_eq!(
        (last.summary().as_str(), last.text("subject")),
        ("verify-backup success", format!("commit {at}"))
    );
    assert_eq!(last.text("input.sha256"), "07".repeat(32));
    back_up(&rig, "olga").unwrap();
    // Its record names the file by its hash.
    let last = rig.log().last();
    assert_eq!((last.summary().as_str(), last.text("subject")), ("back-up success", "backup-2".to_owned()));
    assert_eq!(last.text("output.sha256"), "07".repeat(32));
    // Other changes of a key need no new backup, a new version does.
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    now(rig.transition("kek", Transition::Resume)).unwrap();
    assert!(is_protected(&rig, "kek"));
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    assert!(!is_protected(&rig, "kek"));
    // Of two that overlap the younger one counts.
    vault.hold(at - 1);
    back_up(&rig, "olga").unwrap();
    verify(&rig, "olga", at - 1, PROOF).unwrap();
    assert_eq!((rig.pipeline.backed_up(), rig.pipeline.verified()), (Some(at), Some(at)));
}

#[test]
fn nobody_says_that_a_backup_opens_who_has_not_opened_it() {
    let rig = rig();
    let at = rig.state().position().sequence;
    assert_eq!(verify(&rig, "olga", at, [8; 32]).unwrap_err().kind(), ErrorKind::Integrity);
    assert_eq!(rig.log().last().summary(), "verify-backup refused integrity");
    // Of a time that has not come: the state was put back.
    assert_eq!(verify(&rig, "olga", at + 100, PROOF).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(rig.pipeline.verified(), None);
    // An operator's order: in a tenant it is nobody's.
    assert_eq!(verify(&rig, "carol", at, PROOF).unwrap_err().kind(), ErrorKind::Unauthenticated);
    let verified = VerifiedBackup { sha256: [7; 32], bytes: 3, commit: at, proof: PROOF };
    let refused = now(rig.command("carol", Command::VerifyBackup(verified))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(!is_protected(&rig, "kek"));
}

#[test]
fn a_backup_is_an_operators_and_a_failed_one_is_recorded_and_protects_nothing() {
    let rig = rig();
    rig.pipeline.engines().archive.hold(100);
    // In a tenant there is none to take, whatever its policy allows.
    for (who, kind) in [("carol", ErrorKind::Unsupported), ("alice", ErrorKind::Denied)] {
        assert_eq!(back_up(&rig, who).unwrap_err().kind(), ErrorKind::Unauthenticated);
        assert_eq!(now(rig.command(who, Command::BackUp)).unwrap_err().kind(), kind);
    }
    assert_eq!(rig.pipeline.engines().archive.written(), 0);
    let rig = self::rig();
    assert_eq!(back_up(&rig, "olga").unwrap_err().kind(), ErrorKind::StateUnavailable);
    assert_eq!(rig.log().last().summary(), "back-up refused state-unavailable");
    assert_eq!(rig.pipeline.backed_up(), None);
}

type Restorer = Pipeline<TestPorts<Keys, Records, Journal>>;

/// Restores the state of a rig under a new log.
fn restored(rig: &Rig, stops: Vec<OpenIntent>) -> (Restorer, Journal, Restored) {
    let (log, state) = (Journal::default(), rig.state().copy());
    let engines = Engines {
        identify: Registry::default(),
        decide: Rules::default(),
        keys: rig.keys().clone(),
        state,
        log: log.clone(),
        archive: Vault::default(),
        world: rig.world.clone(),
    };
    let restoration = Restoration {
        instance: InstanceId::from_bytes([8; 16]),
        from: InstanceId::from_bytes([7; 16]),
        build: "test",
        logs: vec![EarlierLog { tenant: rig.acme.clone(), checkpoint: "origin 5 root".to_owned() }],
        stops,
        shares: Some(3),
    };
    let (pipeline, restored) = now(Pipeline::restore(engines, false, restoration, |_| ())).unwrap();
    (pipeline, log, restored)
}

fn stop(rig: &Rig, id: u8, action: Action, key: Option<&str>, subject: Option<&str>) -> OpenIntent {
    OpenIntent {
        operation: OperationId::from_bytes([id; 16]),
        tenant: rig.acme.clone(),
        action,
        key: key.map(name),
        subject: subject.map(Into::into),
    }
}

#[test]
fn every_log_begins_with_what_it_continues_and_every_key_is_suspended() {
    let rig = rig();
    now(rig.create(new_key("mac", Algorithm::HmacSha256))).unwrap();
    now(rig.command("carol", transition("mac", Transition::Deactivate))).unwrap();
    now(rig.create(new_key("held", Algorithm::Ed25519))).unwrap();
    now(rig.transition("held", Transition::Suspend)).unwrap();
    let (pipeline, log, restored) = restored(&rig, vec![]);
    assert_eq!(restored, Restored { commit: restored.commit, suspended: 2, ..Restored::default() });
    assert_eq!(pipeline.recorded_generation(), Some(3), "that of the backup");
    assert!(log.entries()[0].tenant.is_gateway(), "where an operator looks first");
    for tenant in ["_gateway", "acme", "other"] {
        let entries = log.of(tenant);
        assert_eq!(
            [entries[0].summary(), entries.last().unwrap().summary()],
            ["restore intent", "restore success"]
        );
        assert_eq!(entries[0].text("context.from"), InstanceId::from_bytes([7; 16]).to_string());
    }
    assert_eq!(log.of("acme")[0].text("context.continues"), "origin 5 root");
    let state = |key: &str| {
        let entry = now(pipeline.engines().state.key(&rig.acme, &name(key))).unwrap().unwrap();
        (entry.key.state, entry.key.resumes_to)
    };
    assert_eq!(state("kek"), (KeyState::Suspended, KeyState::Active));
    assert_eq!(
        state("mac"),
        (KeyState::Suspended, KeyState::Deactivated),
        "resuming gives no more than it had"
    );
    assert_eq!(state("held").0, KeyState::Suspended);
    // All that came back is in the backup.
    let entry = now(pipeline.engines().state.key(&rig.acme, &name("kek"))).unwrap().unwrap();
    assert!(entry.key.is_protected(pipeline.verified()));
    // It opens like any other gateway afterwards, and its log knows its state.
    let (state, keys) = (pipeline.engines().state.copy(), rig.keys().clone());
    let opened = now(Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery())).unwrap();
    let refused = now(opened.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyState);
}

#[test]
fn a_resumed_key_opens_what_it_sealed_before() {
    let rig = rig();
    let sealed = now(rig.bytes("alice", "kek", encrypt(b"data", Context::EMPTY))).unwrap();
    let (pipeline, log, _) = restored(&rig, vec![]);
    let (state, keys) = (pipeline.engines().state.copy(), rig.keys().clone());
    let back = now(Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery())).unwrap();
    now(back.transition("kek", Transition::Resume)).unwrap();
    assert_eq!(now(back.bytes("alice", "kek", decrypt(&sealed, Context::EMPTY))).unwrap(), b"data");
}

#[test]
fn later_stops_are_given_again() {
    let rig = rig();
    now(rig.create(new_key("known", Algorithm::Ed25519))).unwrap();
    let mut elsewhere = stop(&rig, 9, Action::SuspendTenant, None, None);
    elsewhere.tenant = "younger".parse().unwrap();
    let stops = vec![
        stop(&rig, 1, Action::CompromiseKey, Some("known"), None),
        stop(&rig, 2, Action::SuspendCaller, None, Some("alice")),
        stop(&rig, 3, Action::DestroyKey, Some("younger"), None),
        elsewhere,
    ];
    let (pipeline, log, restored) = restored(&rig, stops);
    assert_eq!((restored.suspended, restored.stops, restored.refused, restored.unknown), (1, 2, 1, 1));
    let known = now(pipeline.engines().state.key(&rig.acme, &name("known"))).unwrap().unwrap();
    assert_eq!(known.key.state, KeyState::Compromised);
    let view = pipeline.tenant(&rig.acme).unwrap();
    assert!(view.data.callers.iter().any(|caller| caller.name.as_str() == "alice" && caller.suspended));
    let summaries: Vec<_> = log.of("acme").iter().map(|entry| entry.summary()).collect();
    assert!(summaries.contains(&"compromise-key success".to_owned()), "{summaries:?}");
    // What there was to stop is not in the backup.
    assert!(summaries.contains(&"destroy-key refused not-found".to_owned()), "{summaries:?}");
}

#[test]
fn versions_with_a_budget_are_due_for_rotation() {
    let rig = rig();
    now(rig.create(new_key("counted", Algorithm::Aes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("counted")))).unwrap();
    let (pipeline, log, _) = restored(&rig, vec![]);
    let (state, keys) = (pipeline.engines().state.copy(), rig.keys().clone());
    let back = now(Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery())).unwrap();
    now(back.transition("counted", Transition::Resume)).unwrap();
    now(back.bytes("alice", "counted", encrypt(b"data", Context::EMPTY))).unwrap();
    now(back.pipeline.finish_what_waits()).unwrap();
    let key = back.state().find(&back.acme, &name("counted")).unwrap();
    assert_eq!(key.newest.get(), 3, "nobody knows how often the second was used");
    // Nor how often the first: new work may have been given back to it since the backup.
    for number in [1, 2] {
        let version = KeyVersion::new(number).unwrap();
        assert!(now(back.state().count(key.id, version, 0)).unwrap() >= 1 << 31, "{number}");
    }
}

#[test]
fn a_version_with_a_budget_outlives_many_restorations_and_each_is_counted() {
    let rig = rig();
    now(rig.create(new_key("counted", Algorithm::Aes256Gcm))).unwrap();
    let mut used = 0;
    let mut last = None;
    for _ in 0..5 {
        let from = last.as_ref().unwrap_or(&rig);
        let (pipeline, log, _) = restored(from, vec![]);
        let (state, keys) = (pipeline.engines().state.copy(), rig.keys().clone());
        let back = now(Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery())).unwrap();
        let key = back.state().find(&back.acme, &name("counted")).unwrap();
        let count = now(back.state().count(key.id, KeyVersion::FIRST, 0)).unwrap();
        // What was used of it between a backup and a loss nobody knows, each time.
        assert!(count >= 1 << 31 && count > used && count < 1 << 32, "{count} after {used}");
        used = count;
        last = Some(back);
    }
    let back = last.unwrap();
    now(back.transition("counted", Transition::Resume)).unwrap();
    now(back.bytes("alice", "counted", encrypt(b"data", Context::EMPTY))).unwrap();
    now(back.pipeline.finish_what_waits()).unwrap();
    assert_eq!(back.state().find(&back.acme, &name("counted")).unwrap().newest.get(), 2);
}

/// Whether an order was taken back after the backup nobody may know: it is not completed by the clocks of before.
#[test]
fn a_key_that_is_to_be_destroyed_waits_anew_and_comes_back_no_further_than_suspended() {
    const HOUR: u64 = 3600;
    let pass = |rig: &Rig, hours: u64| {
        for _ in 0..hours {
            rig.world.pass(HOUR);
            now(rig.pipeline.finish_what_waits()).unwrap();
        }
    };
    let rig = rig();
    let two = WaitingPeriod::of_days(2).unwrap();
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    now(rig.transition("kek", Transition::Destroy(Some(two)))).unwrap();
    pass(&rig, 47);
    let (pipeline, log, restored) = restored(&rig, vec![]);
    assert_eq!((restored.suspended, restored.waiting), (0, vec![(rig.acme.clone(), name("kek"))]));
    let last = log.of("acme").pop().unwrap();
    assert_eq!(last.text("subject"), "0 keys suspended; 1 wait anew to be destroyed");
    let (state, keys) = (pipeline.engines().state.copy(), rig.keys().clone());
    let back = now(Rig::open(keys, state, log.clone(), rig.world.clone(), log.recovery())).unwrap();
    let kek = |rig: &Rig| rig.state().find(&rig.acme, &name("kek")).unwrap();
    assert_eq!(kek(&back).destruction.unwrap().due(), rig.world.now().plus_seconds(48 * HOUR));
    // By the gateway's uptime too: somebody may set the wall clock forward, and confirm that.
    assert!(kek(&back).destruction.unwrap().up_left(47 * HOUR) >= 47 * HOUR);
    pass(&back, 47);
    assert_eq!(kek(&back).state, KeyState::Suspended);
    now(back.transition("kek", Transition::CancelDestruction)).unwrap();
    assert_eq!((kek(&back).state, kek(&back).resumes_to), (KeyState::Suspended, KeyState::Deactivated));
    now(back.transition("kek", Transition::Destroy(Some(two)))).unwrap();
    pass(&back, 49);
    assert_eq!(kek(&back).state, KeyState::Destroyed);
}

#[test]
fn an_order_to_destroy_that_was_taken_back_is_taken_back_again() {
    let rig = rig();
    now(rig.create(new_key("other", Algorithm::Ed25519))).unwrap();
    let days = |days| Transition::Destroy(WaitingPeriod::of_days(days));
    for key in ["kek", "other"] {
        now(rig.transition(key, Transition::Deactivate)).unwrap();
        now(rig.transition(key, days(1))).unwrap();
    }
    let kek = rig.state().find(&rig.acme, &name("kek")).unwrap().id.to_string();
    let stops = vec![
        stop(&rig, 1, Action::CancelDestruction, Some("kek"), Some(&kek)),
        // Ordered anew, with more time.
        stop(&rig, 2, Action::DestroyKey, Some("kek"), Some("after 9 days")),
        // Of another key, which had the name.
        stop(&rig, 3, Action::CancelDestruction, Some("other"), Some(&kek)),
    ];
    let (pipeline, log, told) = restored(&rig, stops);
    assert_eq!((told.cancelled, told.stops, told.waiting.len()), (1, 1, 2));
    let summaries: Vec<_> = log.of("acme").iter().map(|entry| entry.summary()).collect();
    assert!(summaries.contains(&"cancel-destruction success".to_owned()), "{summaries:?}");
    let period = |key: &str| {
        let entry = now(pipeline.engines().state.key(&rig.acme, &name(key))).unwrap().unwrap();
        entry.key.destruction.unwrap().period.days()
    };
    assert_eq!((period("kek"), period("other")), (9, 1));
    // Without another order it is suspended like all others.
    let stops = vec![stop(&rig, 1, Action::CancelDestruction, Some("kek"), Some(&kek))];
    let (pipeline, _, told) = restored(&rig, stops);
    assert_eq!((told.cancelled, told.suspended, told.waiting.len()), (1, 1, 1));
    let entry = now(pipeline.engines().state.key(&rig.acme, &name("kek"))).unwrap().unwrap();
    assert_eq!((entry.key.state, entry.key.resumes_to), (KeyState::Suspended, KeyState::Deactivated));
    assert_eq!(entry.key.destruction, None);
}

/// The checkpoints of a backup are a little older than its state: what the state has seen is not done to what came after it.
#[test]
fn an_order_to_destroy_that_is_younger_than_its_cancelling_stays() {
    let rig = rig();
    let destroy = || Transition::Destroy(WaitingPeriod::of_days(1));
    now(rig.transition("kek", Transition::Deactivate)).unwrap();
    now(rig.transition("kek", destroy())).unwrap();
    now(rig.transition("kek", Transition::CancelDestruction)).unwrap();
    let operation = rig.log().last().text("operation").parse().unwrap();
    now(rig.transition("kek", destroy())).unwrap();
    let id = rig.state().find(&rig.acme, &name("kek")).unwrap().id.to_string();
    let seen = OpenIntent { operation, ..stop(&rig, 1, Action::CancelDestruction, Some("kek"), Some(&id)) };
    let (_, _, told) = restored(&rig, vec![seen]);
    assert_eq!((told.cancelled, told.waiting.len()), (0, 1));
}
