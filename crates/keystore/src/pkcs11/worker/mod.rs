//! The worker: the one process that loads a vendor's module. It knows no policy, no tenant and no gateway, only keys by their CKA_ID.
//!
//! It is started with one end of a socket pair as its standard input. There it is told what to load ([`Hello`]) and gets its other sockets:
//! one of packets, from which as many threads as there are sessions take their work, and a few lanes, each with a thread and a session of its
//! own. When the gateway's end closes, however that came about, the worker ends; when
//! the gateway itself ends, the kernel kills the worker, stopped as it may be.

mod confine;
mod crew;
pub(super) mod curves;
mod existing;
mod fault;
pub mod kek;
mod keys;
pub mod officer;
mod operate;
mod outbox;
mod samples;
mod token;

use super::confinement::Confinement;
use super::exchange::{MAX_PACKET, frame_of};
use super::incoming::Incoming;
use super::message::{Buffer, Hello, NotAFrame, Refusal, Reply, Request, frame_len, wipe};
use super::pool::latency::Class;
use crew::{Clock, Crew};
use fault::Fault;
use outbox::Outbox;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use token::{Session, Token};
use zeroize::Zeroize as _;

/// Sessions that take short requests, at most.
pub const MAX_SESSIONS: u32 = 64;
/// Lanes: two for what makes keys, one for what is long.
pub(super) const LANES: usize = 3;

/// Serves the gateway that started this process, until it goes away.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error, "the worker of a key store ends");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    // Typed by somebody, or started by something else.
    rustix::net::sockopt::socket_type(&control)?;
    // A process that somebody has stopped does not notice that its gateway is gone, and would keep its login. If it is gone by now, what is read next
    // says so.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut control = UnixStream::from(control);
    let (mut head, mut first, mut buffer) = ([0; 4], Buffer::default(), Buffer::default());
    // Not a byte more: what follows brings the sockets.
    control.read_exact(&mut head)?;
    first.resize(frame_len(head).map_err(broken)?, 0);
    control.read_exact(&mut first)?;
    let hello = Hello::decode(&first).map_err(broken)?;
    let (exchange, lanes) = receive_sockets(&control)?;
    if !(1..=MAX_SESSIONS).contains(&hello.sessions) {
        return Err(broken(NotAFrame));
    }
    let opened = confine(hello.closed).and_then(|confined| Ok((Token::open(&hello)?, confined)));
    let (token, confined) = match opened {
        Ok((token, confined)) => (Arc::new(token), confined),
        Err(fault) => {
            Reply::Refused(fault.refusal()).encode(0, &mut buffer).map_err(broken)?;
            return control.write_all(&buffer);
        }
    };
    let first = Session::open(&token).and_then(|session| {
        let kek = match token.kek_label() {
            "" => None,
            _ => Some(kek::check(&session)?),
        };
        Ok((session, kek))
    });
    let welcome = match &first {
        Ok((_, kek)) => token.welcome(*kek, confined, &mut buffer),
        Err(fault) => Reply::Refused(fault.refusal()).encode(0, &mut buffer),
    };
    welcome.map_err(broken)?;
    let shared = Arc::new((exchange, Crew::new(hello.sessions, hello.processors)));
    for number in 0..hello.sessions {
        let (token, shared) = (Arc::clone(&token), Arc::clone(&shared));
        let name = format!("session-{number}");
        thread::Builder::new().name(name).spawn(move || {
            let (exchange, crew) = &*shared;
            let _end = End(exchange);
            // The gateway knows why: it is gone.
            let _ended = serve_exchange(&token, exchange, crew, number);
        })?;
    }
    for (number, lane) in lanes.into_iter().enumerate() {
        let token = Arc::clone(&token);
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || serve_lane(&token, lane))?;
    }
    control.write_all(&buffer)?;
    // The first session stays open, so that the login lasts while others are opened again.
    let ended = hear(&mut control, &shared.1);
    // At once, with every thread: one that is inside of the module would meet the module's own end at exit, and has been seen to spin there for ever.
    let _never_refused = kill_process(getpid(), Signal::KILL);
    drop(first);
    ended
}

/// How many processors there are for it, and in the end the end.
fn hear(control: &mut UnixStream, crew: &Crew) -> io::Result<()> {
    let mut processors = [0];
    loop {
        match control.read(&mut processors) {
            Ok(0) => return Ok(()),
            Ok(_) => crew.resize(processors[0].into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Before anything of a vendor's is loaded, and before there are other threads.
fn confine(closed: &[u8]) -> Result<Confinement, Fault> {
    let paths = closed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let paths: Vec<_> = paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
    if paths.is_empty() {
        return Ok(Confinement::NONE);
    }
    confine::close(&paths)
        .map_err(|error| Fault::new(format!("the module's process cannot be confined: {error}")))
}

/// A lane that fails ends alone: the gateway sees its socket close.
fn serve_lane(token: &Arc<Token>, lane: OwnedFd) {
    let mut stream = UnixStream::from(lane);
    let mut session = None;
    let (mut incoming, mut reply) = (Incoming::default(), Buffer::default());
    while receive(&mut stream, &mut incoming).is_ok() {
        let answered = match Request::decode(incoming.frame()) {
            Ok((number, request)) => answer(token, &mut session, number, &request, &mut reply),
            Err(NotAFrame) => return,
        };
        incoming.wipe();
        let written = answered.is_ok() && stream.write_all(&reply).is_ok();
        wipe(&mut reply);
        if !written {
            return;
        }
    }
}

/// Takes requests from the socket that all sessions share: the kernel gives each to one of those that wait.
fn serve_exchange(
    token: &Arc<Token>,
    exchange: &OwnedFd,
    crew: &Crew,
    number: u32,
) -> io::Result<Infallible> {
    let mut session = None;
    let mut packet = Buffer::new(vec![0; MAX_PACKET]);
    let (mut outbox, mut reply) = (Outbox::new(exchange), Buffer::default());
    let clock = Clock::of_this_thread();
    let mut done = 0_u32;
    loop {
        if !crew.takes_work(number) {
            outbox.flush()?;
            crew.wait(number);
        }
        let length = next(exchange, &mut packet, &mut outbox)?;
        let received = packet.get_mut(..length).ok_or_else(|| broken(NotAFrame))?;
        let (asked, request) =
            frame_of(received).ok_or(NotAFrame).and_then(Request::decode).map_err(broken)?;
        let class = Class::of(&request);
        // To open a session may take long.
        outbox.before(class.filter(|_| session.is_some()), Instant::now())?;
        let (answered, took) =
            crew.watch((number, done), &clock, || answer(token, &mut session, asked, &request, &mut reply));
        received.zeroize();
        answered.map_err(broken)?;
        if reply.len() > MAX_PACKET {
            let fault = Fault::from(NotAFrame);
            wipe(&mut reply);
            Reply::Refused(fault.refusal()).encode(asked, &mut reply).map_err(broken)?;
        }
        let sent = outbox.put(&reply, class, took, crew.computes());
        wipe(&mut reply);
        sent?;
        done = done.wrapping_add(1);
    }
}

/// Waits for the next request; replies that are held do not.
fn next(exchange: &OwnedFd, packet: &mut [u8], outbox: &mut Outbox<'_>) -> io::Result<usize> {
    loop {
        let wait = if outbox.is_empty() { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match rustix::net::recv(exchange, &mut *packet, RecvFlags::TRUNC | wait) {
            Ok((_, length)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => outbox.flush()?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// When a session ends, however that comes, the gateway sees it, whatever the other sessions are at.
struct End<'a>(&'a OwnedFd);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let _gone_already = rustix::net::shutdown(self.0, Shutdown::Both);
    }
}

/// Does one request, once more in a fresh session if the old one turns out to be none any longer.
fn answer(
    token: &Arc<Token>,
    session: &mut Option<Session>,
    number: u32,
    request: &Request<'_>,
    reply: &mut Buffer,
) -> Result<(), NotAFrame> {
    let mut done = attempt(token, session, number, request, reply);
    let lost = done.as_ref().is_err_and(Fault::is_of_the_session);
    if lost || done.as_ref().is_err_and(Fault::is_of_a_handle) {
        if lost {
            *session = None;
        }
        token.forget_all();
        if let Request::Generate { id, .. } = *request {
            // It may have been made before the session was lost.
            done = attempt(token, session, number, &Request::Destroy { id, label: "" }, reply);
        } else {
            done = Ok(());
        }
        done = done.and_then(|()| attempt(token, session, number, request, reply));
    }
    let Err(fault) = done else { return Ok(()) };
    if fault.leaves_the_session_in_doubt() {
        *session = None;
    }
    Reply::Refused(fault.refusal()).encode(number, reply)
}

fn attempt(
    token: &Arc<Token>,
    session: &mut Option<Session>,
    number: u32,
    request: &Request<'_>,
    reply: &mut Buffer,
) -> Result<(), Fault> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::open(token)?),
    };
    operate::perform(session, number, request, reply)
}

/// Reads a whole frame: most come with one read.
fn receive(stream: &mut UnixStream, incoming: &mut Incoming) -> io::Result<()> {
    while !incoming.is_whole().map_err(broken)? {
        match stream.read(incoming.room())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => incoming.came(read),
        }
    }
    Ok(())
}

/// The socket that the sessions share, and the lanes.
fn receive_sockets(control: &UnixStream) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1 + LANES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        control,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = ancillary
        .drain()
        .filter_map(|message| {
            let RecvAncillaryMessage::ScmRights(sockets) = message else { return None };
            Some(sockets)
        })
        .flatten();
    let exchange = sockets.next().ok_or_else(|| broken(NotAFrame))?;
    let lanes: Vec<OwnedFd> = sockets.collect();
    if lanes.len() != LANES {
        return Err(broken(NotAFrame));
    }
    Ok((exchange, lanes))
}

fn broken(_: NotAFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is not by the protocol of gateway and worker")
}

impl Fault {
    fn refusal(&self) -> Refusal<'_> {
        match self {
            Self::Integrity => Refusal::Integrity,
            Self::Malformed => Refusal::Malformed,
            Self::Unsupported => Refusal::Unsupported,
            Self::NoSuchKey => Refusal::NoSuchKey,
            Self::NotOne(ids) => Refusal::NotOne(ids),
            Self::Gone => Refusal::Gone,
            Self::Busy => Refusal::Busy,
            Self::Pin(why) => Refusal::Pin(why),
            Self::Token { why, .. } => Refusal::Fault(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_processors_there_are_is_heard_until_the_end() {
        let (mut gateway, mut control) = UnixStream::pair().unwrap();
        let crew = Crew::new(8, 1);
        gateway.write_all(&[3, 5]).unwrap();
        drop(gateway);
        hear(&mut control, &crew).unwrap();
        assert_eq!((crew.takes_work(4), crew.takes_work(5)), (true, false));
    }
}
