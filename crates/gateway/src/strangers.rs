//! Connections of nobody in particular: where all places are taken, the oldest of them makes way, so that strangers keep nobody out.

use crate::line::{InLine, Line};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Whose they are is not told apart: an address has its share of connections already.
const NOBODYS: u64 = 0;

/// The connections on which no caller has been served yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Arc<Line>);

impl Strangers {
    /// A new connection.
    pub(crate) fn join(&self) -> Stranger {
        Stranger { line: self.0.join(NOBODYS), is_known: AtomicBool::new(false) }
    }

    /// Tells the oldest one to leave, if there is one.
    pub(crate) fn dismiss_oldest(&self) {
        self.0.dismiss_oldest();
    }
}

/// One connection among them, until a caller has been served on it.
#[derive(Debug)]
pub(crate) struct Stranger {
    line: InLine,
    is_known: AtomicBool,
}

impl Stranger {
    /// What is notified when the connection has to make way.
    pub(crate) fn leave(&self) -> Arc<Notify> {
        self.line.leave()
    }

    /// A caller was served on it: it makes way for nobody any more.
    pub(crate) fn becomes_known(&self) {
        if !self.is_known() && !self.is_known.swap(true, Ordering::Relaxed) {
            self.line.step_out();
        }
    }

    /// Whether a caller was served on it.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_way_and_who_is_known_never() {
        let strangers = Strangers::default();
        let (known, gone) = (strangers.join(), strangers.join());
        let (first, second) = (strangers.join(), strangers.join());
        known.becomes_known();
        known.becomes_known();
        drop(gone);
        strangers.dismiss_oldest();
        first.leave().notified().await;
        strangers.dismiss_oldest();
        second.leave().notified().await;
        strangers.dismiss_oldest();
        let none = tokio::time::timeout(std::time::Duration::from_millis(20), known.leave().notified()).await;
        assert!(none.is_err());
        drop((known, first, second));
        assert_eq!(strangers.0.len(), 0);
    }
}
