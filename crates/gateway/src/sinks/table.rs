//! A `[[sink]]` of the configuration.

use crate::fault::Fault;
use holdfast_audit::LogId;
use holdfast_audit::sink::syslog::{EXAMPLE_ENTERPRISE, Format};
use holdfast_audit::sink::{Destination, Pace, Settings, SinkName, file, syslog};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a receiver may not move before it is given up.
const STALL: Duration = Duration::from_secs(30);
/// The longest session: what is not settled after an unclean end is sent again.
const MAX_SESSION_SECONDS: u64 = 3600;

/// A copy of audit logs for somebody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkTable {
    /// A file of JSON lines.
    File {
        /// The sink's name.
        name: String,
        /// Whose logs; empty: everybody's, `_gateway`'s and later tenants' too.
        #[serde(default)]
        tenants: Vec<String>,
        /// The file.
        path: PathBuf,
    },
    /// A syslog receiver, RFC 5424 over TLS (RFC 5425).
    Syslog {
        /// The sink's name.
        name: String,
        /// Whose logs; empty: everybody's, `_gateway`'s and later tenants' too.
        #[serde(default)]
        tenants: Vec<String>,
        /// `HOST:PORT`.
        address: String,
        /// The name that the receiver's certificate must have; empty: the host of the address.
        #[serde(default)]
        server_name: String,
        /// The authorities that may vouch for it, PEM.
        ca_file: PathBuf,
        /// Our certificate, PEM; empty: none is shown.
        #[serde(default)]
        certificate_file: PathBuf,
        /// Its private key, PEM.
        #[serde(default)]
        key_file: PathBuf,
        /// HOSTNAME in the messages; empty: the gateway's origin.
        #[serde(default)]
        hostname: String,
        /// The private enterprise number in the names of structured data.
        #[serde(default = "example_enterprise")]
        enterprise_number: u32,
        /// Seconds that a TLS session may last before the receiver must show that it has read everything.
        #[serde(default = "session_seconds")]
        session_seconds: u64,
    },
}

fn example_enterprise() -> u32 {
    EXAMPLE_ENTERPRISE
}

fn session_seconds() -> u64 {
    5
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl SinkTable {
    fn name(&self) -> &str {
        match self {
            Self::File { name, .. } | Self::Syslog { name, .. } => name,
        }
    }

    /// What it says, read.
    ///
    /// # Errors
    /// For a value that makes no sense.
    pub(super) fn read(&self, seed: u64) -> Result<(Settings, Destination), Fault> {
        let of = |setting: &str| format!("`{setting}` of the sink `{}`", self.name());
        let name: SinkName = self.name().parse().map_err(|error| {
            Fault::new("a `[[sink]]` has a wrong name").remedy("name it otherwise").because(error)
        })?;
        let (tenants, destination) = match self {
            Self::File { name: _, tenants, path } => {
                if !path.is_absolute() {
                    return Err(Fault::new(format!("{} is not an absolute path", of("path")))
                        .remedy("begin it with `/`: a service has no directory of its own"));
                }
                (tenants, Destination::File(file::Settings { path: path.clone() }))
            }
            Self::Syslog {
                name: _,
                tenants,
                address,
                server_name,
                ca_file,
                certificate_file,
                key_file,
                hostname,
                enterprise_number,
                session_seconds,
            } => {
                let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
                if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                    return Err(Fault::new(format!("{} is not HOST:PORT", of("address")))
                        .remedy("name the receiver as `siem.example.org:6514`"));
                }
                if is_empty(certificate_file) != is_empty(key_file) {
                    let only = format!("only one of {} and its `key_file` is set", of("certificate_file"));
                    return Err(Fault::new(only).remedy("set both, or neither"));
                }
                if is_empty(ca_file) {
                    return Err(Fault::new(format!("{} is empty", of("ca_file")))
                        .remedy("name the file of the authority that vouches for the receiver"));
                }
                if !(1..=MAX_SESSION_SECONDS).contains(session_seconds) {
                    return Err(Fault::new(format!("{} is {session_seconds}", of("session_seconds")))
                        .remedy(format!("take 1 to {MAX_SESSION_SECONDS}")));
                }
                let client = (!is_empty(key_file)).then(|| (certificate_file.clone(), key_file.clone()));
                let settings = syslog::Settings {
                    address: address.clone(),
                    server_name: server_name.clone(),
                    ca_file: ca_file.clone(),
                    client,
                    format: Format { hostname: hostname.clone(), enterprise: *enterprise_number },
                    session: Duration::from_secs(*session_seconds),
                    stall: STALL,
                };
                (tenants, Destination::Syslog(settings))
            }
        };
        let log = |tenant: &String| {
            tenant.parse::<LogId>().map_err(|error| {
                Fault::new(format!("{} names no tenant", of("tenants")))
                    .remedy("check its names")
                    .because(error)
            })
        };
        let logs = tenants.iter().map(log).collect::<Result<_, _>>()?;
        Ok((Settings { name, logs, pace: Pace::default(), seed }, destination))
    }
}

/// Whether the tables of a configuration make sense together.
///
/// # Errors
/// For the first that does not.
pub(crate) fn check(tables: &[SinkTable]) -> Result<(), Fault> {
    let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
    for table in tables {
        let (settings, destination) = table.read(0)?;
        let name = settings.name;
        if !names.insert(name.clone()) {
            return Err(Fault::new(format!("there are two sinks `{name}`"))
                .remedy("name one otherwise: the name is where its cursor lies"));
        }
        match destination {
            Destination::File(file::Settings { path }) => {
                if !files.insert(path.clone()) {
                    return Err(Fault::new(format!("two sinks write `{}`", path.display()))
                        .remedy("give each its own file, or one all the tenants"));
                }
            }
            Destination::Syslog(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, REFERENCE};

    const SYSLOG: &str =
        "[[sink]]\nname = \"s\"\nkind = \"syslog\"\naddress = \"h:6514\"\nca_file = \"/ca.pem\"\n";
    const FILE: &str = "[[sink]]\nname = \"f\"\nkind = \"file\"\npath = \"/f\"\n";

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        assert_eq!(Config::parse(&format!("{SYSLOG}{FILE}")).unwrap().sink.len(), 2);
        for (text, said) in [
            (format!("{SYSLOG}pth = 1"), "pth"),
            (format!("{FILE}address = \"h:1\""), "address"),
            (FILE.replace("file", "kafka"), "kafka"),
            (FILE.replace("\"/f\"", "\"f\""), "absolute"),
            (FILE.replace("path = \"/f\"\n", ""), "path"),
            (FILE.replace("\"f\"", "\"../f\""), "wrong name"),
            (format!("{FILE}{FILE}"), "two sinks `f`"),
            (format!("{FILE}{}", FILE.replace("name = \"f\"", "name = \"g\"")), "two sinks write"),
            (SYSLOG.replace("h:6514", "h"), "HOST:PORT"),
            (SYSLOG.replace("h:6514", ":6514"), "HOST:PORT"),
            (SYSLOG.replace("/ca.pem", ""), "ca_file"),
            (format!("{SYSLOG}key_file = \"/k\""), "only one of"),
            (format!("{SYSLOG}session_seconds = 0"), "session_seconds"),
            (format!("{SYSLOG}tenants = [\"No\"]"), "names no tenant"),
        ] {
            let fault = Config::parse(&text).unwrap_err();
            assert!(fault.to_string().contains(said), "{said}: {fault}");
            assert!(fault.remedy_text().is_some());
        }
    }

    /// The examples in the reference file, made ready.
    #[test]
    fn the_reference_file_shows_sinks_with_every_setting() {
        let (_, examples) = REFERENCE.split_once("# [[sink]]").unwrap();
        let lines: Vec<_> = examples.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        let examples: String = lines
            .iter()
            .filter(|line| line.starts_with("[[sink]]") || line.contains(" = "))
            .flat_map(|line| [line, "\n"])
            .collect();
        let config = Config::parse(&format!("[[sink]]\n{examples}")).unwrap();
        let shown = format!("[[sink]]\n{examples}").parse::<toml::Table>().unwrap();
        assert_eq!(toml::Value::try_from(&config.sink).unwrap(), shown["sink"], "a setting is not shown");
        assert_eq!(config.sink.len(), 2);
    }
}
