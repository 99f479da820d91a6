//! The supervisor: a worker is started, watched, and started again.

use super::super::message::Request;
use super::held::{Worker, fault_of};
use super::start::NotStarted;
use super::{Shared, State, closed_words, unpoisoned};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Shared {
    /// Sets the state, unless the member was closed; gives whether it was.
    fn set(&self, to: State) -> bool {
        let mut state = unpoisoned(&self.state);
        let closed = matches!(*state, State::Closed);
        if !closed {
            *state = to;
        }
        drop(state);
        self.changed.notify_waiters();
        closed
    }

    pub(super) async fn supervise(self: Arc<Self>, runtime: Handle) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let why = match self.start().await {
                Ok((child, control, worker)) => {
                    self.breaker.renew();
                    let serving = runtime.spawn(Arc::clone(&worker).serve());
                    let closed = self.set(State::Up(Arc::clone(&worker)));
                    self.has_come();
                    let why = if closed { closed_words() } else { self.watch(control, &worker).await };
                    worker.fail(Arc::clone(&why));
                    // Nobody is sent there while its process is being ended.
                    self.set(State::Down(Arc::clone(&why)));
                    // Killed and waited for, off the runtime's threads.
                    drop(runtime.spawn_blocking(move || drop(child)).await);
                    // A process that the module has made may hold the socket open.
                    serving.abort();
                    worker.exchange.end();
                    why
                }
                Err(NotStarted::Pin(why)) => {
                    tracing::error!(member = %self.launch.name, %why, "a token does not take its PIN");
                    if !self.set(State::Down(Arc::from(why))) {
                        self.closed.notified().await;
                    }
                    return;
                }
                Err(NotStarted::Other(error)) => Arc::from(error.to_string()),
            };
            if self.set(State::Down(Arc::clone(&why))) {
                return;
            }
            tracing::warn!(member = %self.launch.name, %why, "a key store's worker is not there; it is started again");
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
            // What ran for long is started at once.
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.closed.notified() => return,
            }
        }
    }

    /// Until the worker ends, one way or another; asks the token from time to time whether it answers.
    async fn watch(self: &Arc<Self>, mut control: UnixStream, worker: &Arc<Worker>) -> Arc<str> {
        let mut byte = [0];
        let (mut hears, tells) = control.split();
        let mut ended = std::pin::pin!(hears.read(&mut byte));
        let mut seen = self.replies();
        // So that with what an answer may take it is known in time.
        let interval = self.launch.probe / 2;
        let mut next = Instant::now() + interval;
        loop {
            tokio::select! {
                _ = &mut ended => return Arc::from("its worker ended"),
                () = worker.given_up() => return worker.why(),
                () = self.closed.notified() => return closed_words(),
                () = self.breaker.opened() => {
                    next = self.breaker.next_trial().unwrap_or(next);
                    continue;
                }
                () = self.share_changed.notified() => {
                    let share = self.share.load(Ordering::Relaxed);
                    // Where it is not told, it works on all the same.
                    let _told = tells.try_write(&[u8::try_from(share).unwrap_or(u8::MAX)]);
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            // Whoever answers callers need not be asked whether it answers.
            let replies = self.replies();
            let answers = std::mem::replace(&mut seen, replies) != replies;
            if !answers || self.breaker.next_trial().is_some() {
                self.probe(worker).await;
            }
            next = self.breaker.next_trial().unwrap_or_else(|| Instant::now() + interval);
        }
    }

    async fn probe(self: &Arc<Self>, worker: &Arc<Worker>) {
        let runtime = Handle::current();
        let probed = async {
            let mut held = worker.take(self, &runtime, &Request::Probe).await.ok()?;
            let reply = held.ask(&Request::Probe).await.ok()?;
            Some(fault_of(&reply).map(str::to_owned))
        };
        // A busy machine is no stopped device; but whoever is on trial has to be quick.
        let on_trial = self.breaker.next_trial().is_some();
        let patience = if on_trial { self.launch.overdue } else { self.launch.probe / 2 };
        let said = match timeout(patience, probed).await {
            Ok(Some(None)) => Ok(()),
            Ok(Some(Some(fault))) => Err(fault),
            Ok(None) => return worker.fail(Arc::from("its worker went away")),
            Err(_) => Err("it does not answer in time".to_owned()),
        };
        let was_open = self.breaker.next_trial().is_some();
        self.breaker.probed(Instant::now(), said.as_ref().copied().map_err(String::as_str));
        if was_open && self.breaker.is_closed() {
            self.has_come();
        }
    }
}
