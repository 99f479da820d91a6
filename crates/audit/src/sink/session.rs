//! Sessions with a syslog receiver over TLS (RFC 5425), by blocking calls in the sink's own thread.
//!
//! Syslog acknowledges nothing, so a session is what is acknowledged, by its end. First the peer's kernel must have acknowledged
//! every byte on a connection that lives. Then we close our side, and the receiver closes its own. A receiver that dies with
//! bytes unread resets the connection instead; one that has read everything ends it. Only then is what was sent settled; all
//! else is sent again in another session.

use super::control::Control;
use super::cursor::Place;
use super::syslog::{Settings, push_frame};
use super::unacknowledged::unacknowledged;
use super::{Failure, Record, Target, trust};
use rustls::ClientConnection;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// How long a blocking call lasts before it is asked whether to go on.
const SLICE: Duration = Duration::from_millis(200);
/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the kernel is asked what it has not got acknowledged.
const POLL: Duration = Duration::from_millis(10);

const REACH: &str = "check the receiver, its address and the network; it is tried again by itself";
const AGREE: &str = "check the receiver's certificate and `ca_file`, and ours and what the receiver accepts";

/// A syslog receiver.
pub(super) struct SyslogTarget {
    settings: Settings,
    session: Option<Session>,
    frames: Vec<u8>,
}

impl SyslogTarget {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, session: None, frames: Vec::new() }
    }
}

impl Target for SyslogTarget {
    fn rewind(&mut self, _place: Option<Place>) {
        self.session = None;
    }

    fn send(&mut self, records: &[Record], control: &Control) -> Result<(), Failure> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::begin(&self.settings, control)?),
        };
        for record in records {
            // One message at a time: together they can be twice as long as their entries.
            self.frames.clear();
            push_frame(&self.settings.format, record, &mut self.frames);
            session.send(&self.frames, control)?;
        }
        session.flush(control)
    }

    fn settle(&mut self, control: &Control) -> Result<Option<Place>, Failure> {
        if let Some(session) = self.session.take() {
            session.end(control)?;
        }
        Ok(None)
    }

    fn settle_after(&self) -> Duration {
        self.settings.session
    }
}

/// One TLS connection.
struct Session {
    tcp: TcpStream,
    tls: ClientConnection,
    /// Who it is with, for people.
    address: String,
    stall: Duration,
}

/// What a peer may do next.
enum Heard {
    /// Anything.
    Open,
    /// Send no more.
    Ended,
}

impl Session {
    fn begin(settings: &Settings, control: &Control) -> Result<Self, Failure> {
        let tls = trust::connection(settings)?;
        let address = settings.address.clone();
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot connect to `{}`: {error}", settings.address), REACH)
        };
        let resolved = settings.address.to_socket_addrs().map_err(|error| unreachable(&error))?;
        let mut last = Failure::new(format!("`{address}` has no address"), REACH);
        let mut connected = None;
        for to in resolved {
            if control.is_over() {
                break;
            }
            match TcpStream::connect_timeout(&to, CONNECT) {
                Ok(tcp) => {
                    connected = Some(tcp);
                    break;
                }
                Err(error) => last = unreachable(&error),
            }
        }
        let tcp = connected.ok_or(last)?;
        let set = tcp
            .set_nodelay(true)
            .and_then(|()| tcp.set_read_timeout(Some(SLICE)))
            .and_then(|()| tcp.set_write_timeout(Some(SLICE)));
        set.map_err(|error| unreachable(&error))?;
        let mut session = Self { tcp, tls, address, stall: settings.stall };
        session.shake_hands(control)?;
        Ok(session)
    }

    fn shake_hands(&mut self, control: &Control) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.tls.is_handshaking() {
            self.flush(control)?;
            if !self.tls.is_handshaking() {
                break;
            }
            match self.hear() {
                Ok(Heard::Open) => {}
                Ok(Heard::Ended) => return Err(self.failed("the receiver ended the handshake", AGREE)),
                Err(error) if is_passing(&error) => self.wait(begun, control)?,
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(())
    }

    /// Encrypts and sends.
    fn send(&mut self, mut bytes: &[u8], control: &Control) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let taken = self.tls.writer().write(bytes).map_err(|error| self.broken(&error))?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if taken == 0 || !bytes.is_empty() {
                self.flush(control)?;
            }
        }
        Ok(())
    }

    /// Sends what is encrypted.
    fn flush(&mut self, control: &Control) -> Result<(), Failure> {
        let mut moved = Instant::now();
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(_) => moved = Instant::now(),
                Err(error) if is_passing(&error) => self.wait(moved, control)?,
                Err(error) => {
                    // What the peer said before it went is the better reason.
                    return Err(match self.hear() {
                        Err(said) if !is_passing(&said) => self.broken(&said),
                        Ok(_) | Err(_) => self.broken(&error),
                    });
                }
            }
        }
        Ok(())
    }

    /// Reads what the peer has to say, which is nothing but TLS's own.
    fn hear(&mut self) -> io::Result<Heard> {
        if self.tls.read_tls(&mut self.tcp)? == 0 {
            return Ok(Heard::Ended);
        }
        let state = self.tls.process_new_packets();
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                // An alert that tells the peer why.
                drop(self.tls.write_tls(&mut self.tcp));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let mut ignored = [0; 1024];
        let mut reader = self.tls.reader();
        while reader.read(&mut ignored).is_ok_and(|n| n > 0) {}
        Ok(if state.peer_has_closed() { Heard::Ended } else { Heard::Open })
    }

    /// Ends the session; with `Ok` the receiver has read everything.
    fn end(mut self, control: &Control) -> Result<(), Failure> {
        self.flush(control)?;
        self.wait_acknowledged(control)?;
        self.tls.send_close_notify();
        self.flush(control)?;
        self.tcp.shutdown(Shutdown::Write).map_err(|error| self.broken(&error))?;
        let begun = Instant::now();
        loop {
            match self.hear() {
                Ok(Heard::Open) => {}
                Ok(Heard::Ended) => return Ok(()),
                Err(error) if is_passing(&error) => self.wait(begun, control)?,
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// Waits until the peer's kernel has acknowledged everything. An end that came before that was not for what we sent.
    fn wait_acknowledged(&mut self, control: &Control) -> Result<(), Failure> {
        let ends = (self.tcp.local_addr(), self.tcp.peer_addr());
        let (Ok(local), Ok(peer)) = ends else {
            return Err(self.failed("the connection is gone", REACH));
        };
        let (mut moved, mut least) = (Instant::now(), u64::MAX);
        loop {
            let left = unacknowledged(local, peer).map_err(|error| {
                let problem = format!("cannot read `/proc/self/net/tcp`: {error}");
                Failure::new(problem, "mount /proc: without it nobody knows what a receiver has got")
            })?;
            match left {
                Some(0) => return Ok(()),
                Some(left) if left < least => (moved, least) = (Instant::now(), left),
                Some(_) => self.wait(moved, control)?,
                None => {
                    return Err(match self.hear() {
                        Err(said) if !is_passing(&said) => self.broken(&said),
                        Ok(_) | Err(_) => self.failed("the receiver ended the session", REACH),
                    });
                }
            }
            control.poll(POLL);
        }
    }

    /// Whether to go on waiting for something that has not moved since.
    fn wait(&self, since: Instant, control: &Control) -> Result<(), Failure> {
        if control.is_over() {
            return Err(self.failed("the gateway stops before the receiver has everything", REACH));
        }
        if since.elapsed() >= self.stall {
            let problem = format!("the receiver has not moved for {} seconds", self.stall.as_secs_f32());
            return Err(self.failed(&problem, "look why the receiver takes or ends nothing"));
        }
        Ok(())
    }

    fn failed(&self, problem: &str, remedy: &'static str) -> Failure {
        Failure::new(format!("`{}`: {problem}", self.address), remedy)
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let remedy = if error.kind() == io::ErrorKind::InvalidData { AGREE } else { REACH };
        self.failed(&format!("the connection broke: {error}"), remedy)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
