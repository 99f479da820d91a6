//! What is measured of the machine and of a server's process, all from `/proc`.

use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Child;

/// Where the figures were made.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Of the data directory.
    pub(crate) file_system: String,
    /// Median of an append and fdatasync of 4 KiB in the data directory's file system, microseconds.
    pub(crate) fdatasync_p50_us: u64,
}

/// Describes the machine; writes and removes a small file in `directory`.
pub(crate) fn describe(directory: &Path) -> Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let path = directory.canonicalize()?;
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    Ok(Machine {
        cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
        cores: std::thread::available_parallelism()?.get(),
        file_system: mount.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned()),
        fdatasync_p50_us: fdatasync(directory)?,
    })
}

fn fdatasync(directory: &Path) -> Result<u64> {
    let mut file = tempfile::tempfile_in(directory)?;
    // Preallocated, as a log's segment is.
    file.write_all(&vec![0; 4 << 20])?;
    file.sync_all()?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let mut times: Vec<u64> = (0..500)
        .map(|_| {
            let begin = Instant::now();
            file.write_all(&[7; 4096])?;
            file.sync_data()?;
            Ok(u64::try_from(begin.elapsed().as_micros())?)
        })
        .collect::<Result<_>>()?;
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("no measurement")
}

/// A server's process; ended when dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Takes charge of a child that was made with `kill_on_drop`.
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn end(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id().context("the server has ended")?)?;
        let process = rustix::process::Pid::from_raw(id).context("no such process")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        self.child.wait().await?;
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let id = self.child.id().context("the server has ended")?;
        Ok(fs::read_to_string(format!("/proc/{id}/{file}"))?)
    }

    /// User and system time that it has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id().context("the server has ended")?)
    }

    /// The same with its children's, such as the processes that modules of tokens are in.
    pub(crate) fn cpu_with_children(&self) -> Result<Duration> {
        let own = self.child.id().context("the server has ended")?;
        let mut all = self.cpu()?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1));
            if parent.and_then(|parent| parent.parse::<u32>().ok()) == Some(own) {
                all += cpu_of(pid)?;
            }
        }
        Ok(all)
    }

    /// Resident memory.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// User and system time that a process has used so far (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no such format of /proc/PID/stat")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second()))
}
