//! `holdfast connect ms-dke`.

mod office;
mod trial;

use super::configuration::{Configuration, Differs};
use super::tenant::{self, Lacks, Question, Uses, Wanted};
use super::token::Token;
use super::{How, Report, issuers};
use crate::app::App;
use crate::failure::Failure;
use clap::Args;
use holdfast_core::KeyVersion;
use holdfast_core::action::Action;
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_gateway::config::Config;
use holdfast_sdk::message::{Key, Version};
use holdfast_sdk::{CallerName, KeyName, Tenant};
use holdfast_wire::cse::url::ServiceUrl;
use holdfast_wire::dke::{PROTOCOL, kid};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the key may be; all of Microsoft's instructions have the first.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rsa2048, Algorithm::Rsa3072, Algorithm::Rsa4096];

/// Connect a key service of Microsoft's Double Key Encryption
///
/// Makes or checks the key, the caller and the policy; compares them with the gateway's configuration; reads the key's document and has something
/// decrypted through the gateway's own listener as Office does; and says what to paste where. Running it again changes nothing that is right. See
/// docs/protocols/ms-dke.md.
#[derive(Debug, Args)]
pub(crate) struct MsDke {
    /// Where clients find the service, such as https://dke.example.org: it stands in documents for ever
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: String,
    /// The key; its name is the last part of the URL that the label has
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// Whose tokens are taken (`iss`), such as https://sts.windows.net/TENANT-ID/ with the slash at its end; may be given several times
    #[arg(long = "issuer", value_name = "URL", required = true)]
    issuers: Vec<String>,
    /// Somebody who is to open documents, by object id or by address: the policy is to name them, with each issuer; may be given several times
    #[arg(long = "user", value_name = "ID", value_parser = user)]
    users: Vec<User>,
    /// Whom tokens are for (`aud`), where that is not scheme and host of the URL; may be given several times
    #[arg(long = "audience", value_name = "NAME")]
    audiences: Vec<String>,
    /// Who everybody is here
    #[arg(long, value_name = "NAME", default_value = "ms-dke")]
    caller: CallerName,
    /// Where the gateway is asked, where that is not its address
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A file with a token of Microsoft Entra, to have something decrypted with it
    #[arg(long, value_name = "FILE")]
    entra_token_file: Option<PathBuf>,
    /// The gateway's configuration, to be compared, where it can be read from here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

fn public_url(text: &str) -> Result<String, String> {
    let is_one = ServiceUrl::of(text).is_some_and(|url| url.to_string() == text);
    is_one.then(|| text.to_owned()).ok_or_else(|| {
        "expected `https://`, a host in lower case, and a path or none, without a slash at the end".to_owned()
    })
}

/// Somebody, as the policy knows them.
#[derive(Debug, Clone)]
enum User {
    /// By `oid`.
    Object(String),
    /// By `user`: the claim `email` or `upn`, in lower case.
    Address(String),
}

impl User {
    fn text(&self) -> &str {
        match self {
            Self::Object(text) | Self::Address(text) => text,
        }
    }

    const fn tag(&self) -> &'static str {
        match self {
            Self::Object(_) => "oid",
            Self::Address(_) => "user",
        }
    }
}

/// What a token of an issuer says of somebody, as policies see it.
fn says(user: &User, issuer: &str) -> Vec<(String, String)> {
    let says = [("issuer", issuer), (user.tag(), user.text())];
    says.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn user(text: &str) -> Result<User, String> {
    let text = text.to_ascii_lowercase();
    let is_id = text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if is_id {
        return Ok(User::Object(text));
    }
    // It is written into a policy.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
    match text.contains('@') && text.bytes().all(is_plain) {
        true => Ok(User::Address(text)),
        false => Err("expected an object id, or an address such as `ana.lopez@contoso.example`".to_owned()),
    }
}

/// The key service that is to be.
struct Service {
    url: String,
    place: ServiceUrl,
    key: KeyName,
    caller: CallerName,
    issuers: Vec<String>,
    audiences: Vec<String>,
    users: Vec<User>,
}

impl Service {
    /// Scheme and host: whom tokens are for, unless told.
    fn origin(&self) -> String {
        format!("https://{}", self.place.authority())
    }

    /// The URL that labels have.
    fn label(&self) -> String {
        format!("{}/{}", self.url, self.key)
    }

    /// A path of it, below the key.
    fn path(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.place.path(), self.key)
    }

    fn questions<'a>(&'a self, key: &'a Key) -> Vec<Question<'a>> {
        let reads =
            Question { key, action: Action::PublicKey, authentication: "open", request: vec![], whose: None };
        // The same name or id with another issuer is somebody else, whom the policy may treat otherwise.
        let each = self.users.iter().flat_map(|user| self.issuers.iter().map(move |issuer| (user, issuer)));
        let opens = each.map(|(user, issuer)| Question {
            key,
            action: Action::Decrypt,
            authentication: "issued",
            request: says(user, issuer),
            whose: Some(match &*self.issuers {
                [_] => format!("`{}`", user.text()),
                _ => format!("`{}` of `{issuer}`", user.text()),
            }),
        });
        [reads].into_iter().chain(opens).collect()
    }

    /// What a policy lacks that lets everybody read the public half and these users decrypt.
    fn fragment(&self, lacks: &Lacks<'_>) -> String {
        let Self { key, caller, users, issuers, .. } = self;
        let mut text = String::new();
        if !lacks.of(key, &[Action::PublicKey]).is_empty() {
            let id = lacks.id(&format!("{caller}-tells-{key}"));
            text.push_str(&format!(
                "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action == Holdfast::Action::\"public-key\",\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{ context.protocol == \"{PROTOCOL}\" }};\n\n"
            ));
        }
        // Who is denied with which issuers: another issuer's user of the same name or id is somebody else.
        let mut denied: BTreeMap<Vec<&str>, Vec<&User>> = BTreeMap::new();
        for user in users {
            let is_denied = |issuer: &&String| {
                let said = says(user, issuer);
                lacks.denied().any(|it| it.action == Action::Decrypt && it.request == said)
            };
            let their: Vec<&str> = issuers.iter().filter(is_denied).map(String::as_str).collect();
            if !their.is_empty() {
                denied.entry(their).or_default().push(user);
            }
        }
        let quoted = |all: &mut dyn Iterator<Item = &str>| {
            all.map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ")
        };
        let opens = denied.iter().map(|(issuers, users)| {
            let named = ["oid", "user"].into_iter().filter_map(|tag| {
                let all = quoted(&mut users.iter().filter(|user| user.tag() == tag).map(|user| user.text()));
                (!all.is_empty()).then(|| {
                    format!("(context.request.hasTag(\"{tag}\") && [{all}].contains(context.request.getTag(\"{tag}\")))")
                })
            });
            let named = named.collect::<Vec<_>>().join(" ||\n   ");
            let issuers = quoted(&mut issuers.iter().copied());
            format!("context.request.hasTag(\"issuer\") && [{issuers}].contains(context.request.getTag(\"issuer\")) &&\n  ({named})")
        });
        let opens: Vec<String> = opens.collect();
        let opens = match &*opens {
            [] => return text,
            [one] => one.clone(),
            several => format!("(({}))", several.join(") ||\n  (")),
        };
        let id = lacks.id(&format!("{caller}-opens-{key}"));
        text.push_str(&format!(
            "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action == Holdfast::Action::\"decrypt\",\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{\n  context.protocol == \"{PROTOCOL}\" && context.authentication == \"issued\" &&\n  {opens}\n}};\n"
        ));
        text
    }
}

/// The key, with every version of it that has a public half.
struct Known {
    key: Key,
    versions: Vec<Version>,
}

impl Known {
    /// The id of a version in its URL.
    fn id(&self, version: &Version) -> Option<String> {
        let public = version.public_key.as_ref()?;
        Some(kid::of(self.key.id.0, version.version.0, &public.0))
    }
}

impl MsDke {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {
            public_url,
            key,
            issuers,
            users,
            audiences,
            caller,
            endpoint,
            entra_token_file,
            config,
            how,
        } = self;
        let tenant = app.tenant()?;
        let place = ServiceUrl::of(&public_url).ok_or_else(|| Failure::usage("the URL cannot be one"))?;
        let mut service = Service { url: public_url, place, key, caller, issuers, audiences, users };
        if service.audiences.is_empty() {
            service.audiences.push(service.origin());
        }
        let token = entra_token_file.map(|file| Token::read("--entra-token-file", &file)).transpose()?;
        let endpoint = endpoint.as_deref().map_or_else(|| app.url(), Ok)?;
        let listener = app.nobody(endpoint)?.host(service.place.authority()).connect()?;
        let mut report = Report::begin();
        let is_served = app.block_on(async {
            if !how.self_test_only {
                prepare(&tenant, &service, &how, &mut report).await;
            }
            let config = config.as_deref().map(|file| Configuration::read(file, &mut report));
            let is_configured = config.as_ref().is_none_or(|config| {
                config.agrees("the service", |config| differs(config, &tenant, &service), &mut report)
            });
            let known = known(&tenant, &service.key).await;
            let office = office::Office { client: &listener, service: &service };
            let is_there = trial::run(app, &office, (known, token.as_ref()), &mut report).await;
            let config = config.as_ref().and_then(|config| config.config.as_ref());
            issuers::examine(&service.issuers, config, &mut report).await;
            is_there && is_configured
        });
        if !how.self_test_only {
            pastes(&service, &tenant, is_served, &mut report);
        }
        report.told(app)
    }
}

/// Looks at what the tenant has, or makes it.
async fn prepare(tenant: &Tenant, service: &Service, how: &How, report: &mut Report) {
    tenant::standing(tenant, report).await;
    let wanted = Wanted {
        name: &service.key,
        option: "--key",
        algorithms: &ALGORITHMS,
        purpose: Purpose::Encrypt,
        through: PROTOCOL,
    };
    let key = tenant::wanted_key(tenant, &wanted, how, report).await;
    let credentials = || Ok(tenant::anybody_of(&service.issuers));
    let Some(caller) = tenant::caller(tenant, &service.caller, how, credentials, report).await else {
        return;
    };
    tenant::registered(&caller, &service.issuers, report);
    let Some(key) = &key else { return };
    let users: Vec<_> = service.users.iter().map(|user| format!("`{}`", user.text())).collect();
    let told = format!("tell the public half of `{}`", service.key);
    let told = if users.is_empty() { told } else { format!("{told}, and decrypt for {}", users.join(", ")) };
    let questions = service.questions(key);
    let uses = Uses {
        caller: &caller,
        protocol: PROTOCOL,
        context: &[],
        questions,
        known: &["issuer", "oid", "user"],
        told,
    };
    tenant::all_allowed(tenant, &uses, how, |lacks| service.fragment(lacks), report).await;
    if service.users.is_empty() {
        report.findings.watch(
            "policy",
            "whether anybody may decrypt was not asked",
            "name somebody who is to open documents with `--user`",
        );
    }
}

/// The key and its versions, as far as whoever runs this may read them.
async fn known(tenant: &Tenant, name: &KeyName) -> Option<Known> {
    let key = tenant.key(name).await.ok()?.body;
    let (mut versions, mut after): (Vec<Version>, Option<KeyVersion>) = (vec![], None);
    loop {
        let page = tenant.versions(name, after, None).await.ok()?.body;
        versions.extend(page.versions);
        match page.next {
            Some(next) => after = Some(next.0),
            None => return Some(Known { key, versions }),
        }
    }
}

/// What of the configuration is not as the service is wanted.
fn differs(config: &Config, tenant: &Tenant, service: &Service) -> Option<Differs> {
    let Service { url, place: _, key, caller, issuers, audiences, users: _ } = service;
    let restart = "and restart the gateway";
    let Some(table) = config.ms_dke.iter().find(|table| table.public_url == *url) else {
        let others: Vec<_> = config.ms_dke.iter().map(|table| format!("`{}`", table.public_url)).collect();
        let others = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
        return Some((
            format!("no `[[ms_dke]]` has the public_url `{url}`, but {others}"),
            format!("add the one that is shown {restart}, or name its URL with `--public-url`"),
        ));
    };
    if table.tenant != tenant.id().as_str() || table.caller != caller.as_str() {
        return Some((
            format!("the service `{url}` is of `{}` and its caller `{}`", table.tenant, table.caller),
            "name that caller with `--caller`, or another `--public-url`".to_owned(),
        ));
    }
    if !table.keys.iter().any(|known| known == key.as_str()) {
        let problem = format!("the service `{url}` has not the key `{key}`");
        return Some((problem, format!("add `{key}` to its `keys` {restart}")));
    }
    if let Some(issuer) = issuers.iter().find(|issuer| !table.issuers.contains(issuer)) {
        let known = table.issuers.join("`, `");
        return Some((
            format!("the service `{url}` takes tokens of `{known}`, not of `{issuer}`"),
            format!(
                "add it to `issuers`, to the letter, with an `[[issuer]]` {restart}; or name another `--issuer`"
            ),
        ));
    }
    let origin = [service.origin()];
    let taken = if table.audiences.is_empty() { &origin[..] } else { &table.audiences };
    let audience = audiences.iter().find(|audience| !taken.contains(audience))?;
    Some((
        format!("the service `{url}` takes tokens for `{}`, not for `{audience}`", taken.join("`, `")),
        format!("add it to `audiences` {restart}, or name another `--audience`"),
    ))
}

/// What is to be pasted where.
fn pastes(service: &Service, tenant: &Tenant, is_served: bool, report: &mut Report) {
    let Service { url, key, caller, issuers, audiences, .. } = service;
    let (origin, label) = (service.origin(), service.label());
    let quoted = |all: &[String]| all.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ");
    if !is_served {
        let own = if *audiences == [origin.clone()] {
            String::new()
        } else {
            format!("audiences = [{}]\n", quoted(audiences))
        };
        let believed: String = issuers
            .iter()
            .map(|issuer| {
                format!("[[issuer]]\nissuer = \"{issuer}\"\nkeys_url = \"{}\"\n\n", keys_url(issuer))
            })
            .collect();
        let (tenant, issuers) = (tenant.id(), quoted(issuers));
        report.paste(
            "into the gateway's configuration, as its operator; then restart it, and run this again",
            format!(
                "{believed}[[ms_dke]]\npublic_url = \"{url}\"\ntenant = \"{tenant}\"\ncaller = \"{caller}\"\nkeys = [\"{key}\"]\nissuers = [{issuers}]\n{own}scope = \"user_impersonation\""
            ),
        );
    }
    report.paste(
        "into Microsoft Entra: App registrations › New registration",
        format!(
            "Supported account types         accounts in this directory\n\
             Expose an API                   Application ID URI {origin}, without a slash at its end\n\
             Add a scope                     user_impersonation\n\
             Authorized client applications  d3590ed6-52b3-4102-aeff-aad2292ab01c (Office), with that scope\n\
             \u{20}                               c00e9d32-3c8d-4a7d-832b-029040e7db99 (the MIP client), with that scope\n\
             Token configuration             optional claims of access tokens: upn or email; groups if policies look at them"
        ),
    );
    report.paste(
        "into Microsoft Purview: Information protection › the label › Encryption › Use Double Key Encryption",
        label.clone(),
    );
    report.paste(
        "and let Microsoft's own tester look, where its clients are",
        format!("key_store_tester.ps1 {label}"),
    );
}

/// Where a directory of Entra's has its keys; of another issuer its operator knows.
fn keys_url(issuer: &str) -> String {
    match issuer.strip_prefix("https://sts.windows.net/").map(|rest| rest.trim_end_matches('/')) {
        Some(directory) => format!("https://login.microsoftonline.com/{directory}/discovery/keys"),
        None => format!("{}/…", issuer.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_object_ids_or_addresses() {
        let tag = |text: &str| user(text).ok().map(|user| (user.tag(), user.text().to_owned()));
        let id = "B1F7C0DE-0000-4000-8000-0123456789AB";
        assert_eq!(tag(id), Some(("oid", id.to_lowercase())));
        assert_eq!(tag("Ana.Lopez@contoso.example"), Some(("user", "ana.lopez@contoso.example".to_owned())));
        for bad in ["", "ana", "a\"@b", "a b@c", "a\\@b", "b1f7c0de-0000-4000-8000-0123456789a"] {
            assert_eq!(tag(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_url_is_as_it_stands_in_documents() {
        for good in ["https://dke.example.org", "https://dke.example.org:8443/a/b"] {
            assert!(public_url(good).is_ok(), "{good}");
        }
        for bad in ["https://dke.example.org/", "https://DKE.example.org", "http://dke.example.org", "dke"] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_has_its_keys() {
        let known = "https://login.microsoftonline.com/3f0e/discovery/keys";
        assert_eq!(keys_url("https://sts.windows.net/3f0e/"), known);
        assert_eq!(keys_url("https://idp.example"), "https://idp.example/…");
    }
}
