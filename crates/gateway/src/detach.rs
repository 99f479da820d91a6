//! What has begun is finished: a client's disconnect cancels nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that goes on in a task of its own when it is dropped before its end, as the HTTP server does when a client leaves.
///
/// Between a key store's work and its record there must be no place where an operation can vanish. Spawning each request would cost more:
/// this costs a task only when somebody leaves.
#[derive(Debug)]
pub(crate) struct Detach<F: Future + Send + 'static>
where
    F::Output: Send,
{
    future: Option<Pin<Box<F>>>,
}

impl<F: Future + Send + 'static> Detach<F>
where
    F::Output: Send,
{
    /// Begins with the first poll.
    pub(crate) fn new(future: Pin<Box<F>>) -> Self {
        Self { future: Some(future) }
    }
}

impl<F: Future + Send + 'static> Future for Detach<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.future.as_mut() else { return Poll::Pending };
        let poll = future.as_mut().poll(context);
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

impl<F: Future + Send + 'static> Drop for Detach<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _unwanted = future.await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Detach;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_dropped_future_goes_on_to_its_end() {
        let (go, gate) = oneshot::channel::<()>();
        let (done, end) = oneshot::channel();
        let mut work = Detach::new(Box::pin(async move {
            gate.await.unwrap();
            done.send("recorded").unwrap();
        }));
        assert!(futures_poll(&mut work).await.is_none());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(end.await.unwrap(), "recorded");
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
