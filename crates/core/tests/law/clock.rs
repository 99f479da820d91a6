//! Clocks that step: order stays, nothing comes back to life, and what time unlocks stays locked until an operator confirms.

use holdfast_conformance::doubles::{CommitFault, certificate, token};
use holdfast_conformance::rig::{AUTHORITY, POLICY, Rig, call, encrypt, issue_token, new_key, transition};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{CallerKind, CallerRecord, TokenForm};
use holdfast_core::command::{Command, Done};
use holdfast_core::context::Context;
use holdfast_core::lifecycle::Transition;
use holdfast_core::peer::{Proof, ProviderCertificate};
use holdfast_core::pipeline::Inbound;
use holdfast_core::port::World;
use holdfast_core::retention::Retention;
use holdfast_core::{CallerName, Error, ErrorKind, Timestamp};

const DAY: i64 = 86_400;

fn rig_under(policy: &str) -> Rig {
    let rig = Rig::under(policy);
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    rig
}

fn rig() -> Rig {
    rig_under(POLICY)
}

fn in_days(days: i64) -> u64 {
    Rig::new().world.now().seconds().saturating_add_signed(days * DAY)
}

/// A second goes by, in which the gateway looks at its clock.
fn tick(rig: &Rig) {
    rig.world.pass(1);
    now(rig.pipeline.finish_what_waits()).unwrap();
}

fn encrypts(rig: &Rig) -> Result<(), Error> {
    now(rig.use_key("alice", "kek", encrypt(b"data", Context::EMPTY))).map(|_| ())
}

fn encrypts_with(rig: &Rig, leaf: &str) -> Result<(), Error> {
    let shown = certificate(leaf, AUTHORITY);
    let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
    now(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY)))).map(|_| ())
}

fn confirm(rig: &Rig, who: &str) -> Result<Done, Error> {
    let inbound = rig.inbound_at(&rig.gateway, who);
    now(rig.pipeline.command(&inbound, Command::ConfirmClock)).map(|released| released.into_parts().0.done)
}

fn kind(result: Result<(), Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_clock_that_steps_back_changes_no_order_and_breaks_nothing() {
    let rig = rig();
    encrypts(&rig).unwrap();
    let before = rig.log().entries().len();
    rig.world.jump(-30 * DAY);
    encrypts(&rig).unwrap();
    tick(&rig);
    encrypts(&rig).unwrap();
    now(rig.transition("kek", Transition::Suspend)).unwrap();
    assert_eq!(kind(encrypts(&rig)), ErrorKind::KeyState);
    let told: Vec<_> = rig.log().entries().split_off(before).iter().map(|entry| entry.summary()).collect();
    let order = [
        "encrypt success",
        "hold-clock intent",
        "hold-clock success",
        "encrypt success",
        "suspend-key intent",
        "suspend-key success",
        "encrypt refused key-state",
    ];
    assert_eq!(told, order);
    let rig = rig.crash(0).unwrap();
    assert_eq!(kind(encrypts(&rig)), ErrorKind::KeyState);
}

#[test]
fn what_has_expired_does_not_come_back_to_life_by_a_clock_that_steps_back() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice until {}", in_days(2));
    encrypts(&rig).unwrap();
    encrypts_with(&rig, &leaf).unwrap();
    // The people's tokens live for less than twelve days.
    rig.world.pass(13 * DAY.unsigned_abs());
    tick(&rig);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Unauthenticated);
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    rig.world.jump(-13 * DAY);
    tick(&rig);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Unauthenticated);
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
}

#[test]
fn a_certificate_of_the_future_stays_locked_until_the_jump_is_confirmed() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice since {}", in_days(2));
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    rig.world.jump(3 * DAY);
    tick(&rig);
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    // Whoever needs no new time goes on.
    encrypts_with(&rig, "uri:spiffe://acme/alice").unwrap();
    encrypts(&rig).unwrap();
    confirm(&rig, "olga").unwrap();
    encrypts_with(&rig, &leaf).unwrap();
    // Time that passes by itself unlocks, of course.
    let rig = self::rig();
    rig.world.pass(3 * DAY.unsigned_abs());
    tick(&rig);
    encrypts_with(&rig, &leaf).unwrap();
}

#[test]
fn time_that_passes_while_it_is_held_unlocks_all_the_same() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice since {}", in_days(2));
    rig.world.jump(30 * DAY);
    tick(&rig);
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    rig.world.pass(3 * DAY.unsigned_abs());
    encrypts_with(&rig, &leaf).unwrap();
}

#[test]
fn what_was_found_of_a_connection_before_the_jump_was_noticed_is_found_anew() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice since {}", in_days(2));
    let shown = certificate(&leaf, AUTHORITY);
    let encrypts = |rig: &Rig| {
        let inbound = rig.inbound_with(&rig.acme, Proof::Certificate(&shown));
        now(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY)))).map(|_| ())
    };
    rig.world.jump(3 * DAY);
    encrypts(&rig).unwrap();
    tick(&rig);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Unauthenticated);
}

#[test]
fn a_providers_certificate_must_be_valid_at_both_times() {
    let door: CallerName = "door".parse().unwrap();
    for (valid, jump) in [((2, 30), 3 * DAY), ((-30, -2), -3 * DAY)] {
        let rig = rig_under("permit door use *\npermit kind:custodian administer *");
        let record = CallerRecord {
            name: door.clone(),
            kind: CallerKind::Application,
            groups: vec![],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        };
        now(rig.command("carol", Command::PutCaller(record))).unwrap();
        let valid = [valid.0, valid.1].map(|days| Timestamp::from_micros(in_days(days) * 1_000_000));
        let certificate = ProviderCertificate::examined([7; 32], "hsm.example".into(), valid.into());
        let comes = |rig: &Rig| {
            let inbound = rig.inbound_with(&rig.acme, Proof::Provider(&certificate));
            rig.pipeline.recognise(&Inbound { only: Some(&door), ..inbound }).map(drop)
        };
        assert_eq!(kind(comes(&rig)), ErrorKind::Unauthenticated, "{jump}");
        rig.world.jump(jump);
        tick(&rig);
        assert_eq!(kind(comes(&rig)), ErrorKind::Unauthenticated, "{jump}");
        confirm(&rig, "olga").unwrap();
        comes(&rig).unwrap();
        // What has expired by the new time has expired.
        rig.world.jump(60 * jump);
        tick(&rig);
        assert_eq!(kind(comes(&rig)), ErrorKind::Unauthenticated, "{jump}");
    }
}

#[test]
fn what_a_policy_unlocks_by_time_must_hold_at_both_times() {
    for (window, jump) in
        [(format!("since:{}", in_days(2)), 3 * DAY), (format!("until:{}", in_days(-2)), -3 * DAY)]
    {
        let policy = format!("permit alice use * {window}\npermit kind:custodian administer *");
        let rig = rig_under(&policy);
        assert_eq!(kind(encrypts(&rig)), ErrorKind::Denied);
        rig.world.jump(jump);
        tick(&rig);
        assert_eq!(kind(encrypts(&rig)), ErrorKind::Denied, "{window}");
        let last = rig.log().last();
        assert!(last.event().to_string().contains("held until the clock"), "{}", last.event());
        confirm(&rig, "olga").unwrap();
        encrypts(&rig).unwrap();
    }
    // What a policy locks by time is locked by the new time at once.
    let rig =
        rig_under(&format!("permit alice use * until:{}\npermit kind:custodian administer *", in_days(2)));
    encrypts(&rig).unwrap();
    rig.world.jump(3 * DAY);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Denied);
    tick(&rig);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Denied);
}

#[test]
fn a_stop_is_not_held() {
    let rig = rig_under(&format!(
        "permit alice use *\npermit kind:custodian create-key *\npermit kind:custodian administer * since:{}",
        in_days(2)
    ));
    rig.world.jump(3 * DAY);
    tick(&rig);
    assert_eq!(
        now(rig.transition("kek", Transition::Suspend)).map(|_| ()).map_err(|error| error.kind()),
        Ok(())
    );
    let resumed = now(rig.command("carol", transition("kek", Transition::Resume))).map(|_| ());
    assert_eq!(kind(resumed), ErrorKind::Denied, "to resume unlocks");
}

#[test]
fn a_jump_and_its_confirmation_stand_in_the_gateways_log_with_an_alarm() {
    let rig = rig();
    let before = rig.log().entries().len();
    rig.world.jump(3600);
    tick(&rig);
    tick(&rig);
    confirm(&rig, "olga").unwrap();
    tick(&rig);
    let told = rig.log().entries().split_off(before);
    let summaries: Vec<_> = told.iter().map(|entry| entry.summary()).collect();
    let order = ["hold-clock intent", "hold-clock success", "confirm-clock intent", "confirm-clock success"];
    assert_eq!(summaries, order);
    assert!(told.iter().all(|entry| entry.tenant.is_gateway()));
    assert!(
        told[1].text("alarm").contains("the clock jumped from 2026-11-23T19:03:18"),
        "{}",
        told[1].event()
    );
    assert_eq!(told[1].text("context.to"), "2026-11-23T20:03:18.000000Z");
    assert_eq!(told[3].text("caller.name"), "olga");
    assert_eq!(rig.pipeline.clock_held(), None);
}

#[test]
fn a_minute_is_no_jump() {
    for seconds in [60, -60, 1] {
        let rig = rig();
        let before = rig.log().entries().len();
        rig.world.jump(seconds);
        tick(&rig);
        assert_eq!((rig.pipeline.clock_held(), rig.log().entries().len()), (None, before));
    }
}

#[test]
fn only_an_operator_confirms_and_only_what_waits() {
    let rig = rig();
    assert_eq!(confirm(&rig, "olga").unwrap_err().kind(), ErrorKind::Conflict);
    rig.world.jump(3600);
    tick(&rig);
    assert_eq!(confirm(&rig, "carol").unwrap_err().kind(), ErrorKind::Unauthenticated);
    for who in ["carol", "alice"] {
        assert!(now(rig.command(who, Command::ConfirmClock)).is_err());
    }
    assert!(rig.pipeline.clock_held().is_some());
    confirm(&rig, "olga").unwrap();
    assert_eq!(confirm(&rig, "olga").unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_jump_is_confirmed_before_it_could_be_recorded_too() {
    let rig = rig();
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    rig.world.jump(3600);
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    confirm(&rig, "olga").unwrap();
    assert_eq!(rig.pipeline.clock_held(), None);
    tick(&rig);
    assert_eq!(rig.log().last().summary(), "confirm-clock success", "there is nothing to hold any more");
}

#[test]
fn an_operator_who_is_valid_by_the_new_time_alone_confirms() {
    let rig = rig();
    rig.world.pass(20 * DAY.unsigned_abs());
    // The clock was wrong all along and is put right: by the time that is held every token has expired.
    rig.world.jump(-20 * DAY);
    tick(&rig);
    assert_eq!(kind(encrypts(&rig)), ErrorKind::Unauthenticated);
    confirm(&rig, "olga").unwrap();
    encrypts(&rig).unwrap();
}

#[test]
fn a_hold_survives_a_restart_and_ends_by_its_confirmation_alone() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice since {}", in_days(2));
    rig.world.jump(3 * DAY);
    tick(&rig);
    rig.world.restart();
    assert_eq!(rig.world.held_now(), None);
    let rig = rig.crash(0).unwrap();
    assert!(rig.pipeline.clock_held().is_some());
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    confirm(&rig, "olga").unwrap();
    rig.world.restart();
    let rig = rig.crash(0).unwrap();
    assert_eq!(rig.pipeline.clock_held(), None);
    encrypts_with(&rig, &leaf).unwrap();
}

#[test]
fn a_jump_that_cannot_be_recorded_is_held_all_the_same_and_recorded_later() {
    let rig = rig();
    let leaf = format!("uri:spiffe://acme/alice since {}", in_days(2));
    rig.log().set_full(true);
    rig.world.jump(3 * DAY);
    assert!(now(rig.pipeline.finish_what_waits()).is_err());
    rig.log().set_full(false);
    assert_eq!(kind(encrypts_with(&rig, &leaf)), ErrorKind::Unauthenticated);
    tick(&rig);
    assert_eq!(rig.log().last().summary(), "hold-clock success");
    // Nobody who was there before is kept out.
    let (id, secret, _) = token("acme/alice", rig.world.now());
    let inbound = rig.inbound_with(&rig.acme, Proof::Bearer { id, secret });
    assert!(now(rig.pipeline.use_key(&inbound, call("kek", encrypt(b"data", Context::EMPTY)))).is_ok());
}

#[test]
fn no_entry_grows_old_by_a_jump() {
    let rig = rig();
    now(rig.command("carol", Command::SetRetention(Retention::of_days(30)))).unwrap();
    tick(&rig);
    let before = rig.world.now();
    rig.world.jump(3600);
    tick(&rig);
    let judged = || {
        now(rig.pipeline.prune(|_| None)).unwrap();
        rig.log().judged_at().unwrap()
    };
    assert!(judged() < before.plus_seconds(60), "by the time that is held");
    confirm(&rig, "olga").unwrap();
    assert_eq!(judged(), rig.world.now());
}

#[test]
fn no_jump_gives_a_token_more_time_or_takes_another_away() {
    let hours = |hours: i64| hours * 3600;
    let bearer = |seconds| issue_token("alice", seconds);
    let signing =
        |seconds| Command::IssueToken { caller: "alice".parse().unwrap(), seconds, form: TokenForm::Signing };
    let orders: [&dyn Fn(u64) -> Command; 2] = [&bearer, &signing];
    for issue in orders {
        for jump in [hours(1), hours(-1)] {
            let rig = rig();
            let issued = |seconds| {
                let done = now(rig.command("carol", issue(seconds)))?.done;
                let Done::Token { id, expires, .. } = done else { panic!("a token") };
                Ok::<_, Error>((id, expires))
            };
            let (short, _) = issued(60).unwrap();
            rig.world.jump(jump);
            tick(&rig);
            // It would be dead by the one time or the other.
            assert_eq!(kind(issued(600).map(drop)), ErrorKind::Conflict);
            let (_, expires) = issued(7200).unwrap();
            let earliest = rig.world.held_now().unwrap().min(rig.world.now());
            assert_eq!(expires, earliest.plus_seconds(7200), "{jump}");
            let view = rig.pipeline.tenant(&rig.acme).unwrap();
            let alice = view.data.callers.iter().find(|it| it.name.as_str() == "alice").unwrap();
            assert!(alice.tokens.iter().any(|token| token.id == short), "it has not expired: {jump}");
        }
    }
}
