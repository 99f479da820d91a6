//! Fuzzing: `fuzz/` holds one target a decoder and its corpus.
//!
//! The tests mutate blindly, for seconds, with what is there anyway ([`briefly`]). This chore lets libFuzzer follow the branches that an input
//! takes, for as long as somebody likes ([`run`]), on the stable toolchain: the compiler's own coverage pass needs no other.

use crate::shell::{self, cargo};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CORPUS: &str = "fuzz/corpus";
const BUILD: &str = "target/fuzz";
/// What libFuzzer needs from the compiler: counters of edges, their places, and what was compared.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Longer inputs are cut.
const MAX_LEN: usize = 8192;

/// How many targets there are.
pub(crate) fn count() -> Result<u64> {
    Ok(u64::try_from(targets()?.len())?)
}

fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(CORPUS).context("there is no fuzz/corpus")?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Mutates blindly, all targets, each for so many seconds.
pub(crate) fn briefly(seconds: u64) -> Result<()> {
    // The tests' own build: its overflow checks and debug assertions find more than speed would.
    let mut runner = cargo();
    runner.args(["run", "--quiet", "--package", "holdfast-fuzz", "--bin", "holdfast-fuzz", "--"]);
    shell::run("fuzz", runner.args(["--seconds", &seconds.to_string()]))
}

/// Fuzzes one target or all of them, each for so many seconds, and keeps the inputs that reach what no other did.
pub(crate) fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    let guided = build()?;
    for name in targets()?.iter().filter(|name| target.is_none_or(|target| target == *name)) {
        let corpus = Path::new(CORPUS).join(name);
        let found = Path::new(BUILD).join("found").join(name);
        let artifacts = Path::new("fuzz/artifacts").join(name);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&artifacts)?;
        let run = |what: &str, arguments: &[String]| {
            let mut command = Command::new(&guided);
            command.env("HOLDFAST_FUZZ_TARGET", name).args(arguments);
            shell::run(&format!("{what} {name}"), command.arg(format!("-max_len={MAX_LEN}")))
        };
        let [own, new] = [&corpus, &found].map(|path| path.display().to_string());
        let time = format!("-max_total_time={seconds}");
        // A panic ends it and leaves its input there.
        let artifacts = format!("-artifact_prefix={}/", artifacts.display());
        let bounds = ["-timeout=20", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"];
        let mut fuzz = vec![new.clone(), own.clone(), time, artifacts];
        fuzz.extend(bounds.map(str::to_owned));
        run("fuzz", &fuzz)?;
        // What is kept reaches another edge; another number of rounds through the same ones is worth no file.
        let keep = ["-merge=1", "-use_counters=0", "-verbosity=0"].map(str::to_owned);
        run("keep", &[&keep[..], &[own, new]].concat())?;
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let host = host()?;
    let mut build = cargo();
    build.args(["build", "--profile", "fuzz", "--package", "holdfast-fuzz", "--features", "guided"]);
    // Named, so that build scripts and macros are none of what is measured.
    build.args(["--bin", "holdfast-fuzz-guided", "--target", &host, "--target-dir", BUILD]);
    shell::run("build with coverage", build.env("RUSTFLAGS", COVERAGE))?;
    Ok(Path::new(BUILD).join(host).join("fuzz/holdfast-fuzz-guided"))
}

fn host() -> Result<String> {
    let told = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let told = String::from_utf8(told.stdout)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}
