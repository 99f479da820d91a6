//! Which connection makes way where there is no place for one more. Strangers' is first, the oldest of those on which no caller was served yet, so that
//! strangers keep nobody out. And callers have seven of eight places together, where the oldest of whoever has most makes way for the others, so that no
//! caller keeps anybody out either.

use crate::line::{InLine, Line};
use std::sync::Arc;
use std::sync::OnceLock;
use tokio::sync::Notify;

/// Whose strangers' are is not told apart: a network has its share of connections already.
const NOBODYS: u64 = 0;
/// One place of so many is strangers' always: whoever becomes a caller was one.
const OF: usize = 8;

/// All connections.
#[derive(Debug)]
pub(crate) struct Strangers {
    strangers: Arc<Line>,
    callers: Arc<Line>,
    most_callers: usize,
}

impl Strangers {
    /// Of so many connections at once.
    pub(crate) fn of(connections: usize) -> Self {
        let kept = (connections / OF).max(1);
        let most_callers = connections.saturating_sub(kept).max(1);
        Self { strangers: Arc::default(), callers: Arc::default(), most_callers }
    }

    /// A new connection.
    pub(crate) fn join(&self) -> Stranger {
        Stranger {
            line: self.strangers.join(NOBODYS),
            callers: Arc::clone(&self.callers),
            most_callers: self.most_callers,
            known: OnceLock::new(),
        }
    }

    /// Tells the oldest one to leave, if there is one.
    pub(crate) fn dismiss_oldest(&self) {
        self.strangers.dismiss_oldest();
    }
}

/// One connection: a stranger's until a caller has been served on it, a caller's from then on.
#[derive(Debug)]
pub(crate) struct Stranger {
    line: InLine,
    callers: Arc<Line>,
    most_callers: usize,
    known: OnceLock<InLine>,
}

impl Stranger {
    /// What is notified when the connection has to make way.
    pub(crate) fn leave(&self) -> Arc<Notify> {
        self.line.leave()
    }

    /// A caller was served on it, who is told from others by a number: it makes way for no stranger any more.
    pub(crate) fn becomes_known(&self, whose: u64) {
        if self.is_known() {
            return;
        }
        // Of several who come at once on one connection it is one's.
        self.known.get_or_init(|| {
            self.line.step_out();
            self.callers.join_also(whose, self.leave())
        });
        self.callers.make_way_of_most(self.most_callers);
    }

    /// Whether a caller was served on it.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CALLER: u64 = 1;
    const OTHER: u64 = 2;

    async fn leaves(stranger: &Stranger) -> bool {
        tokio::time::timeout(Duration::from_millis(20), stranger.leave().notified()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_makes_way_and_who_is_known_never() {
        let strangers = Strangers::of(16);
        let (known, gone) = (strangers.join(), strangers.join());
        let (first, second) = (strangers.join(), strangers.join());
        known.becomes_known(CALLER);
        known.becomes_known(CALLER);
        drop(gone);
        strangers.dismiss_oldest();
        first.leave().notified().await;
        strangers.dismiss_oldest();
        second.leave().notified().await;
        strangers.dismiss_oldest();
        assert!(!leaves(&known).await);
        drop((known, first, second));
        assert_eq!((strangers.strangers.len(), strangers.callers.len()), (0, 0));
    }

    #[tokio::test]
    async fn of_callers_whoever_has_most_makes_way_and_strangers_always_have_places() {
        let strangers = Strangers::of(16);
        let known = |whose| {
            let one = strangers.join();
            one.becomes_known(whose);
            one
        };
        let others = [known(OTHER), known(OTHER)];
        let all: Vec<_> = (0..12).map(|_| known(CALLER)).collect();
        assert_eq!(strangers.callers.len(), 14);
        assert!(!leaves(&all[0]).await, "there is a place for each");
        let next = known(OTHER);
        assert!(leaves(&all[0]).await, "the oldest of whoever has most");
        let own = known(CALLER);
        assert!(leaves(&all[1]).await, "also for one more of its own");
        assert_eq!(strangers.callers.len(), 14);
        for one in all[2..].iter().chain(&others).chain([&next, &own]) {
            assert!(!leaves(one).await);
        }
    }

    #[test]
    fn there_is_a_place_for_a_caller_however_few_there_are() {
        let most = |connections| Strangers::of(connections).most_callers;
        assert_eq!([0, 1, 2, 4, 16, 10_000].map(most), [1, 1, 1, 3, 14, 8_750]);
    }
}
