//! What every target of a sink holds to.

use crate::common::{entry, id, signer, until};
use crate::rig::{Got, Rig, Site, caught_up};
use holdfast_audit::pruned::Pruned;
use std::collections::BTreeMap;

/// Every entry of a log from `from` on has arrived as it stands there, and in its order apart from repetitions.
#[track_caller]
fn has(got: &[Got], name: &str, from: u64, to: u64, exactly_once: bool) {
    let origin = format!("test.example/{name}");
    let (mut next, mut seen) = (from, BTreeMap::new());
    for (_, index, bytes) in got.iter().filter(|(log, _, _)| *log == origin) {
        assert_eq!(bytes.as_bytes(), entry(name, *index), "{name} {index}");
        assert!(*index <= next, "{name} {index} came before {next}");
        next = next.max(index + 1);
        *seen.entry(*index).or_insert(0) += 1;
    }
    let wanted: Vec<_> = (from..to).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), wanted, "{name}");
    assert!(!exactly_once || seen.values().all(|times| *times == 1), "{name}: {seen:?}");
}

pub fn everything_arrives<S: Site>(site: &S) {
    let rig = Rig::new(&["acme", "_gateway"]);
    rig.append("acme", 300);
    let sink = rig.sink(&[], site.destination());
    rig.append("_gateway", 50);
    rig.append("acme", 300);
    until("all are there", || sink.health().exported == 650);
    let health = caught_up(&sink);
    assert_eq!((health.published, health.position, health.failures, health.skipped), (650, 650, 0, 0));
    assert_eq!(health.problem, None);
    // Nobody fails: nothing comes twice, whatever the target.
    has(&site.got(), "acme", 0, 600, true);
    has(&site.got(), "_gateway", 0, 50, true);
    assert!(sink.stop(std::time::Duration::from_secs(60)));
}

/// What an hour's outage is to a sink: many attempts, many entries.
pub fn an_outage_loses_nothing<S: Site>(site: &S) {
    let rig = Rig::new(&["acme", "other"]);
    rig.append("acme", 50);
    let sink = rig.sink(&[], site.destination());
    caught_up(&sink);
    site.fail();
    rig.append("acme", 1000);
    rig.append("other", 100);
    until("it fails often", || sink.health().failures > 30);
    let health = sink.health();
    assert!(health.problem.is_some() && health.lag == 1100 && !health.behind.is_zero(), "{health:?}");
    assert_eq!(health.exported, 50);
    site.mend();
    until("it has recovered", || sink.health().lag == 0);
    let health = caught_up(&sink);
    assert_eq!((health.exported, health.skipped, health.problem), (1150, 0, None));
    has(&site.got(), "acme", 0, 1050, S::EXACTLY_ONCE);
    has(&site.got(), "other", 0, 100, S::EXACTLY_ONCE);
}

pub fn a_restart_goes_on<S: Site>(site: &S) {
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 100);
    let sink = rig.sink(&[], site.destination());
    assert!(sink.stop(std::time::Duration::from_secs(60)), "what is published is exported before it stops");
    has(&site.got(), "acme", 0, 100, true);
    let rig = rig.restart(&["acme"]);
    // Down while the gateway works, and gone without a word.
    rig.append("acme", 100);
    let sink = rig.sink(&[], site.destination());
    drop(sink);
    let rig = rig.restart(&["acme"]);
    rig.append("acme", 100);
    let sink = rig.sink(&[], site.destination());
    let health = caught_up(&sink);
    assert_eq!((health.position, health.failures), (300, 0));
    has(&site.got(), "acme", 0, 300, false);
    let repeated = site.got().iter().filter(|(_, index, _)| *index < 100).count();
    assert_eq!(repeated, 100, "what was settled is not sent again");
}

pub fn a_filter_holds_and_later_logs_are_found<S: Site>(site: &S) {
    let rig = Rig::new(&["acme", "_gateway"]);
    let sink = rig.sink(&["acme", "later"], site.destination());
    rig.append("acme", 50);
    rig.append("_gateway", 50);
    rig.log.register(&crate::common::id("later"), crate::common::signer("later")).unwrap();
    rig.append("later", 50);
    until("both are there", || sink.health().exported == 100);
    assert_eq!(caught_up(&sink).published, 100);
    has(&site.got(), "acme", 0, 50, true);
    has(&site.got(), "later", 0, 50, true);
    has(&site.got(), "_gateway", 0, 0, true);
    // What a sink still needs is not pruned; what it does not copy is none of its business.
    let needs = |log: &str| sink.needs_from(&crate::common::id(log));
    assert_eq!((needs("acme"), needs("later"), needs("_gateway")), (Some(50), Some(50), None));
    std::fs::remove_file(rig.cursor()).unwrap();
    assert_eq!(needs("acme"), Some(0), "nobody knows what it has had");
}

pub fn what_was_pruned_is_counted_and_skipped<S: Site>(site: &S) {
    let rig = Rig::new(&["acme", "other"]);
    rig.append("acme", 1000);
    rig.log.pruner(&id("acme"), signer("acme").into()).prune("OP1", 512).unwrap();
    assert!(!rig.bundle("acme", 0).exists() && !rig.bundle("acme", 1).exists());
    let sink = rig.sink(&[], site.destination());
    let health = caught_up(&sink);
    assert_eq!((health.skipped, health.exported, health.position), (512, 488, 1000));
    let got = site.got();
    has(&got, "acme", 512, 1000, true);
    // What is missing although nothing signed says that it was pruned is no pruning, be it at the beginning or in the middle: nothing
    // is skipped, it is said, and other logs go on.
    rig.append("other", 1000);
    caught_up(&sink);
    drop(sink);
    let aside = rig.dir.path().join("aside");
    let pruned = rig.dir.path().join("audit/other/pruned");
    for (hole, said, before) in [
        (0, None, 0),
        (1, None, 256),
        (1, Some(note("other", "other", 256)), 256),
        (1, Some(note("acme", "other", 512)), 256),
        (1, Some(note("other", "acme", 512)), 256),
    ] {
        said.iter().for_each(|said| std::fs::write(&pruned, said).unwrap());
        std::fs::remove_file(rig.cursor()).unwrap();
        let hole = rig.bundle("other", hole);
        std::fs::rename(&hole, &aside).unwrap();
        let sink = rig.sink(&[], site.destination());
        until("the hole is found", || sink.health().problem.is_some());
        until("the other log goes on", || sink.health().position == 1000 + before);
        assert!(sink.health().skipped == 512 && !sink.health().behind.is_zero());
        std::fs::rename(&aside, &hole).unwrap();
        until("it goes on by itself", || sink.health().lag == 0);
        assert_eq!(caught_up(&sink).problem, None);
        drop(sink);
        if said.is_some() {
            std::fs::remove_file(&pruned).unwrap();
        }
    }
}

/// What a log of one name says of its pruning, signed by that of another.
fn note(origin: &str, signed_by: &str, first: u64) -> String {
    let origin = signer(origin).verifier().name().to_owned();
    let pruned = Pruned { origin, operation: "OP1".to_owned(), first };
    pruned.sign(&signer(signed_by)).unwrap().to_string()
}
