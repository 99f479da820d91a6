//! Ctrl-C and SIGTERM: what is under way is finished, and nothing new begun. The second time it ends at once.

use crate::app::App;
use crate::exit::Exit;
use crate::output::note;
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
        let handle = app.handle();
        let _entered = handle.enter();
        let signals =
            signal(SignalKind::interrupt()).and_then(|one| Ok((one, signal(SignalKind::terminate())?)));
        handle.spawn(async move {
            let Ok((mut interrupt, mut terminate)) = signals else {
                // Without them the process just ends, which loses nothing either.
                return order.closed().await;
            };
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            order.send_replace(true);
            note("ending once what is under way is done; once more ends at once");
            next().await;
            // Somebody does not want to wait: for stdin that gives nothing, for a disk. What is marked so far counts, as after a kill.
            std::process::exit(Exit::Unavailable.code().into());
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
