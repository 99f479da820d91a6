//! Ctrl-C and SIGTERM: what is under way is finished, and nothing new begun.

use crate::app::App;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether somebody has ordered the end.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Begins to listen.
    pub(super) fn listen(app: &App) -> Self {
        let (order, ordered) = watch::channel(false);
        app.handle().spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                // Without them the process just ends, which loses nothing either.
                return order.closed().await;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            order.send_replace(true);
            order.closed().await;
        });
        Self(ordered)
    }

    /// Whether it has been ordered.
    pub(super) fn is_ordered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for so long, or for the order.
    pub(super) async fn pause(&self, time: Duration) {
        let mut ordered = self.0.clone();
        // Nothing listens any more only when the runtime ends.
        let _ = tokio::time::timeout(time, ordered.wait_for(|ordered| *ordered)).await;
    }
}
