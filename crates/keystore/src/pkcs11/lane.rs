//! The gateway's end of a lane: one request at a time, and its reply.

use super::incoming::Incoming;
use super::message::{self, Buffer, NotAFrame, Reply, Request};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Where a lane stands. A request can be given up at any await.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Ready for the next request.
    Idle,
    /// A request may have been written in part: nothing can be sent after that.
    Writing,
    /// A request is under way; its reply will come.
    Waiting,
}

/// A lane.
pub(super) struct Lane {
    stream: UnixStream,
    place: Place,
    number: u32,
    request: Buffer,
    incoming: Incoming,
}

impl Lane {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (request, incoming) = (Buffer::default(), Incoming::default());
        Self { stream, place: Place::Idle, number: 0, request, incoming }
    }

    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the worker is gone or does not keep to the protocol; `InvalidInput` when the request is longer than a frame, and nothing was sent.
    pub(super) async fn ask(&mut self, request: &Request<'_>) -> io::Result<Reply<'_>> {
        self.number = self.number.wrapping_add(1);
        if let Err(NotAFrame) = request.encode(self.number, &mut self.request) {
            message::wipe(&mut self.request);
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.place = Place::Writing;
        self.stream.write_all(&self.request).await?;
        // It may have held plaintext.
        message::wipe(&mut self.request);
        self.place = Place::Waiting;
        self.receive().await?;
        let (number, reply) = Reply::decode(self.incoming.frame()).map_err(broken)?;
        if number != self.number {
            return Err(broken(NotAFrame));
        }
        self.place = Place::Idle;
        Ok(reply)
    }

    /// Waits for the reply to a request that was given up, and drops it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.receive().await?;
        self.place = Place::Idle;
        Ok(())
    }

    /// Wipes the last reply.
    pub(super) fn wipe(&mut self) {
        self.incoming.wipe();
    }

    /// Reads until a whole frame is there. Nothing is lost when it is given up.
    async fn receive(&mut self) -> io::Result<()> {
        while !self.incoming.is_whole().map_err(broken)? {
            match self.stream.read(self.incoming.room()).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.incoming.came(read),
            }
        }
        Ok(())
    }
}

fn broken(_: NotAFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a worker's answer is not by the protocol")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs11::message::{MAX_FRAME, Refusal};

    fn pair() -> (Lane, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Lane::new(ours), theirs)
    }

    async fn request(stream: &mut UnixStream) -> u32 {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        let mut frame = vec![0; u32::from_be_bytes(head) as usize];
        stream.read_exact(&mut frame).await.unwrap();
        Request::decode(&frame).unwrap().0
    }

    async fn reply(stream: &mut UnixStream, number: u32, reply: &Reply<'_>) {
        let mut buffer = Buffer::default();
        reply.encode(number, &mut buffer).unwrap();
        // In pieces, as they may come.
        for piece in buffer.chunks(1 + buffer.len() / 3) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn replies_of_any_length_come_whole() {
        let (mut lane, mut worker) = pair();
        for length in [0, 1, 4082, 4083, 4084, 5000, 1 << 20, 3] {
            let sent = vec![5; length];
            let (asked, ()) = tokio::join!(lane.ask(&Request::Probe), async {
                let number = request(&mut worker).await;
                reply(&mut worker, number, &Reply::Done(&sent)).await;
            });
            assert_eq!(asked.unwrap(), Reply::Done(&sent));
            assert_eq!(lane.place(), Place::Idle);
            lane.wipe();
            assert!(lane.incoming.is_wiped());
        }
    }

    #[tokio::test]
    async fn a_request_that_is_too_long_is_not_sent_and_the_lane_goes_on() {
        let (mut lane, mut worker) = pair();
        let body = vec![0; MAX_FRAME];
        let refused = lane.ask(&Request::RsaBare { id: [0; 16], body: &body }).await.map(drop);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(lane.place(), Place::Idle);
        assert!(lane.request.is_empty(), "what was to be sent is kept");
        let (asked, ()) = tokio::join!(lane.ask(&Request::Probe), async {
            let number = request(&mut worker).await;
            reply(&mut worker, number, &Reply::Done(b"")).await;
        });
        assert_eq!(asked.unwrap(), Reply::Done(b""));
        assert!(lane.request.is_empty(), "what was sent is kept");
    }

    #[tokio::test]
    async fn a_reply_that_comes_late_is_not_taken_for_the_next_one() {
        let (mut lane, mut worker) = pair();
        {
            let asked = lane.ask(&Request::Probe);
            tokio::pin!(asked);
            tokio::select! {
                biased;
                _ = &mut asked => panic!("nobody answered"),
                number = request(&mut worker) => reply(&mut worker, number, &Reply::Done(b"late")).await,
            }
        }
        assert_eq!(lane.place(), Place::Waiting);
        lane.drain().await.unwrap();
        lane.wipe();
        let (asked, ()) = tokio::join!(lane.ask(&Request::Probe), async {
            let number = request(&mut worker).await;
            reply(&mut worker, number, &Reply::Refused(Refusal::Integrity)).await;
        });
        assert_eq!(asked.unwrap(), Reply::Refused(Refusal::Integrity));
    }

    #[tokio::test]
    async fn whoever_does_not_keep_to_the_protocol_is_not_listened_to() {
        let mut honest = Buffer::default();
        Reply::Done(b"result").encode(1, &mut honest).unwrap();
        let mut another = Buffer::default();
        Reply::Done(b"result").encode(2, &mut another).unwrap();
        for lie in
            [&another[..], &[&honest[..], &[0]].concat(), &[0xff; 8], &[0; 4], &honest[..honest.len() - 1]]
        {
            let (mut lane, mut worker) = pair();
            let (asked, ()) = tokio::join!(lane.ask(&Request::Probe), async {
                request(&mut worker).await;
                worker.write_all(lie).await.unwrap();
                drop(worker);
            });
            assert!(asked.is_err(), "{lie:?}");
            assert_ne!(lane.place(), Place::Idle);
        }
    }
}
