//! An API server with etcd, for `--slow`: etcd and `kubectl` as Debian's newest release has them, and an API server that is built from what it
//! has of Kubernetes' Go sources. This machine's own release is too old for any of it.
//!
//! Nothing is installed: packages are downloaded by an apt with a directory of its own, checked by it as ever, and unpacked below `target/`.

use crate::archive::Archive;
use crate::shell::run;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Where the programs are.
pub(crate) const PROGRAMS: &str = "target/tools/kubernetes/bin";
/// What they are made in: some 5 GB, gone once they are there.
const WORK: &str = "target/tools/kubernetes/work";
/// The API server of custom resources: what `kube-apiserver` has in it, with the same storage, encryption and health checks, and a program of its own.
const API_SERVER: (&str, &str) = ("apiextensions-apiserver", "k8s.io/apiextensions-apiserver");
/// What is taken from packages as it is.
const READY_MADE: [&str; 3] = ["etcd", "etcdctl", "kubectl"];
/// Always the newest: the packages of Kubernetes are in no stable release.
const SUITE: &str = "sid";
const PACKAGES: [&str; 5] =
    ["golang-k8s-apiextensions-apiserver-dev", "golang-go", "etcd-server", "etcd-client", "kubectl"];

/// Makes the programs, once.
pub(crate) fn ensure() -> Result<()> {
    let there = |name: &str| Path::new(PROGRAMS).join(name).is_file();
    if READY_MADE.into_iter().chain([API_SERVER.0]).all(there) {
        return Ok(());
    }
    let archive = Archive::of_this_machine().with_context(missing)?;
    // What an earlier attempt left may be half of it.
    if Path::new(WORK).exists() {
        fs::remove_dir_all(WORK)?;
    }
    fs::create_dir_all(WORK)?;
    let work = Path::new(WORK).canonicalize()?;
    download(&work, &archive).with_context(missing)?;
    unpack(&work)?;
    build(&work).with_context(missing)?;
    fs::create_dir_all(PROGRAMS)?;
    for name in READY_MADE {
        fs::copy(work.join("root/usr/bin").join(name), Path::new(PROGRAMS).join(name))?;
    }
    // The last one, since it says that all are there.
    fs::copy(work.join(API_SERVER.0), Path::new(PROGRAMS).join(API_SERVER.0))?;
    fs::remove_dir_all(WORK).context("what the programs were made in cannot be removed")
}

fn missing() -> String {
    let names = [API_SERVER.0].into_iter().chain(READY_MADE).collect::<Vec<_>>().join("`, `");
    format!("`--slow` needs an API server with etcd; put `{names}` into {PROGRAMS}, or run it on Debian")
}

/// An apt that knows of one archive and of no package that is installed.
fn apt(work: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(work.join("apt.conf"));
    command
}

fn download(work: &Path, archive: &Archive) -> Result<()> {
    let packages = work.join("packages");
    for directory in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(directory))?;
    }
    fs::create_dir_all(&packages)?;
    fs::write(work.join("status"), "")?;
    fs::write(work.join("debian.sources"), archive.stanza(SUITE))?;
    let here = work.to_str().context("the repository's path is not UTF-8")?;
    fs::write(work.join("apt.conf"), settings(here))?;
    run(
        &format!("apt-get update ({SUITE})"),
        apt(work, "apt-get").args(["update", "-qq", "--error-on=any"]),
    )?;
    let wanted = ["install", "--simulate", "--no-install-recommends"];
    let simulated = apt(work, "apt-get").args(wanted).args(PACKAGES).output()?;
    ensure!(
        simulated.status.success(),
        "{SUITE} does not have {PACKAGES:?} together: {}",
        String::from_utf8_lossy(&simulated.stderr)
    );
    let simulated = String::from_utf8_lossy(&simulated.stdout).into_owned();
    let names = needed(&simulated);
    let what = format!("apt-get download ({} packages, some 400 MB)", names.len());
    run(&what, apt(work, "apt-get").args(["download", "-qq"]).args(&names).current_dir(&packages))
}

/// What keeps it apart from this machine's apt: directories, pins and a default release are its own.
fn settings(work: &str) -> String {
    format!(
        "Dir::Etc::SourceList \"{work}/debian.sources\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n\
         Dir::State::Lists \"{work}/lists\";\n\
         Dir::State::Status \"{work}/status\";\n\
         Dir::Cache \"{work}/cache\";\n\
         APT::Default-Release \"\";\n\
         APT::Sandbox::User \"\";\n\
         Debug::NoLocking \"true\";\n"
    )
}

/// Of all that would be installed what has the programs, the compiler, and sources in Go.
fn needed(simulated: &str) -> Vec<&str> {
    let names = simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names
        .filter(|name| {
            let go =
                name.starts_with("golang-") && ["-dev", "-go", "-src"].iter().any(|end| name.ends_with(end));
            go || PACKAGES.contains(name)
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "a chore tells what it does")]
fn unpack(work: &Path) -> Result<()> {
    let root = work.join("root");
    let packages: Vec<PathBuf> =
        fs::read_dir(work.join("packages"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    for (number, package) in packages.iter().enumerate() {
        if number % 100 == 0 {
            eprintln!("── unpack: {number} of {} packages", packages.len());
        }
        let unpacked = Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root).status()?;
        ensure!(unpacked.success(), "{} cannot be unpacked", package.display());
    }
    Ok(())
}

/// Builds the API server of the unpacked sources alone: nothing is fetched.
#[expect(clippy::print_stderr, reason = "a chore tells what it does")]
fn build(work: &Path) -> Result<()> {
    let begin = Instant::now();
    let root = work.join("root/usr");
    let mut go = Command::new(root.join("lib/go/bin/go"))
        .args(["build", "-v", "-ldflags", "-s -w", "-o"])
        .arg(work.join(API_SERVER.0))
        .arg(API_SERVER.1)
        .env("GOROOT", root.join("lib/go").canonicalize()?)
        .env("GOPATH", root.join("share/gocode"))
        .env("GOCACHE", work.join("built"))
        .env("GO111MODULE", "off")
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("CGO_ENABLED", "0")
        .stderr(Stdio::piped())
        .spawn()
        .context("the unpacked Go does not run")?;
    eprintln!("── go build {}: some 1400 packages, a few minutes", API_SERVER.1);
    let mut said = Vec::new();
    for line in go.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        said.push(line?);
        if said.len() % 200 == 0 {
            eprintln!("── go build: {} packages, {} s", said.len(), begin.elapsed().as_secs());
        }
    }
    if !go.wait()?.success() {
        let last = said.split_at(said.len().saturating_sub(20)).1.join("\n");
        bail!("go build: failed after {} s:\n{last}", begin.elapsed().as_secs());
    }
    eprintln!("── go build: {} s", begin.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn of_what_would_be_installed_only_sources_the_compiler_and_the_programs_are_taken() {
        let simulated = "NOTE: This is only a simulation!\n\
            Reading package lists...\n\
            Inst libc6 (2.43-7 Debian:unstable [amd64])\n\
            Inst golang-1.27-go (1.27.3-1 Debian:unstable [amd64])\n\
            Inst golang-k8s-api-dev (0.36.4-1 Debian:unstable [all])\n\
            Inst golang-golang-x-tools (1:0.52.0+ds-3 Debian:unstable [amd64])\n\
            Inst etcd-server (3.5.30-2 Debian:unstable [amd64])\n\
            Conf etcd-server (3.5.30-2 Debian:unstable [amd64])\n";
        assert_eq!(needed(simulated), ["golang-1.27-go", "golang-k8s-api-dev", "etcd-server"]);
    }
}
