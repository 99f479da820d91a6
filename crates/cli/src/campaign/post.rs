//! Asking the gateway for many things at once, again where it could not answer.

use super::stop::Stop;
use super::tally::Failed;
use crate::exit::Exit;
use holdfast_core::error::Retry;
use holdfast_core::operation::MAX_BATCH;
use holdfast_sdk::message::{Batch, BatchItem, OperationResult};
use holdfast_sdk::{Error, Problem, Tenant};
use std::time::Duration;
use tokio::time::Instant;

/// How often an item is asked for that the gateway could not answer at the moment.
const ATTEMPTS: u32 = 5;
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The most bytes of ciphertext in one batch: a batch may have 8 MiB, in base64 and with contexts.
const MAX_BYTES: usize = 3 << 20;

/// What came of one item.
pub(crate) type Answer = Result<OperationResult, Box<Failed>>;

/// Sends batches.
#[derive(Clone)]
pub(crate) struct Post {
    tenant: Tenant,
    /// How long a gateway that does not answer is waited for.
    patience: Duration,
    stop: Stop,
}

/// One of many items to be asked for: how many bytes it has, roughly, and how it is asked for.
pub(crate) struct Ask<F> {
    pub(crate) bytes: usize,
    pub(crate) build: F,
}

impl Post {
    pub(crate) fn new(tenant: Tenant, patience: Duration, stop: Stop) -> Self {
        Self { tenant, patience, stop }
    }

    /// Asks for all of these; the answers are in the same order.
    ///
    /// # Errors
    /// What concerns them all: the caller is not known, or nobody answers for too long.
    pub(crate) async fn ask<F: Fn() -> BatchItem>(&self, asks: &[Ask<F>]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(asks.len());
        let mut rest = asks;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(fitting(rest));
            answers.extend(self.ask_batch(batch).await?);
            rest = later;
        }
        Ok(answers)
    }

    async fn ask_batch<F: Fn() -> BatchItem>(&self, asks: &[Ask<F>]) -> Result<Vec<Answer>, Error> {
        let mut answers: Vec<Option<Answer>> = asks.iter().map(|_| None).collect();
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let open = || answers.iter().zip(asks).filter(|(answer, _)| answer.is_none());
            let items: Vec<BatchItem> = open().map(|(_, ask)| (ask.build)()).collect();
            if items.is_empty() {
                break;
            }
            let is_last = attempt >= ATTEMPTS || self.stop.is_ordered();
            let results = self.send(&Batch { items }).await?;
            let slots = answers.iter_mut().filter(|answer| answer.is_none());
            for (slot, result) in slots.zip(results) {
                *slot = match (result.result, result.problem) {
                    (Some(result), None) => Some(Ok(result)),
                    (_, Some(problem)) if problem.retry.0 == Retry::Later && !is_last => None,
                    (_, Some(problem)) => Some(Err(refused(&problem, &result.operation_id.0.to_string()))),
                    (None, None) => Some(Err(unanswered())),
                };
            }
            if is_last {
                break;
            }
            if answers.iter().any(Option::is_none) {
                self.stop.pause(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect())
    }

    /// Sends one batch until somebody answers. What was done twice so does no harm: two ciphertexts of the same, and one is kept.
    async fn send(&self, batch: &Batch) -> Result<Vec<holdfast_sdk::message::BatchResult>, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match self.tenant.batch(batch).await {
                Ok(answered) => return Ok(answered.body.items),
                Err(error)
                    if error.is_temporary() && begun.elapsed() < self.patience && !self.stop.is_ordered() =>
                {
                    self.stop.pause(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many of these go into one batch; at least one.
fn fitting<F>(asks: &[Ask<F>]) -> usize {
    let mut bytes = 0_usize;
    let fits = |ask: &&Ask<F>| {
        bytes = bytes.saturating_add(ask.bytes);
        bytes <= MAX_BYTES
    };
    asks.iter().take(MAX_BATCH).take_while(fits).count().max(1)
}

fn refused(problem: &Problem, operation: &str) -> Box<Failed> {
    let exit = problem.error_kind().map_or(Exit::Failure, Exit::of);
    let failed = Failed::new(exit, &problem.code, problem.detail.as_str(), problem.remedy.as_str());
    Box::new(Failed { operation: Some(operation.to_owned()), ..*failed })
}

fn unanswered() -> Box<Failed> {
    let help = "check that client and gateway are of a similar version";
    Failed::new(Exit::Failure, "unintelligible", "a batch's answer lacks this item", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_items_and_bytes() {
        let asks = |bytes: usize, count: usize| -> Vec<Ask<()>> {
            (0..count).map(|_| Ask { bytes, build: () }).collect()
        };
        assert_eq!(fitting(&asks(10, 300)), 256);
        assert_eq!(fitting(&asks(1 << 20, 300)), 3);
        assert_eq!(fitting(&asks(4 << 20, 2)), 1);
    }
}
