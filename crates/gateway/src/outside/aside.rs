//! Work on a disk that may never answer: on a thread of its own, which nobody has to wait for, not even at the end.

use std::time::Duration;
use tokio::sync::oneshot;

/// Runs `work`; gives what it gave, or nothing if it took longer than `patience`. It goes on then, unheard.
pub(super) async fn aside<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    let started = std::thread::Builder::new().name("outside".to_owned()).spawn(move || {
        // Nobody may be left to hear it.
        let _unheard = tell.send(work());
    });
    started.ok()?;
    tokio::time::timeout(patience, told).await.ok()?.ok()
}
