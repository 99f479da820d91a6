//! The table and the file.

use crate::load::Measured;
use crate::machine::Machine;
use anyhow::Result;
use serde::Serialize;
use std::time::Duration;

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    connections: usize,
    requests: usize,
    requests_per_second: f64,
    server_cpu_us_per_request: f64,
    p50_us: u32,
    p99_us: u32,
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn new(name: &str, connections: usize, measured: &Measured, cpu: Duration) -> Self {
        let Measured { elapsed, latencies } = measured;
        let requests = latencies.len();
        let at = |share: usize| latencies.get(requests * share / 100).copied().unwrap_or_default();
        Self {
            name: name.to_owned(),
            connections,
            requests,
            requests_per_second: requests as f64 / elapsed.as_secs_f64(),
            server_cpu_us_per_request: cpu.as_secs_f64() * 1e6 / requests.max(1) as f64,
            p50_us: at(50),
            p99_us: at(99),
        }
    }
}

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
    /// The gateway's resident memory at the end.
    pub(crate) resident_kib: u64,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, rows: vec![], resident_kib: 0 }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table, ratios against the bare server with as many connections, and writes the file.
    #[expect(clippy::print_stdout, reason = "the table is the program's output")]
    pub(crate) fn finish(&self) -> Result<()> {
        println!("{:?}", self.machine);
        println!("resident memory of the gateway: {} KiB", self.resident_kib);
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
        std::fs::create_dir_all("target/bench")?;
        std::fs::write("target/bench/report.json", serde_json::to_vec_pretty(self)?)?;
        println!("written to target/bench/report.json");
        Ok(())
    }
}
