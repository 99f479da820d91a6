//! What every provider's door does with a request once it is known what it asks for: it is let in while there is room, and has its answer in time.

use super::{Answered, place, sealed, tell_defect, turned_away};
use crate::bodies::Taken;
use crate::detach::Detach;
use crate::listener::About;
use crate::serve::Gateway;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, OperationId, Stage, Timestamp};
use holdfast_wire::native::encode::Response;
use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use std::borrow::Borrow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// What a request is, besides its body.
pub(super) struct Received {
    pub(super) operation: OperationId,
    pub(super) parts: Parts,
    pub(super) now: Timestamp,
    pub(super) ticks: u64,
}

impl Received {
    /// As it is at this moment.
    pub(super) fn now(gateway: &Gateway, parts: Parts, (operation, ticks): (OperationId, u64)) -> Self {
        Self { operation, parts, now: gateway.law.engines().world.now(), ticks }
    }
}

/// A door whose provider only ever posts, under a name that may be guarded.
pub(super) struct Door {
    /// What a request is counted as that is for nothing there.
    pub(super) none: &'static str,
    /// The most bytes of a body.
    pub(super) most: usize,
    pub(super) refused: fn(&Error) -> Answered,
    pub(super) other_method: fn() -> Response,
}

/// What a request is for by its head and its connection: its route, how long an answer may take, and the rest. Else what it is counted as, and the answer.
pub(super) type Meant<T> = Result<(&'static str, Duration, T), Box<(&'static str, Response)>>;

/// A request that was let in, with its body if that has come.
pub(super) struct Come<T> {
    pub(super) found: T,
    pub(super) body: Result<Taken, Error>,
    pub(super) admission: Admission,
}

impl Door {
    /// Lets a request in. What is refused by its head is taken in all the same, so that the answer is read.
    pub(super) async fn let_in<T>(
        &self,
        gateway: &Gateway,
        about: &About,
        (parts, body): (&Parts, Incoming),
        find: impl FnOnce() -> Meant<T>,
    ) -> (&'static str, Result<Come<T>, Box<Answered>>) {
        let (route, arrived) = self.look(gateway, about, parts, find);
        let (found, arrival) = match arrived {
            Ok(arrived) => arrived,
            Err(answered) => {
                gateway.bodies.drop(about, body).await;
                return (route, Err(answered));
            }
        };
        let body = arrival.body(gateway, about, self.most, body).await;
        let entered = arrival.enter(gateway, about).map_err(|error| Box::new((self.refused)(&error)));
        (route, entered.map(|admission| Come { found, body, admission }))
    }

    fn look<T>(
        &self,
        gateway: &Gateway,
        about: &About,
        parts: &Parts,
        find: impl FnOnce() -> Meant<T>,
    ) -> (&'static str, Result<(T, Arrival), Box<Answered>>) {
        // What was vouched for in the handshake is demanded of each request.
        if let Some(answered) = turned_away(gateway, about, self.refused) {
            return (self.none, Err(Box::new(answered)));
        }
        let not_there = |reason, answer| {
            gateway.law.count_noise(about.source, reason);
            Err(Box::new(Answered { answer, refused: Some(ErrorKind::NotFound) }))
        };
        let (route, limit, found) = match find() {
            Ok(found) => found,
            Err(nothing) => {
                let (reason, answer) = *nothing;
                return (self.none, not_there(reason, answer));
            }
        };
        if parts.method != Method::POST {
            return (route, not_there("no-route", (self.other_method)()));
        }
        let arrival = Arrival::of(gateway, limit).map_err(|error| Box::new((self.refused)(&error)));
        (route, arrival.map(|arrival| (found, arrival)))
    }
}

/// A request that has come, and until when there is an answer or the refusal.
pub(super) struct Arrival {
    limit: Duration,
    at: Instant,
}

impl Arrival {
    /// Of a request that is to be answered within so long.
    ///
    /// # Errors
    /// `sealed`.
    pub(super) fn of(gateway: &Gateway, limit: Duration) -> Result<Self, Error> {
        match gateway.law.is_sealed() {
            true => Err(sealed()),
            false => Ok(Self { limit, at: Instant::now() + limit }),
        }
    }

    /// The body, which no place is taken for: whoever does not send it keeps nobody out.
    ///
    /// # Errors
    /// As [`Bodies::take_in`](crate::bodies::Bodies::take_in); `deadline`.
    pub(super) async fn body(
        &self,
        gateway: &Gateway,
        about: &About,
        most: usize,
        body: Incoming,
    ) -> Result<Taken, Error> {
        let taken = gateway.bodies.take_in(about, most, body);
        timeout_at(self.at, taken).await.unwrap_or_else(|_elapsed| Err(self.late()))
    }

    /// Lets it in, its body having come.
    ///
    /// # Errors
    /// `throttled` where no place is left, which is counted.
    pub(super) fn enter(self, gateway: &Gateway, about: &About) -> Result<Admission, Error> {
        Ok(Admission { place: place(gateway, about, false)?, arrival: self })
    }

    fn late(&self) -> Error {
        let milliseconds = self.limit.as_millis();
        let limit = match milliseconds % 1000 {
            0 => format!("{} s", milliseconds / 1000),
            _ => format!("{milliseconds} ms"),
        };
        Error::new(ErrorKind::Deadline, Stage::Perform, format!("there was no answer within {limit}"))
    }
}

/// A place among the requests that are under way.
pub(super) struct Admission {
    place: Option<OwnedSemaphorePermit>,
    arrival: Arrival,
}

impl Admission {
    /// What comes of the work, which is boxed from the beginning: it has some kilobytes, and each hand that it goes through would copy them. What has begun is finished and recorded, whether or not somebody still waits for it.
    pub(super) async fn finish<E>(
        self,
        gateway: &Gateway,
        operation: OperationId,
        work: Pin<Box<impl Future<Output = Result<Response, E>> + Send + 'static>>,
        refused: impl FnOnce(E) -> Answered,
    ) -> Answered
    where
        E: From<Error> + Borrow<Error> + Send + 'static,
    {
        let Self { place, arrival } = self;
        let living = Arc::clone(&gateway.alive).try_acquire_owned();
        let work = Box::pin(async move {
            // Given back when the work is done, not when nobody waits for it any more.
            let (_place, _living) = (place, living);
            work.await
        });
        let done = timeout_at(arrival.at, Detach::new(work)).await;
        match done.unwrap_or_else(|_elapsed| Err(arrival.late().into())) {
            Ok(answer) => Answered::ok(answer),
            Err(error) => {
                tell_defect(operation, error.borrow());
                refused(error)
            }
        }
    }
}
