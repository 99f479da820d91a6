//! The gateway's end of the socket that a worker's sessions share: short requests, as many at once as are let in, and their replies as they come.
//!
//! A packet is a frame. The kernel gives each to whichever session asks for work next, so that none waits behind a slow one while another
//! is idle, and a busy worker finds its next request without going to sleep. What is longer than a packet goes over a lane.

use super::message::{Buffer, NotAFrame, Reply, Request, frame_len};
use super::pool::latency::Class;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use zeroize::Zeroize as _;

/// Bytes of a packet, at most: a socket's buffer holds several, whatever the system's limits are.
pub(super) const MAX_PACKET: usize = 64 << 10;

/// The bits of a number that say which place its reply is for.
const PLACES: u32 = 10;

/// The gateway's end.
pub(super) struct Exchange {
    socket: AsyncFd<OwnedFd>,
    places: Mutex<Places>,
}

/// Who waits for which reply.
#[derive(Default)]
struct Places {
    all: Vec<Place>,
    free: Vec<u32>,
    /// Nothing comes any more.
    ended: bool,
}

struct Place {
    number: u32,
    waiting: Option<oneshot::Sender<Buffer>>,
}

/// A request that was sent. Its reply comes even if nobody waits for it.
pub(super) struct Sent {
    /// There until it has come.
    reply: Option<oneshot::Receiver<Buffer>>,
}

/// A reply's frame, without its length.
pub(super) struct Answer(Buffer);

/// Why a request was not sent.
pub(super) enum NotSent {
    /// It is longer than a packet, or the socket is full: a lane takes it.
    NoRoom,
    /// The worker is gone.
    Gone(io::Error),
}

/// Whether a request is for an exchange, where it is short enough: it takes no longer than an operation does, and its reply is a packet too.
pub(super) fn takes(request: &Request<'_>) -> bool {
    let is_long = matches!(request, Request::Random { length } if *length as usize > MAX_PACKET / 2);
    !is_long && (Class::of(request).is_some() || *request == Request::Probe)
}

impl Exchange {
    /// Both ends; the other one is the worker's.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        // Not for writing too: the kernel would wake us whenever the worker has taken a packet.
        #[expect(
            deprecated,
            reason = "an owned descriptor keeps what its unsafe successor asks of the caller"
        )]
        let socket = AsyncFd::with_interest(ours, Interest::READABLE)?;
        Ok((Self { socket, places: Mutex::default() }, theirs))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When it can't be sent here, or at all; then nothing was sent.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Sent, NotSent> {
        let (number, reply) = self.places().take().ok_or_else(|| NotSent::Gone(ended()))?;
        let sent = self.put(number, request);
        if sent.is_err() {
            self.places().give_back(number);
        }
        sent.map(|()| Sent { reply: Some(reply) })
    }

    fn put(&self, number: u32, request: &Request<'_>) -> Result<(), NotSent> {
        let mut packet = Buffer::default();
        request.encode(number, &mut packet).map_err(|NotAFrame| NotSent::NoRoom)?;
        if packet.len() > MAX_PACKET {
            return Err(NotSent::NoRoom);
        }
        match rustix::net::send(&self.socket, &packet, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Err(NotSent::NoRoom),
            Err(errno) => Err(NotSent::Gone(errno.into())),
        }
    }

    /// Brings replies to those who wait for them, until the worker goes away or does not keep to the protocol.
    pub(super) async fn serve(&self) -> io::Error {
        let mut packet = Buffer::new(vec![0; MAX_PACKET]);
        let why = loop {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => break error,
            };
            match self.receive(&mut packet) {
                Ok(()) => ready.clear_ready(),
                Err(error) => break error,
            }
        };
        let mut places = self.places();
        places.ended = true;
        // Whoever waits hears of it by that.
        places.all.clear();
        why
    }

    /// All that is there; where nothing is owed any more, nobody looks whether there is more.
    fn receive(&self, packet: &mut [u8]) -> io::Result<()> {
        loop {
            let length = match rustix::net::recv(&self.socket, &mut *packet, RecvFlags::TRUNC) {
                Ok((_, 0)) => return Err(ended()),
                Ok((_, length)) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // As long as it says it is, and no longer than a packet.
            let received = packet.get_mut(..length).ok_or_else(broken)?;
            let answered = self.answer(received);
            received.zeroize();
            if answered? {
                return Ok(());
            }
        }
    }

    /// Brings a reply to whoever waits for it; gives whether it was the last one.
    fn answer(&self, packet: &[u8]) -> io::Result<bool> {
        let frame = frame_of(packet).ok_or_else(broken)?;
        let number = frame.first_chunk().copied().map(u32::from_be_bytes).ok_or_else(broken)?;
        let mut places = self.places();
        let waiting = places.give_back(number).ok_or_else(broken)?;
        let was_last = places.free.len() == places.all.len();
        drop(places);
        // Nobody may wait any longer.
        drop(waiting.send(Buffer::new(frame.to_vec())));
        Ok(was_last)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn take(&mut self) -> Option<(u32, oneshot::Receiver<Buffer>)> {
        let (sender, receiver) = oneshot::channel();
        if self.ended {
            return None;
        }
        let free = self.free.pop().and_then(|place| Some((place, self.all.get_mut(place as usize)?)));
        let number = match free {
            Some((_, place)) => {
                // So that a reply that comes twice is not the next one's.
                place.number = place.number.wrapping_add(1 << PLACES);
                place.waiting = Some(sender);
                place.number
            }
            None => {
                let number = u32::try_from(self.all.len()).ok().filter(|number| *number < 1 << PLACES)?;
                self.all.push(Place { number, waiting: Some(sender) });
                number
            }
        };
        Some((number, receiver))
    }

    /// Whoever waits at a place, which is free then; none where nobody was promised a reply of that number.
    fn give_back(&mut self, number: u32) -> Option<oneshot::Sender<Buffer>> {
        let at = number & ((1 << PLACES) - 1);
        let place = self.all.get_mut(at as usize).filter(|place| place.number == number)?;
        let waiting = place.waiting.take()?;
        self.free.push(at);
        Some(waiting)
    }
}

impl Sent {
    /// Waits for the reply. Nothing is lost when that is given up.
    ///
    /// # Errors
    /// When the worker is gone.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let reply = self.reply.as_mut().ok_or_else(ended)?.await;
        self.reply = None;
        reply.map(Answer).map_err(|_| ended())
    }
}

impl Answer {
    /// What it says.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn reply(&self) -> io::Result<Reply<'_>> {
        Reply::decode(&self.0).map(|(_, reply)| reply).map_err(|NotAFrame| broken())
    }
}

/// The frame that a packet is, without its length.
pub(super) fn frame_of(packet: &[u8]) -> Option<&[u8]> {
    let (head, frame) = packet.split_first_chunk()?;
    (frame_len(*head) == Ok(frame.len())).then_some(frame)
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a worker's answer is not by the protocol")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    impl Exchange {
        async fn serving(self: Arc<Self>) -> io::Error {
            self.serve().await
        }
    }

    fn pair() -> (Arc<Exchange>, OwnedFd) {
        let (ours, theirs) = Exchange::pair().unwrap();
        (Arc::new(ours), theirs)
    }

    /// What a worker receives.
    fn request(worker: &OwnedFd) -> u32 {
        let mut packet = vec![0; MAX_PACKET];
        let (_, length) = rustix::net::recv(worker, &mut packet[..], RecvFlags::empty()).unwrap();
        Request::decode(frame_of(&packet[..length]).unwrap()).unwrap().0
    }

    fn packet(number: u32, reply: &Reply<'_>) -> Buffer {
        let mut packet = Buffer::default();
        reply.encode(number, &mut packet).unwrap();
        packet
    }

    fn put(worker: &OwnedFd, packet: &[u8]) {
        rustix::net::send(worker, packet, SendFlags::empty()).unwrap();
    }

    fn sent(exchange: &Exchange) -> Sent {
        exchange.send(&Request::Probe).ok().unwrap()
    }

    #[tokio::test]
    async fn replies_come_in_any_order_and_of_any_length() {
        let (exchange, worker) = pair();
        let served = tokio::spawn(Arc::clone(&exchange).serving());
        for round in 0..3 {
            let mut waiting: Vec<_> = (0..20).map(|_| sent(&exchange)).collect();
            let numbers: Vec<_> = waiting.iter().map(|_| request(&worker)).collect();
            let bytes = |at: usize| vec![at as u8; at * at * (round + 1)];
            for (at, number) in numbers.iter().enumerate().rev() {
                put(&worker, &packet(*number, &Reply::Done(&bytes(at))));
            }
            for (at, sent) in waiting.iter_mut().enumerate() {
                assert_eq!(sent.answer().await.unwrap().reply().unwrap(), Reply::Done(&bytes(at)));
            }
        }
        assert_eq!(exchange.places().all.len(), 20, "places are used again");
        drop(worker);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_reply_that_nobody_waits_for_is_not_taken_for_the_next_one() {
        let (exchange, worker) = pair();
        let _served = tokio::spawn(Arc::clone(&exchange).serving());
        let given_up = sent(&exchange);
        drop(given_up);
        let mut next = sent(&exchange);
        let (late, number) = (request(&worker), request(&worker));
        put(&worker, &packet(late, &Reply::Done(b"late")));
        put(&worker, &packet(number, &Reply::Done(b"in time")));
        assert_eq!(next.answer().await.unwrap().reply().unwrap(), Reply::Done(b"in time"));
    }

    #[tokio::test]
    async fn whoever_does_not_keep_to_the_protocol_is_not_listened_to() {
        let honest = packet(0, &Reply::Done(b"result"));
        let too_long = packet(0, &Reply::Done(&vec![0; MAX_PACKET]));
        let lies: [&[&[u8]]; 8] = [
            &[&honest, &honest],
            &[&packet(1, &Reply::Done(b"result"))],
            &[&packet(1 << PLACES, &Reply::Done(b"result"))],
            &[&[]],
            &[&[0xff; 8]],
            &[&honest[..honest.len() - 1]],
            &[&[&honest[..], &[0]].concat()],
            &[&too_long],
        ];
        for lie in lies {
            let (exchange, worker) = pair();
            let mut sent = sent(&exchange);
            assert_eq!(request(&worker), 0);
            lie.iter().for_each(|packet| put(&worker, packet));
            exchange.serve().await;
            // The first of two equal ones was honest.
            assert_eq!(sent.answer().await.is_ok(), lie.len() == 2, "{lie:?}");
            assert!(matches!(exchange.send(&Request::Probe), Err(NotSent::Gone(_))));
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_reply_is_none() {
        let (exchange, worker) = pair();
        let mut sent = sent(&exchange);
        assert_eq!(request(&worker), 0);
        put(&worker, &[0, 0, 0, 5, 0, 0, 0, 0, 255]);
        drop(worker);
        exchange.serve().await;
        assert!(sent.answer().await.unwrap().reply().is_err());
        assert!(sent.answer().await.is_err(), "there is one answer");
    }

    #[tokio::test]
    async fn all_who_wait_hear_of_the_end() {
        let (exchange, worker) = pair();
        let mut waiting: Vec<_> = (0..3).map(|_| sent(&exchange)).collect();
        drop(worker);
        exchange.serve().await;
        for sent in &mut waiting {
            assert!(sent.answer().await.is_err());
            assert!(sent.answer().await.is_err(), "and may ask again");
        }
    }

    #[tokio::test]
    async fn what_has_no_room_is_not_sent_and_leaves_no_place_behind() {
        let (exchange, worker) = pair();
        let long = vec![0; MAX_PACKET];
        let long = Request::Mac { id: [0; 16], hash: holdfast_core::algorithm::Hash::Sha256, message: &long };
        assert!(matches!(exchange.send(&long), Err(NotSent::NoRoom)));
        let short = Request::RsaBare { id: [0; 16], body: &[0; 4096] };
        let fit = std::iter::repeat_with(|| exchange.send(&short)).take_while(Result::is_ok).count();
        assert!((8..1 << PLACES).contains(&fit), "{fit}");
        assert_eq!(exchange.places().all.iter().filter(|place| place.waiting.is_some()).count(), fit);
        request(&worker);
        assert!(exchange.send(&short).is_ok(), "there is room again");
    }
}
