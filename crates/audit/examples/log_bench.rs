//! How many realistic entries a second become durable: 64 writers, each waiting for its own. Prints the rate, what a
//! sync costs on this disk, and what one append costs the thread that makes it.
//!
//! `cargo run --release -p holdfast-audit --example log_bench -- [DIRECTORY [SECONDS]]`

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement, not the product"
)]

use holdfast_audit::disk::{Access, Disk as _, RealDisk};
use holdfast_audit::key::Signer;
use holdfast_audit::verify::{Trusted, verify};
use holdfast_audit::{AppendError, Config, Log, LogId, Mark, Priority};
use std::future::Future as _;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const WRITERS: usize = 64;
const ENTRY: usize = 600;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| "target".to_owned());
    let seconds = arguments.next().map_or(5, |text| text.parse().unwrap());
    let data = tempfile::tempdir_in(parent).unwrap();
    println!("fdatasync of 40 KiB: p50 {:?}", sync_cost(data.path()));
    append_cost(&data.path().join("cost"));
    for writers in [1, WRITERS] {
        threads(&data.path().join(format!("threads-{writers}")), writers, Duration::from_secs(seconds));
    }
    pipelined(&data.path().join("pipelined"), Duration::from_secs(seconds));
}

fn open(data: &Path) -> (Log, LogId) {
    std::fs::create_dir(data).unwrap();
    let (log, _) = Log::open(Config::new(data)).unwrap();
    let id: LogId = "bench".parse().unwrap();
    log.register(&id, Signer::from_seed("bench.example/log", &Zeroizing::new([1; 32])).unwrap()).unwrap();
    (log, id)
}

fn sync_cost(dir: &Path) -> Duration {
    let file = RealDisk.open(&dir.join("sync"), Access::Create).unwrap();
    file.allocate(64 << 20).unwrap();
    file.sync_data().unwrap();
    let mut times: Vec<_> = (0..500)
        .map(|n| {
            file.write_all_at(&[7; 40 << 10], n * (40 << 10)).unwrap();
            let start = Instant::now();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn append(log: &Log, id: &LogId, bytes: &[u8]) -> holdfast_audit::Ticket {
    loop {
        let appended = log.append(id, Priority::Ordinary, Mark::Plain, |to| {
            to.set_opening(&[9; 32]);
            to.push(bytes);
        });
        match appended {
            Ok(((), ticket)) => return ticket,
            // A gateway would answer "later".
            Err(AppendError::Overloaded) => std::thread::yield_now(),
            Err(error) => {
                println!("{error}");
                std::process::exit(1);
            }
        }
    }
}

/// What an append costs its own thread, without waiting.
fn append_cost(data: &Path) {
    let (log, id) = open(data);
    let bytes = [b'x'; ENTRY];
    let mut spent = Duration::ZERO;
    for _ in 0..100 {
        let start = Instant::now();
        let tickets: Vec<_> = (0..500).map(|_| append(&log, &id, &bytes)).collect();
        spent += start.elapsed();
        tickets.into_iter().last().unwrap().wait_blocking().unwrap();
    }
    println!("one append, not waiting: {:?}", spent / 50_000);
    log.close().unwrap();
}

fn threads(data: &Path, writers: usize, time: Duration) {
    let (log, id) = open(data);
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let cpu = cpu_time();
    let start = Instant::now();
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let writer = || {
            let bytes = [b'x'; ENTRY];
            let mut waits = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                append(&log, &id, &bytes).wait_blocking().unwrap();
                waits.push(start.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            waits
        };
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(writer)).collect();
        while start.elapsed() < time {
            std::thread::park_timeout(time);
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    waits.sort_unstable();
    let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    report(&format!("{writers} threads, p50 {p50:?}, p99 {p99:?}"), &log, count.into_inner(), start, cpu);
    finish(log, data);
}

/// 64 requests in flight on one thread, as a server's event loop has them.
fn pipelined(data: &Path, time: Duration) {
    let (log, id) = open(data);
    let bytes = [b'x'; ENTRY];
    let mut count = 0;
    let cpu = cpu_time();
    let start = Instant::now();
    while start.elapsed() < time {
        let mut tickets: Vec<_> = (0..WRITERS).map(|_| append(&log, &id, &bytes)).collect();
        let last = tickets.pop().unwrap();
        last.wait_blocking().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        for ticket in tickets {
            assert!(
                matches!(pin!(ticket).poll(&mut context), Poll::Ready(Ok(_))),
                "a batch is durable as a whole"
            );
        }
        count += WRITERS as u64;
    }
    report("64 in flight on one thread", &log, count, start, cpu);
    finish(log, data);
}

fn report(what: &str, log: &Log, count: u64, start: Instant, cpu: Duration) {
    let elapsed = start.elapsed().as_secs_f64();
    let rate = count as f64 / elapsed;
    let batches = log.health().durable_batches;
    let each = (cpu_time() - cpu).as_secs_f64() * 1e6 / count as f64;
    let of = count / batches.max(1);
    println!(
        "{what}: {rate:.0} durable events/s, {of} a batch, {each:.1} µs CPU each (all threads, trees included)"
    );
}

/// How far the trees were behind, and that they are true.
fn finish(log: Log, data: &Path) {
    let start = Instant::now();
    log.close().unwrap();
    println!("  last checkpoint {:?} after the last event", start.elapsed());
    let start = Instant::now();
    let report = verify(&data.join("audit/bench"), &Trusted::default(), |_, _| ()).unwrap();
    println!("  {} entries verified offline in {:?}", report.checkpoint.size, start.elapsed());
}

/// User and system time of this process, from `/proc/self/stat` in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
