//! Receivers that never end, or are somebody else.

use crate::common::{PATIENCE, until};
use crate::receiver::{Authority, Mood};
use crate::rig::{Rig, Site as _, SyslogSite, caught_up, settings};
use holdfast_audit::sink::cursor::Place;
use holdfast_audit::sink::{Control, Destination, Failure, Pace, Record, Sink, Target, syslog};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

#[test]
fn a_receiver_that_stalls_is_given_up_and_asked_again() {
    let site = SyslogSite::new();
    site.receiver.set(Mood::Endless);
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 50);
    let stall = Duration::from_millis(300);
    let destination = Destination::Syslog(syslog::Settings { stall, ..site.settings() });
    let sink = rig.sink(&[], destination);
    until("it is given up", || sink.health().problem.is_some_and(|why| why.contains("has not moved for")));
    // It has read them all, and yet did not say so.
    assert_eq!(sink.health().exported, 0);
    site.receiver.set(Mood::Reading);
    assert_eq!(caught_up(&sink).exported, 50);
}

#[test]
fn only_the_right_receiver_gets_anything() {
    let site = SyslogSite::new();
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 50);
    let fails = |settings: syslog::Settings, said: &str| {
        let sink = rig.sink(&[], Destination::Syslog(settings));
        until(said, || sink.health().problem.is_some_and(|problem| problem.contains(said)));
    };
    let good = site.settings();
    fails(syslog::Settings { server_name: "other.example".to_owned(), ..good.clone() }, "certificate");
    fails(syslog::Settings { server_name: String::new(), ..good.clone() }, "certificate");
    let other = Authority::new();
    fails(syslog::Settings { ca_file: other.path("ca.pem"), ..good.clone() }, "certificate");
    fails(syslog::Settings { client: None, ..good.clone() }, "`127.0.0.1:");
    let strange = Some((other.path("gateway.pem"), other.path("gateway.key")));
    fails(syslog::Settings { client: strange, ..good.clone() }, "`127.0.0.1:");
    fails(syslog::Settings { ca_file: "/nowhere".into(), ..good.clone() }, "cannot read a certificate");
    fails(syslog::Settings { address: "127.0.0.1:1".to_owned(), ..good.clone() }, "cannot connect to");
    assert!(site.receiver.messages().is_empty());
    let sink = rig.sink(&[], Destination::Syslog(good));
    caught_up(&sink);
    assert_eq!(site.got().len(), 50);
}

#[test]
fn a_receiver_that_never_shakes_hands_is_waited_for_and_then_given_up() {
    let site = SyslogSite::new();
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 50);
    // The kernel connects, and nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let settings = syslog::Settings { address, stall: Duration::from_millis(300), ..site.settings() };
    let sink = rig.sink(&[], Destination::Syslog(settings));
    until("it fails", || sink.health().failures > 0);
    let problem = sink.health().problem.unwrap();
    assert!(problem.contains("has not moved for 0.3 seconds"), "{problem}");
}

/// What was sent then is nobody's, whoever's kernel has acknowledged it.
#[test]
fn an_end_that_comes_before_everything_is_acknowledged_is_not_for_what_was_sent() {
    let site = SyslogSite::new();
    site.receiver.set(Mood::Leaving);
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 50);
    let settings = syslog::Settings { session: Duration::from_secs(3600), ..site.settings() };
    let sink = rig.sink(&[], Destination::Syslog(settings));
    let theirs = format!(":{:04X}", site.receiver.port());
    until("it has heard the end", || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // CLOSE_WAIT.
            fields[2].ends_with(&theirs) && fields[3] == "08"
        })
    });
    assert!(!sink.stop(Duration::from_secs(60)));
    let health = sink.health();
    assert_eq!((health.exported, health.failures), (0, 1));
}

/// Counts the bytes that it is asked to make sure of at a time; it would have them wait for an hour.
struct Counting {
    sent: usize,
    settled: Sender<usize>,
}

impl Target for Counting {
    fn rewind(&mut self, _: Option<Place>) {}

    fn send(&mut self, records: &[Record], _: &Control) -> Result<(), Failure> {
        self.sent += records.iter().map(|record| record.entry.len()).sum::<usize>();
        Ok(())
    }

    fn settle(&mut self, _: &Control) -> Result<Option<Place>, Failure> {
        let _nobody_counts = self.settled.send(std::mem::take(&mut self.sent));
        Ok(None)
    }

    fn settle_after(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

/// So much is sent again at most when the gateway dies; and who is dropped writes nothing more.
#[test]
fn what_is_not_settled_is_bounded_and_a_dropped_sink_ends() {
    let rig = Rig::new(&["acme"]);
    rig.append("acme", 500);
    let (settled, counts) = channel();
    let target = Box::new(Counting { sent: 0, settled });
    let sink = Sink::start_on(rig.log.feed(), settings(&[]), target).unwrap();
    let Pace { batch_bytes, unsettled_bytes, .. } = settings(&[]).pace;
    for _ in 0..4 {
        let bytes = counts.recv_timeout(PATIENCE).unwrap();
        assert!((unsettled_bytes..unsettled_bytes + 2 * batch_bytes).contains(&bytes), "{bytes}");
    }
    drop(sink);
    let ended = loop {
        if let Err(error) = counts.recv_timeout(PATIENCE) {
            break error;
        }
    };
    assert_eq!(ended, RecvTimeoutError::Disconnected);
}
