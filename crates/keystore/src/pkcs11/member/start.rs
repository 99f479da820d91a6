//! The start of a worker: its process, its lanes, and what it says first.

use super::super::confinement::Confinement;
use super::super::exchange::Exchange;
use super::super::lane::Lane;
use super::super::message::{Buffer, Hello, NotAFrame, Refusal, Reply, Welcome, frame_len};
use super::super::worker::LANES;
use super::held::Worker;
use super::process::Process;
use super::{About, Launch, Shared};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

impl Shared {
    pub(super) async fn start(&self) -> Result<(Process, UnixStream, Arc<Worker>), NotStarted> {
        let Launch { program, arguments, environment, module, token, pin, kek, closed, .. } = &self.launch;
        let (sessions, processors) = (self.launch.sessions, self.share.load(Ordering::Relaxed));
        let (ours, theirs) = StdStream::pair()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        let child = Process::start(command).await?;
        let mut buffer = Buffer::default();
        let mut paths = Vec::new();
        for path in closed {
            paths.extend_from_slice(path.as_os_str().as_bytes());
            paths.push(0);
        }
        let pin = pin.expose();
        let hello = Hello { module, token, pin, kek, closed: &paths, sessions, processors };
        hello.encode(&mut buffer).map_err(|_| io::Error::other("the key store's settings are too long"))?;
        ours.set_nonblocking(true)?;
        let mut control = UnixStream::from_std(ours)?;
        let (exchange, other) = Exchange::pair()?;
        let (mut idle, mut theirs) = (Vec::new(), vec![other]);
        for _ in 0..LANES {
            let (ours, other) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            idle.push(Lane::new(UnixStream::from_std(ours)?));
            theirs.push(other.into());
        }
        let welcomed = async {
            control.write_all(&buffer).await?;
            send_sockets(&control, &theirs)?;
            drop(theirs);
            let mut head = [0; 4];
            control.read_exact(&mut head).await?;
            let length = frame_len(head).map_err(|NotAFrame| io::Error::from(io::ErrorKind::InvalidData))?;
            buffer.resize(length, 0);
            control.read_exact(&mut buffer).await?;
            about(&buffer)
        };
        let late = || io::Error::other("its worker does not come up in time");
        let about =
            tokio::time::timeout(self.launch.start, welcomed).await.unwrap_or_else(|_| Err(late().into()))?;
        if let Some(notice) = about.confined.notice(&self.launch.name).filter(|_| !closed.is_empty()) {
            tracing::warn!("{notice}");
        }
        if let Some(notice) = about.notice(&self.launch.name) {
            tracing::warn!("{notice}");
        }
        let worker = Worker::new(child.id(), about, sessions, exchange, idle);
        Ok((child, control, Arc::new(worker)))
    }
}

/// Why a worker did not come up.
pub(super) enum NotStarted {
    /// The token does not take the PIN: not to be tried again.
    Pin(String),
    /// Anything else.
    Other(io::Error),
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

fn send_sockets(control: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1 + LANES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("more sockets than a worker takes"));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn about(frame: &[u8]) -> Result<About, NotStarted> {
    match Reply::decode(frame) {
        Ok((
            0,
            Reply::Welcome(Welcome {
                manufacturer,
                model,
                serial,
                firmware,
                mechanisms,
                kek,
                confined,
                through_itself,
            }),
        )) => Ok(About {
            manufacturer: manufacturer.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
            firmware: firmware.to_owned(),
            mechanisms: mechanisms.as_chunks::<8>().0.iter().copied().map(u64::from_be_bytes).collect(),
            kek: kek.to_owned(),
            through_itself,
            confined: Confinement::of_level(confined),
        }),
        Ok((_, Reply::Refused(Refusal::Pin(why)))) => {
            let why = format!(
                "{why}; it is not tried again, lest the token lock itself: set the right PIN, and start again"
            );
            Err(NotStarted::Pin(why))
        }
        Ok((_, Reply::Refused(Refusal::Fault(why)))) => Err(io::Error::other(why.to_owned()).into()),
        Ok(_) | Err(_) => Err(io::Error::other("its worker's first answer is not by the protocol").into()),
    }
}
