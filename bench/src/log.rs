//! The log alone: how many realistic events a second become durable and hashed into their tree, each writer waiting for its own.

use crate::report::{LogRate, Report};
use anyhow::{Context as _, Result};
use holdfast_audit::key::Signer;
use holdfast_audit::{AppendError, Config, Log, LogId, Mark, Priority, Ticket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Bytes of an event.
const EVENT: usize = 600;

/// Measures with so many threads.
pub(crate) fn measure(within: &Path, writers: usize, time: Duration, report: &mut Report) -> Result<()> {
    let data = within.join(format!("log-{writers}"));
    std::fs::create_dir(&data)?;
    let (log, _) = Log::open(Config::new(&data))?;
    let id: LogId = "bench".parse()?;
    log.register(&id, Signer::from_seed("bench.example/log", &Zeroizing::new([1; 32]))?)?;
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let waits: Result<Vec<Vec<u32>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(|| write(&log, &id, &stop))).collect();
        while begin.elapsed() < time {
            thread::park_timeout(time);
        }
        stop.store(true, Ordering::Relaxed);
        let joined = threads.into_iter().map(|thread| thread.join().ok().context("a writer panicked")?);
        joined.collect()
    });
    let mut waits: Vec<u32> = waits?.into_iter().flatten().collect();
    // Hashed, too: until the last event stands under a checkpoint.
    log.flush_tree(&id)?;
    let elapsed = begin.elapsed();
    waits.sort_unstable();
    report.log.push(LogRate::new(writers, &waits, elapsed));
    Ok(log.close()?)
}

fn write(log: &Log, id: &LogId, stop: &AtomicBool) -> Result<Vec<u32>> {
    let event = [b'x'; EVENT];
    let mut waits = Vec::with_capacity(1 << 16);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        append(log, id, &event)?.wait_blocking()?;
        waits.push(u32::try_from(begin.elapsed().as_micros())?);
    }
    Ok(waits)
}

fn append(log: &Log, id: &LogId, event: &[u8]) -> Result<Ticket> {
    loop {
        let appended = log.append(id, Priority::Ordinary, Mark::Plain, |to| {
            to.set_opening(&[9; 32]);
            to.push(event);
        });
        match appended {
            Ok(((), ticket)) => return Ok(ticket),
            // A gateway would answer "later".
            Err(AppendError::Overloaded) => thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
}
