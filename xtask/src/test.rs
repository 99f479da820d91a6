//! Everything that must hold, in one command.

use crate::fuzz;
use crate::kubernetes;
use crate::shell::{self, cargo};
use crate::tools;
use anyhow::{Context as _, Result, ensure};

/// Seconds that all fuzz targets get together; they take all cores at once.
const FUZZ_SECONDS_IN_ALL: u64 = 240;

/// The tests that need an API server with etcd.
const WITH_AN_API_SERVER: &str = "end_to_end::";

/// Installs or finds what the tests need; with `slow`, what those need too that take longer.
pub(crate) fn tools(slow: bool) -> Result<()> {
    all_but_an_api_server(slow)?;
    if slow { kubernetes::ensure() } else { Ok(()) }
}

fn all_but_an_api_server(slow: bool) -> Result<()> {
    tools::ensure()?;
    if slow {
        tools::ensure_slow()?;
    }
    tools::ensure_rage()
}

/// Runs all tests; with `slow`, those too that take longer.
///
/// The packages that an API server is made of change daily and do not fit together each day. Where it cannot be made all that needs none is
/// run, and the whole fails at its end.
#[expect(clippy::print_stderr, reason = "a chore tells what it does")]
pub(crate) fn run(slow: bool) -> Result<()> {
    all_but_an_api_server(slow)?;
    let api_server = if slow { kubernetes::ensure() } else { Ok(()) };
    if let Err(error) = &api_server {
        eprintln!("── {error:#}\n── without `{WITH_AN_API_SERVER}`, therefore");
    }
    shell::run("format", cargo().args(["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    shell::run("lints", cargo().args(lints))?;
    let mut tests = cargo();
    tests
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("HOLDFAST_REQUIRE_TOOLS", "1")
        .env("PATH", tools::path()?);
    if slow {
        tests.env("HOLDFAST_SLOW", "1").env("PROPTEST_CASES", "4096");
    }
    if api_server.is_err() {
        tests.args(["--", "--skip", WITH_AN_API_SERVER]);
    }
    shell::run("tests", &mut tests)?;
    if slow {
        let law = ["test", "--release", "--package", "holdfast-core", "--test", "law", "--", "--ignored"];
        shell::run("the law under a great many faults", cargo().args(law))?;
    }
    interleavings()?;
    fuzz::briefly(FUZZ_SECONDS_IN_ALL / fuzz::count()?.max(1))?;
    api_server.with_context(|| format!("`{WITH_AN_API_SERVER}` was not tested; all else has passed"))
}

/// Every interleaving of a stop order with results on their way out; a build of its own, since loom replaces the atomics.
fn interleavings() -> Result<()> {
    const FILTER: &str = "stop::interleavings";
    let command = || {
        let mut command = cargo();
        command
            .args(["test", "--package", "holdfast-core", "--lib", "--target-dir", "target/loom", FILTER])
            .env("RUSTFLAGS", "--cfg loom")
            .env("LOOM_MAX_PREEMPTIONS", "3");
        command
    };
    // A filter that matches nothing would pass.
    let listed = command().args(["--", "--list"]).output()?;
    ensure!(String::from_utf8_lossy(&listed.stdout).contains(FILTER), "no test is named `{FILTER}`");
    shell::run("interleavings", &mut command())
}
