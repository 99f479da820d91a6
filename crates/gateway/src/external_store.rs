//! External key stores that a provider calls (`[[aws_xks]]`): whose they are, which keys they have, how much they may ask.

use crate::fault::Fault;
use crate::pool;
use crate::quota::Quota;
use crate::root::Law;
use crate::tls::{Guard, Names, can_be_asked_for};
use holdfast_core::port::{Health, KeyStore as _};
use holdfast_core::{CallerName, Error, ErrorKind, KeyName, Stage, TenantId};
use holdfast_keystore::pkcs11;
use holdfast_wire::xks::message::{Condition, Device, Usage};
use holdfast_wire::xks::path::is_prefix;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// The most characters of a path, `/kms/xks/v1` included, that the provider takes.
const MAX_PATH: usize = 128;

/// One external key store of AWS KMS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsXksTable {
    /// What stands before `/kms/xks/v1` in its path; empty, or beginning with a slash.
    #[serde(default)]
    pub prefix: String,
    /// Whose keys they are.
    pub tenant: String,
    /// The tenant's caller whose signing tokens are its credentials.
    pub caller: String,
    /// The regions that requests may be signed for.
    pub regions: Vec<String>,
    /// The keys that it has, by name; empty: all of the tenant's that the policy lets the caller use.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Those of them that it has to encrypt alone.
    #[serde(default)]
    pub encrypt_only: Vec<String>,
    /// Those of them that it has to decrypt alone.
    #[serde(default)]
    pub decrypt_only: Vec<String>,
    /// The most requests a second, over all; 0: as many as come.
    #[serde(default = "provider_quota")]
    pub requests_per_second: u32,
    /// The name under which it is served, in TLS, and only to the clients below; empty: under any, to any that sign.
    #[serde(default)]
    pub server_name: String,
    /// The authorities of those clients, PEM.
    #[serde(default)]
    pub client_ca_file: PathBuf,
    /// The DNS names of those clients.
    #[serde(default)]
    pub client_names: Vec<String>,
}

/// The names that are served to some only.
pub(crate) fn guards(tables: &[AwsXksTable]) -> Vec<Guard> {
    let guarded = tables.iter().filter(|table| !table.server_name.is_empty());
    let guard = |table: &AwsXksTable| Guard {
        server_name: table.server_name.to_ascii_lowercase().into(),
        ca_file: table.client_ca_file.clone(),
        names: Names::Dns(table.client_names.clone()),
    };
    guarded.map(guard).collect()
}

/// What the provider itself allows a store unless asked for more.
const fn provider_quota() -> u32 {
    1800
}

/// Checks the tables against each other.
///
/// # Errors
/// For a value that makes no sense, or a prefix that stands there twice.
pub(crate) fn check(tables: &[AwsXksTable]) -> Result<(), Fault> {
    Stores::of(tables).map(drop)
}

/// Every store, by its prefix.
#[derive(Debug, Default)]
pub(crate) struct Stores(HashMap<Box<str>, Arc<Store>>);

impl Stores {
    /// What the configuration says, read.
    pub(crate) fn of(tables: &[AwsXksTable]) -> Result<Self, Fault> {
        let mut stores = HashMap::with_capacity(tables.len());
        let (mut names, mut callers) = (BTreeSet::new(), BTreeSet::new());
        for table in tables {
            if !table.server_name.is_empty() && !names.insert(table.server_name.to_ascii_lowercase()) {
                let problem = format!("two `[[aws_xks]]` have the `server_name` `{}`", table.server_name);
                return Err(Fault::new(problem).remedy("give each guarded store a name of its own"));
            }
            if !callers.insert((&table.tenant, &table.caller)) {
                let problem =
                    format!("two `[[aws_xks]]` have the caller `{}` of `{}`", table.caller, table.tenant);
                return Err(Fault::new(problem)
                    .remedy("give each store a caller of its own: a credential belongs to one store"));
            }
            let store = Store::of(table).map_err(|fault| {
                Fault::new(format!("the `[[aws_xks]]` with the prefix `{}` is refused", table.prefix))
                    .because(fault)
            })?;
            if stores.insert(Box::from(table.prefix.as_str()), Arc::new(store)).is_some() {
                return Err(Fault::new(format!("two `[[aws_xks]]` have the prefix `{}`", table.prefix))
                    .remedy("give each store a prefix of its own"));
            }
        }
        Ok(Self(stores))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The callers whose signing tokens are their credentials.
    pub(crate) fn callers(&self) -> impl Iterator<Item = (TenantId, CallerName)> {
        self.0.values().map(|store| (store.tenant.clone(), store.caller.clone()))
    }

    /// The store with exactly this prefix.
    pub(crate) fn at(&self, prefix: &str) -> Option<Arc<Store>> {
        self.0.get(prefix).map(Arc::clone)
    }
}

/// One store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) tenant: TenantId,
    pub(crate) caller: CallerName,
    pub(crate) quota: Quota,
    regions: Vec<String>,
    keys: BTreeSet<KeyName>,
    encrypt_only: BTreeSet<KeyName>,
    decrypt_only: BTreeSet<KeyName>,
    server_name: Option<Box<str>>,
}

impl Store {
    fn of(table: &AwsXksTable) -> Result<Self, Fault> {
        let AwsXksTable {
            prefix,
            tenant,
            caller,
            regions,
            keys,
            encrypt_only,
            decrypt_only,
            requests_per_second,
            server_name,
            client_ca_file,
            client_names,
        } = table;
        let set = [server_name.is_empty(), client_ca_file.as_os_str().is_empty(), client_names.is_empty()];
        if set.contains(&true) && set.contains(&false) {
            return Err(Fault::new(
                "only some of `server_name`, `client_ca_file` and `client_names` are set",
            )
            .remedy("set all three for mutual TLS, or none"));
        }
        if !server_name.is_empty() && !can_be_asked_for(server_name) {
            return Err(Fault::new(format!("`server_name` `{server_name}` cannot be one")).remedy(
                "write the host that AWS KMS calls, without a port: `xks.example.org`; no client asks for an address in TLS",
            ));
        }
        if !is_prefix(prefix) || prefix.len() + "/kms/xks/v1".len() > MAX_PATH {
            return Err(Fault::new(format!("`prefix` `{prefix}` cannot be one")).remedy(
                "leave it empty, or write segments of letters, digits, `-` and `_`, each behind a slash, 117 characters in all",
            ));
        }
        let is_region = |text: &String| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if regions.is_empty() || !regions.iter().all(is_region) {
            return Err(Fault::new("`regions` names no region, or one that can be none")
                .remedy("name those from which AWS KMS calls, such as `eu-central-1`"));
        }
        let name = |setting: &str, error: holdfast_core::id::InvalidId| {
            Fault::new(format!("`{setting}` is refused")).because(error)
        };
        let named = |setting: &str, keys: &[String]| {
            let keys = keys.iter().map(|key| key.parse().map_err(|error| name(setting, error)));
            keys.collect::<Result<BTreeSet<KeyName>, Fault>>()
        };
        let all = named("keys", keys)?;
        let (encrypt_only, decrypt_only) =
            (named("encrypt_only", encrypt_only)?, named("decrypt_only", decrypt_only)?);
        if let Some(key) = encrypt_only.intersection(&decrypt_only).next() {
            return Err(Fault::new(format!("`{key}` stands in `encrypt_only` and in `decrypt_only`"))
                .remedy("leave it in one of them, or take it out of `keys`"));
        }
        let stranger = encrypt_only.union(&decrypt_only).find(|key| !all.is_empty() && !all.contains(*key));
        if let Some(key) = stranger {
            return Err(Fault::new(format!(
                "`{key}` stands in `encrypt_only` or `decrypt_only`, and not in `keys`"
            ))
            .remedy("add it to `keys`, or leave it out there too"));
        }
        Ok(Self {
            tenant: tenant.parse().map_err(|error| name("tenant", error))?,
            caller: caller.parse().map_err(|error| name("caller", error))?,
            quota: Quota::of(*requests_per_second),
            regions: regions.clone(),
            server_name: (!server_name.is_empty()).then(|| server_name.to_ascii_lowercase().into()),
            keys: all,
            encrypt_only,
            decrypt_only,
        })
    }

    /// Whether it is there on a connection that was accepted under this guarded name, if it was under one.
    pub(crate) fn is_served(&self, guarded: Option<&str>) -> bool {
        self.server_name.as_deref() == guarded
    }

    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.regions.iter().any(|known| known == region)
    }

    /// What it has a key for.
    pub(crate) fn usage(&self, key: &KeyName) -> Usage {
        match (self.encrypt_only.contains(key), self.decrypt_only.contains(key)) {
            (true, _) => Usage::EncryptOnly,
            (false, true) => Usage::DecryptOnly,
            (false, false) => Usage::Both,
        }
    }

    /// The key of this external key id.
    pub(crate) fn key(&self, external_id: &str) -> Result<KeyName, Error> {
        let none = || Error::new(ErrorKind::NotFound, Stage::Resolve, "the store has no key of that name");
        let name: KeyName = external_id.parse().map_err(|_| none())?;
        match self.keys.is_empty() || self.keys.contains(&name) {
            true => Ok(name),
            false => Err(none()),
        }
    }
}

/// The devices as they are, with who makes them: what the provider is told of health.
pub(crate) fn devices(law: &Law) -> (String, Vec<Device>) {
    let keys = &law.engines().keys;
    let works = keys.health() == Health::Ready;
    let Some(token) = keys.token() else {
        let health_status = if works { Condition::Active } else { Condition::Unavailable };
        let device =
            Device { id: "software".into(), model: "Holdfast software custody".into(), health_status };
        return ("Holdfast".into(), vec![device]);
    };
    let reports = token.pool().reports();
    let vendor = reports.iter().find_map(|report| report.about.as_ref());
    let vendor = vendor.map_or_else(|| "unknown".into(), |about| about.manufacturer.clone());
    let device = |report: &pkcs11::Report| Device {
        id: report.name.clone(),
        model: report.about.as_ref().map_or_else(|| "unknown".into(), pool::model),
        health_status: standing(&report.condition, works),
    };
    (vendor, reports.iter().map(device).collect())
}

/// What the provider is told of a member, in a pool that works or does not.
fn standing(member: &pkcs11::Condition, works: bool) -> Condition {
    match (member, works) {
        (pkcs11::Condition::Up, true) => Condition::Active,
        // Out of the pool by an order, while others serve: where none does, this one does not either.
        (pkcs11::Condition::Drained, true) => Condition::Degraded,
        (pkcs11::Condition::Up | pkcs11::Condition::Drained, false)
        | (pkcs11::Condition::Down(_) | pkcs11::Condition::Open(_) | pkcs11::Condition::Ejected(_), _) => {
            Condition::Unavailable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Degraded" is said of what serves still: in a pool of which nothing does, nothing is.
    #[test]
    fn where_nothing_serves_nothing_is_degraded() {
        let down = pkcs11::Condition::Down("gone".into());
        let all = [pkcs11::Condition::Up, pkcs11::Condition::Drained, down];
        let told = |works| all.each_ref().map(|member| standing(member, works));
        assert_eq!(told(true), [Condition::Active, Condition::Degraded, Condition::Unavailable]);
        assert_eq!(told(false), [Condition::Unavailable; 3]);
    }

    fn table() -> AwsXksTable {
        AwsXksTable {
            prefix: "/acme".into(),
            tenant: "acme".into(),
            caller: "aws-kms".into(),
            regions: vec!["eu-central-1".into()],
            keys: vec![],
            encrypt_only: vec![],
            decrypt_only: vec![],
            requests_per_second: 0,
            server_name: String::new(),
            client_ca_file: PathBuf::new(),
            client_names: vec![],
        }
    }

    #[test]
    fn a_store_is_found_by_its_whole_prefix() {
        let root = AwsXksTable { prefix: String::new(), tenant: "other".into(), ..table() };
        let stores = Stores::of(&[table(), root]).unwrap();
        assert_eq!(stores.at("/acme").unwrap().tenant.as_str(), "acme");
        assert_eq!(stores.at("").unwrap().tenant.as_str(), "other");
        assert!(stores.at("/acme/x").is_none() && stores.at("/acm").is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_prefix() {
        let long = format!("/{}", "p".repeat(117));
        let guarded = |server_name: &str| AwsXksTable {
            server_name: server_name.into(),
            client_ca_file: "ca.pem".into(),
            client_names: vec!["cks.kms.eu-central-1.amazonaws.com".into()],
            ..table()
        };
        assert!(Stores::of(&[guarded("xks.example.org")]).is_ok());
        for (bad, names) in [
            (AwsXksTable { prefix: "acme".into(), ..table() }, "prefix"),
            (AwsXksTable { prefix: "/a/".into(), ..table() }, "prefix"),
            (AwsXksTable { prefix: long, ..table() }, "prefix"),
            (AwsXksTable { tenant: "No".into(), ..table() }, "tenant"),
            (AwsXksTable { caller: "".into(), ..table() }, "caller"),
            (AwsXksTable { regions: vec![], ..table() }, "regions"),
            (AwsXksTable { regions: vec!["EU".into()], ..table() }, "regions"),
            (AwsXksTable { keys: vec!["/".into()], ..table() }, "keys"),
            (AwsXksTable { decrypt_only: vec!["/".into()], ..table() }, "decrypt_only"),
            (
                AwsXksTable { keys: vec!["a".into()], encrypt_only: vec!["b".into()], ..table() },
                "not in `keys`",
            ),
            (
                AwsXksTable { encrypt_only: vec!["a".into()], decrypt_only: vec!["a".into()], ..table() },
                "and in `decrypt_only`",
            ),
            (AwsXksTable { server_name: "xks.example.org".into(), ..table() }, "client_ca_file"),
            (guarded("192.0.2.7"), "server_name"),
            (guarded("xks.example.org:443"), "server_name"),
        ] {
            let fault = Stores::of(&[bad]).unwrap_err();
            assert!(format!("{fault:?}").contains(names), "{fault:?}");
        }
        let other = AwsXksTable { caller: "other".into(), ..table() };
        assert!(Stores::of(&[table(), other]).unwrap_err().to_string().contains("/acme"));
        let other = AwsXksTable { prefix: "/other".into(), ..table() };
        assert!(Stores::of(&[table(), other]).unwrap_err().to_string().contains("aws-kms"));
    }

    /// The example in the reference file, made ready, shows every setting.
    #[test]
    fn the_reference_file_shows_a_store_with_every_setting() {
        let text = format!("[[aws_xks]]\n{}", crate::config::example("aws_xks"));
        let config = crate::config::Config::parse(&text).unwrap();
        let shown = text.parse::<toml::Table>().unwrap();
        assert_eq!(
            toml::Value::try_from(&config.aws_xks).unwrap(),
            shown["aws_xks"],
            "a setting is not shown"
        );
    }

    #[test]
    fn only_its_own_keys_are_a_stores() {
        let store = Store::of(&AwsXksTable { keys: vec!["payroll.kek".into()], ..table() }).unwrap();
        assert!(store.key("payroll.kek").is_ok());
        for other in ["payroll", "", "..", "é", "a/b"] {
            assert_eq!(store.key(other).unwrap_err().kind(), ErrorKind::NotFound, "{other}");
        }
    }
}
