//! Bodies on their way in. They take no place among the requests that are under way, and where there are too many of them, or too many bytes, the oldest
//! makes way: whoever sends at once is through before that. So strangers who send slowly, or much, keep nobody out and cost no more memory than is set here.

use crate::config::Limits;
use crate::line::Line;
use crate::listener::About;
use bytes::{Bytes, BytesMut};
use holdfast_core::{Error, ErrorKind, Stage};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// Bodies of strangers that are waited for at once.
const STRANGERS: usize = 1024;
/// Bytes of theirs that are held at once: eight of the longest bodies there are.
const STRANGERS_BYTES: usize = 64 << 20;
/// Bytes that are held for callers' connections at once.
const CALLERS_BYTES: usize = 1 << 30;
/// Stop orders, whoever gives them, and their bytes: they are small, and wait for no room that others have filled.
const STOPS: usize = 1024;
const STOPS_BYTES: usize = 16 << 20;
/// Bytes of a body that nobody wants that are taken in and dropped, so that its sender is not cut off before it reads the answer; for how long, and how
/// long a pause ends it: some send nothing before they are told to.
const UNWANTED: usize = 2 << 20;
const UNWANTED_FOR: Duration = Duration::from_secs(2);
const UNWANTED_PAUSE: Duration = Duration::from_millis(50);

/// All bodies that are on their way.
pub(crate) struct Bodies {
    strangers: Room,
    callers: Room,
    stops: Room,
    limit: Duration,
}

/// For so many bodies and bytes.
struct Room {
    line: Arc<Line>,
    most: usize,
    bytes: Arc<AtomicUsize>,
    most_bytes: usize,
}

/// A body that has come, and its part of the room until it is dropped.
pub(crate) struct Taken {
    bytes: Bytes,
    _held: Option<Held>,
}

impl Taken {
    /// Of what has none.
    pub(crate) const EMPTY: Self = Self { bytes: Bytes::new(), _held: None };
}

impl Deref for Taken {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that count.
struct Held {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Bodies {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            strangers: Room::of(STRANGERS, STRANGERS_BYTES),
            callers: Room::of(limits.requests, CALLERS_BYTES),
            stops: Room::of(STOPS, STOPS_BYTES),
            limit: Duration::from_secs(limits.body_seconds),
        }
    }

    /// Takes a body in, of a connection on which a caller was served before, or of a stranger's.
    ///
    /// # Errors
    /// `too-large`; `deadline` for one that does not come in time, `malformed` where it breaks off; `throttled` where others come and it is the oldest.
    pub(crate) async fn take_in(&self, about: &About, most: usize, body: Incoming) -> Result<Taken, Error> {
        self.take_into(self.room(about), most, body).await
    }

    /// Takes a stop order's body in.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub(crate) async fn take_in_stop(&self, most: usize, body: Incoming) -> Result<Taken, Error> {
        self.take_into(&self.stops, most, body).await
    }

    async fn take_into(&self, room: &Room, most: usize, body: Incoming) -> Result<Taken, Error> {
        if body.is_end_stream() {
            return Ok(Taken::EMPTY);
        }
        room.take_in(self.limit, most, body).await
    }

    /// Takes in and drops a body that nobody wants, so that its sender reads the answer: some clients do not once they are cut off in the middle.
    pub(crate) async fn drop(&self, about: &About, body: Incoming) {
        if !body.is_end_stream() {
            // Whatever becomes of it.
            let _dropped = self
                .room(about)
                .in_line(UNWANTED_FOR, async {
                    drop_rest(body).await;
                    Ok(())
                })
                .await;
        }
    }

    fn room(&self, about: &About) -> &Room {
        if about.stranger.is_known() { &self.callers } else { &self.strangers }
    }
}

impl Room {
    fn of(most: usize, most_bytes: usize) -> Self {
        Self { line: Arc::default(), most, bytes: Arc::default(), most_bytes }
    }

    async fn take_in<B>(&self, limit: Duration, most: usize, body: B) -> Result<Taken, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut held = Held { of: Arc::clone(&self.bytes), bytes: 0 };
        let bytes = self.in_line(limit, gather(body, most, |more| self.hold(&mut held, more))).await?;
        Ok(Taken { bytes, _held: Some(held) })
    }

    /// More bytes are held: where that is too much, the oldest give theirs up.
    fn hold(&self, held: &mut Held, more: usize) -> Result<(), Error> {
        held.bytes += more;
        let all = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        // Whoever is told to leave gives all of its bytes up; if that was too few, whoever comes next tells another one.
        match all <= self.most_bytes || self.line.dismiss_oldest() {
            true => Ok(()),
            false => Err(crowded()),
        }
    }

    /// Waits for something that takes no longer than so; what is not there at once waits in line.
    async fn in_line<T>(
        &self,
        limit: Duration,
        coming: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut coming = pin!(coming);
        if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(coming.as_mut().poll(context))).await {
            return done;
        }
        let place = self.line.join();
        if self.line.len() > self.most {
            self.line.dismiss_oldest();
        }
        let leave = place.leave();
        tokio::select! {
            biased;
            () = leave.notified() => Err(crowded()),
            done = timeout(limit, coming) => done.unwrap_or_else(|_elapsed| Err(late())),
        }
    }
}

async fn gather<B>(
    mut body: B,
    most: usize,
    mut hold: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large(most, body).await);
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let broken = |error: B::Error| {
            Error::new(ErrorKind::Malformed, Stage::Receive, "the body did not arrive whole")
                .because(error.into())
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > most {
            return Err(too_large(most, body).await);
        }
        hold(data.len())?;
        // Most have one piece, which need not be copied.
        match first.is_empty() && all.is_empty() {
            true => first = data,
            false => {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn too_large<B: Body<Data = Bytes> + Unpin>(most: usize, rest: B) -> Error {
    // Whoever is cut off while sending may never read why.
    let _elapsed = timeout(UNWANTED_FOR, drop_rest(rest)).await;
    Error::new(ErrorKind::TooLarge, Stage::Receive, format!("the body has more than {most} bytes"))
}

async fn drop_rest<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut dropped = 0;
    while let Ok(Some(Ok(frame))) = timeout(UNWANTED_PAUSE, body.frame()).await {
        dropped += frame.data_ref().map_or(0, Bytes::len);
        if dropped > UNWANTED {
            return;
        }
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Deadline, Stage::Receive, "the body took too long to arrive")
        .remedy("send the body at once")
}

fn crowded() -> Error {
    Error::new(
        ErrorKind::Throttled,
        Stage::Receive,
        "too many bodies are on their way, and this one took longest",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::Context;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    /// A body that comes as it is told to.
    struct Told(UnboundedReceiver<Bytes>);

    impl Body for Told {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    type Coming = tokio::task::JoinHandle<Result<Taken, Error>>;

    /// One whose first bytes have been taken in.
    async fn coming(room: &Arc<Room>, first: &'static [u8]) -> (UnboundedSender<Bytes>, Coming) {
        let (tell, told) = unbounded_channel();
        tell.send(Bytes::from_static(first)).unwrap();
        let of = Arc::clone(room);
        let taken = tokio::spawn(async move { of.take_in(Duration::from_secs(60), 100, Told(told)).await });
        // There is one thread: by then it waits for more, and whoever has to make way for it has.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        (tell, taken)
    }

    #[tokio::test]
    async fn what_comes_at_once_stands_in_no_line() {
        let room = Room::of(0, 100);
        let taken = room.take_in(Duration::ZERO, 100, Full::new(Bytes::from_static(b"body"))).await.unwrap();
        assert_eq!((&*taken, room.line.len(), room.bytes.load(Ordering::Relaxed)), (&b"body"[..], 0, 4));
        drop(taken);
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
        let error = room.take_in(Duration::ZERO, 3, Full::new(Bytes::from_static(b"body"))).await.err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::TooLarge));
    }

    #[tokio::test]
    async fn the_oldest_makes_way_where_there_are_too_many() {
        let room = Arc::new(Room::of(2, 100));
        let (_first_tell, first) = coming(&room, b"a").await;
        let (second_tell, second) = coming(&room, b"b").await;
        let (third_tell, third) = coming(&room, b"c").await;
        assert_eq!(first.await.unwrap().err().unwrap().kind(), ErrorKind::Throttled);
        for (tell, taken, whole) in [(second_tell, second, b"bd"), (third_tell, third, b"cd")] {
            tell.send(Bytes::from_static(b"d")).unwrap();
            drop(tell);
            assert_eq!(&*taken.await.unwrap().unwrap(), whole);
        }
        assert_eq!((room.line.len(), room.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn the_oldest_makes_way_where_there_are_too_many_bytes() {
        let room = Arc::new(Room::of(10, 10));
        let (_first_tell, first) = coming(&room, b"123456").await;
        let (second_tell, second) = coming(&room, b"123456").await;
        assert_eq!(first.await.unwrap().err().unwrap().kind(), ErrorKind::Throttled);
        drop(second_tell);
        let taken = second.await.unwrap().unwrap();
        // Nobody else is there to make way.
        let alone = room.take_in(Duration::ZERO, 100, Full::new(Bytes::from_static(b"12345"))).await;
        assert_eq!(alone.err().unwrap().kind(), ErrorKind::Throttled);
        drop(taken);
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
    }
}
