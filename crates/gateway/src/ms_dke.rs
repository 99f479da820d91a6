//! Microsoft's Double Key Encryption (`[[ms_dke]]`): whose keys are served under which URL, whose tokens are taken, and what was told of keys lately.

use crate::external_store::AwsXksTable;
use crate::fault::Fault;
use crate::issuer::{self, Door, IssuerTable};
use crate::quota::Quotas;
use holdfast_core::{CallerName, Epoch, ErrorKind, KeyName, Stage, TenantId};
use holdfast_wire::dke::error::Challenge;
use holdfast_wire::dke::path::{Path, parse};
use holdfast_wire::{native, xks};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The longest time that clients may keep a key's document.
const MAX_CACHE_DAYS: u32 = 30;
/// The resource of Azure's rights management itself: every client has tokens for it.
const NOT_AN_AUDIENCE: &str = "https://aadrm.com";

/// One key service of Double Key Encryption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsDkeTable {
    /// Where clients find it: `https://`, a host, and a path or none. It stands in documents for ever.
    pub public_url: String,
    /// Whose keys they are.
    pub tenant: String,
    /// The tenant's caller as whom everybody comes: registered with the issuers below, any subject.
    pub caller: String,
    /// The keys that it has, by name.
    pub keys: Vec<String>,
    /// Whose tokens are taken (`iss`): the boundary between directories.
    pub issuers: Vec<String>,
    /// For whom tokens must be (`aud`); empty: for scheme and host of the URL.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// What tokens must have among their scopes (`scp`); empty: nothing.
    #[serde(default)]
    pub scope: String,
    /// Where clients are sent for a token.
    #[serde(default = "authorization")]
    pub authorization: String,
    /// For how many days clients may keep a key's document; 0: they ask each time.
    #[serde(default = "cache_days")]
    pub cache_days: u32,
    /// What a key that is not there is told with: 404, or 400 as by Microsoft's own server.
    #[serde(default = "unknown_key_status")]
    pub unknown_key_status: u16,
    /// The most decryptions a second; 0: as many as come.
    #[serde(default = "requests_per_second")]
    pub requests_per_second: u32,
    /// The most of one person; 0: as many as the service lets in.
    #[serde(default = "requests_per_second_each")]
    pub requests_per_second_each: u32,
}

fn authorization() -> String {
    "https://login.windows.net/common/oauth2/authorize".to_owned()
}

const fn cache_days() -> u32 {
    1
}

const fn unknown_key_status() -> u16 {
    404
}

const fn requests_per_second() -> u32 {
    200
}

const fn requests_per_second_each() -> u32 {
    20
}

/// Checks the tables against each other, and against the issuers and what else is served.
///
/// # Errors
/// For a value that makes no sense, a URL that stands there twice or is another's, and for tokens that would be taken elsewhere too.
pub(crate) fn check(
    tables: &[MsDkeTable],
    issuers: &[IssuerTable],
    stores: &[AwsXksTable],
) -> Result<(), Fault> {
    let services = KeyServices::of(tables)?;
    let doors = services.0.iter().map(|service| Door {
        name: format!("the `[[ms_dke]]` `{}`", service.url),
        tenant: service.tenant.as_str(),
        issuers: &service.issuers,
        audiences: &service.audiences,
    });
    issuer::apart(issuers, &doors.collect::<Vec<_>>())?;
    for service in &services.0 {
        for key in service.told.keys() {
            services.is_found(service, key, stores).map_err(|fault| {
                Fault::new(format!("`{key}` of the `[[ms_dke]]` `{}` is refused", service.url)).because(fault)
            })?;
        }
    }
    Ok(())
}

/// Every key service.
#[derive(Debug, Default)]
pub(crate) struct KeyServices(Vec<Arc<KeyService>>);

impl KeyServices {
    /// What the configuration says, read.
    pub(crate) fn of(tables: &[MsDkeTable]) -> Result<Self, Fault> {
        let mut services: Vec<Arc<KeyService>> = Vec::with_capacity(tables.len());
        let mut callers = BTreeSet::new();
        for table in tables {
            let named = |fault: Fault| {
                let url = &table.public_url;
                Fault::new(format!("the `[[ms_dke]]` with the `public_url` `{url}` is refused"))
                    .because(fault)
            };
            let service = KeyService::of(table).map_err(named)?;
            if !callers.insert((&table.tenant, &table.caller)) {
                let fault =
                    Fault::new(format!("another has the caller `{}` of `{}`", table.caller, table.tenant));
                return Err(named(fault.remedy("give each key service a caller of its own")));
            }
            // One path in another's would be two keys' at once.
            let overlaps =
                |other: &Arc<KeyService>| other.host == service.host && other.prefix == service.prefix;
            if services.iter().any(overlaps) {
                let fault = Fault::new("another has the same");
                return Err(named(fault.remedy("give each key service a host or a path of its own")));
            }
            services.push(Arc::new(service));
        }
        Ok(Self(services))
    }

    /// The callers as whom everybody comes.
    pub(crate) fn callers(&self) -> impl Iterator<Item = (TenantId, CallerName)> {
        self.0.iter().map(|service| (service.tenant.clone(), service.caller.clone()))
    }

    /// Whether what stands in documents leads to this key and to nothing else.
    fn is_found(
        &self,
        service: &Arc<KeyService>,
        key: &KeyName,
        stores: &[AwsXksTable],
    ) -> Result<(), Fault> {
        let document = format!("{}/{key}", service.prefix);
        for (method, path) in [("GET", document.clone()), ("POST", format!("{document}/ID/decrypt"))] {
            let taken = match self.find(Some(&service.host), &path) {
                _ if native::route(method, &path).is_ok() => Some("the native API has that path"),
                _ if xks::path::parse(&path)
                    .is_some_and(|path| stores.iter().any(|store| store.prefix == path.prefix)) =>
                {
                    Some("an `[[aws_xks]]` has that path")
                }
                Some((other, _)) if !Arc::ptr_eq(&other, service) => {
                    Some("another `[[ms_dke]]` has that path")
                }
                Some(_) => None,
                None => Some("no request with such a path is one of the service's"),
            };
            if let Some(taken) = taken {
                return Err(
                    Fault::new(taken).remedy("give the service another path, or the key another name")
                );
            }
        }
        Ok(())
    }

    /// The key service that a request for this host means, and what of it.
    pub(crate) fn find<'p>(&self, host: Option<&str>, path: &'p str) -> Option<(Arc<KeyService>, Path<'p>)> {
        if self.0.is_empty() {
            return None;
        }
        // With a port or without: what stands in front may have another.
        let host = host.map(|host| {
            host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host)
        })?;
        let mut of_host = self.0.iter().filter(|service| service.host.eq_ignore_ascii_case(host));
        of_host.find_map(|service| Some((Arc::clone(service), parse(&service.prefix, path)?)))
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What is remembered of a key's document.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was told last, if it holds for others who ask too.
    pub(crate) told: Option<Told>,
    /// Until when refusals that nothing is remembered of are only counted.
    pub(crate) counted_until: u64,
}

/// What was last told: until when, of which writing of the key's record and in which view of its tenant, and what.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) until: u64,
    pub(crate) of: (u64, Option<Epoch>),
    pub(crate) what: Result<Public, (ErrorKind, Stage)>,
}

/// Whether a refusal is the same for as long as neither the key's record nor the tenant's changes: others pass by themselves.
pub(crate) const fn is_lasting(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::KeyState | ErrorKind::Unsupported => true,
        ErrorKind::Malformed
        | ErrorKind::Integrity
        | ErrorKind::Unauthenticated
        | ErrorKind::Stopped
        | ErrorKind::BudgetExhausted
        | ErrorKind::TooLarge
        | ErrorKind::Throttled
        | ErrorKind::Deadline
        | ErrorKind::KeyStoreUnavailable
        | ErrorKind::StateUnavailable
        | ErrorKind::AuditUnavailable
        | ErrorKind::Sealed
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::Internal => false,
    }
}

/// The public half of a key's version, and its id.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) der: Arc<[u8]>,
    pub(crate) id: Arc<str>,
}

/// One key service.
#[derive(Debug)]
pub(crate) struct KeyService {
    pub(crate) tenant: TenantId,
    pub(crate) caller: CallerName,
    pub(crate) quotas: Quotas,
    pub(crate) issuers: Vec<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) scope: Option<Box<str>>,
    pub(crate) cache_seconds: u64,
    pub(crate) unknown: u16,
    /// Of each key, held while the law is asked: who asks meanwhile is told the same.
    told: BTreeMap<KeyName, Mutex<Memory>>,
    url: Box<str>,
    host: Box<str>,
    prefix: Box<str>,
    origin: Box<str>,
    authorization: Box<str>,
}

impl KeyService {
    fn of(table: &MsDkeTable) -> Result<Self, Fault> {
        let MsDkeTable {
            public_url,
            tenant,
            caller,
            keys,
            issuers,
            audiences,
            scope,
            authorization,
            cache_days,
            unknown_key_status,
            requests_per_second,
            requests_per_second_each,
        } = table;
        let (origin, host, prefix) = take_apart(public_url).ok_or_else(|| {
            Fault::new("`public_url` cannot be one").remedy(
                "write `https://`, a host name in lower case, a port if need be, and segments of letters, digits, `-` and `_`, each behind a slash: `https://dke.example.org`",
            )
        })?;
        let name = |setting: &str, error: holdfast_core::id::InvalidId| {
            Fault::new(format!("`{setting}` is refused")).because(error)
        };
        let keys = keys
            .iter()
            .map(|key| Ok((key.parse().map_err(|error| name("keys", error))?, Mutex::default())))
            .collect::<Result<BTreeMap<_, _>, Fault>>()?;
        if keys.is_empty() {
            return Err(Fault::new("`keys` names no key")
                .remedy("name the keys that it serves: everybody may read their public halves"));
        }
        if issuers.is_empty() || issuers.iter().any(String::is_empty) {
            return Err(Fault::new("`issuers` names no issuer")
                .remedy("name those whose tokens are taken, such as `https://sts.windows.net/TENANT/`"));
        }
        let audiences = match audiences.is_empty() {
            true => vec![origin.to_owned()],
            false => audiences.clone(),
        };
        if let Some(wrong) = audiences
            .iter()
            .find(|it| it.is_empty() || it.trim_end_matches('/').eq_ignore_ascii_case(NOT_AN_AUDIENCE))
        {
            return Err(Fault::new(format!("`audiences` has `{wrong}`")).remedy(
                "name what the tokens of this service alone are for: its own URL, or its application's id",
            ));
        }
        let is_quotable = |text: &str| {
            text.starts_with("https://")
                && text.bytes().all(|b| b.is_ascii_graphic() && !b",\"\\".contains(&b))
        };
        if !is_quotable(authorization) {
            return Err(Fault::new("`authorization` cannot be one")
                .remedy("write an https URL without a comma or a quotation mark, or leave it out"));
        }
        if *cache_days > MAX_CACHE_DAYS {
            return Err(Fault::new(format!("`cache_days` is {cache_days}"))
                .remedy(format!("let clients keep a document for {MAX_CACHE_DAYS} days at most: as long they use a version that was replaced")));
        }
        if ![400, 404].contains(unknown_key_status) {
            return Err(Fault::new(format!("`unknown_key_status` is {unknown_key_status}"))
                .remedy("write 404, or 400 as Microsoft's own server says"));
        }
        Ok(Self {
            tenant: tenant.parse().map_err(|error| name("tenant", error))?,
            caller: caller.parse().map_err(|error| name("caller", error))?,
            quotas: Quotas::of(*requests_per_second, *requests_per_second_each),
            issuers: issuers.clone(),
            audiences,
            scope: (!scope.is_empty()).then(|| scope.as_str().into()),
            cache_seconds: u64::from(*cache_days) * 86_400,
            unknown: *unknown_key_status,
            told: keys,
            url: public_url.as_str().into(),
            host: host.into(),
            prefix: prefix.into(),
            origin: origin.into(),
            authorization: authorization.as_str().into(),
        })
    }

    /// The key of this name, if it is one of the service's, with what is remembered of its document.
    pub(crate) fn key(&self, name: &str) -> Option<(&KeyName, &Mutex<Memory>)> {
        self.told.get_key_value(&name.parse::<KeyName>().ok()?)
    }

    /// The URL by which a version is known in documents.
    pub(crate) fn kid(&self, key: &KeyName, id: &str) -> String {
        format!("{}/{key}/{id}", self.url)
    }

    /// What clients learn of where tokens come from.
    pub(crate) fn challenge(&self) -> Challenge<'_> {
        Challenge { audience: &self.origin, authorization: &self.authorization }
    }
}

/// Scheme with host and port; the host; the path, empty or beginning with a slash.
fn take_apart(url: &str) -> Option<(&str, &str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    let fits = is_host && port.is_none_or(is_port) && holdfast_wire::xks::path::is_prefix(prefix);
    let origin = url.get(..url.len().checked_sub(prefix.len())?)?;
    fits.then_some((origin, host, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MsDkeTable {
        MsDkeTable {
            public_url: "https://dke.example.org".into(),
            tenant: "acme".into(),
            caller: "ms-dke".into(),
            keys: vec!["legal-hold".into()],
            issuers: vec!["https://sts.windows.net/3f0e1c52/".into()],
            audiences: vec![],
            scope: String::new(),
            authorization: authorization(),
            cache_days: 1,
            unknown_key_status: 404,
            requests_per_second: 0,
            requests_per_second_each: 0,
        }
    }

    #[test]
    fn a_service_is_found_by_its_host_and_its_whole_prefix() {
        let other = MsDkeTable {
            public_url: "https://dke.example.org:8443/a/b".into(),
            caller: "other".into(),
            ..table()
        };
        let services = KeyServices::of(&[table(), other]).unwrap();
        let found = |host: &str, path: &str| {
            services.find(Some(host), path).map(|(service, _)| service.caller.to_string())
        };
        for host in ["dke.example.org", "DKE.example.org", "dke.example.org:443", "dke.example.org:8443"] {
            assert_eq!(found(host, "/legal-hold").unwrap(), "ms-dke");
            assert_eq!(found(host, "/a/b/legal-hold").unwrap(), "other");
        }
        for host in [
            "",
            "example.org",
            "dke.example.org.",
            "xdke.example.org",
            "dke.example.org:",
            "dke.example.org:x",
        ] {
            assert_eq!(found(host, "/legal-hold"), None, "{host}");
        }
        assert!(services.find(None, "/legal-hold").is_none());
        assert_eq!(found("dke.example.org", "/v1/tenants/acme/keys"), None);
        assert_eq!(services.0[1].kid(&"k".parse().unwrap(), "ID"), "https://dke.example.org:8443/a/b/k/ID");
        assert_eq!(services.0[1].audiences, ["https://dke.example.org:8443"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_url() {
        for (bad, names) in [
            (MsDkeTable { public_url: "http://dke.example.org".into(), ..table() }, "public_url"),
            (MsDkeTable { public_url: "https://dke.example.org/".into(), ..table() }, "public_url"),
            (MsDkeTable { public_url: "https://DKE.example.org".into(), ..table() }, "public_url"),
            (MsDkeTable { public_url: "https://a@b".into(), ..table() }, "public_url"),
            (MsDkeTable { public_url: "https://b?x".into(), ..table() }, "public_url"),
            (MsDkeTable { public_url: "https://b:/x".into(), ..table() }, "public_url"),
            (MsDkeTable { tenant: "No".into(), ..table() }, "tenant"),
            (MsDkeTable { caller: "".into(), ..table() }, "caller"),
            (MsDkeTable { keys: vec![], ..table() }, "keys"),
            (MsDkeTable { keys: vec!["/".into()], ..table() }, "keys"),
            (MsDkeTable { issuers: vec![], ..table() }, "issuers"),
            (MsDkeTable { audiences: vec!["https://aadrm.com/".into()], ..table() }, "aadrm"),
            (MsDkeTable { authorization: "https://a,b".into(), ..table() }, "authorization"),
            (MsDkeTable { cache_days: 31, ..table() }, "cache_days"),
            (MsDkeTable { unknown_key_status: 500, ..table() }, "unknown_key_status"),
        ] {
            let fault = KeyServices::of(&[bad]).unwrap_err();
            assert!(format!("{fault:?}").contains(names), "{fault:?}");
        }
        let same = MsDkeTable { caller: "other".into(), ..table() };
        assert!(format!("{:?}", KeyServices::of(&[table(), same]).unwrap_err()).contains("of its own"));
        let same = MsDkeTable { public_url: "https://other.example.org".into(), ..table() };
        assert!(format!("{:?}", KeyServices::of(&[table(), same]).unwrap_err()).contains("ms-dke"));
    }

    #[test]
    fn a_key_that_no_request_would_find_is_refused() {
        let issuer =
            "[[issuer]]\nissuer = \"https://sts.windows.net/3f0e1c52/\"\nkeys_url = \"https://idp/keys\"\n";
        let issuers = crate::config::Config::parse(issuer).unwrap().issuer;
        let store = "[[aws_xks]]\nprefix = \"/p\"\ntenant = \"acme\"\ncaller = \"kms\"\nregions = [\"eu-central-1\"]\n";
        let stores = crate::config::Config::parse(store).unwrap().aws_xks;
        let of = |url: &str, caller: &str, key: &str| MsDkeTable {
            public_url: url.into(),
            caller: caller.into(),
            keys: vec!["fine".into(), key.into()],
            ..table()
        };
        let root = "https://dke.example.org";
        for (tables, said) in [
            (vec![of(root, "a", "legal-hold"), of("https://dke.example.org/a/b", "b", "legal-hold")], None),
            (vec![of(root, "a", "openapi.json")], Some("the native API")),
            (vec![of("https://dke.example.org/p/kms/xks/v1", "a", "keys")], Some("`[[aws_xks]]`")),
            (vec![of("https://dke.example.org/q/kms/xks/v1", "a", "keys")], None),
            (
                vec![of(root, "a", "k"), of("https://dke.example.org/k/ID", "b", "decrypt")],
                Some("another `[[ms_dke]]`"),
            ),
        ] {
            let found = check(&tables, &issuers, &stores).err().map(|fault| format!("{fault:?}"));
            assert_eq!(found.is_some(), said.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(said.unwrap_or_default()), "{said:?}");
        }
    }

    /// The example in the reference file, made ready, shows every setting.
    #[test]
    fn the_reference_file_shows_a_service_with_every_setting() {
        let text = format!("[[ms_dke]]\n{}", crate::config::example("ms_dke"));
        let issuer: toml::Table = text.parse().unwrap();
        let issuer = issuer["ms_dke"][0]["issuers"][0].clone();
        let whole = format!("{text}[[issuer]]\nissuer = {issuer}\nkeys_url = \"https://idp/keys\"\n");
        let config = crate::config::Config::parse(&whole).unwrap();
        let shown = text.parse::<toml::Table>().unwrap();
        assert_eq!(toml::Value::try_from(&config.ms_dke).unwrap(), shown["ms_dke"], "a setting is not shown");
    }
}
