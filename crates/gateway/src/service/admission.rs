//! What every provider's door does with a request once it is known what it asks for: it is let in while there is room, and has its answer in time.

use super::{Answered, place, read_body, sealed, tell_defect};
use crate::config::Limits;
use crate::detach::Detach;
use crate::listener::About;
use crate::serve::Gateway;
use bytes::Bytes;
use holdfast_core::port::World as _;
use holdfast_core::{Error, ErrorKind, OperationId, Stage, Timestamp};
use holdfast_wire::native::encode::Response;
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

/// A place among the requests that are under way, and until when there is an answer or the refusal.
pub(super) struct Admission {
    place: Option<OwnedSemaphorePermit>,
    deadline: Deadline,
}

impl Admission {
    /// Lets a request in that is to be answered within so long.
    ///
    /// # Errors
    /// `sealed`, and `throttled` where no place is left, which is counted.
    pub(super) fn of(gateway: &Gateway, about: &About, limit: Duration) -> Result<Self, Error> {
        if gateway.law.is_sealed() {
            return Err(sealed());
        }
        Ok(Self { place: place(gateway, about, false)?, deadline: Deadline::within(limit) })
    }

    /// The body. Whoever does not send it holds a place no longer than until the deadline.
    ///
    /// # Errors
    /// `deadline`, `too-large`, and `malformed` where it does not arrive whole.
    pub(super) async fn body(&self, limits: &Limits, most: usize, body: Incoming) -> Result<Bytes, Error> {
        let read = timeout_at(self.deadline.at, read_body(limits, most, body)).await;
        read.unwrap_or_else(|_elapsed| Err(self.deadline.late()))
    }

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
        let Self { place, deadline } = self;
        let living = Arc::clone(&gateway.alive).try_acquire_owned();
        let work = Box::pin(async move {
            // Given back when the work is done, not when nobody waits for it any more.
            let (_place, _living) = (place, living);
            work.await
        });
        let done = timeout_at(deadline.at, Detach::new(work)).await;
        match done.unwrap_or_else(|_elapsed| Err(deadline.late().into())) {
            Ok(answer) => Answered::ok(answer),
            Err(error) => {
                tell_defect(operation, error.borrow());
                refused(error)
            }
        }
    }
}

struct Deadline {
    limit: Duration,
    at: Instant,
}

impl Deadline {
    fn within(limit: Duration) -> Self {
        Self { limit, at: Instant::now() + limit }
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
