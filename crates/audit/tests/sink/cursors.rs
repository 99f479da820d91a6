//! Cursors that do not fit the log, and logs that are not what was signed.

use crate::common::{id, signer, until};
use crate::rig::{FileSite, Rig, Site, caught_up, settings};
use holdfast_audit::sink::Sink;

fn rewrite(rig: &Rig, from: &str, to: &str) {
    let text = std::fs::read_to_string(rig.cursor()).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(rig.cursor(), text.replace(from, to)).unwrap();
}

/// A rig whose sink has had 50 entries of `acme`, and is stopped.
fn exported(site: &FileSite) -> Rig {
    let rig = Rig::new(&["acme", "other"]);
    rig.append("acme", 50);
    let sink = rig.sink(&[], site.destination());
    caught_up(&sink);
    assert!(sink.stop(std::time::Duration::from_secs(60)));
    rig
}

#[test]
fn a_cursor_beyond_the_log_is_an_error_with_a_remedy() {
    let site = FileSite::new();
    let rig = exported(&site);
    rewrite(&rig, "log acme 50 ", "log acme 51 ");
    let before = std::fs::read(rig.cursor()).unwrap();
    let sink = rig.sink(&[], site.destination());
    let said = "it covers 50 entries, yet a sink has had 51; the log was rolled back";
    until("it is said", || sink.health().problem.is_some_and(|problem| problem.contains(said)));
    assert_eq!(site.got().len(), 50);
    assert_eq!(std::fs::read(rig.cursor()).unwrap(), before, "no silent reset");
    rig.append("other", 50);
    until("other logs go on", || sink.health().exported == 50);
    assert_eq!(site.got().len(), 100);
}

#[test]
fn another_origin_is_another_log_and_begins_at_its_first_entry() {
    let site = FileSite::new();
    let rig = exported(&site);
    rewrite(&rig, "log acme 50 test.example/acme", "log acme 70 gone.example/acme");
    let sink = rig.sink(&[], site.destination());
    assert_eq!(caught_up(&sink).exported, 50);
    assert_eq!(site.got().len(), 100);
}

#[test]
fn a_damaged_cursor_is_refused_with_file_and_remedy() {
    let site = FileSite::new();
    let rig = exported(&site);
    rewrite(&rig, "end\n", "");
    let refusal = Sink::start(rig.log.feed(), settings(&[]), site.destination()).err().unwrap();
    assert_eq!(refusal.file, rig.cursor());
    assert!(refusal.to_string().contains("its `end` is missing; stop the gateway, remove this file"));
}

#[test]
fn an_entry_that_was_changed_on_disk_is_no_copy() {
    let site = FileSite::new();
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 300);
    let path = rig.bundle("acme", 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"\"seq\":9").unwrap();
    bytes[at + 6] = b'8';
    std::fs::write(&path, bytes).unwrap();
    let sink = rig.sink(&[], site.destination());
    until("it is found", || {
        sink.health().problem.is_some_and(|problem| problem.contains("its entry 9 is not that of the tree"))
    });
    assert_eq!(sink.health().exported, 0);
}

#[test]
fn a_file_that_was_torn_and_one_that_was_rotated_lose_nothing() {
    let site = FileSite::new();
    let rig = exported(&site);
    // A crash left more than the cursor knows, and half a line.
    let mut text = std::fs::read_to_string(site.path()).unwrap();
    text.push_str("{\"log\":\"test.example/acme\",\"index\":50,\"leaf\":\"…\",\"entry\":{}}\n{\"log\":\"te");
    std::fs::write(site.path(), text).unwrap();
    rig.append("acme", 50);
    let sink = rig.sink(&[], site.destination());
    caught_up(&sink);
    let indexes: Vec<_> = site.got().into_iter().map(|(_, index, _)| index).collect();
    assert_eq!(indexes, (0..100).collect::<Vec<_>>());
    let rotated = rig.dir.path().join("log.jsonl.1");
    std::fs::rename(site.path(), &rotated).unwrap();
    rig.append("acme", 50);
    until("the new file has them", || sink.health().position == 150);
    let indexes: Vec<_> = site.got().into_iter().map(|(_, index, _)| index).collect();
    assert_eq!(indexes, (100..150).collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(rotated).unwrap().lines().count(), 100);
}

#[test]
fn entries_are_counted_as_appended_published_and_exported() {
    let site = FileSite::new();
    let rig = exported(&site);
    let rig = rig.restart(&["acme", "other"]);
    rig.append("other", 50);
    let sink = rig.sink(&[], site.destination());
    let health = caught_up(&sink);
    let log = rig.log.health();
    assert_eq!((log.appended_entries, log.published_entries, health.position), (100, 100, 100));
    assert_eq!(health.exported, 50, "since the start");
    rig.log.register(&id("third"), signer("third")).unwrap();
    assert_eq!(rig.log.health().appended_entries, 100);
}

#[test]
fn a_sink_that_starts_with_nothing_to_do_has_caught_up() {
    let site = FileSite::new();
    let rig = exported(&site);
    let sink = rig.sink(&[], site.destination());
    assert_eq!((caught_up(&sink).position, sink.health().exported), (50, 0));
}

/// Where a pruning was interrupted, what is still there is copied, and only what is gone is skipped.
#[test]
fn what_an_interrupted_pruning_left_is_copied() {
    let site = FileSite::new();
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 1000);
    let left = rig.bundle("acme", 2);
    let bytes = std::fs::read(&left).unwrap();
    rig.log.pruner(&id("acme"), signer("acme").into()).prune("OP1", 768).unwrap();
    std::fs::write(&left, bytes).unwrap();
    let sink = rig.sink(&[], site.destination());
    let health = caught_up(&sink);
    assert_eq!((health.skipped, health.exported, health.position), (512, 488, 1000));
    let indexes: Vec<_> = site.got().into_iter().map(|(_, index, _)| index).collect();
    assert_eq!(indexes, (512..1000).collect::<Vec<_>>());
}
