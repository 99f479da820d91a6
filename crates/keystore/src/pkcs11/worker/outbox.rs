//! Replies on their way back. While a session finds its next request without waiting, and is quick with its like, it lets a few replies gather and
//! sends them as one packet: each packet wakes the gateway, which costs both more than many an operation does.

use super::super::exchange::MAX_PACKET;
use super::super::message::{Buffer, wipe};
use super::super::pool::latency::Class;
use super::crew::Took;
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A reply is held back for no longer, as far as can be foreseen.
const HOLD: Duration = Duration::from_millis(1);
/// And no more of them.
const MOST: usize = 8;

/// The replies of one session.
pub(super) struct Outbox<'a> {
    exchange: &'a OwnedFd,
    /// Replies that are held, frame after frame.
    packet: Buffer,
    /// How many they are.
    held: usize,
    /// Of what kind they are.
    class: Option<Class>,
    /// When the first of them was ready.
    since: Instant,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(exchange: &'a OwnedFd) -> Self {
        // It never grows: what it held would stay behind where it was.
        let packet = Buffer::new(Vec::with_capacity(MAX_PACKET));
        Self { exchange, packet, held: 0, class: None, since: Instant::now() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Before a request is done: what is held waits for nothing but its like, and not for long if its thread has.
    ///
    /// # Errors
    /// When the gateway is gone.
    pub(super) fn before(&mut self, class: Option<Class>, now: Instant) -> io::Result<()> {
        let is_late = now.saturating_duration_since(self.since) > HOLD;
        if class == self.class && !is_late { Ok(()) } else { self.flush() }
    }

    /// Takes a reply of no more than [`MAX_PACKET`] bytes; where it may be held, it goes with others unless one more like it would be done too late.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub(super) fn put(
        &mut self,
        reply: &[u8],
        class: Option<Class>,
        took: Took,
        may_hold: bool,
    ) -> io::Result<()> {
        if self.packet.len() + reply.len() > MAX_PACKET {
            self.flush()?;
        }
        if self.is_empty() {
            (self.since, self.class) = (took.until, class);
        }
        self.packet.extend_from_slice(reply);
        self.held += 1;
        let next = took.until - self.since + took.time;
        let holds = may_hold && class.is_some() && next <= HOLD && self.held < MOST;
        if holds { Ok(()) } else { self.flush() }
    }

    /// Sends what is held.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let sent = retry_on_intr(|| send(self.exchange, &self.packet, SendFlags::NOSIGNAL));
        wipe(&mut self.packet);
        self.held = 0;
        sent.map(drop).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::exchange::frames;
    use super::*;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    const SYMMETRIC: Option<Class> = Some(Class::Symmetric);

    /// A session that does one thing after the other.
    struct Bench<'a> {
        outbox: Outbox<'a>,
        gateway: &'a OwnedFd,
        now: Instant,
    }

    /// The replies of each packet.
    type Packets = Vec<Vec<u8>>;
    const NONE: Packets = vec![];

    impl Bench<'_> {
        /// Does something, and gives what has come out by then.
        fn does(&mut self, number: u8, class: Option<Class>, time: Duration, may_hold: bool) -> Packets {
            self.does_long(&[0, 0, 0, 1, number], class, time, may_hold)
        }

        fn does_long(
            &mut self,
            reply: &[u8],
            class: Option<Class>,
            time: Duration,
            may_hold: bool,
        ) -> Packets {
            self.outbox.before(class, self.now).unwrap();
            self.now += time;
            self.outbox.put(reply, class, Took { time, until: self.now }, may_hold).unwrap();
            self.sent()
        }

        fn sent(&self) -> Packets {
            let mut all = vec![];
            let mut packet = vec![0; MAX_PACKET];
            while let Ok((length, _)) = recv(self.gateway, &mut packet[..], RecvFlags::DONTWAIT) {
                all.push(frames(&packet[..length]).map(|frame| frame.unwrap()[0]).collect());
            }
            all
        }
    }

    fn at_work(work: impl FnOnce(Bench<'_>)) {
        let (worker, gateway) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        work(Bench { outbox: Outbox::new(&worker), gateway: &gateway, now: Instant::now() });
    }

    #[test]
    fn replies_gather_until_there_are_enough_and_leave_in_order_as_one_packet() {
        at_work(|mut bench| {
            for round in 0..2 {
                for number in 0..7 {
                    assert_eq!(bench.does(number, SYMMETRIC, Duration::ZERO, true), NONE, "{round}");
                }
                assert_eq!(bench.does(7, SYMMETRIC, Duration::ZERO, true), [[0, 1, 2, 3, 4, 5, 6, 7]]);
                assert!(bench.outbox.is_empty());
                assert!(bench.outbox.packet.is_empty(), "nothing of it stays behind");
            }
            assert_eq!(bench.does(8, SYMMETRIC, Duration::ZERO, true), NONE);
            bench.outbox.flush().unwrap();
            assert_eq!(bench.sent(), [[8]]);
            bench.outbox.flush().unwrap();
            assert_eq!(bench.sent(), NONE);
        });
    }

    #[test]
    fn what_does_not_go_into_a_packet_is_the_first_of_the_next() {
        at_work(|mut bench| {
            let long = |number: u8, length: usize| {
                let head = u32::try_from(length - 4).unwrap().to_be_bytes();
                [&head[..], &vec![number; length - 4]].concat()
            };
            let capacity = bench.outbox.packet.capacity();
            let half = MAX_PACKET / 2;
            assert_eq!(bench.does_long(&long(1, half), SYMMETRIC, Duration::ZERO, true), NONE);
            assert_eq!(bench.does_long(&long(2, half), SYMMETRIC, Duration::ZERO, true), NONE);
            assert_eq!(bench.does(3, SYMMETRIC, Duration::ZERO, true), [[1, 2]]);
            assert_eq!(bench.does_long(&long(4, MAX_PACKET), SYMMETRIC, Duration::ZERO, false), [[3], [4]]);
            assert_eq!(bench.outbox.packet.capacity(), capacity, "it has not moved");
        });
    }

    #[test]
    fn none_is_held_for_longer_than_is_foreseen() {
        at_work(|mut bench| {
            assert_eq!(bench.does(1, SYMMETRIC, HOLD * 2 / 5, true), NONE);
            assert_eq!(bench.does(2, SYMMETRIC, HOLD * 2 / 5, true), NONE);
            // A third one after that would be too late for the first.
            assert_eq!(bench.does(3, SYMMETRIC, HOLD * 2 / 5, true), [[1, 2, 3]]);
        });
    }

    #[test]
    fn what_is_slow_or_has_no_like_or_may_not_be_held_goes_at_once() {
        at_work(|mut bench| {
            assert_eq!(bench.does(1, SYMMETRIC, HOLD + Duration::from_nanos(1), true), [[1]]);
            assert_eq!(bench.does(2, SYMMETRIC, HOLD / 2, false), [[2]]);
            assert_eq!(bench.does(3, None, HOLD / 2, true), [[3]]);
        });
    }

    #[test]
    fn what_is_held_does_not_wait_for_another_kind_or_for_long() {
        at_work(|mut bench| {
            assert_eq!(bench.does(1, SYMMETRIC, HOLD / 2, true), NONE);
            bench.outbox.before(Some(Class::Rsa), bench.now).unwrap();
            assert_eq!(bench.sent(), [[1]]);
            // Nor for its like, where its thread was not let run meanwhile.
            assert_eq!(bench.does(2, SYMMETRIC, HOLD / 2, true), NONE);
            bench.outbox.before(SYMMETRIC, bench.now + HOLD).unwrap();
            assert_eq!(bench.sent(), NONE);
            bench.outbox.before(SYMMETRIC, bench.now + HOLD + HOLD / 2).unwrap();
            assert_eq!(bench.sent(), [[2]]);
        });
    }
}
