//! Bodies on their way in. They take no place among the requests that are under way, and where there are too many of them, or too many bytes, the oldest
//! makes way: whoever sends at once is through before that. So strangers who send slowly, or much, keep nobody out and cost no more memory than is set here.
//! What has come is held until its request is answered and makes way for nobody: so no one caller, and before a caller is served no one network, has more
//! than a part of the bytes, and whoever takes more makes way for itself. (What still comes of it may meanwhile have a piece more for each body that it
//! has begun.)

use crate::config::Limits;
use crate::line::{InLine, Line};
use crate::listener::About;
use crate::party::Party;
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
/// Of so many parts of a room's bytes nobody has more than one, nor of its line where that is full: of strangers' bytes that is two of the longest bodies
/// there are.
const PARTS: usize = 4;
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
    /// What somebody has of these bytes.
    own: Own,
}

type Own = fn(&Party) -> &AtomicUsize;

/// Who makes way for more bytes.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Nobody has to.
    Free,
    /// The oldest body of whoever brings them.
    Own,
    /// The oldest of all.
    Oldest,
}

impl Way {
    /// Where so many of these bytes, of all and of who brings them, are held with them.
    fn of((all, most): (usize, usize), own: usize) -> Self {
        match (own <= most / PARTS, all <= most) {
            (false, _) => Self::Own,
            (true, false) => Self::Oldest,
            (true, true) => Self::Free,
        }
    }
}

/// Why a body does not come, and its place in the line until that is given up.
struct Gone {
    error: Error,
    place: Option<InLine>,
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
    party: Arc<Party>,
    own: Own,
    bytes: usize,
}

impl Held {
    /// More of them; gives how many all hold, and how many whose they are.
    fn add(&mut self, more: usize) -> (usize, usize) {
        self.bytes += more;
        let added = |to: &AtomicUsize| to.fetch_add(more, Ordering::Relaxed) + more;
        (added(&self.of), added((self.own)(&self.party)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
        (self.own)(&self.party).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Bodies {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            strangers: Room::of((STRANGERS, STRANGERS_BYTES), |party| &party.of_strangers),
            callers: Room::of((limits.requests, CALLERS_BYTES), |party| &party.of_callers),
            stops: Room::of((STOPS, STOPS_BYTES), |party| &party.of_stops),
            limit: Duration::from_secs(limits.body_seconds),
        }
    }

    /// Takes a body in, of a connection on which a caller was served before, or of a stranger's.
    ///
    /// # Errors
    /// `too-large`; `deadline` for one that does not come in time, `malformed` where it breaks off; `throttled` where others come and it is the oldest, or
    /// whose it is has its part already.
    pub(crate) async fn take_in(&self, about: &About, most: usize, body: Incoming) -> Result<Taken, Error> {
        self.take_into(self.room(about), about.party(), most, body).await
    }

    /// Takes a stop order's body in.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub(crate) async fn take_in_stop(
        &self,
        about: &About,
        most: usize,
        body: Incoming,
    ) -> Result<Taken, Error> {
        self.take_into(&self.stops, about.party(), most, body).await
    }

    async fn take_into(
        &self,
        room: &Room,
        party: &Arc<Party>,
        most: usize,
        body: Incoming,
    ) -> Result<Taken, Error> {
        if body.is_end_stream() {
            return Ok(Taken::EMPTY);
        }
        room.take_in(party, self.limit, most, body).await
    }

    /// Takes in and drops a body that nobody wants, so that its sender reads the answer: some clients do not once they are cut off in the middle.
    pub(crate) async fn drop(&self, about: &About, body: Incoming) {
        if !body.is_end_stream() {
            // Whatever becomes of it.
            let _dropped = self
                .room(about)
                .in_line(about.party(), UNWANTED_FOR, async {
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
    fn of((most, most_bytes): (usize, usize), own: Own) -> Self {
        Self { line: Arc::default(), most, bytes: Arc::default(), most_bytes, own }
    }

    async fn take_in<B>(
        &self,
        party: &Arc<Party>,
        limit: Duration,
        most: usize,
        mut body: B,
    ) -> Result<Taken, Error>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut held =
            Held { of: Arc::clone(&self.bytes), party: Arc::clone(party), own: self.own, bytes: 0 };
        let gathered = gather(&mut body, most, |more| self.hold(&mut held, more));
        match self.in_line(party, limit, gathered).await {
            Ok(bytes) => Ok(Taken { bytes, _held: Some(held) }),
            Err(Gone { error, place }) => {
                // What it had is others' before it has left: nobody else is told to leave for it.
                drop(held);
                drop(place);
                if matches!(error.kind(), ErrorKind::Throttled | ErrorKind::TooLarge) {
                    // Whoever is cut off while sending may never read why; and the answer does not wait for whoever sends on.
                    tokio::spawn(timeout(UNWANTED_FOR, drop_rest(body)));
                }
                Err(error)
            }
        }
    }

    /// More bytes are held: where that is too much, the oldest give theirs up.
    fn hold(&self, held: &mut Held, more: usize) -> Result<(), Error> {
        let (all, own) = held.add(more);
        // Whoever is told to leave gives all of its bytes up; if that was too few, whoever comes next tells another one.
        match Way::of((all, self.most_bytes), own) {
            Way::Own if !self.line.makes_way_for_itself(held.party.number) => Err(too_much()),
            Way::Oldest if !self.line.dismiss_oldest() => Err(crowded()),
            Way::Free | Way::Own | Way::Oldest => Ok(()),
        }
    }

    /// Waits for something that takes no longer than so; what is not there at once waits in line.
    async fn in_line<T>(
        &self,
        party: &Party,
        limit: Duration,
        coming: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Gone> {
        let mut coming = pin!(coming);
        if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(coming.as_mut().poll(context))).await {
            return done.map_err(|error| Gone { error, place: None });
        }
        let place = self.line.join(party.number);
        self.line.make_way(self.most, (party.number, (self.most / PARTS).max(1)));
        let leave = place.leave();
        tokio::select! {
            biased;
            () = leave.notified() => Err(crowded()),
            done = timeout(limit, coming) => done.unwrap_or_else(|_elapsed| Err(late())),
        }
        // By its own last piece: others count on what it had.
        .and_then(|done| if place.is_told() { Err(crowded()) } else { Ok(done) })
        .map_err(|error| Gone { error, place: Some(place) })
    }
}

async fn gather<B>(
    body: &mut B,
    most: usize,
    mut hold: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large(most));
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let broken = |error: B::Error| {
            Error::new(ErrorKind::Malformed, Stage::Receive, "the body did not arrive whole")
                .because(error.into())
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if data.is_empty() {
            continue;
        }
        if first.len() + all.len() + data.len() > most {
            return Err(too_large(most));
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

fn too_large(most: usize) -> Error {
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

fn too_much() -> Error {
    Error::new(
        ErrorKind::Throttled,
        Stage::Receive,
        "the bodies that are under way of the same caller or network have all the room that one may have",
    )
    .remedy("send fewer or smaller ones at once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::{Parties, Who};
    use http_body_util::Full;
    use hyper::body::Frame;
    use proptest::prelude::*;
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

    fn room(most: usize, most_bytes: usize) -> Room {
        Room::of((most, most_bytes), |party| &party.of_callers)
    }

    /// Another one each time.
    fn somebody() -> Arc<Party> {
        Arc::new(Parties::default()).party(Who::from(None))
    }

    /// So many, who are told apart.
    fn somebodies<const MANY: usize>() -> [Arc<Party>; MANY] {
        let all = Arc::new(Parties::default());
        std::array::from_fn(|last| {
            all.party(Who::from(Some([192, 0, 2, u8::try_from(last).unwrap()].into())))
        })
    }

    /// One whose first bytes have been taken in.
    async fn coming(
        room: &Arc<Room>,
        party: &Arc<Party>,
        first: &'static [u8],
    ) -> (UnboundedSender<Bytes>, Coming) {
        let (tell, told) = unbounded_channel();
        tell.send(Bytes::from_static(first)).unwrap();
        let (of, party) = (Arc::clone(room), Arc::clone(party));
        let taken =
            tokio::spawn(async move { of.take_in(&party, Duration::from_secs(60), 100, Told(told)).await });
        // There is one thread: by then it waits for more, and whoever has to make way for it has.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        (tell, taken)
    }

    async fn at_once(room: &Room, party: &Arc<Party>, bytes: usize) -> Result<Taken, ErrorKind> {
        let body = Full::new(Bytes::from(vec![0; bytes]));
        room.take_in(party, Duration::ZERO, 100, body).await.map_err(|error| error.kind())
    }

    async fn ends(tell: UnboundedSender<Bytes>, taken: Coming) -> Vec<u8> {
        tell.send(Bytes::from_static(b"d")).unwrap();
        drop(tell);
        taken.await.unwrap().unwrap().to_vec()
    }

    async fn made_way(taken: Coming) -> bool {
        taken.await.unwrap().err().unwrap().kind() == ErrorKind::Throttled
    }

    #[tokio::test]
    async fn what_comes_at_once_stands_in_no_line() {
        let (room, party) = (room(0, 100), somebody());
        let body = || Full::new(Bytes::from_static(b"body"));
        let taken = room.take_in(&party, Duration::ZERO, 100, body()).await.unwrap();
        assert_eq!((&*taken, room.line.len(), room.bytes.load(Ordering::Relaxed)), (&b"body"[..], 0, 4));
        drop(taken);
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
        let error = room.take_in(&party, Duration::ZERO, 3, body()).await.err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::TooLarge));
    }

    #[tokio::test]
    async fn the_oldest_makes_way_where_there_are_too_many() {
        let (room, [a, b, c]) = (Arc::new(room(2, 100)), somebodies());
        let (_first_tell, first) = coming(&room, &a, b"a").await;
        let (second_tell, second) = coming(&room, &b, b"b").await;
        let (third_tell, third) = coming(&room, &c, b"c").await;
        assert!(made_way(first).await);
        assert_eq!(ends(second_tell, second).await, b"bd");
        assert_eq!(ends(third_tell, third).await, b"cd");
        assert_eq!((room.line.len(), room.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn the_oldest_makes_way_where_there_are_too_many_bytes() {
        let (room, [a, b, c, d, e]) = (Arc::new(room(10, 24)), somebodies());
        let (_first_tell, first) = coming(&room, &a, b"123456").await;
        let mut held = vec![];
        for party in [&b, &c, &d] {
            held.push(at_once(&room, party, 6).await.unwrap());
        }
        let (second_tell, second) = coming(&room, &e, b"123456").await;
        assert!(made_way(first).await);
        drop(second_tell);
        let taken = second.await.unwrap().unwrap();
        // Nobody else is there to make way.
        assert_eq!(at_once(&room, &a, 1).await.err(), Some(ErrorKind::Throttled));
        drop((taken, held));
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
    }

    /// Whoever begins many makes way for itself where there is no room, and not whoever has one.
    #[tokio::test]
    async fn who_has_more_than_a_part_of_the_line_makes_way_for_itself() {
        let (room, [one, many]) = (Arc::new(room(4, 100)), somebodies());
        let (tell, oldest) = coming(&room, &one, b"o").await;
        let (mut tells, mut others) = (vec![], vec![]);
        for _ in 0..6 {
            let (tell, taken) = coming(&room, &many, b"m").await;
            tells.push(tell);
            others.push(taken);
        }
        assert_eq!(ends(tell, oldest).await, b"od");
        for (number, (tell, taken)) in tells.into_iter().zip(others).enumerate() {
            match number < 3 {
                true => assert!(made_way(taken).await),
                false => assert_eq!(ends(tell, taken).await, b"md"),
            }
        }
    }

    #[tokio::test]
    async fn who_takes_more_than_a_part_of_the_bytes_makes_way_for_itself() {
        let (room, [one, many]) = (Arc::new(room(100, 40)), somebodies());
        let (tell, oldest) = coming(&room, &one, b"1234").await;
        let (_tell, first) = coming(&room, &many, b"123456").await;
        let (other_tell, second) = coming(&room, &many, b"123456").await;
        assert!(made_way(first).await);
        assert_eq!(ends(other_tell, second).await, b"123456d");
        // What has come makes way for nobody, and leaves the rest to others.
        let _held = at_once(&room, &many, 10).await.unwrap();
        assert_eq!(at_once(&room, &many, 1).await.err(), Some(ErrorKind::Throttled));
        assert_eq!(ends(tell, oldest).await, b"1234d");
        assert!(at_once(&room, &one, 10).await.is_ok());
    }

    /// The last piece comes with the end, before it hears that it has to leave.
    #[tokio::test]
    async fn what_has_to_make_way_for_its_own_last_piece_has_not_come() {
        let (room, [one]) = (Arc::new(room(100, 40)), somebodies());
        let (tell, taken) = coming(&room, &one, b"123456").await;
        tell.send(Bytes::from_static(b"123456")).unwrap();
        drop(tell);
        assert!(made_way(taken).await);
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
    }

    /// However many pieces come before whoever was told to leave has left, one makes way.
    #[tokio::test]
    async fn nobody_else_is_told_to_leave_while_one_is_leaving() {
        let (room, [many]) = (Arc::new(room(100, 40)), somebodies());
        let (_tell, first) = coming(&room, &many, b"12345").await;
        let (tell, second) = coming(&room, &many, b"1234").await;
        // These come at once, before anybody else has had a turn.
        for _ in 0..3 {
            tell.send(Bytes::from_static(b"1")).unwrap();
        }
        assert!(made_way(first).await);
        assert_eq!(ends(tell, second).await, b"1234111d");
    }

    /// What is turned away is listened to for a while: its sender reads why, and no answer waits for that.
    #[tokio::test]
    async fn what_is_turned_away_is_taken_in_and_dropped() {
        let (room, [one]) = (Arc::new(room(100, 40)), somebodies());
        let (tell, first) = coming(&room, &one, b"123456").await;
        let (_tell, _second) = coming(&room, &one, b"123456").await;
        assert_eq!(room.line.len(), 1);
        tell.send(Bytes::from_static(b"more")).unwrap();
        assert!(made_way(first).await);
        for _ in 0..100 {
            assert!(tell.send(Bytes::from_static(b"more")).is_ok(), "it has been cut off");
            tokio::task::yield_now().await;
        }
        assert_eq!(room.bytes.load(Ordering::Relaxed), 6, "and it is kept");
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_as_soon_as_that_is_known() {
        let (room, [one]) = (Arc::new(room(100, 1000)), somebodies());
        let (tell, taken) = coming(&room, &one, &[b' '; 100]).await;
        assert!(!taken.is_finished());
        assert!(tell.send(Bytes::from_static(b" ")).is_ok());
        assert_eq!(taken.await.unwrap().err().map(|error| error.kind()), Some(ErrorKind::TooLarge));
        assert!(tell.send(Bytes::from_static(b" ")).is_ok(), "it has been cut off");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whoever brings whatever, of as many as the room has parts each gets a part of it, and nobody more.
        #[test]
        fn each_gets_a_part_of_the_bytes_and_nobody_more(
            most in 40_usize..400,
            done in prop::collection::vec((0_usize..PARTS + 2, 1_usize..60, 0_usize..4), 1..200),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (room, parties) = (room(10, most), somebodies::<{ PARTS + 2 }>());
            let mut held: Vec<(usize, Taken)> = vec![];
            for (who, bytes, gone) in done {
                held.drain(..gone.min(held.len()));
                let own = |of: usize| {
                    held.iter().filter(|(whose, _)| *whose == of).map(|(_, taken)| taken.len()).sum::<usize>()
                };
                let all: Vec<usize> = (0..parties.len()).map(own).collect();
                let others = all.iter().enumerate().filter(|(of, had)| *of != who && **had > 0).count();
                let is_within = all[who] + bytes <= most / PARTS;
                let fits = all.iter().sum::<usize>() + bytes <= most;
                match runtime.block_on(at_once(&room, &parties[who], bytes)) {
                    Ok(taken) => {
                        prop_assert!(is_within && fits);
                        held.push((who, taken));
                    }
                    Err(kind) => {
                        prop_assert_eq!(kind, ErrorKind::Throttled);
                        prop_assert!(!is_within || (!fits && others >= PARTS), "{:?} for {}: {}", all, who, bytes);
                    }
                }
                let counted: usize = held.iter().map(|(_, taken)| taken.len()).sum();
                prop_assert_eq!(room.bytes.load(Ordering::Relaxed), counted);
            }
            drop(held);
            prop_assert!(parties.iter().all(|party| party.of_callers.load(Ordering::Relaxed) == 0));
        }
    }
}
