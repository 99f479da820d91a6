//! Configuration: strict, small, its own manual. `reference.toml` is embedded and tested to equal the defaults.

use crate::azure_ekm::{self, AzureEkmTable};
use crate::backup::Readers;
use crate::emergency;
use crate::external_store::{self, AwsXksTable};
use crate::fault::Fault;
use crate::google_cse::{self, GoogleCseTable};
use crate::issuer::{self, IssuerTable};
use crate::ms_dke::{self, MsDkeTable};
use crate::paths;
use crate::shares::{NewCustodian, Recipient};
use crate::sinks::{self, SinkTable};
use crate::token::{self, PoolTable, TokenTable};
use holdfast_core::destruction::WaitingPeriod;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The reference file: every setting with its default and what it means.
pub const REFERENCE: &str = include_str!("reference.toml");

/// A slower reading would never come to its end.
const SLOWEST_SCRUB: u64 = 4096;

/// Ten minutes: a start has the disk for itself, and so have those who come back all at once after it.
const UNDISTURBED_SECONDS: u64 = 600;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The public listener.
    pub listen: Listen,
    /// TLS of the public listener.
    pub tls: Tls,
    /// The operator's own listener.
    pub admin: Admin,
    /// Bounds.
    pub limits: Limits,
    /// Backups.
    pub backup: Backup,
    /// Emergency copies of keys.
    pub emergency: Emergency,
    /// The end of keys.
    pub destruction: Ending,
    /// New keys.
    pub keys: Keys,
    /// The tokens that keys are made and used in; none: custody is in software.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token: Vec<TokenTable>,
    /// How they work together.
    pub pool: PoolTable,
    /// Copies of the audit logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sink: Vec<SinkTable>,
    /// Issuers whose tokens are believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuer: Vec<IssuerTable>,
    /// External key stores of AWS KMS that it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aws_xks: Vec<AwsXksTable>,
    /// Key services of Microsoft's Double Key Encryption that it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ms_dke: Vec<MsDkeTable>,
    /// Key services of Google Workspace's client-side encryption that it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub google_cse: Vec<GoogleCseTable>,
    /// Proxies of Azure Managed HSM's external keys that it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub azure_ekm: Vec<AzureEkmTable>,
    /// The second directory that checkpoints are kept in.
    pub anchor: Anchor,
    /// Witnesses that checkpoints are submitted to.
    pub witness: Vec<WitnessSettings>,
    /// Reading everything now and then.
    pub scrub: Scrub,
    /// The log of the daemon itself.
    pub log: Logging,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/holdfast"),
            listen: Listen::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            limits: Limits::default(),
            backup: Backup::default(),
            emergency: Emergency::default(),
            destruction: Ending::default(),
            keys: Keys::default(),
            token: vec![],
            pool: PoolTable::default(),
            sink: vec![],
            issuer: vec![],
            aws_xks: vec![],
            ms_dke: vec![],
            google_cse: vec![],
            azure_ekm: vec![],
            anchor: Anchor::default(),
            witness: vec![],
            scrub: Scrub::default(),
            log: Logging::default(),
        }
    }
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// Peers from which a PROXY protocol header is required and believed; empty: none is accepted.
    pub proxy_protocol_from: Vec<IpAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 8443)), proxy_protocol_from: vec![] }
    }
}

/// TLS of the public listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, PEM; empty: `DIR/tls/server.pem`, made by `init`.
    pub certificate_file: PathBuf,
    /// Private key, PEM; empty: `DIR/tls/server.key`.
    pub key_file: PathBuf,
    /// The oldest version that is spoken.
    pub minimum_version: TlsVersion,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificate_file: PathBuf::new(), key_file: PathBuf::new(), minimum_version: TlsVersion::V1_3 }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), for peers that know nothing newer.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// The operator's own listener: metrics and details of the status, in clear, for this machine only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// A loopback address and port; others are refused.
    pub address: SocketAddr,
    /// Whether it is served at all.
    pub enabled: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9443)), enabled: true }
    }
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Seconds that a TLS handshake may take.
    pub handshake_seconds: u64,
    /// Seconds until a request's header must have come, from when the connection is idle.
    pub header_seconds: u64,
    /// Seconds that a request's body may take to come, and an answer to be taken.
    pub body_seconds: u64,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Requests under way at once, over all connections.
    pub requests: usize,
    /// Seconds that a shutdown waits for what was accepted.
    pub shutdown_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 2_000,
            handshake_seconds: 10,
            header_seconds: 60,
            body_seconds: 30,
            streams_per_connection: 128,
            requests: 4_096,
            shutdown_seconds: 30,
        }
    }
}

/// Where backups go, and for whom they are encrypted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// The directory; empty: `DIR/backups`.
    pub directory: PathBuf,
    /// Those who may restore together, each with a share; empty, and no recipients: no backups are taken.
    pub custodians: Vec<NamedCustodian>,
    /// How many of them it takes.
    pub threshold: u8,
    /// Instead of custodians the `age1…` lines of those any one of whom may restore: of a dev directory, or where the root key is in shares.
    pub recipients: Vec<String>,
    /// For how many days a backup is kept by whoever keeps them; 0: that is not declared.
    pub keep_days: u32,
}

/// The end of keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ending {
    /// How many days a key waits before it is destroyed, at least. A dev directory's keys wait only if the order says so.
    pub waiting_days: u32,
}

/// The most that can be configured: whoever wants longer says so in the order.
const LONGEST_WAITING: u32 = 90;

impl Default for Ending {
    fn default() -> Self {
        Self { waiting_days: 7 }
    }
}

impl Ending {
    /// How long a key waits at least.
    pub(crate) fn period(&self, is_dev: bool) -> WaitingPeriod {
        match is_dev {
            true => WaitingPeriod::NONE,
            // What was not parsed was not checked.
            false => {
                let days = self.waiting_days.clamp(1, LONGEST_WAITING);
                WaitingPeriod::of_days(days).unwrap_or(WaitingPeriod::NONE)
            }
        }
    }
}

impl Default for Backup {
    fn default() -> Self {
        Self { directory: PathBuf::new(), custodians: vec![], threshold: 2, recipients: vec![], keep_days: 0 }
    }
}

/// Emergency copies of keys in tokens: off unless somebody is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Emergency {
    /// Those who open copies together, each with a share of every copy; empty: none are made, and none are opened.
    pub custodians: Vec<NamedCustodian>,
    /// How many of them it takes.
    pub threshold: u8,
}

impl Default for Emergency {
    fn default() -> Self {
        Self { custodians: vec![], threshold: 2 }
    }
}

/// Somebody who has a share: of each backup, or of each emergency copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCustodian {
    /// What the custodian is called.
    pub name: String,
    /// Their own `age1…` line.
    pub recipient: String,
}

impl NamedCustodian {
    /// With the setting that they stand in.
    ///
    /// # Errors
    /// For what is no name, and what is no recipient.
    pub(crate) fn parse(&self, setting: &str) -> Result<NewCustodian, Fault> {
        let Self { name, recipient } = self;
        let name = name.parse().map_err(|error: holdfast_core::id::InvalidId| {
            Fault::new(format!("`{name}` in `{setting}` is no name"))
                .remedy("name each custodian as a caller is named")
                .because(error)
        })?;
        Ok(NewCustodian { name, recipient: recipient_in(setting, recipient)? })
    }
}

/// An `age1…` line in a setting.
///
/// # Errors
/// For what is none.
pub(crate) fn recipient_in(setting: &str, line: &str) -> Result<Recipient, Fault> {
    line.parse().map_err(|why| {
        Fault::new(format!("`{line}` in `{setting}` is no age recipient: {why}"))
            .remedy("give the line `age1…` that `age-keygen` printed as the public key")
    })
}

/// New keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// When a new key, and a new version of one, is put into use; unless told when it is protected where backups have custodians, and at
    /// once elsewhere. In a dev directory always at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activate: Option<Activation>,
}

/// When new versions are put into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// When a verified backup, or a second member of the pool, holds them.
    WhenProtected,
    /// As soon as they are made.
    AtOnce,
}

/// The second directory: what an older copy of the data directory is found by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anchor {
    /// The directory, outside of the data directory, which must be there; empty: none.
    pub directory: PathBuf,
}

/// A witness (C2SP tlog-witness).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// What status and metrics call it; empty: the name in its key.
    #[serde(default)]
    pub name: String,
    /// Where it takes submissions: `/add-checkpoint` is put behind it.
    pub url: String,
    /// Its verifier key, of type 04.
    pub vkey: String,
    /// The authority of its certificate, PEM; empty: those of the machine.
    #[serde(default)]
    pub ca_file: PathBuf,
}

/// Reading everything that lies in the data directory now and then, to find damage early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scrub {
    /// Whether that is done.
    pub enabled: bool,
    /// The most that is read in a second, in bytes.
    pub bytes_per_second: u64,
    /// Hours from one beginning to the next.
    pub every_hours: u64,
    /// Seconds from the start of the gateway to the first beginning.
    pub first_after_seconds: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self {
            enabled: true,
            bytes_per_second: 2 << 20,
            every_hours: 24,
            first_after_seconds: UNDISTURBED_SECONDS,
        }
    }
}

/// The log of the daemon itself, on stderr; not the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `info,holdfast_gateway=debug`.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How the daemon's log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// For an unknown setting, a wrong type, or a value that makes no sense, each named with its line.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(path).map_err(|error| Fault::io("cannot read", path, error))?;
        Self::parse(&text)
            .map_err(|fault| Fault::new(format!("`{}` is refused", path.display())).because(fault))
    }

    /// Parses a configuration.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let remedy = "compare it with `holdfast serve --print-reference`";
        let config: Self =
            toml::from_str(text).map_err(|error| Fault::new(error.to_string()).remedy(remedy))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Fault> {
        if self.admin.enabled && !self.admin.address.ip().is_loopback() {
            return Err(Fault::new(format!(
                "`admin.address` {} is not a loopback address",
                self.admin.address
            ))
            .remedy("use 127.0.0.1 or [::1]: it speaks in clear; operators elsewhere ask `GET /v1/status`"));
        }
        let empty = |path: &Path| path.as_os_str().is_empty();
        if empty(&self.tls.certificate_file) != empty(&self.tls.key_file) {
            return Err(Fault::new("only one of `tls.certificate_file` and `tls.key_file` is set")
                .remedy("set both, or neither for the certificate that `init` made"));
        }
        Readers::of(&self.backup)?;
        emergency::custodians(&self.emergency)?;
        token::check(&self.token, &self.pool)?;
        sinks::check(&self.sink)?;
        issuer::check(&self.issuer)?;
        external_store::check(&self.aws_xks)?;
        ms_dke::check(&self.ms_dke, &self.issuer, &self.aws_xks)?;
        google_cse::check(&self.google_cse, &self.issuer)?;
        azure_ekm::check(&self.azure_ekm)?;
        paths::check(&self.google_cse, &self.aws_xks, &self.ms_dke, &self.azure_ekm)?;
        let Ending { waiting_days } = &self.destruction;
        if !(1..=LONGEST_WAITING).contains(waiting_days) {
            return Err(Fault::new(format!("`destruction.waiting_days` is {waiting_days}")).remedy(format!(
                "let keys wait 1 to {LONGEST_WAITING} days: that is the time in which an order by mistake is noticed"
            )));
        }
        let Limits { connections, handshake_seconds, header_seconds, body_seconds, requests, .. } =
            &self.limits;
        for (name, is_zero) in [
            ("connections", *connections == 0),
            ("requests", *requests == 0),
            ("handshake_seconds", *handshake_seconds == 0),
            ("header_seconds", *header_seconds == 0),
            ("body_seconds", *body_seconds == 0),
        ] {
            if is_zero {
                return Err(Fault::new(format!("`limits.{name}` is 0")).remedy("every limit is at least 1"));
            }
        }
        let Scrub { enabled, bytes_per_second, every_hours, first_after_seconds: _ } = &self.scrub;
        if *enabled && (*bytes_per_second < SLOWEST_SCRUB || *every_hours == 0) {
            return Err(Fault::new("`scrub.bytes_per_second` or `scrub.every_hours` is too small").remedy(
                format!("read at least {SLOWEST_SCRUB} bytes a second, an hour apart; or set `scrub.enabled` to false"),
            ));
        }
        Ok(())
    }
}

/// The settings that the reference file shows of a table, made ready: a line for each.
#[cfg(test)]
pub(crate) fn example(table: &str) -> String {
    let (_, example) = REFERENCE.split_once(&format!("# [[{table}]]")).unwrap_or_default();
    let lines = example.lines().skip(1).take_while(|line| !line.is_empty());
    let lines = lines.filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_equals_the_defaults() {
        assert_eq!(Config::parse(REFERENCE).unwrap(), Config::default());
    }

    /// Every setting stands in the reference file: serialising the defaults gives no key that it lacks.
    #[test]
    fn the_reference_file_is_complete() {
        fn keys(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
            for (key, value) in table {
                match value.as_table() {
                    Some(inner) => keys(&format!("{prefix}{key}."), inner, out),
                    None => out.push(format!("{prefix}{key}")),
                }
            }
        }
        let (mut defaults, mut reference) = (vec![], vec![]);
        keys("", &toml::Table::try_from(Config::default()).unwrap(), &mut defaults);
        keys("", &REFERENCE.parse().unwrap(), &mut reference);
        defaults.sort();
        reference.sort();
        assert_eq!(defaults, reference);
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(Config::parse("[limits]\nconections = 1").unwrap_err().to_string().contains("conections"));
        assert!(Config::parse("[admin]\naddress = \"0.0.0.0:1\"").is_err());
        assert!(Config::parse("[limits]\nconnections = 0").is_err());
        assert!(Config::parse("[tls]\nkey_file = \"/x\"").is_err());
        assert!(Config::parse("[scrub]\nbytes_per_second = 0").is_err());
        for days in [0, 91] {
            assert!(Config::parse(&format!("[destruction]\nwaiting_days = {days}")).is_err());
        }
    }
}
