//! Key services of Google Workspace's client-side encryption (`[[google_cse]]`): whose they are, whom they believe, with which keys they wrap.

mod peer;
mod published;
mod table;

pub use table::GoogleCseTable;

use crate::fault::Fault;
use crate::issuer::{self, Door, IssuerTable};
use crate::quota::{Quota, Quotas};
use arc_swap::ArcSwap;
use holdfast_core::action::Action;
use holdfast_core::port::State;
use holdfast_core::{CallerName, Error, KeyName, TenantId};
use holdfast_wire::cse::check::Rules;
use holdfast_wire::cse::claim::Application;
use holdfast_wire::cse::format::reference;
use holdfast_wire::cse::jws::PublicKey;
use holdfast_wire::cse::path::Method;
use holdfast_wire::cse::url::ServiceUrl;
use holdfast_wire::cse::{AUTHORIZATION_AUDIENCE, DELEGATION_AUDIENCE, MIGRATION_AUDIENCE};
use peer::Client;
pub(crate) use peer::Failure;
use published::{Memory, Published};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// How many questions that need no token are answered in a second.
const OPEN_PER_SECOND: u32 = 50;

/// Everybody whose tokens are believed: those of `[[issuer]]`, and without a table of their own Google's issuers and the peers, where their keys are.
pub(crate) fn believed(issuers: &[IssuerTable], tables: &[GoogleCseTable]) -> Vec<IssuerTable> {
    let mut all = issuers.to_vec();
    let mut add = |issuer: &str, keys_url: String, ca_file: PathBuf| {
        if !all.iter().any(|known| known.issuer == issuer) {
            all.push(IssuerTable::of_keys(issuer.to_owned(), keys_url, ca_file));
        }
    };
    for table in tables {
        for application in Application::ALL {
            add(application.issuer(), application.keys_url(), PathBuf::new());
        }
        // One that cannot be read is refused with its table.
        for peer in table.give_to.iter().filter_map(|peer| ServiceUrl::of(peer)) {
            add(&peer.to_string(), format!("{peer}/certs"), table.peers_ca_file.clone());
        }
    }
    all
}

/// Checks the tables against each other and the issuers.
///
/// # Errors
/// For a value that makes no sense, an identity provider that is no issuer, an audience that the native API has too, or a URL that stands there twice.
pub(crate) fn check(tables: &[GoogleCseTable], issuers: &[IssuerTable]) -> Result<(), Fault> {
    Services::read(tables)?;
    let doors = tables.iter().flat_map(|table| {
        let door = |issuers, audiences| Door {
            name: format!("the `[[google_cse]]` `{}`", table.kacls_url),
            tenant: &table.tenant,
            issuers,
            audiences,
        };
        [
            door(&table.providers, &table.audiences),
            door(&table.guest_providers, &table.audiences),
            door(&table.admin_providers, &table.admin_audiences),
        ]
    });
    issuer::apart(issuers, &doors.collect::<Vec<_>>())?;
    audiences(tables, issuers)
}

/// A token is for one door: users', administrators', another protocol's part or the native API.
fn audiences(tables: &[GoogleCseTable], issuers: &[IssuerTable]) -> Result<(), Fault> {
    let protocols = [AUTHORIZATION_AUDIENCE, DELEGATION_AUDIENCE, MIGRATION_AUDIENCE];
    let is_protocols = |audience: &str| protocols.contains(&audience);
    let is_users = |audience: &String| tables.iter().any(|table| table.audiences.contains(audience));
    let is_admins = |audience: &String| tables.iter().any(|table| table.admin_audiences.contains(audience));
    let natives = issuers.iter().flat_map(|issuer| &issuer.audiences);
    if let Some(audience) = natives
        .into_iter()
        .find(|audience| is_protocols(audience) || is_users(audience) || is_admins(audience))
    {
        return Err(Fault::new(format!("`{audience}` is an audience of a `[[google_cse]]` and of an `[[issuer]]`"))
            .remedy("leave it out of the `[[issuer]]`: a token for the key service is none for the native API, where nothing else is checked"));
    }
    if let Some(audience) =
        tables.iter().flat_map(|table| &table.admin_audiences).find(|audience| is_users(audience))
    {
        return Err(Fault::new(format!("`{audience}` is in `audiences` and in `admin_audiences`")).remedy(
            "register a client of its own with the identity provider for administrators: a token from an everyday session must open nothing without Google's word",
        ));
    }
    let mut ours = tables.iter().flat_map(|table| table.audiences.iter().chain(&table.admin_audiences));
    match ours.find(|audience| is_protocols(audience)) {
        Some(audience) => Err(Fault::new(format!("`{audience}` is an audience of the protocol's own"))
            .remedy("name the client ids of the identity providers")),
        None => Ok(()),
    }
}

/// Every key service.
#[derive(Debug)]
pub(crate) struct Services(Vec<Arc<Service>>);

impl Services {
    /// What the configuration says, with a way to the peers.
    ///
    /// # Errors
    /// As [`check`], and when an authority cannot be read.
    pub(crate) fn of(tables: &[GoogleCseTable]) -> Result<Self, Fault> {
        let mut services = Self::read(tables)?;
        for (service, table) in services.0.iter_mut().zip(tables) {
            if let (Some(service), false) = (Arc::get_mut(service), table.take_from.is_empty()) {
                service.client = Some(ArcSwap::from_pointee(Client::new(&table.peers_ca_file)?));
            }
        }
        Ok(services)
    }

    fn read(tables: &[GoogleCseTable]) -> Result<Self, Fault> {
        let mut services: Vec<Arc<Service>> = Vec::with_capacity(tables.len());
        for table in tables {
            let service = Service::of(table).map_err(|fault| {
                Fault::new(format!("the `[[google_cse]]` `{}` is refused", table.kacls_url)).because(fault)
            })?;
            let is_within = |other: &ServiceUrl| {
                let [a, b] = [other, &service.url].map(|url| format!("{url}/"));
                a.starts_with(&b) || b.starts_with(&a)
            };
            if services.iter().any(|other| is_within(&other.url)) {
                return Err(Fault::new(format!(
                    "two `[[google_cse]]` have the URL `{}`, or one within the other's",
                    service.url
                ))
                .remedy("give each key service a host or a path of its own"));
            }
            services.push(Arc::new(service));
        }
        Ok(Self(services))
    }

    /// Reads the peers' authorities again. What is in force stays where one is refused.
    ///
    /// # Errors
    /// For all that are refused; those that are not are in force.
    pub(crate) fn reload(&self) -> Result<(), Fault> {
        let mut refused = vec![];
        for service in &self.0 {
            let Some(client) = &service.client else { continue };
            match Client::new(&service.peers_ca_file) {
                Ok(new) => client.store(Arc::new(new)),
                Err(fault) => refused.push(fault),
            }
        }
        Fault::all(refused)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The callers as whom everybody comes.
    pub(crate) fn callers(&self) -> impl Iterator<Item = (TenantId, CallerName)> {
        self.0.iter().map(|service| (service.tenant.clone(), service.caller.clone()))
    }

    /// The service that a request for this host and path means, with the rest of the path.
    pub(crate) fn at<'p>(&self, host: &str, path: &'p str) -> Option<(&Arc<Service>, &'p str)> {
        self.0.iter().find_map(|service| {
            let rest = path.strip_prefix(service.url.path())?;
            let is_below = rest.is_empty() || rest.starts_with('/');
            (is_below && service.url.is_at(host)).then_some((service, rest))
        })
    }
}

/// One key service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) url: ServiceUrl,
    /// The same as text: what its own tokens are issued by.
    pub(crate) issuer: String,
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    pub(crate) caller: CallerName,
    pub(crate) quotas: Quotas,
    pub(crate) open_quota: Quota,
    key: KeyName,
    perimeter_keys: BTreeMap<String, KeyName>,
    /// Those that have wrapped before and only open now.
    earlier_keys: Vec<KeyName>,
    owner_domains: Vec<String>,
    pub(crate) audiences: Vec<String>,
    providers: Vec<String>,
    guest_providers: Vec<String>,
    pub(crate) admin_providers: Vec<String>,
    pub(crate) admin_audiences: Vec<String>,
    admins: Vec<String>,
    /// Everybody by whose word a user is known who has Google's as well.
    pub(crate) users_providers: Vec<String>,
    take_from: Vec<String>,
    pub(crate) give_to: Vec<String>,
    signing_keys: Vec<KeyName>,
    origins: Vec<String>,
    /// What a preflight is told that it may send.
    pub(crate) request_headers: String,
    pub(crate) claims: Vec<String>,
    /// Google's issuers.
    pub(crate) google: Vec<String>,
    /// Towards the peers that keys are taken from, if there are any.
    client: Option<ArcSwap<Client>>,
    peers_ca_file: PathBuf,
    published: Memory<Published>,
}

/// What tokens of each kind are for.
pub(crate) struct Audiences {
    pub(crate) authorization: [String; 1],
    pub(crate) delegation: [String; 1],
    pub(crate) migration: [String; 1],
}

impl Audiences {
    pub(crate) fn new() -> Self {
        Self {
            authorization: [AUTHORIZATION_AUDIENCE.to_owned()],
            delegation: [DELEGATION_AUDIENCE.to_owned()],
            migration: [MIGRATION_AUDIENCE.to_owned()],
        }
    }
}

impl Service {
    /// The key of a perimeter.
    pub(crate) fn key(&self, perimeter: &str) -> &KeyName {
        self.perimeter_keys.get(perimeter).unwrap_or(&self.key)
    }

    /// The key that has wrapped a blob, by what the blob calls it: among those that wrap now and those that did. Where it is none of them, the one
    /// of the perimeter, which does not open it.
    ///
    /// # Errors
    /// `state-unavailable`.
    pub(crate) async fn opens(
        &self,
        state: &impl State,
        called: [u8; 4],
        perimeter: &str,
    ) -> Result<&KeyName, Error> {
        let now = self.key(perimeter);
        let others = [&self.key].into_iter().chain(self.perimeter_keys.values()).chain(&self.earlier_keys);
        for name in [now].into_iter().chain(others) {
            if self.called(state, name).await? == Some(called) {
                return Ok(name);
            }
        }
        Ok(now)
    }

    /// What blobs call a key; `None` if there is no such key.
    ///
    /// # Errors
    /// `state-unavailable`.
    pub(crate) async fn called(&self, state: &impl State, name: &KeyName) -> Result<Option<[u8; 4]>, Error> {
        Ok(state.key(&self.tenant, name).await?.map(|entry| reference(entry.key.id)))
    }

    /// What tokens are held against.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            url: &self.url,
            owner_domains: &self.owner_domains,
            providers: &self.providers,
            guest_providers: &self.guest_providers,
            own_issuer: if self.signing_keys.is_empty() { "" } else { &self.issuer },
        }
    }

    /// Whether this is one of the few who need nobody's word but their provider's.
    pub(crate) fn is_admin(&self, issuer: &str, email: Option<&str>) -> bool {
        let is_named = |email: &str| self.admins.iter().any(|admin| admin.eq_ignore_ascii_case(email));
        self.admin_providers.iter().any(|provider| provider == issuer) && email.is_some_and(is_named)
    }

    /// The key that signs our own tokens, if there is one.
    pub(crate) fn signing_key(&self) -> Option<&KeyName> {
        self.signing_keys.first()
    }

    /// Whether a page from there may read our answers.
    pub(crate) fn lets_in(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }

    /// The key service of this URL that keys are taken over from.
    pub(crate) fn peer(&self, url: &str) -> Option<&str> {
        let url = ServiceUrl::of(url)?;
        self.take_from.iter().map(String::as_str).find(|peer| url.is(peer))
    }

    /// Asks a peer for a key.
    pub(crate) async fn ask(&self, peer: &str, body: Vec<u8>) -> Result<holdfast_core::Secret, Failure> {
        match &self.client {
            Some(client) => client.load_full().ask(peer, body).await,
            None => Err(Failure::Wrong("there is no way to a peer".to_owned())),
        }
    }

    /// The methods that it has.
    pub(crate) fn methods(&self) -> impl Iterator<Item = Method> {
        Method::ALL.iter().copied().filter(|method| self.has(*method))
    }

    fn has(&self, method: Method) -> bool {
        let has_admins = !self.admins.is_empty() && !self.admin_providers.is_empty();
        let signs = !self.signing_keys.is_empty();
        match method {
            Method::Status
            | Method::Certs
            | Method::Wrap
            | Method::Unwrap
            | Method::Digest
            | Method::PrivateKeySign
            | Method::PrivateKeyDecrypt => true,
            Method::Delegate => signs,
            Method::Rewrap => signs && !self.take_from.is_empty(),
            Method::PrivilegedUnwrap => has_admins || !self.give_to.is_empty(),
            Method::PrivilegedWrap | Method::PrivilegedPrivateKeyDecrypt | Method::WrapPrivateKey => {
                has_admins
            }
        }
    }

    /// The public half of the version that signs now; `None` where there is none that can.
    ///
    /// # Errors
    /// `state-unavailable`.
    pub(crate) async fn signs_with(&self, state: &impl State) -> Result<Option<(KeyName, PublicKey)>, Error> {
        let Some(name) = self.signing_key() else { return Ok(None) };
        let Some(entry) = state.key(&self.tenant, name).await? else { return Ok(None) };
        let public = entry.current.public.as_deref().and_then(PublicKey::of);
        Ok(public
            .filter(|_| entry.key.state.permits(Action::Sign).is_ok())
            .map(|public| (name.clone(), public)))
    }
}

/// Names that stand there once.
fn once(lists: &[&[String]]) -> Vec<String> {
    lists.iter().flat_map(|list| list.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
