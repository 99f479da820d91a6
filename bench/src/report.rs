//! The tables and the file.

use crate::load::Measured;
use crate::machine::Machine;
use crate::sample::{Figures, Spread};
use anyhow::Result;
use serde::Serialize;
use std::time::Duration;

/// One closed loop.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    connections: usize,
    requests: usize,
    requests_per_second: f64,
    server_cpu_us_per_request: f64,
    p50_us: u32,
    p99_us: u32,
    /// Answered with 503: where its disk stands still a server says that it is late.
    refused: usize,
}

/// Microseconds for each of so many.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn us_each(all: Duration, count: usize) -> f64 {
    all.as_secs_f64() * 1e6 / count.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            connections,
            requests: _,
            requests_per_second,
            server_cpu_us_per_request,
            p50_us,
            p99_us,
            refused,
        } = self;
        write!(f, "{name:<26} {connections:>3} connections: {requests_per_second:>7.0}/s, ")?;
        write!(
            f,
            "CPU {server_cpu_us_per_request:.1} us, p50 {p50_us} us, p99 {p99_us} us, {refused} refused"
        )
    }
}

/// What a closed loop's turns add up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sum {
    latencies: Vec<u32>,
    elapsed: Duration,
    cpu: Duration,
    refused: usize,
}

impl Sum {
    pub(crate) fn add(&mut self, Measured { elapsed, latencies, refused }: Measured, cpu: Duration) {
        self.latencies.extend(latencies);
        self.refused += refused;
        self.elapsed += elapsed;
        self.cpu += cpu;
    }

    pub(crate) fn row(mut self, name: &str, connections: usize) -> Row {
        let requests = self.latencies.len();
        self.latencies.sort_unstable();
        Row {
            name: name.to_owned(),
            connections,
            requests,
            requests_per_second: rate(requests, self.elapsed),
            server_cpu_us_per_request: us_each(self.cpu, requests),
            p50_us: percentile(&self.latencies, 50),
            p99_us: percentile(&self.latencies, 99),
            refused: self.refused,
        }
    }
}

/// The value below which this share of them stays, in percent; they are sorted.
pub(crate) fn percentile(sorted: &[u32], share: usize) -> u32 {
    let at = sorted.len().saturating_sub(1) * share / 100;
    sorted.get(at).copied().unwrap_or_default()
}

/// One figure with few and with many of something.
#[derive(Debug, Serialize)]
pub(crate) struct Growth {
    of: String,
    few: u64,
    many: u64,
    few_p50_us: u32,
    many_p50_us: u32,
    ratio: f64,
}

impl Growth {
    pub(crate) fn new(of: &str, few: u64, many: u64, few_p50_us: u32, many_p50_us: u32) -> Self {
        let ratio = f64::from(many_p50_us) / f64::from(few_p50_us.max(1));
        Self { of: of.to_owned(), few, many, few_p50_us, many_p50_us, ratio }
    }
}

/// The log without a gateway.
#[derive(Debug, Serialize)]
pub(crate) struct LogRate {
    writers: usize,
    events_per_second: f64,
    p50_us: u32,
    p99_us: u32,
}

impl LogRate {
    /// Waits in microseconds, sorted.
    pub(crate) fn new(writers: usize, waits: &[u32], elapsed: Duration) -> Self {
        let at = |share| percentile(waits, share);
        Self { writers, events_per_second: rate(waits.len(), elapsed), p50_us: at(50), p99_us: at(99) }
    }
}

/// A large file.
#[derive(Debug, Serialize)]
pub(crate) struct Files {
    mib: u64,
    holdfast_ms: u128,
    rage_ms: u128,
    /// How fast `holdfast encrypt` is, as a share of `rage`'s speed.
    ratio: f64,
}

impl Files {
    pub(crate) fn new(mib: u64, own: Duration, theirs: Duration) -> Self {
        let ratio = theirs.as_secs_f64() / own.as_secs_f64();
        Self { mib, holdfast_ms: own.as_millis(), rage_ms: theirs.as_millis(), ratio }
    }
}

/// An operation of a token, called directly and through a worker.
#[derive(Debug, Serialize)]
pub(crate) struct TokenRow {
    pub(crate) operation: String,
    pub(crate) at_once: u32,
    pub(crate) direct: Figures,
    /// The module in other processes, by the least that this takes.
    pub(crate) apart: Figures,
    pub(crate) through: Figures,
    /// Microseconds of CPU beyond the module's in the same turn.
    pub(crate) apart_beyond: Spread,
    pub(crate) through_beyond: Spread,
    /// Operations that a second member was asked for too, since the first was slow or late.
    pub(crate) repeated: u64,
}

/// An external key store under load.
#[derive(Debug, Serialize)]
pub(crate) struct XksRow {
    #[serde(flatten)]
    pub(crate) row: Row,
    /// What the module alone takes for one, 8 at once, in turns with the gateway.
    pub(crate) module_cpu_us: f64,
    /// Microseconds of CPU beyond the module's in the same turn.
    pub(crate) beyond: Spread,
}

/// A closed loop over a pool of two, while something happens to one of them.
#[derive(Debug, Serialize)]
pub(crate) struct FaultRow {
    pub(crate) what: String,
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) longest_ms: f64,
}

/// What a steady load notices of something that goes on beside it.
#[derive(Debug, Serialize)]
pub(crate) struct Noticed {
    what: String,
    per_second: u32,
    alone_p50_us: u32,
    alone_p99_us: u32,
    alone_longest_us: u32,
    requests: usize,
    p50_us: u32,
    p99_us: u32,
    longest_us: u32,
}

impl Noticed {
    pub(crate) fn new(what: &str, per_second: u32, mut alone: Vec<u32>, mut meanwhile: Vec<u32>) -> Self {
        alone.sort_unstable();
        meanwhile.sort_unstable();
        let of = |sorted: &[u32]| [50, 99, 100].map(|share| percentile(sorted, share));
        let ([alone_p50_us, alone_p99_us, alone_longest_us], [p50_us, p99_us, longest_us]) =
            (of(&alone), of(&meanwhile));
        let (what, requests) = (what.to_owned(), meanwhile.len());
        Self {
            what,
            per_second,
            alone_p50_us,
            alone_p99_us,
            alone_longest_us,
            requests,
            p50_us,
            p99_us,
            longest_us,
        }
    }
}

/// Versions taken to another sealing key, until the one before is retired.
#[derive(Debug, Serialize)]
pub(crate) struct Resealing {
    versions: u64,
    seconds: f64,
    versions_per_second: f64,
    /// What the gateway spent beyond what the load costs it alone.
    cpu_us_per_version: f64,
    noticed: [Noticed; 2],
}

impl Resealing {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn new((versions, elapsed, cpu): (u64, Duration, Duration), noticed: [Noticed; 2]) -> Self {
        let (count, seconds) = (versions as f64, elapsed.as_secs_f64());
        Self {
            versions,
            seconds,
            versions_per_second: count / seconds,
            cpu_us_per_version: cpu.as_secs_f64() * 1e6 / count,
            noticed,
        }
    }

    #[expect(clippy::print_stdout, reason = "the tables are the program's output")]
    fn print(&self) {
        let Self { versions, seconds, versions_per_second, cpu_us_per_version, noticed } = self;
        println!(
            "resealing: {versions} versions in {seconds:.1} s, {versions_per_second:.0}/s, CPU {cpu_us_per_version:.1} us each"
        );
        for Noticed {
            what,
            per_second,
            alone_p50_us,
            alone_p99_us,
            alone_longest_us,
            requests,
            p50_us,
            p99_us,
            longest_us,
        } in noticed
        {
            println!(
                "{what}, {per_second}/s: alone p50 {alone_p50_us} us, p99 {alone_p99_us} us, longest {alone_longest_us} us; meanwhile ({requests}) p50 {p50_us} us, p99 {p99_us} us, longest {longest_us} us"
            );
        }
    }
}

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
    growth: Vec<Growth>,
    pub(crate) log: Vec<LogRate>,
    pub(crate) files: Option<Files>,
    pub(crate) tokens: Vec<TokenRow>,
    pub(crate) faults: Vec<FaultRow>,
    pub(crate) xks: Vec<XksRow>,
    pub(crate) cse: Vec<Row>,
    pub(crate) resealing: Option<Resealing>,
    /// The gateway's resident memory after the closed loops.
    pub(crate) resident_kib: Option<u64>,
    pub(crate) resident_with_1000_keys_kib: Option<u64>,
    pub(crate) start_with_many_keys_ms: Option<u64>,
    /// A cold `cargo build --release`, downloads not counted; measured by `cargo xtask bench --build`.
    pub(crate) cold_build_seconds: Option<u64>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            rows: vec![],
            growth: vec![],
            log: vec![],
            files: None,
            tokens: vec![],
            faults: vec![],
            xks: vec![],
            cse: vec![],
            resealing: None,
            resident_kib: None,
            resident_with_1000_keys_kib: None,
            start_with_many_keys_ms: None,
            cold_build_seconds: None,
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn grow(&mut self, growth: Growth) {
        self.growth.push(growth);
    }

    /// Prints the tables, and writes the file.
    #[expect(clippy::print_stdout, reason = "the tables are the program's output")]
    pub(crate) fn finish(&self) -> Result<()> {
        let Machine { cpu, cores, file_system, fdatasync_p50_us } = &self.machine;
        println!("{cpu}, {cores} cores; data on {file_system}, fdatasync of 4 KiB p50 {fdatasync_p50_us} us");
        self.print_rows();
        for LogRate { writers, events_per_second, p50_us, p99_us } in &self.log {
            println!(
                "the log alone, {writers} writers: {events_per_second:.0} events/s durable and hashed, p50 {p50_us} us, p99 {p99_us} us"
            );
        }
        if !self.growth.is_empty() {
            println!(
                "{:<36}{:>9}{:>11}{:>12}{:>12}{:>8}",
                "growth", "few", "many", "p50 us", "p50 us", "ratio"
            );
        }
        for Growth { of, few, many, few_p50_us, many_p50_us, ratio } in &self.growth {
            println!("{of:<36}{few:>9}{many:>11}{few_p50_us:>12}{many_p50_us:>12}{ratio:>8.2}");
        }
        if let Some(Files { mib, holdfast_ms, rage_ms, ratio }) = &self.files {
            println!(
                "a file of {mib} MiB: holdfast {holdfast_ms} ms, rage {rage_ms} ms: {ratio:.2} of its speed"
            );
        }
        if !self.tokens.is_empty() {
            println!(
                "a token: its module directly; called from another process by the least that this takes; through a pool"
            );
            println!(
                "{:<32}{:>8}{:>9}{:>9}{:>9}{:>7}{:>10}{:>20}{:>20}{:>10}{:>8}{:>8}{:>8}",
                "",
                "at once",
                "direct/s",
                "apart/s",
                "pool/s",
                "ratio",
                "CPU us",
                "apart",
                "pool",
                "p50 us",
                "apart",
                "pool",
                "twice"
            );
        }
        for row in &self.tokens {
            let TokenRow {
                operation,
                at_once,
                direct,
                apart,
                through,
                apart_beyond,
                through_beyond,
                repeated,
            } = row;
            println!(
                "{operation:<32}{at_once:>8}{:>9.0}{:>9.0}{:>9.0}{:>7.2}{:>10.1}{apart_beyond:>20}{through_beyond:>20}{:>10.1}{:>+8.1}{:>+8.1}{repeated:>8}",
                direct.per_second,
                apart.per_second,
                through.per_second,
                through.per_second / direct.per_second,
                direct.cpu_us,
                direct.p50_us,
                apart.p50_us - direct.p50_us,
                through.p50_us - direct.p50_us,
            );
        }
        for FaultRow { what, requests, failed, p50_ms, p99_ms, longest_ms } in &self.faults {
            println!(
                "a pool of two, 16 callers, one member: {what:<12} {requests:>8} requests, {failed} failed, p50 {p50_ms:.2} ms, p99 {p99_ms:.1} ms, longest {longest_ms:.1} ms"
            );
        }
        for XksRow { row, module_cpu_us, beyond } in &self.xks {
            println!("{row}, of CPU {beyond} us above the module's {module_cpu_us:.1}");
        }
        for row in &self.cse {
            println!("{row}");
        }
        if let Some(resealing) = &self.resealing {
            resealing.print();
        }
        let singles = [
            ("resident memory after the loops, KiB", self.resident_kib),
            ("resident memory with 1,000 keys in use, KiB", self.resident_with_1000_keys_kib),
            ("start with as many keys as above, ms", self.start_with_many_keys_ms),
            ("cold release build, s", self.cold_build_seconds),
        ];
        for (what, figure) in singles.iter().filter_map(|(what, figure)| Some((what, (*figure)?))) {
            println!("{what}: {figure}");
        }
        std::fs::create_dir_all("target/bench")?;
        std::fs::write("target/bench/report.json", serde_json::to_vec_pretty(self)?)?;
        println!("written to target/bench/report.json");
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the tables are the program's output")]
    fn print_rows(&self) {
        if self.rows.is_empty() {
            return;
        }
        println!(
            "{:<20}{:>6}{:>12}{:>8}{:>12}{:>8}{:>10}{:>10}{:>9}",
            "", "conns", "requests/s", "ratio", "CPU us/req", "ratio", "p50 us", "p99 us", "p99 x"
        );
        for row in &self.rows {
            let bare = self.rows.iter().find(|other| other.connections == row.connections);
            let ratio = |own: f64, of: fn(&Row) -> f64| bare.map_or(0.0, |bare| own / of(bare));
            println!(
                "{:<20}{:>6}{:>12.0}{:>8.2}{:>12.1}{:>8.2}{:>10}{:>10}{:>9.2}",
                row.name,
                row.connections,
                row.requests_per_second,
                ratio(row.requests_per_second, |bare| bare.requests_per_second),
                row.server_cpu_us_per_request,
                ratio(row.server_cpu_us_per_request, |bare| bare.server_cpu_us_per_request),
                row.p50_us,
                row.p99_us,
                ratio(f64::from(row.p99_us), |bare| f64::from(bare.p99_us)),
            );
        }
    }
}
