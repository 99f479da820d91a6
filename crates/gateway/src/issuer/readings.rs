//! The readings of one issuer's keys: who orders one, how often, and who waits for it.

use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long lies between two readings that tokens order. Strangers order some too: it is how long they can put off the one that matters.
pub(super) const ORDERED_EVERY: Duration = Duration::from_secs(1);
/// For how long a request waits: until the next reading may be ordered, and a second for that.
const WAIT: Duration = Duration::from_secs(2);
/// How many requests wait for one issuer's keys at once; whoever comes then is refused.
const WAITING: usize = 64;

/// How many have begun and have ended, whatever came of them, and whether a token has ordered the next.
#[derive(Debug, Default)]
struct Progress {
    begun: u64,
    ended: u64,
    is_ordered: bool,
}

#[derive(Debug)]
pub(super) struct Readings {
    progress: watch::Sender<Progress>,
    reload: Notify,
    waiting: Semaphore,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    readings: &'a Readings,
    progress: watch::Receiver<Progress>,
    /// How many had begun when it came, and how many of those it has seen ended.
    begun: u64,
    ended: u64,
    until: Instant,
    _waiting: SemaphorePermit<'a>,
}

impl Readings {
    pub(super) fn new() -> Self {
        let progress = watch::Sender::new(Progress::default());
        Self { progress, reload: Notify::new(), waiting: Semaphore::new(WAITING) }
    }

    /// Orders one that begins after this moment, whenever tokens may order the next.
    pub(super) fn order(&self) {
        self.reload.notify_one();
    }

    /// Waits for such an order.
    pub(super) async fn ordered(&self) {
        self.reload.notified().await;
    }

    /// Waits for an order of a token, and until `next`, which is put off then.
    pub(super) async fn ordered_by_token(&self, next: &mut Instant) {
        let mut progress = self.progress.subscribe();
        // It ends: the sender is here.
        drop(progress.wait_for(|progress| progress.is_ordered).await);
        sleep_until(*next).await;
        *next = Instant::now() + ORDERED_EVERY;
    }

    pub(super) fn begin(&self) {
        self.progress.send_modify(|progress| {
            progress.begun = progress.begun.saturating_add(1);
            progress.is_ordered = false;
        });
    }

    /// After what was read has been put in force.
    pub(super) fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = progress.begun);
    }

    /// A turn of a request whose key is not known, if there is room for one more.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let waiting = self.waiting.try_acquire().ok()?;
        let progress = self.progress.subscribe();
        let (begun, ended) = {
            let now = progress.borrow();
            (now.begun, now.ended)
        };
        let until = Instant::now() + WAIT;
        Some(Turn { readings: self, progress, begun, ended, until, _waiting: waiting })
    }
}

impl Turn<'_> {
    /// Waits for the end of the reading that is under way, or else of the next, which it orders. False once one has ended that began
    /// after it came: the issuer has been asked. What was under way may have been answered before the keys changed.
    pub(super) async fn another(&mut self) -> bool {
        if self.ended > self.begun {
            return false;
        }
        self.readings.progress.send_if_modified(|progress| {
            let orders = progress.begun == progress.ended && !progress.is_ordered;
            progress.is_ordered |= orders;
            orders
        });
        let seen = self.ended;
        let ended = self.progress.wait_for(|progress| progress.ended > seen);
        match timeout_at(self.until, ended).await {
            Ok(Ok(progress)) => {
                self.ended = progress.ended;
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// Whether this is not done yet.
    async fn waits(future: impl Future) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }

    #[tokio::test]
    async fn whoever_comes_between_an_order_and_its_reading_waits_for_that() {
        let readings = Readings::new();
        let (mut first, mut second) = (readings.turn().unwrap(), readings.turn().unwrap());
        assert!(waits(first.another()).await);
        // Ordered, and not begun.
        assert!(waits(second.another()).await);
        readings.ordered_by_token(&mut Instant::now()).await;
        readings.begin();
        assert!(waits(second.another()).await);
        readings.end();
        for turn in [&mut first, &mut second] {
            assert!(turn.another().await, "it has ended");
            assert!(!turn.another().await, "it was asked for");
        }
        assert!(waits(readings.ordered_by_token(&mut Instant::now())).await, "one for both");
    }

    #[tokio::test]
    async fn what_was_under_way_is_waited_for_and_another_one_ordered_after_it() {
        let readings = Readings::new();
        readings.begin();
        let mut turn = readings.turn().unwrap();
        {
            let mut another = pin!(turn.another());
            assert!(waits(&mut another).await);
            assert!(waits(readings.ordered_by_token(&mut Instant::now())).await, "not yet");
            readings.end();
            assert!(another.await);
        }
        let mut another = pin!(turn.another());
        assert!(waits(&mut another).await);
        readings.ordered_by_token(&mut Instant::now()).await;
        readings.begin();
        readings.end();
        assert!(another.await);
    }

    #[tokio::test]
    async fn tokens_order_one_every_second_and_whoever_comes_too_soon_waits_for_it() {
        let readings = Readings::new();
        let (mut next, began) = (Instant::now(), Instant::now());
        for number in 0..2 {
            let mut turn = readings.turn().unwrap();
            let read = async {
                readings.ordered_by_token(&mut next).await;
                readings.begin();
                readings.end();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ended = turn.another() => assert!(ended),
                () = read => {}
            }
            assert!(began.elapsed() >= ORDERED_EVERY * number, "{number}");
        }
    }

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for() {
        let readings = Readings::new();
        let waiting: Vec<_> = (0..WAITING).map_while(|_| readings.turn()).collect();
        assert_eq!(waiting.len(), WAITING);
        assert!(readings.turn().is_none());
        drop(waiting);
        assert!(readings.turn().is_some());
    }
}
