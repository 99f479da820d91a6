//! What is configured of a key service.

use super::published::Memory;
use super::{OPEN_PER_SECOND, Service, once};
use crate::fault::Fault;
use crate::quota::{Quota, Quotas};
use holdfast_core::KeyName;
use holdfast_wire::cse::ORIGIN;
use holdfast_wire::cse::claim::Application;
use holdfast_wire::cse::format::MAX_NAME;
use holdfast_wire::cse::url::ServiceUrl;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most of a list that is compared one by one.
const MAX_LIST: usize = 256;

/// One key access control list service (KACLS) of Google Workspace's client-side encryption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleCseTable {
    /// Its URL, as it stands in the Workspace admin console.
    pub kacls_url: String,
    /// Whether its host is the service's alone, so that nothing else of the gateway is looked for there.
    #[serde(default)]
    pub own_host: bool,
    /// Its name, in `status`; empty: none.
    #[serde(default)]
    pub name: String,
    /// Whose keys they are.
    pub tenant: String,
    /// The tenant's caller that uses them: registered for the issuers below.
    pub caller: String,
    /// The key that wraps.
    pub key: String,
    /// The domains that own the service, where a token says one.
    pub owner_domains: Vec<String>,
    /// Whom their tokens are for: the client ids of Google's CSE client with the identity providers.
    pub audiences: Vec<String>,
    /// The identity providers (`[[issuer]]`) of users with a Google account.
    pub providers: Vec<String>,
    /// The identity providers of guests; empty: guests are refused.
    #[serde(default)]
    pub guest_providers: Vec<String>,
    /// The identity providers of administrators; empty: the privileged methods are off.
    #[serde(default)]
    pub admin_providers: Vec<String>,
    /// The administrators, by e-mail address.
    #[serde(default)]
    pub admins: Vec<String>,
    /// Whom administrators' tokens are for: client ids that are nobody's everyday ones.
    #[serde(default)]
    pub admin_audiences: Vec<String>,
    /// The keys that sign the service's own tokens: the first does, all are published; empty: nothing is delegated or taken over.
    #[serde(default)]
    pub signing_keys: Vec<String>,
    /// The URLs of the key services whose keys are taken over, by `rewrap`; empty: none.
    #[serde(default)]
    pub take_from: Vec<String>,
    /// The URLs of the key services that are given keys, by `privilegedunwrap`; empty: none.
    #[serde(default)]
    pub give_to: Vec<String>,
    /// The authorities of their certificates, PEM; empty: those of the machine.
    #[serde(default)]
    pub peers_ca_file: PathBuf,
    /// From where browsers call.
    #[serde(default = "google")]
    pub origins: Vec<String>,
    /// The headers that they may send.
    #[serde(default = "content_type")]
    pub request_headers: Vec<String>,
    /// The claims of the authentication token that policies see besides the usual, as `claim.NAME`.
    #[serde(default)]
    pub claims: Vec<String>,
    /// The most requests with tokens a second; 0: as many as come.
    #[serde(default = "requests_per_second")]
    pub requests_per_second: u32,
    /// The most of one person; 0: as many as the service lets in.
    #[serde(default = "requests_per_second_each")]
    pub requests_per_second_each: u32,
    /// The most of administrators by their own methods, Google's migration and other key services, together; 0: as many as the service lets in.
    #[serde(default = "requests_per_second_bulk")]
    pub requests_per_second_bulk: u32,
    /// Keys that have wrapped before, and only open now.
    #[serde(default)]
    pub earlier_keys: Vec<String>,
    /// Keys for single perimeters, by the perimeter's id.
    #[serde(default)]
    pub perimeter_keys: BTreeMap<String, String>,
}

fn google() -> Vec<String> {
    vec![ORIGIN.to_owned()]
}

fn requests_per_second() -> u32 {
    200
}

fn requests_per_second_each() -> u32 {
    20
}

fn requests_per_second_bulk() -> u32 {
    100
}

fn content_type() -> Vec<String> {
    vec!["Content-Type".to_owned()]
}

impl Service {
    pub(super) fn of(table: &GoogleCseTable) -> Result<Self, Fault> {
        let GoogleCseTable {
            kacls_url,
            own_host: _,
            name,
            tenant,
            caller,
            key,
            owner_domains,
            audiences,
            providers,
            guest_providers,
            admin_providers,
            admins,
            admin_audiences,
            signing_keys,
            take_from,
            give_to,
            peers_ca_file,
            origins,
            request_headers,
            claims,
            requests_per_second,
            requests_per_second_each,
            requests_per_second_bulk,
            earlier_keys,
            perimeter_keys,
        } = table;
        let url = url("kacls_url", kacls_url)?;
        let lists = [
            ("owner_domains", owner_domains),
            ("audiences", audiences),
            ("providers", providers),
            ("guest_providers", guest_providers),
            ("admin_providers", admin_providers),
            ("admins", admins),
            ("admin_audiences", admin_audiences),
            ("signing_keys", signing_keys),
            ("take_from", take_from),
            ("give_to", give_to),
            ("origins", origins),
            ("request_headers", request_headers),
            ("claims", claims),
            ("earlier_keys", earlier_keys),
        ];
        for (setting, list) in lists {
            if list.len() > MAX_LIST || list.iter().any(String::is_empty) {
                return Err(Fault::new(format!("`{setting}` has an empty entry, or more than {MAX_LIST}"))
                    .remedy("leave out what says nothing"));
            }
        }
        for (setting, list) in
            [("owner_domains", owner_domains), ("audiences", audiences), ("providers", providers)]
        {
            if list.is_empty() {
                return Err(Fault::new(format!("`{setting}` is empty")).remedy(
                    "name the Workspace domain, the client id of Google's CSE client, and the issuer of users' tokens",
                ));
            }
        }
        for (setting, list) in [("signing_keys", signing_keys), ("claims", claims)] {
            if once(&[list]).len() != list.len() {
                return Err(Fault::new(format!("`{setting}` names one twice")).remedy("name each once"));
            }
        }
        if claims.iter().any(|claim| claim == "email") {
            return Err(Fault::new("`claims` names `email`, which the provider need not have verified").remedy(
                "leave it out: policies have the address that was compared with Google's as `email`, and the provider's as `authentication_email`",
            ));
        }
        if let Some(both) = providers.iter().find(|provider| guest_providers.contains(provider)) {
            return Err(Fault::new(format!("`{both}` is in `providers` and in `guest_providers`"))
                .remedy("have guests come by a provider of their own: nobody else vouches for what kind of account they have"));
        }
        if [admin_providers, admin_audiences].iter().any(|list| list.is_empty() != admins.is_empty()) {
            return Err(Fault::new("only some of `admins`, `admin_providers` and `admin_audiences` are set")
                .remedy("set all three for the privileged methods, or none"));
        }
        for (setting, peers) in [("take_from", take_from), ("give_to", give_to)] {
            for peer in peers {
                if self::url(setting, peer)? == url {
                    return Err(Fault::new(format!("`{setting}` names the service itself"))
                        .remedy("name the other key services alone"));
                }
            }
        }
        let is_visible = |text: &String| text.bytes().all(|b| b.is_ascii_graphic());
        if !origins.iter().chain(request_headers).all(is_visible) || origins.iter().any(|it| it == "*") {
            return Err(Fault::new("`origins` or `request_headers` holds what no header can, or `*`")
                .remedy("name each origin and header by itself"));
        }
        let mut keys = BTreeMap::new();
        for (perimeter, key) in perimeter_keys {
            if perimeter.is_empty() || perimeter.len() > MAX_NAME {
                return Err(Fault::new("`perimeter_keys` names a perimeter that can be none")
                    .remedy(format!("use the perimeter's id, up to {MAX_NAME} bytes")));
            }
            keys.insert(perimeter.clone(), self::key("perimeter_keys", key)?);
        }
        let refused = |setting: &str, error: holdfast_core::id::InvalidId| {
            Fault::new(format!("`{setting}` is refused")).because(error)
        };
        Ok(Self {
            issuer: url.to_string(),
            url,
            name: name.clone(),
            tenant: tenant.parse().map_err(|error| refused("tenant", error))?,
            caller: caller.parse().map_err(|error| refused("caller", error))?,
            quotas: Quotas::with_bulk(
                *requests_per_second,
                *requests_per_second_each,
                *requests_per_second_bulk,
            ),
            open_quota: Quota::of(OPEN_PER_SECOND),
            key: self::key("key", key)?,
            perimeter_keys: keys,
            earlier_keys: earlier_keys
                .iter()
                .map(|key| self::key("earlier_keys", key))
                .collect::<Result<_, _>>()?,
            owner_domains: owner_domains.clone(),
            audiences: audiences.clone(),
            providers: providers.clone(),
            guest_providers: guest_providers.clone(),
            admin_providers: admin_providers.clone(),
            admins: admins.clone(),
            admin_audiences: admin_audiences.clone(),
            users_providers: once(&[providers, guest_providers]),
            take_from: take_from.clone(),
            give_to: give_to.iter().filter_map(|peer| ServiceUrl::of(peer)).flat_map(as_issuer).collect(),
            signing_keys: signing_keys
                .iter()
                .map(|key| self::key("signing_keys", key))
                .collect::<Result<_, _>>()?,
            origins: origins.clone(),
            request_headers: request_headers.join(", "),
            claims: claims.clone(),
            google: Application::ALL.map(|application| application.issuer().to_owned()).to_vec(),
            client: None,
            peers_ca_file: peers_ca_file.clone(),
            published: Memory::default(),
        })
    }
}

fn url(setting: &str, text: &str) -> Result<ServiceUrl, Fault> {
    ServiceUrl::of(text).ok_or_else(|| {
        Fault::new(format!("`{setting}`: `{text}` is no URL of a key service"))
            .remedy("write `https://HOST`, with a port or a path if it has one, and nothing behind it")
    })
}

/// What a service can call itself in its tokens: its URL without a slash at the end, or with one where an `[[issuer]]` says so.
fn as_issuer(url: ServiceUrl) -> [String; 2] {
    [format!("{url}"), format!("{url}/")]
}

fn key(setting: &str, name: &str) -> Result<KeyName, Fault> {
    name.parse().map_err(|error: holdfast_core::id::InvalidId| {
        Fault::new(format!("`{setting}` is refused")).because(error)
    })
}
