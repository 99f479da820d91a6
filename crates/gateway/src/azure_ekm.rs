//! The proxies of Azure Managed HSM's external keys that it is (`[[azure_ekm]]`): whom each serves, under which path, and which keys it has.

use crate::external_store::devices;
use crate::fault::Fault;
use crate::quota::Quota;
use crate::root::Law;
use crate::tls::{Guard, Names, can_be_asked_for};
use holdfast_core::{CallerName, Error, ErrorKind, KeyName, Stage, TenantId};
use holdfast_wire::ekm::path::{Path, is_key_name, is_prefix, parse};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// After so many milliseconds the provider gives up, the network's part of them included.
const GIVES_UP: u64 = 250;

/// One proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureEkmTable {
    /// The host that the provider calls: by mutual TLS, and nobody else is served under it.
    pub server_name: String,
    /// What stands before the interface's own paths; empty, or beginning with a slash.
    #[serde(default)]
    pub prefix: String,
    /// Whose keys they are.
    pub tenant: String,
    /// The tenant's caller as whom the provider comes.
    pub caller: String,
    /// The authorities of the provider's client certificate, PEM.
    pub client_ca_file: PathBuf,
    /// The common names that it may have.
    pub client_common_names: Vec<String>,
    /// The keys that it has, by the names that the provider knows; left out: all of the tenant's that were created for the protocol, by their own names.
    pub keys: Option<BTreeMap<String, String>>,
    /// The most requests a second; 0: as many as come.
    #[serde(default = "requests_per_second")]
    pub requests_per_second: u32,
    /// Within so many milliseconds an answer is on its way, or the refusal.
    #[serde(default = "deadline_milliseconds")]
    pub deadline_milliseconds: u64,
}

const fn requests_per_second() -> u32 {
    1000
}

const fn deadline_milliseconds() -> u64 {
    150
}

/// The names that are served to providers only, each once: several proxies can have one.
pub(crate) fn guards(tables: &[AzureEkmTable]) -> Vec<Guard> {
    let mut guards: BTreeMap<Box<str>, Guard> = BTreeMap::new();
    for table in tables {
        let server_name: Box<str> = table.server_name.to_ascii_lowercase().into();
        let guard = guards.entry(server_name.clone()).or_insert_with(|| Guard {
            server_name,
            ca_file: table.client_ca_file.clone(),
            names: Names::Common(Vec::new()),
        });
        if let Names::Common(names) = &mut guard.names {
            names.extend(table.client_common_names.iter().cloned());
        }
    }
    guards.into_values().collect()
}

/// Checks the tables against each other. What others have of their hosts is looked at with all [`paths`](crate::paths).
///
/// # Errors
/// For a value that makes no sense, and a path or a caller that stands there twice.
pub(crate) fn check(tables: &[AzureEkmTable]) -> Result<(), Fault> {
    Proxies::of(tables).map(drop)
}

/// Every proxy.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<Arc<Proxy>>);

impl Proxies {
    /// What the configuration says, read.
    pub(crate) fn of(tables: &[AzureEkmTable]) -> Result<Self, Fault> {
        let mut proxies: Vec<Arc<Proxy>> = Vec::with_capacity(tables.len());
        let mut callers = BTreeSet::new();
        let mut authorities: BTreeMap<String, &PathBuf> = BTreeMap::new();
        for table in tables {
            let AzureEkmTable { server_name, prefix, .. } = table;
            let named = |fault: Fault| {
                Fault::new(format!("the `[[azure_ekm]]` of `{server_name}{prefix}` is refused"))
                    .because(fault)
            };
            let proxy = Proxy::of(table).map_err(named)?;
            if !callers.insert((&table.tenant, &table.caller)) {
                let fault =
                    Fault::new(format!("another has the caller `{}` of `{}`", table.caller, table.tenant));
                return Err(named(fault.remedy("give each proxy a caller of its own")));
            }
            let before = authorities.insert(server_name.to_ascii_lowercase(), &table.client_ca_file);
            if before.is_some_and(|before| *before != table.client_ca_file) {
                let fault = Fault::new("another with that `server_name` has another `client_ca_file`");
                return Err(named(fault.remedy(
                    "put the authorities of both into one file, or give each proxy a host of its own",
                )));
            }
            let overlaps =
                |other: &Arc<Proxy>| other.server_name == proxy.server_name && other.prefix == proxy.prefix;
            if proxies.iter().any(overlaps) {
                let fault = Fault::new("another has the same `server_name` and `prefix`");
                return Err(named(fault.remedy("give each proxy a host or a prefix of its own")));
            }
            proxies.push(Arc::new(proxy));
        }
        Ok(Self(proxies))
    }

    /// The callers as whom the providers come.
    pub(crate) fn callers(&self) -> impl Iterator<Item = (TenantId, CallerName)> {
        self.0.iter().map(|proxy| (proxy.tenant.clone(), proxy.caller.clone()))
    }

    /// Whether this guarded name is served to providers of this protocol.
    pub(crate) fn is_served(&self, guarded: &str) -> bool {
        self.0.iter().any(|proxy| &*proxy.server_name == guarded)
    }

    /// The proxy that a path means on a connection under this guarded name, and what of it.
    pub(crate) fn find<'p>(&self, guarded: &str, path: &'p str) -> Option<(Arc<Proxy>, Path<'p>)> {
        let mut of_host = self.0.iter().filter(|proxy| &*proxy.server_name == guarded);
        of_host.find_map(|proxy| Some((Arc::clone(proxy), proxy.path(path)?)))
    }
}

/// One proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) tenant: TenantId,
    pub(crate) caller: CallerName,
    pub(crate) quota: Quota,
    pub(crate) deadline: Duration,
    pub(crate) common_names: Vec<String>,
    /// By the names that the provider knows; `None`: all, by their own.
    keys: Option<BTreeMap<Box<str>, KeyName>>,
    server_name: Box<str>,
    prefix: Box<str>,
}

impl Proxy {
    fn of(table: &AzureEkmTable) -> Result<Self, Fault> {
        let AzureEkmTable {
            server_name,
            prefix,
            tenant,
            caller,
            client_ca_file,
            client_common_names,
            keys,
            requests_per_second,
            deadline_milliseconds,
        } = table;
        if !can_be_asked_for(server_name) {
            return Err(Fault::new("`server_name` cannot be one").remedy(
                "write the host that the provider calls, without a port: `ekm.example.org`; no client asks for an address in TLS",
            ));
        }
        if !is_prefix(prefix) {
            return Err(Fault::new(format!("`prefix` `{prefix}` cannot be one")).remedy(
                "leave it empty, or write segments of letters, digits and `-`, each behind a slash, 64 characters in all",
            ));
        }
        if client_ca_file.as_os_str().is_empty() {
            return Err(Fault::new("`client_ca_file` is empty")
                .remedy("name a file with the `caCertificates` of `az keyvault ekm-connection certificate show`, in PEM"));
        }
        if client_common_names.is_empty() || client_common_names.iter().any(String::is_empty) {
            return Err(Fault::new("`client_common_names` names nobody")
                .remedy("name the `subjectCommonName` of `az keyvault ekm-connection certificate show`"));
        }
        if !(1..=GIVES_UP).contains(deadline_milliseconds) {
            return Err(Fault::new(format!("`deadline_milliseconds` is {deadline_milliseconds}"))
                .remedy(format!("the provider gives up after {GIVES_UP}, the network's part of them included: leave it at 150")));
        }
        let name = |setting: &str, error: holdfast_core::id::InvalidId| {
            Fault::new(format!("`{setting}` is refused")).because(error)
        };
        if keys.as_ref().is_some_and(BTreeMap::is_empty) {
            return Err(Fault::new("`keys` has none").remedy(
                "name those that the provider is to have; to let it have all that were created for the protocol, leave `keys` out",
            ));
        }
        let read = |(known, key): (&String, &String)| match is_key_name(known) {
            true => Ok((known.as_str().into(), key.parse().map_err(|error| name("keys", error))?)),
            false => Err(Fault::new(format!("`keys` has `{known}`"))
                .remedy("the provider knows keys by letters, digits and `-`, 64 at most")),
        };
        Ok(Self {
            tenant: tenant.parse().map_err(|error| name("tenant", error))?,
            caller: caller.parse().map_err(|error| name("caller", error))?,
            quota: Quota::of(*requests_per_second),
            deadline: Duration::from_millis(*deadline_milliseconds),
            common_names: client_common_names.clone(),
            keys: keys.as_ref().map(|keys| keys.iter().map(read).collect()).transpose()?,
            server_name: server_name.to_ascii_lowercase().into(),
            prefix: prefix.as_str().into(),
        })
    }

    /// What a path under its prefix asks for.
    pub(crate) fn path<'p>(&self, path: &'p str) -> Option<Path<'p>> {
        parse(&self.prefix, path)
    }

    /// The key that the provider knows by this name.
    pub(crate) fn key(&self, known: &str) -> Result<KeyName, Error> {
        let none = || Error::new(ErrorKind::NotFound, Stage::Resolve, "the proxy has no key of that name");
        match &self.keys {
            None => known.parse().map_err(|_| none()),
            Some(keys) => keys.get(known).cloned().ok_or_else(none),
        }
    }
}

/// Who makes what keeps the keys, and what it is.
pub(crate) fn product(law: &Law) -> (String, String) {
    let (vendor, devices) = devices(law);
    let product = devices.into_iter().next().map_or_else(|| "unknown".to_owned(), |device| device.model);
    (vendor, product)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> AzureEkmTable {
        AzureEkmTable {
            server_name: "ekm.example.org".into(),
            prefix: "/contoso/prod".into(),
            tenant: "acme".into(),
            caller: "azure-ekm".into(),
            client_ca_file: "ca.pem".into(),
            client_common_names: vec!["contoso.managedhsmclient.azure.net".into()],
            keys: None,
            requests_per_second: 1,
            deadline_milliseconds: 150,
        }
    }

    #[test]
    fn a_proxy_is_found_by_its_host_and_its_prefix() {
        let other = AzureEkmTable { prefix: String::new(), caller: "other".into(), ..table() };
        let third =
            AzureEkmTable { server_name: "EKM2.example.org".into(), caller: "third".into(), ..table() };
        let proxies = Proxies::of(&[table(), other, third]).unwrap();
        let found = |host: &str, path: &str| {
            proxies.find(host, path).map(|(proxy, path)| (proxy.caller.to_string(), path.route()))
        };
        let at = |caller: &str, route| Some((caller.to_owned(), route));
        assert_eq!(found("ekm.example.org", "/contoso/prod/info"), at("azure-ekm", "ekm-info"));
        assert_eq!(found("ekm.example.org", "/contoso/prod/k/wrapkey"), at("azure-ekm", "ekm-wrap"));
        assert_eq!(found("ekm.example.org", "/info"), at("other", "ekm-info"));
        assert_eq!(found("ekm.example.org", "/k/metadata"), at("other", "ekm-metadata"));
        assert_eq!(found("ekm2.example.org", "/contoso/prod/info"), at("third", "ekm-info"));
        for (host, path) in [
            ("ekm2.example.org", "/info"),
            ("other.example.org", "/info"),
            ("ekm.example.org", "/contoso/info/x"),
            ("ekm.example.org", "/contoso/prod/../info"),
        ] {
            assert_eq!(found(host, path), None, "{host}{path}");
        }
        assert!(proxies.is_served("ekm2.example.org") && !proxies.is_served("example.org"));
        let guards = guards(&[table(), table()]);
        assert_eq!(guards.len(), 1, "one name, one guard");
    }

    #[test]
    fn what_cannot_be_is_refused_at_load() {
        let set = |change: fn(&mut AzureEkmTable)| {
            let mut table = table();
            change(&mut table);
            table
        };
        for (bad, says) in [
            (set(|it| it.server_name = String::new()), "server_name"),
            (set(|it| it.server_name = "ekm.example.org:443".into()), "server_name"),
            (set(|it| it.server_name = "ekm.example.org.".into()), "server_name"),
            (set(|it| it.server_name = "192.0.2.7".into()), "server_name"),
            (set(|it| it.server_name = "*.example.org".into()), "server_name"),
            (set(|it| it.server_name = "2001:db8::7".into()), "server_name"),
            (set(|it| it.prefix = "contoso".into()), "prefix"),
            (set(|it| it.prefix = "/a_b".into()), "prefix"),
            (set(|it| it.prefix = format!("/{}", "p".repeat(64))), "prefix"),
            (set(|it| it.tenant = "No".into()), "tenant"),
            (set(|it| it.caller = String::new()), "caller"),
            (set(|it| it.client_ca_file = PathBuf::new()), "client_ca_file"),
            (set(|it| it.client_common_names = vec![]), "client_common_names"),
            (set(|it| it.client_common_names = vec![String::new()]), "client_common_names"),
            (set(|it| it.keys = Some([("a_b".to_owned(), "kek".to_owned())].into())), "a_b"),
            (set(|it| it.keys = Some([("a".to_owned(), "/".to_owned())].into())), "keys"),
            (set(|it| it.keys = Some(BTreeMap::new())), "`keys` has none"),
            (set(|it| it.deadline_milliseconds = 0), "deadline_milliseconds"),
            (set(|it| it.deadline_milliseconds = 251), "deadline_milliseconds"),
        ] {
            let refused = format!("{:?}", Proxies::of(&[bad]).unwrap_err());
            assert!(refused.contains(says), "{says}: {refused}");
        }
        for (other, says) in [
            (set(|it| it.caller = "other".into()), "prefix"),
            (set(|it| it.prefix = "/other".into()), "caller"),
            (
                set(|it| {
                    (it.prefix, it.caller, it.client_ca_file) = ("/o".into(), "o".into(), "o.pem".into())
                }),
                "client_ca_file",
            ),
        ] {
            let refused = format!("{:?}", Proxies::of(&[table(), other]).unwrap_err());
            assert!(refused.contains(says), "{says}: {refused}");
        }
        assert!(check(&[table()]).is_ok());
    }

    #[test]
    fn keys_are_those_of_the_list_or_all_by_their_own_names() {
        let all = Proxy::of(&table()).unwrap();
        assert_eq!(all.key("payroll").unwrap().to_string(), "payroll");
        assert!(all.key("..").is_err());
        let keys = Some([("payroll-2026".to_owned(), "payroll.kek".to_owned())].into());
        let some = Proxy::of(&AzureEkmTable { keys, ..table() }).unwrap();
        assert_eq!(some.key("payroll-2026").unwrap().to_string(), "payroll.kek");
        for other in ["Payroll-2026", "payroll.kek", "payroll"] {
            assert_eq!(some.key(other).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    /// The example in the reference file, made ready, shows every setting.
    #[test]
    fn the_reference_file_shows_a_proxy_with_every_setting() {
        let text = format!("[[azure_ekm]]\n{}", crate::config::example("azure_ekm"));
        let config = crate::config::Config::parse(&text).unwrap();
        let shown = text.parse::<toml::Table>().unwrap();
        assert_eq!(
            toml::Value::try_from(&config.azure_ekm).unwrap(),
            shown["azure_ekm"],
            "a setting is not shown"
        );
    }
}
