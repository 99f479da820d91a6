//! Slow readers: an answer that nobody takes is given up, so that who does not read keeps no place for ever.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream whose peer must take what is written in bounded time: counted from when it first did not, until everything has left.
///
/// A peer that takes a byte now and then gains nothing by it. Where nothing waits, this costs nothing.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Runs while something waits for the peer.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// A stream whose peer has so long.
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, waiting: None }
    }

    /// Nothing could be written: has that lasted too long?
    fn stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        // Whoever asks again gets the same answer at once.
        waiting.as_mut().reset(Instant::now());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.stalled(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, parts) {
            Poll::Pending => self.stalled(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.stalled(context),
            Poll::Ready(flushed) => {
                self.waiting = None;
                Poll::Ready(flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.stalled(context),
            ended @ Poll::Ready(_) => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn who_does_not_read_is_given_up_also_when_a_byte_is_taken_now_and_then() {
        let (here, mut there) = duplex(16);
        let mut stream = Patient::new(here, LIMIT);
        let trickle = tokio::spawn(async move {
            let mut tick = tokio::time::interval(LIMIT / 10);
            loop {
                tick.tick().await;
                if there.read_u8().await.is_err() {
                    break;
                }
            }
        });
        let begin = Instant::now();
        let error = stream.write_all(&[7; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= LIMIT);
        assert_eq!(stream.write_all(&[7; 1024]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(stream);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_each_answer_may_take_any_number() {
        let (here, mut there) = duplex(16);
        let mut stream = Patient::new(here, LIMIT);
        let reader = tokio::spawn(async move {
            let mut all = vec![];
            there.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        let begin = Instant::now();
        let mut written = 0;
        while begin.elapsed() < LIMIT * 3 {
            stream.write_all(&[7; 64]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::advance(LIMIT / 10).await;
            written += 64;
        }
        drop(stream);
        assert_eq!(reader.await.unwrap(), written);
    }
}
