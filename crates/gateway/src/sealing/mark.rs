//! Bringing to the disk that a gateway is sealed. The disk may hang: nobody holds meanwhile what others wait for. Whoever opens the gateway again
//! waits, so that no mark comes after it was cleared.

use super::Orders;
use crate::directory::Directory;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// For how long a seal waits for the disk.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

/// A mark that is on its way to the disk.
#[must_use]
pub(crate) struct Marking {
    orders: Arc<Orders>,
}

impl Marking {
    /// One more is on its way.
    pub(super) fn begin(orders: &Arc<Orders>) -> Self {
        orders.under_way.send_modify(|marks| *marks += 1);
        Self { orders: Arc::clone(orders) }
    }

    /// Brings the mark and the orders to the disk; gives whether the mark is there soon. What hangs goes on by itself, also where nobody waits any
    /// more.
    pub(crate) async fn keep(self, directory: &Directory) -> bool {
        let (directory, orders) = (directory.clone(), Arc::clone(&self.orders));
        let (tell, told) = oneshot::channel();
        let keeping = tokio::task::spawn_blocking(move || {
            // Nobody may be left to hear it.
            let _unheard = tell.send(directory.mark_sealed());
            drop(self);
            orders.save();
        });
        let mut is_marked = false;
        let kept = async {
            is_marked = told.await.unwrap_or(false);
            // It tells by itself what went wrong.
            let _saved = keeping.await;
        };
        if timeout(KEPT_WITHIN, kept).await.is_err() && !is_marked {
            tracing::error!(
                "the disk does not take that the gateway is sealed: a device may open its next start"
            );
        }
        is_marked
    }
}

impl Drop for Marking {
    fn drop(&mut self) {
        self.orders.under_way.send_modify(|marks| *marks -= 1);
    }
}
