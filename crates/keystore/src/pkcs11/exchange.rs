//! The gateway's end of the socket that a worker's sessions share: short requests, as many at once as are let in, and their replies as they come.
//!
//! A packet is a frame, or as many replies as a session has ready. The kernel gives each request to whichever session asks for work next, so that none
//! waits behind a slow one while another is idle, and a busy worker finds its next request without going to sleep. What is longer than a packet goes over
//! a lane, and so does what may take seconds.

use super::message::{Buffer, NotAFrame, Reply, Request, frame_len};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use zeroize::Zeroize as _;

/// Bytes of a packet, at most.
pub(super) const MAX_PACKET: usize = 16 << 10;
/// What is asked for a socket's buffer; the system may give less.
const BUFFER: usize = 1 << 20;
/// Bytes of a request's frame beside its input, and of a reply's beside its result, at most.
const AROUND: usize = 256;
/// Replies that are brought before others get their turn.
const AT_A_TIME: usize = 64;

/// The bits of a number that say which place its reply is for.
const PLACES: u32 = 10;

/// The gateway's end.
pub(super) struct Exchange {
    socket: AsyncFd<OwnedFd>,
    places: Mutex<Places>,
    /// Replies that are owed.
    owed: AtomicUsize,
    /// A reply has come, and so its request has left the socket.
    room: Notify,
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

/// Whether a request is for an exchange: it and its reply are packets, and it takes no longer than an operation does.
pub(super) fn takes(request: &Request<'_>) -> bool {
    match request {
        Request::Generate { .. }
        | Request::WrapOut { .. }
        | Request::UnwrapIn { .. }
        | Request::BringIn { .. }
        // Certificates and lists of objects may be long.
        | Request::LookUp { .. } => false,
        Request::Random { length } => *length as usize <= MAX_PACKET - AROUND,
        Request::Probe
        | Request::PointOut { .. }
        | Request::DestroyExisting { .. }
        | Request::Destroy { .. }
        | Request::Seal { .. }
        | Request::Open { .. }
        | Request::Wrap { .. }
        | Request::Unwrap { .. }
        | Request::RsaDecrypt { .. }
        | Request::RsaBare { .. }
        | Request::Sign { .. }
        | Request::Mac { .. }
        | Request::Agree { .. } => request.input_len() <= MAX_PACKET - AROUND,
    }
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
        for socket in [&ours, &theirs] {
            rustix::net::sockopt::set_socket_send_buffer_size(socket, BUFFER)?;
        }
        // Not for writing too: the kernel would wake us whenever the worker has taken a packet.
        #[expect(
            deprecated,
            reason = "an owned descriptor keeps what its unsafe successor asks of the caller"
        )]
        let socket = AsyncFd::with_interest(ours, Interest::READABLE)?;
        let (places, owed, room) = (Mutex::default(), AtomicUsize::new(0), Notify::new());
        Ok((Self { socket, places, owed, room }, theirs))
    }

    /// Sends a request, when there is room for it.
    ///
    /// # Errors
    /// When the worker is gone; `InvalidInput` for what no packet can be: a lane takes it. Nothing was sent then.
    pub(super) async fn send(&self, request: &Request<'_>) -> io::Result<Sent> {
        let (number, reply) = self.places().take().ok_or_else(ended)?;
        self.owed.fetch_add(1, Ordering::Relaxed);
        let claim = Claim { exchange: self, number };
        // What grows leaves a copy behind.
        let mut packet = Buffer::new(Vec::with_capacity(AROUND + request.input_len()));
        request
            .encode(number, &mut packet)
            .map_err(|NotAFrame| io::Error::from(io::ErrorKind::InvalidInput))?;
        if packet.len() > MAX_PACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            let mut room = pin!(self.room.notified());
            // From now on, so that no reply is missed that comes before it is waited for.
            room.as_mut().enable();
            match rustix::net::send(&self.socket, &packet, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                // Others fill it, and each reply says that one of them has left it.
                Err(Errno::AGAIN | Errno::NOBUFS) if self.has_ended() => return Err(ended()),
                Err(Errno::AGAIN | Errno::NOBUFS) if self.owed() > 1 => room.await,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::MSGSIZE) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        // Its reply gives the place back.
        std::mem::forget(claim);
        Ok(Sent { reply: Some(reply) })
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
                Ok(true) => ready.clear_ready(),
                Ok(false) => {}
                Err(error) => break error,
            }
        };
        self.end();
        why
    }

    /// Nothing comes any more: whoever waits hears of it.
    pub(super) fn end(&self) {
        let mut places = self.places();
        places.ended = true;
        places.all.clear();
        drop(places);
        self.room.notify_waiters();
    }

    fn has_ended(&self) -> bool {
        self.places().ended
    }

    /// Requests whose replies are owed.
    pub(super) fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }

    /// What is there; gives whether that was all. Where nothing is owed any more, nobody looks whether there is more.
    fn receive(&self, packet: &mut [u8]) -> io::Result<bool> {
        let mut brought = 0;
        while brought < AT_A_TIME {
            let length = match rustix::net::recv(&self.socket, &mut *packet, RecvFlags::TRUNC) {
                Ok((_, 0)) => return Err(ended()),
                Ok((_, length)) => length,
                Err(Errno::AGAIN) => return Ok(true),
                // A worker that ended with requests unread: the kernel says that first, and then what it had answered.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // As long as it says it is, and no longer than a packet.
            let received = packet.get_mut(..length).ok_or_else(broken)?;
            let answered = self.answer_all(received);
            received.zeroize();
            brought += answered?;
            if self.owed() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Brings the replies of a packet to those who wait for them; gives how many there were.
    fn answer_all(&self, packet: &[u8]) -> io::Result<usize> {
        // Nobody is answered by what is not by the protocol to its end.
        if frames(packet).any(|frame| frame.is_none()) {
            return Err(broken());
        }
        let mut answered = 0;
        for frame in frames(packet) {
            self.answer(frame.ok_or_else(broken)?)?;
            answered += 1;
        }
        Ok(answered)
    }

    /// Brings a reply to whoever waits for it.
    fn answer(&self, frame: &[u8]) -> io::Result<()> {
        let number = frame.first_chunk().copied().map(u32::from_be_bytes).ok_or_else(broken)?;
        let waiting = self.places().give_back(number).ok_or_else(broken)?;
        self.owed.fetch_sub(1, Ordering::Relaxed);
        // Nobody may wait any longer.
        drop(waiting.send(Buffer::new(frame.to_vec())));
        self.room.notify_one();
        Ok(())
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

/// A place of a request that is still to be sent.
struct Claim<'a> {
    exchange: &'a Exchange,
    number: u32,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.exchange.places().give_back(self.number).is_some() {
            self.exchange.owed.fetch_sub(1, Ordering::Relaxed);
        }
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
    let mut all = frames(packet);
    all.next().flatten().filter(|_| all.next().is_none())
}

/// The frames of a packet, each without its length; none, and then no more, for what is not one.
pub(super) fn frames(mut packet: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let rest = std::mem::take(&mut packet);
        let (head, rest) = match rest.split_first_chunk() {
            Some(split) => split,
            None => return (!rest.is_empty()).then_some(None),
        };
        let split = frame_len(*head).ok().and_then(|length| rest.split_at_checked(length));
        Some(split.map(|(frame, rest)| {
            packet = rest;
            frame
        }))
    })
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
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

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

    async fn sent(exchange: &Exchange) -> Sent {
        exchange.send(&Request::Probe).await.unwrap()
    }

    async fn many_sent(exchange: &Exchange, many: usize) -> Vec<Sent> {
        let mut all = Vec::new();
        for _ in 0..many {
            all.push(sent(exchange).await);
        }
        all
    }

    #[tokio::test]
    async fn replies_come_in_any_order_and_of_any_length() {
        let (exchange, worker) = pair();
        let served = tokio::spawn(Arc::clone(&exchange).serving());
        for round in 0..3 {
            let mut waiting = many_sent(&exchange, 20).await;
            let numbers: Vec<_> = waiting.iter().map(|_| request(&worker)).collect();
            let bytes = |at: usize| vec![at as u8; at * at * (round + 1)];
            for (at, number) in numbers.iter().enumerate().rev() {
                put(&worker, &packet(*number, &Reply::Done(&bytes(at))));
            }
            for (at, sent) in waiting.iter_mut().enumerate() {
                assert_eq!(sent.answer().await.unwrap().reply().unwrap(), Reply::Done(&bytes(at)));
            }
        }
        let mut waiting = many_sent(&exchange, 20).await;
        let numbers: Vec<_> = waiting.iter().map(|_| request(&worker)).collect();
        let together = numbers
            .iter()
            .rev()
            .flat_map(|number| packet(*number, &Reply::Done(&number.to_be_bytes())).to_vec());
        put(&worker, &together.collect::<Vec<_>>());
        for (sent, number) in waiting.iter_mut().zip(numbers) {
            assert_eq!(sent.answer().await.unwrap().reply().unwrap(), Reply::Done(&number.to_be_bytes()));
        }
        assert_eq!(exchange.places().all.len(), 20, "places are used again");
        drop(worker);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_reply_that_nobody_waits_for_is_not_taken_for_the_next_one() {
        let (exchange, worker) = pair();
        let _served = tokio::spawn(Arc::clone(&exchange).serving());
        drop(sent(&exchange).await);
        let mut next = sent(&exchange).await;
        let (late, number) = (request(&worker), request(&worker));
        put(&worker, &packet(late, &Reply::Done(b"late")));
        put(&worker, &packet(number, &Reply::Done(b"in time")));
        assert_eq!(next.answer().await.unwrap().reply().unwrap(), Reply::Done(b"in time"));
    }

    #[tokio::test]
    async fn whoever_does_not_keep_to_the_protocol_is_not_listened_to() {
        let honest = packet(0, &Reply::Done(b"result"));
        let too_long = packet(0, &Reply::Done(&vec![0; MAX_PACKET]));
        let second = packet(1, &Reply::Done(b"result"));
        let lies: [&[&[u8]]; 11] = [
            &[&honest, &honest],
            &[&packet(2, &Reply::Done(b"result"))],
            &[&packet(1 << PLACES, &Reply::Done(b"result"))],
            &[&[]],
            &[&[0xff; 8]],
            &[&honest[..honest.len() - 1]],
            &[&[&honest[..], &[0]].concat()],
            &[&[&honest[..], &second[..second.len() - 1]].concat()],
            &[&[&second[..3], &honest[..]].concat()],
            &[&[&honest[..], &[0xff; 8]].concat()],
            &[&too_long],
        ];
        for lie in lies {
            let (exchange, worker) = pair();
            let mut sent = sent(&exchange).await;
            // Where nothing is owed any more, it is found out with the next reply.
            let _another = many_sent(&exchange, 1).await;
            assert_eq!((request(&worker), request(&worker)), (0, 1));
            lie.iter().for_each(|packet| put(&worker, packet));
            exchange.serve().await;
            // The first of two equal ones was honest.
            assert_eq!(sent.answer().await.is_ok(), lie.len() == 2, "{lie:?}");
            assert!(exchange.send(&Request::Probe).await.is_err());
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_reply_is_none() {
        let (exchange, worker) = pair();
        let mut sent = sent(&exchange).await;
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
        let mut waiting = many_sent(&exchange, 3).await;
        drop(worker);
        exchange.serve().await;
        for sent in &mut waiting {
            assert!(sent.answer().await.is_err());
            assert!(sent.answer().await.is_err(), "and may ask again");
        }
    }

    #[tokio::test]
    async fn what_a_worker_answered_before_it_ended_comes_even_if_more_was_asked() {
        let (exchange, worker) = pair();
        let mut waiting = many_sent(&exchange, 2).await;
        let number = request(&worker);
        put(&worker, &packet(number, &Reply::Done(b"done")));
        drop(worker);
        exchange.serve().await;
        let [first, second] = &mut waiting[..] else { panic!() };
        assert_eq!(first.answer().await.unwrap().reply().unwrap(), Reply::Done(b"done"));
        assert!(second.answer().await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_packet_is_not_sent_and_leaves_no_place_behind() {
        let (exchange, _worker) = pair();
        let input = vec![0; MAX_PACKET];
        let long = Request::RsaBare { id: [0; 16], body: &input };
        assert!(!takes(&long));
        let refused = exchange.send(&long).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!((exchange.owed(), exchange.places().free.len()), (0, 1));
        let longest = Request::RsaBare { id: [0; 16], body: &input[AROUND..] };
        assert!(takes(&longest));
        exchange.send(&longest).await.unwrap();
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_for_a_reply() {
        let (exchange, worker) = pair();
        let input = vec![0; MAX_PACKET - AROUND];
        let large = Request::RsaBare { id: [0; 16], body: &input };
        let mut waiting = Vec::new();
        let mut last = loop {
            let mut sending = Box::pin(exchange.send(&large));
            match poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
                Poll::Ready(sent) => waiting.push(sent.unwrap()),
                Poll::Pending => break sending,
            }
        };
        // Whoever gives up leaves nothing behind.
        let mut given_up = Box::pin(exchange.send(&large));
        assert!(poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await.is_pending());
        let owed = exchange.owed();
        drop(given_up);
        assert_eq!(exchange.owed(), owed - 1);
        let served = tokio::spawn(Arc::clone(&exchange).serving());
        let number = request(&worker);
        put(&worker, &packet(number, &Reply::Done(b"")));
        let mut sent = (&mut last).await.unwrap();
        drop(worker);
        served.await.unwrap();
        assert!(sent.answer().await.is_err());
        assert!(exchange.send(&large).await.is_err());
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_of_the_end() {
        let (exchange, _worker) = pair();
        let input = vec![0; MAX_PACKET - AROUND];
        let large = Request::RsaBare { id: [0; 16], body: &input };
        loop {
            let mut sending = Box::pin(exchange.send(&large));
            match poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
                Poll::Ready(sent) => drop(sent.unwrap()),
                Poll::Pending => {
                    exchange.end();
                    assert!(sending.await.is_err());
                    break;
                }
            }
        }
    }
}
