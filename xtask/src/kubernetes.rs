//! An API server with etcd, for `--slow`: etcd and `kubectl` as Debian's unstable release has them, and an API server that is built from what it
//! has of Kubernetes' Go sources. This machine's own release is too old for any of it.
//!
//! Nothing is installed: packages are downloaded by an apt with a directory of its own, checked by it as ever, and unpacked below `target/`.

use crate::archive::Archive;
use crate::shell::run;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Where the programs are.
pub(crate) const PROGRAMS: &str = "target/tools/kubernetes/bin";
/// What they are made in: some 5 GB, gone once they are there.
const WORK: &str = "target/tools/kubernetes/work";
/// The API server of custom resources: what `kube-apiserver` has in it, with the same storage, encryption and health checks, and a program of its own.
const API_SERVER: Program = Program { name: "apiextensions-apiserver", trial: &["--help"] };
const API_SERVER_PACKAGE: &str = "k8s.io/apiextensions-apiserver";
/// What is taken from packages as it is.
const READY_MADE: [Program; 3] = [
    Program { name: "etcd", trial: &["--version"] },
    Program { name: "etcdctl", trial: &["version"] },
    Program { name: "kubectl", trial: &["version", "--client"] },
];
/// Always the newest: the packages of Kubernetes are in no stable release.
const SUITE: &str = "sid";
const PACKAGES: [&str; 5] =
    ["golang-k8s-apiextensions-apiserver-dev", "golang-go", "etcd-server", "etcd-client", "kubectl"];

/// A program, and how it is called to see whether it runs.
#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    trial: &'static [&'static str],
}

impl Program {
    /// One that was made for a newer release than this machine's, or half of one, does not run.
    fn runs(self, directory: &Path) -> Result<()> {
        let path = directory.join(self.name);
        let tried = Command::new(&path).args(self.trial).stdin(Stdio::null()).output();
        let tried = tried.with_context(|| format!("cannot run {}", path.display()))?;
        let said = String::from_utf8_lossy(&tried.stderr);
        ensure!(
            tried.status.success(),
            "{} does not run here ({}): {}",
            path.display(),
            tried.status,
            said.trim()
        );
        Ok(())
    }

    /// Puts it into another directory, whole or not at all.
    fn put(self, from: &Path, into: &Path) -> Result<()> {
        let unfinished = into.join(format!(".{}", self.name));
        fs::copy(from.join(self.name), &unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(unfinished, into.join(self.name))?;
        Ok(())
    }
}

/// Makes the programs, once.
pub(crate) fn ensure() -> Result<()> {
    let programs = Path::new(PROGRAMS);
    // A program that was put there by hand need not be one that runs.
    let mut all = READY_MADE.into_iter().chain([API_SERVER]);
    let Err(lacking) = all.try_for_each(|program| program.runs(programs)) else {
        return forget_the_work();
    };
    make(programs).with_context(|| {
        let names = READY_MADE.into_iter().chain([API_SERVER]).map(|program| program.name);
        let names = names.collect::<Vec<_>>().join("`, `");
        format!(
            "there is no API server with etcd ({lacking}), which is made of the packages of Debian's {SUITE}: put `{names}` into {PROGRAMS}, or run this again where, and when, these can be had"
        )
    })
}

fn make(programs: &Path) -> Result<()> {
    let archive = Archive::of_this_machine()?;
    // What an earlier attempt left may be half of it.
    forget_the_work()?;
    fs::create_dir_all(WORK)?;
    let work = Path::new(WORK).canonicalize()?;
    download(&work, &archive)?;
    unpack(&work)?;
    build(&work)?;
    fs::create_dir_all(programs)?;
    let unpacked = work.join("root/usr/bin");
    for (program, from) in
        READY_MADE.map(|program| (program, &unpacked)).into_iter().chain([(API_SERVER, &work)])
    {
        program.runs(from)?;
        program.put(from, programs)?;
    }
    forget_the_work()
}

fn forget_the_work() -> Result<()> {
    if Path::new(WORK).exists() {
        fs::remove_dir_all(WORK).context("what the programs were made in cannot be removed")?;
    }
    Ok(())
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

/// What keeps it apart from this machine's apt: directories, pins and a default release are its own, and none of the commands that this one
/// runs beside its work, as root perhaps, has anything to do with it.
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
         Debug::NoLocking \"true\";\n\
         #clear APT::Update;\n\
         #clear DPkg;\n\
         #clear AptCli::Hooks;\n"
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
        .arg(work.join(API_SERVER.name))
        .arg(API_SERVER_PACKAGE)
        .env("GOROOT", root.join("lib/go").canonicalize()?)
        .env("GOPATH", root.join("share/gocode"))
        .env("GOCACHE", work.join("built"))
        // What it counts of itself lies below these.
        .env("HOME", work)
        .env("XDG_CONFIG_HOME", work.join("config"))
        .env("GO111MODULE", "off")
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("CGO_ENABLED", "0")
        .stderr(Stdio::piped())
        .spawn()
        .context("the unpacked Go does not run")?;
    eprintln!("── go build {}: some 1400 packages, a few minutes", API_SERVER_PACKAGE);
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
    use super::{Program, needed, settings};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

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

    #[test]
    fn a_program_that_does_not_run_here_is_named_with_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let program = Program { name: "etcd", trial: &["--version"] };
        assert!(program.runs(directory.path()).unwrap_err().to_string().starts_with("cannot run"));
        let write = |script: &str| {
            let path = directory.path().join(program.name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        write("#!/bin/sh\necho 'version GLIBC_2.99 not found' >&2; exit 1\n");
        let refused = program.runs(directory.path()).unwrap_err().to_string();
        assert!(
            refused.contains("does not run here") && refused.ends_with("GLIBC_2.99 not found"),
            "{refused}"
        );
        write("#!/bin/sh\n[ \"$1\" = --version ]\n");
        program.runs(directory.path()).unwrap();
    }

    #[test]
    fn a_program_takes_its_place_whole() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = Program { name: "kubectl", trial: &[] };
        let place = into.path().join(program.name);
        fs::write(&place, "the one before").unwrap();
        fs::write(into.path().join(".kubectl"), "half of on").unwrap();
        let before = fs::File::open(&place).unwrap();
        fs::write(from.path().join(program.name), "the next").unwrap();
        program.put(from.path(), into.path()).unwrap();
        // Nobody sees a part of it: who has the one before has all of that.
        assert_eq!(std::io::read_to_string(before).unwrap(), "the one before");
        assert_eq!(fs::read_to_string(place).unwrap(), "the next");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_that_this_machine_s_apt_runs_beside_its_work_is_run() {
        if !super::Path::new("/usr/bin/apt-config").is_file() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (machine, own) = (directory.path().join("machine"), directory.path().join("own"));
        let hooks = [
            "APT::Update::Pre-Invoke",
            "APT::Update::Post-Invoke",
            "APT::Update::Post-Invoke-Success",
            "DPkg::Pre-Invoke",
            "DPkg::Post-Invoke",
            "DPkg::Pre-Install-Pkgs",
            "AptCli::Hooks::Install",
        ]
        .map(|hook| format!("{hook} {{ \"{hook}-s\"; }};\n"));
        let dump = |arguments: &[&str]| {
            let mut command = Command::new("apt-config");
            let output = command.env("APT_CONFIG", &machine).args(arguments).arg("dump").output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        fs::write(&machine, hooks.concat()).unwrap();
        fs::write(&own, settings("/nowhere")).unwrap();
        let (theirs, ours) = (dump(&[]), dump(&["-c", own.to_str().unwrap()]));
        assert!(ours.contains("Dir::State::lists \"/nowhere/lists\""), "{ours}");
        for hook in hooks.map(|hook| format!("\"{}-s\"", hook.split(' ').next().unwrap())) {
            assert!(theirs.contains(&hook) && !ours.contains(&hook), "{hook}");
        }
        assert!(!ours.contains("-Invoke"), "{ours}");
    }
}
