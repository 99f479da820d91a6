//! One backup at a time, and nobody waits for one for ever: the disk that backups go to may hang, as a network's does.

use holdfast_core::{Error, ErrorKind, Stage};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Whose turn it is to write one.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<AtomicBool>);

/// One has it, until this is gone.
pub(super) struct Turn(Arc<AtomicBool>);

impl Turns {
    /// Takes the turn.
    ///
    /// # Errors
    /// `conflict` while another one has it.
    pub(super) fn take(&self) -> Result<Turn, Error> {
        match self.0.swap(true, Ordering::AcqRel) {
            false => Ok(Turn(Arc::clone(&self.0))),
            true => Err(Error::new(ErrorKind::Conflict, Stage::Perform, "another backup is being written")
                .remedy("wait until it is there, then take one; if that takes for ever, mend the disk that backups go to (`backup.directory`)")),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether anybody still waits for what is being written.
#[derive(Clone)]
pub(super) struct Awaited(Arc<AtomicBool>);

impl Awaited {
    pub(super) fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Says, when it goes, that nobody waits any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does the work on a thread of its own, which may never end: what takes longer than `patience` is given up. The turn is the thread's for as long as
/// it works, so that no second one hangs beside it.
///
/// # Errors
/// What the work fails with; `state-unavailable` where it is given up.
pub(super) async fn within<T: Send + 'static>(
    patience: Duration,
    turn: Turn,
    work: impl FnOnce(&Awaited) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let waiting = Waiting(Arc::default());
    let awaited = Awaited(Arc::clone(&waiting.0));
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("backup".to_owned()).spawn(move || {
        let done = work(&awaited);
        drop(turn);
        // Nobody may be left to hear it.
        let _unheard = tell.send(done);
    });
    thread.map_err(|error| {
        Error::new(ErrorKind::StateUnavailable, Stage::Perform, "no thread can be started for the backup")
            .remedy("look at the limits of the gateway's process, and take the backup again")
            .because(error)
    })?;
    match tokio::time::timeout(patience, told).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            Err(Error::new(ErrorKind::Internal, Stage::Perform, "the backup was not finished").because(error))
        }
        Err(_) => {
            let detail = format!("the backup was not written within {} minutes", patience.as_secs() / 60);
            Err(Error::new(ErrorKind::StateUnavailable, Stage::Perform, detail).remedy(
                "mend the disk that backups go to (`backup.directory`) or name another, and take the backup again",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn what_hangs_is_given_up_and_keeps_its_turn_until_it_ends() {
        let turns = Turns::default();
        let (end, ends) = mpsc::channel::<()>();
        let (tell, told) = oneshot::channel();
        let hangs = within(Duration::from_millis(10), turns.take().unwrap(), move |awaited| {
            let _ended = ends.recv();
            let _heard = tell.send(awaited.is_given_up());
            Ok(())
        });
        let error = hangs.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StateUnavailable);
        assert!(error.remedy_text().contains("backup.directory"));
        let error = turns.take().err().unwrap();
        assert_eq!((error.kind(), error.detail()), (ErrorKind::Conflict, "another backup is being written"));
        end.send(()).unwrap();
        assert!(told.await.unwrap(), "whoever goes on learns that nobody waits for it");
        let free = async {
            loop {
                match turns.take() {
                    Ok(turn) => break turn,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let turn = tokio::time::timeout(Duration::from_secs(60), free).await.expect("it is free again");
        let minute = Duration::from_secs(60);
        let given_up = within(minute, turn, |awaited| Ok(awaited.is_given_up())).await.unwrap();
        assert!(!given_up);
        let error = within(minute, turns.take().unwrap(), |_| {
            Err::<(), _>(Error::new(ErrorKind::StateUnavailable, Stage::Perform, "full"))
        });
        assert_eq!(error.await.unwrap_err().detail(), "full");
    }
}
