//! The one task that carries new checkpoints outside: looks once a second at which logs have grown.

use super::witnessing::Round;
use super::{Discord, Outside, Site};
use crate::serve::stopped;
use holdfast_core::TenantId;
use holdfast_core::port::World as _;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the end waits for what is outside.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be done, and under way.
#[derive(Default)]
struct Work {
    /// Up to which round of the log's growth it has been done.
    round: u64,
    due: VecDeque<Round>,
    rounds: JoinSet<Result<(), Discord>>,
    to_anchor: BTreeSet<TenantId>,
    /// One task at most.
    anchoring: JoinSet<Vec<TenantId>>,
}

impl Outside {
    /// Runs until `stop`, and then once more, so that the last entries stand outside too.
    pub(crate) async fn carry(self: Arc<Self>, site: Site, mut stop: watch::Receiver<bool>) {
        if !self.remembers() {
            return;
        }
        let (site, mut work) = (Arc::new(site), Work::default());
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.look(&site, &mut work),
                Some(ended) = work.rounds.join_next() => self.heard(&site, &mut work, ended),
                Some(left) = work.anchoring.join_next() => work.to_anchor.extend(left.unwrap_or_default()),
                () = stopped(&mut stop) => break,
            }
        }
        let last = async {
            // What is under way first: a log has one round at a time.
            self.finish(&site, &mut work).await;
            self.look(&site, &mut work);
            self.finish(&site, &mut work).await;
        };
        if timeout(PATIENCE, last).await.is_err() {
            tracing::warn!("not everything outside has the last checkpoints; it gets them at the next start");
        }
    }

    fn look(&self, site: &Arc<Site>, work: &mut Work) {
        let now = site.law.engines().world.now();
        let (round, grown) = site.log().log().grown_since(work.round);
        work.round = round;
        for (id, size) in grown {
            let Ok(tenant) = id.as_str().parse::<TenantId>() else { continue };
            self.witnesses.grown(&site.directory, &tenant, size, now);
            work.to_anchor.insert(tenant);
        }
        let reach = |tenant: &TenantId| site.log().reach(tenant).unwrap_or(0);
        work.due = self.witnesses.due(now, reach, |tenant| site.directory.log(tenant));
        self.witnesses.begin(&mut work.due, &mut work.rounds);
        let Some(anchor) = &self.anchor else {
            work.to_anchor.clear();
            return;
        };
        if work.anchoring.is_empty() && !work.to_anchor.is_empty() {
            let these = std::mem::take(&mut work.to_anchor).into_iter().collect();
            work.anchoring.spawn(Arc::clone(anchor).advance(Arc::clone(site), these));
        }
    }

    fn heard(&self, site: &Site, work: &mut Work, ended: Result<Result<(), Discord>, JoinError>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(discord)) => discord.alarm(site.log()),
            Err(error) => tracing::error!(%error, "a round of witnessing ended badly"),
        }
        self.witnesses.begin(&mut work.due, &mut work.rounds);
    }

    async fn finish(&self, site: &Site, work: &mut Work) {
        while let Some(ended) = work.rounds.join_next().await {
            self.heard(site, work, ended);
        }
        while let Some(left) = work.anchoring.join_next().await {
            work.to_anchor.extend(left.unwrap_or_default());
        }
    }
}
