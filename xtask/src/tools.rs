//! What the tests need beside Rust and a C compiler: found, or installed from Debian's packages.

use crate::kubernetes;
use crate::shell::{cargo, run};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program, or a module of one, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// Modules of Debian's own Python, below `/usr/lib/python3`.
const PYTHON_BOTOCORE: &str = "dist-packages/botocore/auth.py";
const PYTHON_JWT: &str = "dist-packages/jwt/__init__.py";
const PYTHON_CRYPTOGRAPHY: &str = "dist-packages/cryptography/__init__.py";
const PYTHON_REQUESTS: &str = "dist-packages/requests/__init__.py";
const PYTHON_GRPC: &str = "dist-packages/grpc/__init__.py";
const PYTHON_PROTOBUF: &str = "dist-packages/google/protobuf/message.py";
const PYTHON_YAML: &str = "dist-packages/yaml/__init__.py";

const TOOLS: [Tool; 22] = [
    Tool { program: "age", package: "age", why: "opens and makes files through the plugin" },
    Tool { program: "openssl", package: "openssl", why: "checks signatures and certificates as others do" },
    Tool { program: "python3", package: "python3", why: "opens a backup without Holdfast" },
    Tool { program: "curl", package: "curl", why: "speaks to the API as anybody would" },
    Tool { program: "mount", package: "mount", why: "makes a small disk that is filled" },
    Tool { program: "strace", package: "strace", why: "shows the order of syncs and answers" },
    Tool { program: "rsyslogd", package: "rsyslog", why: "receives what a sink sends" },
    Tool { program: "pkcs11-tool", package: "opensc", why: "looks at tokens as others do" },
    Tool { program: "softhsm2-util", package: "softhsm2", why: "holds keys in tokens" },
    Tool { program: "faketime", package: "faketime", why: "lets days pass for a process" },
    Tool { program: "swtpm", package: "swtpm", why: "is a TPM" },
    Tool { program: "tpm2_unseal", package: "tpm2-tools", why: "speaks to a TPM" },
    Tool {
        program: "libtss2-tcti-swtpm.so.0",
        package: "libtss2-tcti-swtpm0",
        why: "finds the TPM that is none",
    },
    Tool { program: "protoc", package: "protobuf-compiler", why: "makes messages of Kubernetes' protocol" },
    Tool {
        program: PYTHON_BOTOCORE,
        package: "python3-botocore",
        why: "signs requests as AWS's programs do",
    },
    Tool { program: PYTHON_JWT, package: "python3-jwt", why: "issues tokens as others do" },
    Tool { program: PYTHON_CRYPTOGRAPHY, package: "python3-cryptography", why: "has the keys for them" },
    Tool {
        program: PYTHON_REQUESTS,
        package: "python3-requests",
        why: "carries Google's client of key services",
    },
    Tool {
        program: PYTHON_GRPC,
        package: "python3-grpcio",
        why: "calls the KMS plugin as an API server does",
    },
    Tool { program: PYTHON_PROTOBUF, package: "python3-protobuf", why: "reads what it answers" },
    Tool { program: PYTHON_YAML, package: "python3-yaml", why: "reads what is in deploy/" },
    Tool { program: "lmnsd_gtls.so", package: "rsyslog-gnutls", why: "has rsyslog speak TLS" },
];

/// Where libraries and rsyslog's modules lie: below the directory of the machine's architecture on Debian.
fn library_directories() -> Vec<PathBuf> {
    let below = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let all = [PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")];
    let all = all.into_iter().chain(below.map(|entry| entry.path()));
    all.flat_map(|dir| [dir.join("rsyslog"), dir]).collect()
}

fn is_there(program: &str) -> bool {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(PathBuf::from)
        .chain(library_directories())
        .any(|directory| directory.join(program).is_file())
}

fn is_quiet_success(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Where cargo puts the tools that come as crates.
const CRATES: &str = "target/tools";

/// `rage` as it is measured against, optimised.
const MEASURED: &str = "target/tools/measured";
const RAGE: [&str; 6] = ["install", "rage", "--version", "0.12.1", "--locked", "--no-default-features"];

/// Builds `rage`, the other implementation of age, from its crate; once.
pub(crate) fn ensure_rage() -> Result<()> {
    if is_there("rage") || Path::new(CRATES).join("bin/rage").is_file() {
        return Ok(());
    }
    let into = ["--debug", "--root", CRATES, "--target-dir", "target/tools/build"];
    run("install rage", cargo().args(RAGE).args(into))
}

/// The same as people run it; gives where it is.
pub(crate) fn ensure_fast_rage() -> Result<PathBuf> {
    let rage = Path::new(MEASURED).join("bin/rage");
    if !rage.is_file() {
        let into = ["--root", MEASURED, "--target-dir", "target/tools/build"];
        run("install rage", cargo().args(RAGE).args(into))?;
    }
    Ok(rage)
}

/// The path for the tests: what was built for them first.
#[expect(clippy::disallowed_methods, reason = "the tests' path is this one's and a little more")]
pub(crate) fn path() -> Result<OsString> {
    let mut own = Vec::new();
    for directory in [Path::new(CRATES).join("bin"), PathBuf::from(kubernetes::PROGRAMS)] {
        std::fs::create_dir_all(&directory)?;
        own.push(directory.canonicalize()?);
    }
    let given = std::env::var("PATH").unwrap_or_default();
    let all = own.into_iter().chain(std::env::split_paths(&given));
    std::env::join_paths(all).context("the path cannot be joined")
}

/// What only `--slow` needs.
const SLOW: [Tool; 2] = [
    Tool { program: "go", package: "golang-go", why: "builds a client of gRPC as API servers have it" },
    Tool { program: GO_GRPC, package: "golang-google-grpc-dev", why: "is that gRPC" },
];
/// A Go library of Debian's.
const GO_GRPC: &str = "/usr/share/gocode/src/google.golang.org/grpc/clientconn.go";

/// Finds the tools, or installs them where that is possible; otherwise names what is missing.
pub(crate) fn ensure() -> Result<()> {
    all_of(&TOOLS)
}

/// The same for what only `--slow` needs.
pub(crate) fn ensure_slow() -> Result<()> {
    all_of(&SLOW)
}

fn all_of(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !is_there(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let advice = || {
        let list: Vec<_> = missing
            .iter()
            .map(|tool| format!("  {} ({}): {}", tool.program, tool.package, tool.why))
            .collect();
        format!("the tests need:\n{}\ninstall them, then run this again", list.join("\n"))
    };
    if !is_there("apt-get") {
        bail!(advice());
    }
    let as_root = rustix::process::geteuid().is_root();
    if !as_root && !is_quiet_success(Command::new("sudo").args(["-n", "true"])) {
        bail!("{}: `sudo apt-get install {}`", advice(), names.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut command = if as_root { Command::new("apt-get") } else { Command::new("sudo") };
        if !as_root {
            command.args(["-n", "apt-get"]);
        }
        command.args(arguments);
        command
    };
    run("apt-get update", &mut apt(&["update", "-qq"]))?;
    let mut install = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    run("apt-get install", install.args(&names))
}
