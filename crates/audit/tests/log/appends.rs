//! Appending: places, tickets, bounds.

use crate::common::*;
use holdfast_audit::disk::sim::SimDisk;
use holdfast_audit::{AppendError, Mark, Priority};
use std::sync::Arc;

#[test]
fn bad_appends_leave_nothing() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let push = |name: &str, len: usize| {
        log.append(&id(name), Priority::Ordinary, Mark::Plain, |to| to.push(&vec![b'x'; len]))
            .map(|(_, t)| t.position())
    };
    assert!(matches!(push("b", 1), Err(AppendError::UnknownLog(_))));
    assert!(matches!(push("a", 0), Err(AppendError::Empty)));
    assert!(matches!(push("a", 65_536), Err(AppendError::TooLong(65_536))));
    assert_eq!(push("a", 65_535).unwrap().index, 0);
    assert!(log.register(&id("a"), signer("a")).is_err(), "registered twice");
    log.flush_tree(&id("a")).unwrap();
    assert!(log.flush_tree(&id("b")).is_err());
    log.close().unwrap();
    assert_eq!(read_on(&disk, "a").entry(0).unwrap().len(), 65_535);
}

#[test]
fn what_waits_is_bounded_but_never_for_stop_orders() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let push = |priority| log.append(&id("a"), priority, Mark::Plain, |to| to.push(&[b'x'; 1000]));
    // The writer can't take the lock while a closure runs: everything within waits.
    let mut counted = (0, 0);
    let mut tickets = Vec::new();
    while counted.1 == 0 {
        match push(Priority::Ordinary) {
            Ok((_, ticket)) => tickets.push(ticket),
            Err(AppendError::Overloaded) => {
                counted.1 += 1;
                tickets.push(push(Priority::Stop).unwrap().1);
            }
            Err(refused) => panic!("{refused}"),
        }
        counted.0 += 1;
    }
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
    log.close().unwrap();
}

#[test]
fn many_writers_each_get_their_own_place() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a", "bb", "ccc"]).unwrap();
    let mut positions: Vec<_> = std::thread::scope(|scope| {
        let writer = |n: usize| {
            let name = ["a", "bb", "ccc"][n % 3];
            let log = &log;
            move || (0..100).map(|_| append(log, name).wait_blocking().unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..12).map(|n| scope.spawn(writer(n))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    positions.sort_unstable();
    positions.dedup_by_key(|position| (position.batch, position.ordinal));
    assert_eq!(positions.len(), 1200);
    log.close().unwrap();
    for name in ["a", "bb", "ccc"] {
        let reader = read_on(&disk, name);
        assert_eq!(reader.checkpoint().size, 400);
        for (index, read) in (0..).zip(reader.entries(0)) {
            assert_eq!(read.unwrap(), (index, entry(name, index)));
        }
    }
}

#[test]
fn tickets_work_as_futures() {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn send<T: Send>(value: T) -> T {
        value
    }
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, &["a"]).unwrap();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    for index in 0..20 {
        let mut ticket = pin!(send(append(&log, "a")));
        let position = loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(result) => break result.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        assert_eq!(position.index, index);
    }
    assert!(size_of::<holdfast_audit::Ticket>() <= 56);
}
