//! `holdfast connect google-cse`.

mod client;
mod trial;

use super::configuration::{Configuration, Differs};
use super::tenant::{self, Lacks, Question, Uses, Wanted};
use super::token::Token;
use super::{How, Report, issuers};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_gateway::config::Config;
use holdfast_gateway::google_cse::GoogleCseTable;
use holdfast_gateway::paths;
use holdfast_sdk::message::Key;
use holdfast_sdk::{CallerName, KeyName, Tenant};
use holdfast_wire::cse::PROTOCOL;
use holdfast_wire::cse::claim::Application;
use holdfast_wire::cse::format::ALGORITHMS;
use holdfast_wire::cse::url::ServiceUrl;
use std::path::PathBuf;

/// What the key that signs may be.
const SIGNS: [Algorithm; 3] = [Algorithm::Rsa3072, Algorithm::Rsa2048, Algorithm::Rsa4096];

/// Connect a key service of Google Workspace's client-side encryption
///
/// Makes or checks the keys, the caller and the policy; compares them with the gateway's configuration; asks the service through the gateway's own
/// listener as Google and a browser do, with two tokens also to wrap and unwrap; and says what to paste where. Running it again changes nothing that
/// is right. See docs/protocols/google-cse.md.
#[derive(Debug, Args)]
pub(crate) struct GoogleCse {
    /// The service's URL, as it stands in the Workspace admin console, such as https://kacls.example.org/cse
    #[arg(long, value_name = "URL", value_parser = kacls_url)]
    kacls_url: ServiceUrl,
    /// An identity provider of users: the `iss` of its tokens; may be given several times
    #[arg(long = "provider", value_name = "URL", required = true)]
    providers: Vec<String>,
    /// A client id of Google's client with the provider: the `aud` of its tokens; may be given several times
    #[arg(long = "audience", value_name = "ID", required = true)]
    audiences: Vec<String>,
    /// A domain that owns the service; may be given several times
    #[arg(long = "owner-domain", value_name = "NAME", required = true)]
    owner_domains: Vec<String>,
    /// The key that wraps
    #[arg(long, value_name = "NAME", default_value = "workspace")]
    key: KeyName,
    /// The key that signs the service's own tokens: for delegation, and to take keys over from another service
    #[arg(long, value_name = "NAME")]
    signing_key: Option<KeyName>,
    /// Another key service whose keys are taken over; may be given several times
    #[arg(long, value_name = "URL", requires = "signing_key")]
    take_from: Vec<String>,
    /// Another key service that is given keys; may be given several times
    #[arg(long, value_name = "URL")]
    give_to: Vec<String>,
    /// Who everybody is here
    #[arg(long, value_name = "NAME", default_value = "google-cse")]
    caller: CallerName,
    /// Where the gateway is asked, where that is not its address
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A file with a user's token of the provider, to wrap and unwrap with
    #[arg(long, value_name = "FILE", requires = "authorization_token_file")]
    authentication_token_file: Option<PathBuf>,
    /// And one with Google's token for that user and an object
    #[arg(long, value_name = "FILE", requires = "authentication_token_file")]
    authorization_token_file: Option<PathBuf>,
    /// The gateway's configuration, to be compared, where it can be read from here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

fn kacls_url(text: &str) -> Result<ServiceUrl, String> {
    ServiceUrl::of(text).ok_or_else(|| {
        "expected `https://HOST`, with a port or a path if it has one, and nothing behind it".to_owned()
    })
}

/// The key service that is to be.
struct Service {
    url: ServiceUrl,
    key: KeyName,
    signing_key: Option<KeyName>,
    caller: CallerName,
    providers: Vec<String>,
    audiences: Vec<String>,
    owner_domains: Vec<String>,
    take_from: Vec<String>,
    give_to: Vec<String>,
}

/// Both tokens of a user.
struct Tokens {
    authentication: Token,
    authorization: Token,
}

impl Service {
    /// A path of it.
    fn path(&self, method: &str) -> String {
        format!("{}/{method}", self.url.path())
    }

    /// What the configuration has of it.
    fn table<'a>(&self, config: &'a Config) -> Option<&'a GoogleCseTable> {
        config.google_cse.iter().find(|table| self.url.is(&table.kacls_url))
    }

    /// Whose tokens bring somebody in as the caller: what the configuration says besides is among them.
    fn callers_issuers(&self, table: Option<&GoogleCseTable>) -> Vec<String> {
        let mut all = self.providers.clone();
        if let Some(GoogleCseTable { guest_providers, admin_providers, providers, give_to, .. }) = table {
            all.extend([providers, guest_providers, admin_providers, give_to].into_iter().flatten().cloned());
        }
        all.extend(self.give_to.iter().cloned());
        if self.signing_key.is_some() || table.is_some_and(|table| !table.signing_keys.is_empty()) {
            all.push(self.url.to_string());
        }
        all.push(Application::Migration.issuer().to_owned());
        once(all)
    }

    /// Whose keys the gateway must have: those whose tokens it takes, itself aside, and Google's.
    fn believed_issuers(&self, table: Option<&GoogleCseTable>) -> Vec<String> {
        let own = self.url.to_string();
        let google = Application::ALL.map(|application| application.issuer().to_owned());
        once(self.callers_issuers(table).into_iter().chain(google).filter(|issuer| *issuer != own))
    }

    /// What the policy is asked: what these tokens say, or what a user's could.
    fn questions<'a>(
        &self,
        (key, signing_key): (&'a Key, Option<&'a Key>),
        (tokens, table): (Option<&Tokens>, Option<&GoogleCseTable>),
    ) -> Vec<Question<'a>> {
        let domain = self.owner_domains.first().map(String::as_str).unwrap_or_default();
        let somebody = format!("holdfast-connect@{domain}");
        let said = |method: &str, role: &str| {
            let mut said = vec![];
            let mut put = |name: &str, value: &str| {
                if !value.is_empty() {
                    said.push((name.to_owned(), value.to_owned()));
                }
            };
            put("method", method);
            put("reason", trial::REASON);
            let Some(Tokens { authentication, authorization }) = tokens else {
                let issuer = self.providers.first().map(String::as_str).unwrap_or_default();
                for (name, value) in [
                    ("application", Application::Drive.name()),
                    ("email", &somebody),
                    ("email_type", "google"),
                    ("role", role),
                    ("resource_name", "//googleapis.com/drive/files/holdfast-connect"),
                    ("authentication_issuer", issuer),
                    ("authentication_email", &somebody),
                ] {
                    put(name, value);
                }
                return said;
            };
            put("application", Application::of(authorization.text("iss")).map_or("", Application::name));
            put(
                "email_type",
                match authorization.text("email_type") {
                    "" => "google",
                    other => other,
                },
            );
            for claim in ["email", "role", "resource_name", "perimeter_id", "delegated_to"] {
                put(claim, authorization.text(claim));
            }
            put("owner_domain", authorization.text("kacls_owner_domain"));
            put("authentication_issuer", authentication.text("iss"));
            put("authentication_email", authentication.text("email"));
            put("google_email", authentication.text("google_email"));
            for claim in table.map(|table| table.claims.as_slice()).unwrap_or_default() {
                put(&format!("claim.{claim}"), authentication.text(claim));
            }
            said
        };
        let question = |key, action, method, role| Question {
            key,
            action,
            authentication: "issued",
            request: said(method, role),
            whose: None,
        };
        let wraps = [(Action::Encrypt, "wrap", "writer"), (Action::Decrypt, "unwrap", "reader")];
        let wraps = wraps.map(|(action, method, role)| question(key, action, method, role));
        let signs = signing_key.map(|key| question(key, Action::Sign, "delegate", "reader"));
        wraps.into_iter().chain(signs).collect()
    }

    /// What a policy lacks that lets the caller use the keys.
    fn fragment(&self, lacks: &Lacks<'_>) -> String {
        let Self { key, signing_key, caller, .. } = self;
        let mut text = String::new();
        let mut add = |id: String, actions: &[Action], key: &KeyName| {
            let actions = tenant::scope(actions);
            text.push_str(&format!(
                "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action {actions},\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{ context.protocol == \"{PROTOCOL}\" }};\n\n"
            ));
        };
        let wraps = lacks.of(key, &[Action::Encrypt, Action::Decrypt]);
        if !wraps.is_empty() {
            add(lacks.id(&format!("{caller}-wraps-with-{key}")), &wraps, key);
        }
        if let Some(key) = signing_key {
            let signs = lacks.of(key, &[Action::Sign]);
            if !signs.is_empty() {
                add(lacks.id(&format!("{caller}-signs-with-{key}")), &signs, key);
            }
        }
        text
    }
}

fn once(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut one: Vec<String> = vec![];
    for name in all {
        if !one.contains(&name) {
            one.push(name);
        }
    }
    one
}

impl GoogleCse {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {
            kacls_url: url,
            providers,
            audiences,
            owner_domains,
            key,
            signing_key,
            take_from,
            give_to,
            caller,
            endpoint,
            authentication_token_file,
            authorization_token_file,
            config,
            how,
        } = self;
        let tenant = app.tenant()?;
        let service = Service {
            url,
            key,
            signing_key,
            caller,
            providers,
            audiences,
            owner_domains,
            take_from,
            give_to,
        };
        let tokens = match (authentication_token_file, authorization_token_file) {
            (Some(authentication), Some(authorization)) => Some(Tokens {
                authentication: Token::read("--authentication-token-file", &authentication)?,
                authorization: Token::read("--authorization-token-file", &authorization)?,
            }),
            (_, _) => None,
        };
        let endpoint = endpoint.as_deref().map_or_else(|| app.url(), Ok)?;
        let listener = app.nobody(endpoint)?.host(service.url.authority()).connect()?;
        let mut report = Report::begin();
        let is_served = app.block_on(async {
            let config = config.as_deref().map(|file| Configuration::read(file, &mut report));
            let is_configured = config.as_ref().is_none_or(|config| {
                config.agrees("the service", |config| differs(config, &tenant, &service), &mut report)
            });
            let config = config.as_ref().and_then(|config| config.config.as_ref());
            let table = config.and_then(|config| service.table(config));
            let signing = match how.self_test_only {
                true => None,
                false => prepare(&tenant, &service, &how, (tokens.as_ref(), table), &mut report).await,
            };
            let browser = client::Browser { client: &listener, service: &service };
            let is_there = trial::run(app, &browser, (tokens.as_ref(), signing.as_ref()), &mut report).await;
            issuers::examine(&service.believed_issuers(table), config, &mut report).await;
            is_there && is_configured
        });
        if !how.self_test_only {
            pastes(&service, &tenant, is_served, &mut report);
        }
        report.told(app)
    }
}

/// Looks at what the tenant has, or makes it; gives the key that signs.
async fn prepare(
    tenant: &Tenant,
    service: &Service,
    how: &How,
    (tokens, table): (Option<&Tokens>, Option<&GoogleCseTable>),
    report: &mut Report,
) -> Option<Key> {
    tenant::standing(tenant, report).await;
    let wraps = Wanted {
        name: &service.key,
        option: "--key",
        algorithms: &[],
        purpose: Purpose::Encrypt,
        through: PROTOCOL,
    };
    let key = tenant::wanted_key(tenant, &wraps, how, report).await;
    let key = key.filter(|key| is_authenticated(key, report));
    let signing_key = match &service.signing_key {
        Some(name) => {
            let signs = Wanted {
                name,
                option: "--signing-key",
                algorithms: &SIGNS,
                purpose: Purpose::Sign,
                through: PROTOCOL,
            };
            tenant::wanted_key(tenant, &signs, how, report).await
        }
        None => None,
    };
    let issuers = service.callers_issuers(table);
    let credentials = || Ok(tenant::anybody_of(&issuers));
    let caller = tenant::caller(tenant, &service.caller, how, credentials, report).await;
    if let Some(caller) = &caller {
        tenant::registered(caller, &issuers, report);
    }
    if let (Some(caller), Some(key)) = (&caller, &key) {
        let told = format!("encrypt and decrypt with `{}`", service.key);
        let told = match &signing_key {
            Some(signing) => format!("{told}, and sign with `{}`", signing.name.0),
            None => told,
        };
        let questions = service.questions((key, signing_key.as_ref()), (tokens, table));
        let uses = Uses { caller, protocol: PROTOCOL, context: &[], questions, known: &[], told };
        tenant::all_allowed(tenant, &uses, how, |lacks| service.fragment(lacks), report).await;
    }
    signing_key
}

/// Whether the key encrypts with authentication, as whatever wraps must.
fn is_authenticated(key: &Key, report: &mut Report) -> bool {
    let (name, algorithm) = (&key.name.0, key.algorithm.0);
    let is_one = ALGORITHMS.contains(&algorithm);
    if !is_one {
        let problem = format!("`{name}` is {}, which wraps nothing here", algorithm.name());
        let failure = Failure::new(Exit::Usage, problem)
            .remedy("name a key of authenticated encryption with `--key`: what a key is never changes");
        report.findings.wrong("key", &failure);
    }
    is_one
}

/// What of the configuration is not as the service is wanted.
fn differs(config: &Config, tenant: &Tenant, service: &Service) -> Option<Differs> {
    let restart = "and restart the gateway";
    let Some(table) = service.table(config) else {
        return Some((
            format!("no `[[google_cse]]` has the kacls_url `{}`", service.url),
            format!("add the one that is shown {restart}, or name its URL with `--kacls-url`"),
        ));
    };
    let (problem, remedy) = table_differs(table, tenant, service)?;
    Some((format!("the service `{}` {problem}", service.url), format!("{remedy}; {restart}")))
}

fn table_differs(table: &GoogleCseTable, tenant: &Tenant, service: &Service) -> Option<Differs> {
    let Service { url: _, key, signing_key, caller, providers, audiences, owner_domains, take_from, give_to } =
        service;
    if table.tenant != tenant.id().as_str() || table.caller != caller.as_str() {
        let problem = format!("is of `{}` and its caller `{}`", table.tenant, table.caller);
        return Some((problem, "name that caller with `--caller`, or set `tenant` and `caller`".to_owned()));
    }
    if table.key != key.as_str() {
        let problem = format!("wraps with `{}`, not with `{key}`", table.key);
        let remedy = format!(
            "name that key with `--key`; or set `key`, and put `{}` among `earlier_keys`, which go on opening",
            table.key
        );
        return Some((problem, remedy));
    }
    let signing_keys: Vec<String> = signing_key.iter().map(ToString::to_string).collect();
    let lists = [
        ("owner_domains", owner_domains, &table.owner_domains),
        ("audiences", audiences, &table.audiences),
        ("providers", providers, &table.providers),
        ("signing_keys", &signing_keys, &table.signing_keys),
        ("take_from", take_from, &table.take_from),
        ("give_to", give_to, &table.give_to),
    ];
    lists.into_iter().find_map(|(setting, wanted, found)| {
        let lacking = wanted.iter().find(|one| !found.contains(one))?;
        let problem = format!("has no `{lacking}` among its `{setting}`");
        Some((problem, format!("add `{lacking}` to its `{setting}`, or name another one here")))
    })
}

/// What is to be pasted where.
fn pastes(service: &Service, tenant: &Tenant, is_served: bool, report: &mut Report) {
    let Service { url, key, signing_key, caller, providers, audiences, owner_domains, take_from, give_to } =
        service;
    if !is_served {
        let list = |setting: &str, all: &[String]| match all {
            [] => String::new(),
            all => {
                let all: Vec<_> = all.iter().map(|one| format!("\"{one}\"")).collect();
                format!("{setting} = [{}]\n", all.join(", "))
            }
        };
        let signing_keys: Vec<String> = signing_key.iter().map(ToString::to_string).collect();
        let believed: String = providers
            .iter()
            .map(|provider| {
                format!(
                    "[[issuer]]\nissuer = \"{provider}\"\ndiscovery_url = \"{}\"\n\n",
                    discovery(provider)
                )
            })
            .collect();
        let lists = [
            list("owner_domains", owner_domains),
            list("audiences", audiences),
            list("providers", providers),
            list("signing_keys", &signing_keys),
            list("take_from", take_from),
            list("give_to", give_to),
        ];
        let tenant = tenant.id();
        let own_host = if paths::is_natives(url.path()) { "own_host = true\n" } else { "" };
        report.paste(
            "into the gateway's configuration, as its operator; then restart it, and run this again",
            format!(
                "{believed}[[google_cse]]\nkacls_url = \"{url}\"\n{own_host}tenant = \"{tenant}\"\ncaller = \"{caller}\"\nkey = \"{key}\"\n{}",
                lists.concat()
            ),
        );
    }
    report.paste(
        "into Google's admin console: Data › Compliance › Client-side encryption › External key service › Add",
        format!("Name  Holdfast, or what you like\nURL   {url}"),
    );
    let (client, provider) = (
        audiences.first().map(String::as_str).unwrap_or_default(),
        providers.first().map(String::as_str).unwrap_or_default(),
    );
    report.paste(
        "into Google's admin console: Client-side encryption › Identity provider configuration; or as the file .well-known/cse-configuration on your domain",
        format!(
            "{{\n  \"name\": \"{provider}\",\n  \"client_id\": \"{client}\",\n  \"discovery_uri\": \"{}\"\n}}",
            discovery(provider)
        ),
    );
    report.paste(
        "into Google's admin console: Client-side encryption › Assign",
        "the key service, to the organisational units or groups that are to use it",
    );
}

/// Where a provider says what it has (OpenID Connect Discovery 1.0 §4).
fn discovery(provider: &str) -> String {
    format!("{}/.well-known/openid-configuration", provider.trim_end_matches('/'))
}
