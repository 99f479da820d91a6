//! Tokens as they are configured: what a worker is started with, and where its PIN comes from.

use crate::fault::Fault;
use holdfast_core::{Secret, TenantId};
use holdfast_keystore::pkcs11::{Distribution, Launch, MAX_MEMBERS, Patience, Pool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longer than any PIN: PKCS#11 leaves the length to the token.
const LONGEST_PIN: u64 = 1024;
const MOST_MILLISECONDS: u64 = 60_000;
const MOST_SESSIONS: u32 = holdfast_keystore::pkcs11::worker::MAX_SESSIONS;

/// How the tokens work together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolTable {
    /// How a key gets to every token.
    pub distribution: Option<Distributed>,
    /// How many tokens must hold a new key before it is one: two where there are as many, unless told.
    pub copies: Option<usize>,
    /// With `wrapped`: the label of the wrapping key.
    pub kek: String,
    /// How long an operation may take in the tokens, in milliseconds, other members' attempts included.
    pub deadline_ms: u64,
    /// Within which time it is noticed that an idle token does not answer any more, in milliseconds.
    pub probe_ms: u64,
    /// The tenants whose custodians may adopt what other programs have made in the tokens.
    pub adopters: Vec<String>,
}

impl Default for PoolTable {
    fn default() -> Self {
        Self {
            distribution: None,
            copies: None,
            kek: "holdfast-kek".to_owned(),
            deadline_ms: 120,
            probe_ms: 1000,
            adopters: Vec::new(),
        }
    }
}

/// How a key gets to every token of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distributed {
    /// The vendor brings it there.
    Vendor,
    /// It travels under a trusted wrapping key.
    Wrapped,
}

/// A token (PKCS#11).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTable {
    /// What the pool calls it; its label unless told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The vendor's module.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// A file with the user's PIN and nothing else, closed to everybody but the gateway's user; or a descriptor, as `/dev/fd/3`.
    #[serde(default)]
    pub pin_file: PathBuf,
    /// Instead of it: a command that writes the PIN to its stdout, as program and arguments.
    #[serde(default)]
    pub pin_command: Vec<String>,
    /// Sessions, and so operations at once.
    #[serde(default = "sessions")]
    pub sessions: u32,
    /// Whether the kernel is to keep the module's process from the gateway's own directory and process.
    #[serde(default = "yes")]
    pub confined: bool,
    /// What the module's process has in its environment besides the gateway's.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

fn sessions() -> u32 {
    8
}

/// What can be seen to be wrong without starting anything.
///
/// # Errors
/// Names the setting.
pub(crate) fn check(tables: &[TokenTable], pool: &PoolTable) -> Result<(), Fault> {
    if tables.len() > MAX_MEMBERS {
        return Err(Fault::new(format!("there are {} `[[token]]`s", tables.len()))
            .remedy(format!("a pool has {MAX_MEMBERS} members at most")));
    }
    if tables.len() > 1 && pool.distribution.is_none() {
        return Err(Fault::new(
            "there are several `[[token]]`s, and `pool.distribution` does not say how a key gets to each",
        )
        .remedy(
            "set it to \"vendor\" if the vendor replicates them, so that what one makes the others have; to \"wrapped\" if they are single devices",
        ));
    }
    if let Some(copies) = pool.copies
        && !(1..=tables.len()).contains(&copies)
    {
        return Err(Fault::new(format!("`pool.copies` is {copies} with {} `[[token]]`s", tables.len()))
            .remedy("use a number from 1 to as many as there are"));
    }
    for (name, value, least) in [("deadline_ms", pool.deadline_ms, 10), ("probe_ms", pool.probe_ms, 100)] {
        if !(least..=MOST_MILLISECONDS).contains(&value) {
            return Err(Fault::new(format!("`pool.{name}` is {value}"))
                .remedy(format!("use a number from {least} to {MOST_MILLISECONDS}")));
        }
    }
    for adopter in &pool.adopters {
        if adopter.parse::<TenantId>().is_err() {
            return Err(Fault::new(format!("`pool.adopters` has `{adopter}`, which is no tenant's name"))
                .remedy(format!("name tenants: {}", TenantId::GRAMMAR)));
        }
    }
    for (place, table) in tables.iter().enumerate() {
        if tables.iter().take(place).any(|other| other.name() == table.name()) {
            return Err(Fault::new(format!("two `[[token]]`s are called `{}`", table.name()))
                .remedy("give each a `name` of its own"));
        }
    }
    for TokenTable { module, label, pin_file, pin_command, sessions, .. } in tables {
        if module.to_str().is_none_or(str::is_empty) || label.is_empty() {
            return Err(Fault::new("`token.module` or `token.label` is empty").remedy(
                "name the vendor's module and the token; `pkcs11-tool --module FILE -L` lists tokens",
            ));
        }
        if pin_file.as_os_str().is_empty() == pin_command.is_empty() {
            return Err(Fault::new("none or both of `token.pin_file` and `token.pin_command` are set")
                .remedy("set one of them"));
        }
        if !(1..=MOST_SESSIONS).contains(sessions) {
            return Err(Fault::new(format!("`token.sessions` is {sessions}"))
                .remedy(format!("use a number from 1 to {MOST_SESSIONS}")));
        }
    }
    Ok(())
}

impl PoolTable {
    /// How long the store waits for an operation, and for a key to be made.
    pub(crate) fn patience(&self) -> Patience {
        Patience { operation: Duration::from_millis(self.deadline_ms), ..Patience::default() }
    }

    /// The tenants that may adopt; `check` has seen that they are.
    pub(crate) fn adopters(&self) -> impl Iterator<Item = TenantId> {
        self.adopters.iter().filter_map(|adopter| adopter.parse().ok())
    }

    /// Whether its keys travel under a wrapping key.
    pub(crate) fn travels(&self) -> bool {
        self.distribution == Some(Distributed::Wrapped)
    }

    /// The pool, started on the runtime that this is called from; none without tokens. Reads the PINs.
    ///
    /// # Errors
    /// As [`TokenTable::launch`].
    pub(crate) fn start(&self, tables: &[TokenTable], data: &Path) -> Result<Option<Pool>, Fault> {
        if tables.is_empty() {
            return Ok(None);
        }
        let distribution = match self.distribution {
            Some(Distributed::Wrapped) => Distribution::Wrapped,
            Some(Distributed::Vendor) | None => Distribution::Vendor,
        };
        let kek = match distribution {
            Distribution::Wrapped => self.kek.as_str(),
            Distribution::Vendor => "",
        };
        let launch = |table: &TokenTable| {
            let closed = if table.confined { vec![data.to_owned()] } else { vec![] };
            let (overdue, probe) =
                (Duration::from_millis(self.deadline_ms), Duration::from_millis(self.probe_ms));
            Ok::<_, Fault>(Launch { kek: kek.to_owned(), closed, overdue, probe, ..table.launch()? })
        };
        let launches = tables.iter().map(launch).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Pool::start(launches, distribution, self.copies.unwrap_or(2))?))
    }
}

impl TokenTable {
    pub(crate) fn name(&self) -> &str {
        if self.name.is_empty() { &self.label } else { &self.name }
    }

    /// What its worker is started with. Reads the PIN.
    ///
    /// # Errors
    /// When there is none to be read, or it lies open to others.
    pub(crate) fn launch(&self) -> Result<Launch, Fault> {
        let Self { name: _, module, label, pin_file, pin_command, sessions, confined: _, environment } = self;
        let pin = match pin_command.split_first() {
            Some((program, arguments)) => from_command(program, arguments)?,
            None => from_file(pin_file)?,
        };
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        // `check` has seen that it is text.
        let module = module.to_str().unwrap_or_default();
        let name = self.name().to_owned();
        Ok(Launch { name, sessions: *sessions, environment, ..Launch::new(module, label, pin) })
    }
}

/// A PIN from a file that nobody else reads.
pub(crate) fn from_file(path: &Path) -> Result<Secret, Fault> {
    let failed = |error| Fault::io("cannot read the PIN from", path, error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(Fault::new(format!("the PIN in `{}` is open to other users", path.display()))
            .remedy("run `chmod 600` on it, and change the PIN if others may have read it"));
    }
    let pin = read(&file).map_err(failed)?;
    not_empty(pin, || format!("there is no PIN in `{}`", path.display()))
}

fn from_command(program: &str, arguments: &[String]) -> Result<Secret, Fault> {
    let failed = |error| Fault::io("cannot run", Path::new(program), error);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let read = child.stdout.take().map(read).transpose();
    let status = child.wait().map_err(failed)?;
    let pin = read.map_err(failed)?.unwrap_or_else(|| Secret::new(Vec::new()));
    if !status.success() {
        return Err(Fault::new(format!("`{program}`, which should say the PIN, ended with {status}"))
            .remedy("run it as the gateway's user to see why"));
    }
    not_empty(pin, || format!("`{program}` said no PIN"))
}

/// A line end after it is not part of it.
fn read(from: impl Read) -> std::io::Result<Secret> {
    let mut pin = Secret::new(Vec::with_capacity(usize::try_from(LONGEST_PIN).unwrap_or(0)));
    from.take(LONGEST_PIN).read_to_end(pin.expose_mut())?;
    while pin.expose().last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        pin.expose_mut().pop();
    }
    Ok(pin)
}

fn not_empty(pin: Secret, problem: impl FnOnce() -> String) -> Result<Secret, Fault> {
    match pin.is_empty() {
        false => Ok(pin),
        true => Err(Fault::new(problem()).remedy("write the token's user PIN there, and nothing else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn table(text: &str) -> Result<TokenTable, Fault> {
        let table: TokenTable = toml::from_str(text).map_err(|error| Fault::new(error.to_string()))?;
        check(std::slice::from_ref(&table), &PoolTable::default()).map(|()| table)
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_setting() {
        let good = "module = '/m.so'\nlabel = 'holdfast'\npin_file = '/pin'\n";
        assert_eq!(table(good).unwrap().sessions, 8);
        for (text, named) in [
            (good.replace("/m.so", ""), "token.module"),
            (good.replace("holdfast", ""), "token.label"),
            (good.replace("pin_file = '/pin'", ""), "token.pin_file"),
            (format!("{good}pin_command = ['cat']"), "token.pin_command"),
            (format!("{good}sessions = 0"), "token.sessions"),
            (format!("{good}sessions = 65"), "token.sessions"),
            (format!("{good}pin = '1234'"), "unknown field `pin`"),
        ] {
            let problem = table(&text).unwrap_err().to_string();
            assert!(problem.contains(named), "{text}: {problem}");
        }
        let one = table(good).unwrap();
        let two = TokenTable { name: "second".to_owned(), ..one.clone() };
        let vendor = PoolTable { distribution: Some(Distributed::Vendor), ..PoolTable::default() };
        assert!(check(&[one.clone(), two.clone()], &vendor).is_ok());
        for (tables, pool, named) in [
            (vec![one.clone(), two.clone()], PoolTable::default(), "pool.distribution"),
            (vec![one.clone(), one.clone()], vendor.clone(), "two `[[token]]`s are called `holdfast`"),
            (vec![one.clone(), two], PoolTable { copies: Some(3), ..vendor.clone() }, "pool.copies"),
            (vec![one.clone()], PoolTable { copies: Some(0), ..vendor.clone() }, "pool.copies"),
            (
                vec![one.clone()],
                PoolTable { adopters: vec!["Acme!".to_owned()], ..vendor.clone() },
                "pool.adopters",
            ),
            (vec![one.clone()], PoolTable { deadline_ms: 9, ..vendor.clone() }, "pool.deadline_ms"),
            (vec![one.clone()], PoolTable { probe_ms: 60_001, ..vendor.clone() }, "pool.probe_ms"),
            (vec![one; 17], vendor, "17"),
        ] {
            let problem = check(&tables, &pool).unwrap_err().to_string();
            assert!(problem.contains(named), "{problem}");
        }
    }

    #[test]
    fn a_pin_comes_from_a_file_that_nobody_else_reads_or_from_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let mut table = table("module = '/m.so'\nlabel = 'l'\npin_file = '/pin'").unwrap();
        table.pin_file = path.clone();
        assert!(table.launch().is_err(), "there is none");
        for (mode, text, pin) in [
            (0o600, "5678\n", Some("5678")),
            (0o400, "56 78", Some("56 78")),
            (0o600, "\n", None),
            (0o640, "5678", None),
            (0o604, "5678", None),
        ] {
            drop(std::fs::remove_file(&path));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = table.launch().map(|launch| launch.pin);
            assert_eq!(read.ok(), pin.map(|pin| Secret::from(pin.as_bytes())), "{mode:o} {text:?}");
        }
        // A descriptor that whoever starts the gateway has put the PIN into.
        let (ours, mut theirs) = std::io::pipe().unwrap();
        theirs.write_all(b"5678\n").unwrap();
        drop(theirs);
        table.pin_file = PathBuf::from(format!("/dev/fd/{}", ours.as_raw_fd()));
        assert_eq!(table.launch().unwrap().pin, Secret::from(&b"5678"[..]));
        table.pin_file = PathBuf::new();
        for (command, pin) in [
            (["echo", "5678"], Some("5678")),
            (["false", ""], None),
            (["true", ""], None),
            (["/nowhere", ""], None),
        ] {
            table.pin_command = command.map(str::to_owned).to_vec();
            let read = table.launch().map(|launch| launch.pin);
            assert_eq!(read.ok(), pin.map(|pin| Secret::from(pin.as_bytes())), "{command:?}");
        }
    }
}
