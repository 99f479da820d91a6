//! `holdfast connect aws-xks`.

mod kms;
mod trial;

use super::tenant::{self, Lacks, Use};
use super::{How, Report};
use crate::app::App;
use crate::command::doctor::examine_expiry;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::xks_credential::{XksCredential, unread};
use clap::Args;
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::TokenForm;
use holdfast_gateway::config::Config;
use holdfast_sdk::message::Caller;
use holdfast_sdk::{CallerName, KeyName, Tenant, TokenId};
use holdfast_wire::xks::{PROTOCOL, path};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// How long a credential lives that AWS gets, in seconds.
const LIFETIME: u64 = 365 * 86_400;
/// And one that only the test signs with.
const LENT: u64 = 600;

/// Connect an external key store of AWS KMS
///
/// Makes or checks the key, the caller, its credential and the policy; compares them with the gateway's configuration; asks the store through the
/// gateway's own listener as KMS does; and says what to paste where. Running it again changes nothing that is right. See docs/protocols/aws-xks.md.
#[derive(Debug, Args)]
pub(crate) struct AwsXks {
    /// The key; its name is the external key id in AWS
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// The region of AWS that the store is in, such as eu-central-1
    #[arg(long, value_name = "REGION", value_parser = region)]
    region: String,
    /// The AWS account whose KMS keys may use it: 12 digits
    #[arg(long, value_name = "ID", value_parser = account)]
    account: String,
    /// Who AWS KMS is here
    #[arg(long, value_name = "NAME", default_value = "aws-kms")]
    caller: CallerName,
    /// What stands before /kms/xks/v1 in the store's path [default: a slash and the tenant's name]
    #[arg(long, value_name = "PATH", value_parser = prefix)]
    prefix: Option<String>,
    /// Where KMS calls, where that is not the gateway's address
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The file with the store's path and credential, as AWS takes it; written if the caller has none yet [default: CALLER.json]
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// Issue another credential into that file, beside those that the caller has
    #[arg(long, conflicts_with_all = ["check", "self_test_only"])]
    new_credential: bool,
    /// The gateway's configuration, to be compared, where it can be read from here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

fn region(text: &str) -> Result<String, String> {
    let is_one = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (is_one && text.contains('-'))
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a region such as `eu-central-1`".to_owned())
}

fn account(text: &str) -> Result<String, String> {
    let is_one = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| text.to_owned()).ok_or_else(|| "expected 12 digits".to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    path::is_prefix(text).then(|| text.to_owned()).ok_or_else(|| {
        "expected segments of letters, digits, `-` and `_`, each behind a slash, or nothing".to_owned()
    })
}

/// The store that is to be.
struct Store {
    prefix: String,
    key: KeyName,
    caller: CallerName,
    region: String,
    account: String,
}

impl Store {
    /// A path of it.
    fn path(&self, rest: &str) -> String {
        let slash = if rest.is_empty() { "" } else { "/" };
        format!("{}{}{slash}{rest}", self.prefix, path::BASE)
    }

    /// The name of a KMS key of the account in the region.
    fn kms_key(&self, id: &str) -> String {
        let Self { region, account, .. } = self;
        format!("arn:{}:kms:{region}:{account}:key/{id}", kms::partition(region))
    }

    /// What a policy lacks that lets the caller use the key.
    fn fragment(&self, lacks: &Lacks<'_>) -> String {
        let Self { key, caller, .. } = self;
        let mut text = String::new();
        if !lacks.of(key, &[Action::ReadKey]).is_empty() {
            let id = lacks.id(&format!("{caller}-looks-at-{key}"));
            text.push_str(&format!(
                "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action == Holdfast::Action::\"read-key\",\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{ context.protocol == \"{PROTOCOL}\" }};\n\n"
            ));
        }
        let uses = [Action::Encrypt, Action::Decrypt];
        if lacks.any_of(&uses) {
            let actions = tenant::scope(&uses);
            let kms_keys = self.kms_key("*");
            let id = lacks.id(&format!("{caller}-uses-{key}"));
            text.push_str(&format!(
                "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action {actions},\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{\n  context.protocol == \"{PROTOCOL}\" &&\n  context.request.hasTag(\"kmsKeyArn\") &&\n  context.request.getTag(\"kmsKeyArn\") like \"{kms_keys}\"\n}};\n"
            ));
        }
        text
    }
}

/// A credential to test with.
struct Signs {
    credential: XksCredential,
    /// To be revoked afterwards.
    lent: Option<TokenId>,
}

impl AwsXks {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, region, account, caller, prefix, endpoint, credential, new_credential, config, how } =
            self;
        let tenant = app.tenant()?;
        let prefix = prefix.unwrap_or_else(|| format!("/{}", tenant.id()));
        let file = credential.unwrap_or_else(|| PathBuf::from(format!("{caller}.json")));
        let endpoint = endpoint.as_deref().map_or_else(|| app.url(), Ok)?.trim_end_matches('/');
        // The port that is understood stands in no `Host` header, and so in no signature.
        let endpoint = endpoint.strip_suffix(":443").unwrap_or(endpoint);
        let listener = app.nobody(endpoint)?.connect()?;
        let store = Store { prefix, key, caller, region, account };
        let mut report = Report::begin();
        let is_configured = app.block_on(async {
            let record = match how.self_test_only {
                true => None,
                false => prepare(&tenant, &store, &how, &mut report).await,
            };
            let table = config.as_deref().map(|file| compare(file, &tenant, &store, &mut report));
            let wanted =
                Wanted { file: &file, is_new: new_credential, is_tried: table != Some(Table::Guarded) };
            let signs = signs(&tenant, &store, &wanted, (&how, record.as_ref()), &mut report).await;
            let signing = signs.as_ref().map(|signs| &signs.credential);
            let is_served = match table {
                Some(Table::Guarded) => {
                    report.findings.watch(
                        "self-test",
                        "left out: mutual TLS lets AWS in and nobody else",
                        "connect the store in AWS, whose error says what is wrong",
                    );
                    true
                }
                Some(Table::Right | Table::Wrong) | None => {
                    trial::run(&listener, &store, signing, &mut report).await
                }
            };
            if let Some(Signs { lent: Some(token), .. }) = signs {
                give_back(&tenant, &store, token, &mut report).await;
            }
            is_served && table != Some(Table::Wrong)
        });
        if !how.self_test_only {
            pastes(&store, &tenant, endpoint, &file, is_configured, &mut report);
        }
        report.told(app)
    }
}

/// Looks at what the tenant has, or makes it.
async fn prepare(tenant: &Tenant, store: &Store, how: &How, report: &mut Report) -> Option<Caller> {
    tenant::standing(tenant, report).await;
    let key = tenant::key(tenant, (&store.key, Some(Algorithm::Aes256Gcm), PROTOCOL), how, report).await;
    let caller = tenant::caller(tenant, &store.caller, how, || Ok(vec![]), report).await?;
    if let Some(key) = &key {
        let wanted = Use {
            caller: &caller,
            key,
            protocol: PROTOCOL,
            authentication: "signature",
            request: &|action| kms::says(store, kms::operation(action)).to_vec(),
            context: &[],
        };
        tenant::policy(tenant, &wanted, how, |lacks| store.fragment(lacks), report).await;
    }
    Some(caller)
}

/// What the configuration has of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Right,
    /// It is not there, or says something else.
    Wrong,
    /// It lets nobody in but AWS.
    Guarded,
}

/// Compares the store with the gateway's configuration.
fn compare(file: &Path, tenant: &Tenant, store: &Store, report: &mut Report) -> Table {
    let what = "configuration";
    let config = match Config::read(file) {
        Ok(config) => config,
        Err(fault) => {
            report.findings.wrong(what, &fault.into());
            return Table::Wrong;
        }
    };
    let shown = file.display();
    let mut wrong = |problem: String, remedy: String| {
        report.findings.wrong(what, &Failure::new(Exit::State, problem).remedy(remedy));
        Table::Wrong
    };
    let restart = "and restart the gateway";
    let Some(table) = config.aws_xks.iter().find(|table| table.prefix == store.prefix) else {
        return wrong(
            format!("`{shown}` has no `[[aws_xks]]` with the prefix `{}`", store.prefix),
            format!("add the one that is shown {restart}"),
        );
    };
    let Store { prefix, key, caller, region, .. } = store;
    if table.tenant != tenant.id().as_str() || table.caller != caller.as_str() {
        return wrong(
            format!("the store `{prefix}` is of `{}` and its caller `{}`", table.tenant, table.caller),
            "name that caller with `--caller`, or another `--prefix`".to_owned(),
        );
    }
    if !table.regions.contains(region) {
        return wrong(
            format!("the store `{prefix}` is called from {}, not from `{region}`", table.regions.join(", ")),
            format!("add `{region}` to its `regions` {restart}, or name another `--region`"),
        );
    }
    if !table.keys.is_empty() && !table.keys.iter().any(|known| known == key.as_str()) {
        return wrong(
            format!("the store `{prefix}` has not the key `{key}`"),
            format!("add `{key}` to its `keys` {restart}"),
        );
    }
    let guard = if table.server_name.is_empty() {
        String::new()
    } else {
        format!(", mutual TLS as `{}`", table.server_name)
    };
    report.findings.fine(what, format!("`{shown}` has the store{guard}"));
    if table.server_name.is_empty() { Table::Right } else { Table::Guarded }
}

/// The credential that is wanted.
struct Wanted<'a> {
    file: &'a Path,
    /// Another one than the caller has.
    is_new: bool,
    /// Whether the store is asked with it.
    is_tried: bool,
}

/// The credential: the file's, or a new one for it; for the test alone one that is given back.
async fn signs(
    tenant: &Tenant,
    store: &Store,
    wanted: &Wanted<'_>,
    (how, record): (&How, Option<&Caller>),
    report: &mut Report,
) -> Option<Signs> {
    let what = "credential";
    let Wanted { file, is_new, is_tried } = *wanted;
    report.doing("looking at the credential");
    if file.exists() {
        let credential = in_file(store, file, record).and_then(|found| match is_new {
            false => Ok(found),
            true => Err(Failure::new(Exit::State, format!("`{}` is there already", file.display()))
                .remedy("name another file with `--credential`, or remove it if AWS has what is in it")),
        });
        return match credential {
            Ok((credential, expires)) => {
                match expires {
                    Some(expires) => examine_expiry(
                        &format!("credential in {}", file.display()),
                        Some(expires),
                        &mut report.findings,
                    ),
                    None => report.findings.fine(what, format!("the one in `{}`", file.display())),
                }
                Some(Signs { credential, lent: None })
            }
            Err(failure) => {
                report.findings.wrong(what, &failure);
                None
            }
        };
    }
    let held = record.and_then(|record| {
        record
            .tokens
            .iter()
            .filter(|token| token.form.0 == TokenForm::Signing)
            .map(|token| token.expires.0)
            .max()
    });
    let name = &store.caller;
    match (how.check, held) {
        (true, None) => {
            let failure = Failure::new(Exit::State, format!("`{name}` has none"));
            report.findings.wrong(what, &failure.remedy("run this without `--check`, which issues one"));
            return None;
        }
        (true, Some(until)) => {
            let detail = format!("`{name}` has one until {until}; its file `{}` is not here", file.display());
            report.findings.fine(what, detail);
            return None;
        }
        (false, _) => {}
    }
    if !how.self_test_only && record.is_none() {
        return None;
    }
    let is_lent = how.self_test_only || (held.is_some() && !is_new);
    if is_lent && !is_tried {
        return None;
    }
    let issued = match tenant.issue_signing_token(name, if is_lent { LENT } else { LIFETIME }).await {
        Ok(issued) => issued.body,
        Err(error) => {
            report.findings.wrong(what, &error.into());
            return None;
        }
    };
    let credential = XksCredential::of(&store.prefix, &issued);
    let token = issued.id.0;
    if is_lent {
        if let Some(until) = held {
            let detail = format!("`{name}` has one until {until}; the test signs with one of its own");
            report.findings.fine(what, detail);
        }
        return Some(Signs { credential, lent: Some(token) });
    }
    match credential.write(file) {
        Ok(()) => {
            let detail =
                format!("issued: `{}` has it until {}, for its owner only", file.display(), issued.expires.0);
            report.findings.fine(what, detail);
            Some(Signs { credential, lent: None })
        }
        Err(failure) => {
            report.findings.wrong(what, &failure.remedy(unread(name, &issued)));
            None
        }
    }
}

/// The credential in the file, with when it expires, in seconds since 1970, where the caller's record is known.
fn in_file(
    store: &Store,
    file: &Path,
    record: Option<&Caller>,
) -> Result<(XksCredential, Option<u64>), Failure> {
    let credential = XksCredential::read(file)?;
    let shown = file.display();
    if credential.prefix != store.prefix {
        let problem = format!("`{shown}` is for the path `{}{}`", credential.prefix, path::BASE);
        let remedy = format!(
            "name another file with `--credential`, or its store with `--prefix {}`",
            credential.prefix
        );
        return Err(Failure::new(Exit::State, problem).remedy(remedy));
    }
    let Some(record) = record else { return Ok((credential, None)) };
    let token = credential.token();
    let known =
        record.tokens.iter().find(|known| Some(known.id.0) == token && known.form.0 == TokenForm::Signing);
    match known {
        Some(known) => Ok((credential, Some(known.expires.0.seconds()))),
        None => Err(Failure::new(
            Exit::Unauthenticated,
            format!(
                "what is in `{shown}` is no credential of `{}`: revoked, expired, or another gateway's",
                store.caller
            ),
        )
        .remedy("remove the file and run this again with `--new-credential`")),
    }
}

/// Revokes what only the test has signed with.
async fn give_back(tenant: &Tenant, store: &Store, token: TokenId, report: &mut Report) {
    if let Err(error) = tenant.revoke_token(&store.caller, token).await {
        let caller = &store.caller;
        report.findings.watch(
            "credential",
            format!("the one that the test signed with is not revoked: {error}"),
            &format!(
                "run `holdfast caller revoke-token {caller} {token}`; it expires by itself within {} minutes",
                LENT / 60
            ),
        );
    }
}

/// Whether AWS takes it as a store's endpoint: a name at port 443, which stands there as nothing (`XksProxyUriEndpoint` in AWS KMS's API reference).
fn is_for_aws(endpoint: &str) -> bool {
    endpoint.len() <= 128
        && endpoint.strip_prefix("https://").is_some_and(|host| {
            let is_in_one = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            !host.is_empty() && host.bytes().all(is_in_one) && host.parse::<Ipv4Addr>().is_err()
        })
}

/// What is to be pasted where.
fn pastes(
    store: &Store,
    tenant: &Tenant,
    endpoint: &str,
    file: &Path,
    is_configured: bool,
    report: &mut Report,
) {
    let Store { prefix, key, caller, region, .. } = store;
    if !is_configured {
        let tenant = tenant.id();
        let table = format!(
            "[[aws_xks]]\nprefix = \"{prefix}\"\ntenant = \"{tenant}\"\ncaller = \"{caller}\"\nregions = [\"{region}\"]\nkeys = [\"{key}\"]"
        );
        report.paste(
            "into the gateway's configuration, as its operator; then restart it, and run this again",
            table,
        );
    }
    let file = file.display();
    let uri_path = store.path("");
    let (endpoint, to_be_filled_in, by_hand) = match is_for_aws(endpoint) {
        true => (endpoint, String::new(), ""),
        false => (
            "https://…",
            format!(
                ", with the name that KMS calls at port 443: `{endpoint}` would not do; `--endpoint https://HOST` puts the right one here and tests it"
            ),
            "; put the right endpoint in",
        ),
    };
    report.paste(
        "into AWS's console: KMS › Custom key stores › External key stores › Create external key store",
        format!(
            "Proxy connectivity    public endpoint, or the VPC endpoint service in front of the gateway\n\
             Proxy URI endpoint    {endpoint}{to_be_filled_in}\n\
             Proxy configuration   upload {file}, which has path {uri_path} and credential\n\
             External key ID       {key}, of each KMS key that you create in the store"
        ),
    );
    let name = prefix.trim_start_matches('/').replace('/', "-");
    let name = if name.is_empty() { "holdfast" } else { &name };
    report.paste(
        format!("or with AWS's command line{by_hand}; then remove both files"),
        format!(
            "(umask 077; jq .XksProxyAuthenticationCredential {file} > {file}.aws)\n\
             aws kms create-custom-key-store --region {region} --custom-key-store-type EXTERNAL_KEY_STORE --custom-key-store-name {name} \\\n  \
             --xks-proxy-connectivity PUBLIC_ENDPOINT --xks-proxy-uri-endpoint {endpoint} --xks-proxy-uri-path {uri_path} \\\n  \
             --xks-proxy-authentication-credential file://{file}.aws\n\
             aws kms connect-custom-key-store --region {region} --custom-key-store-id cks-…\n\
             aws kms create-key --region {region} --origin EXTERNAL_KEY_STORE --custom-key-store-id cks-… --xks-key-id {key}"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_takes_a_name_without_a_port() {
        let long = |bytes: usize| format!("https://{}", "a".repeat(bytes - "https://".len()));
        for good in ["https://xks.example.org", "https://XKS-1.example.org", &long(128)] {
            assert!(is_for_aws(good), "{good}");
        }
        for bad in [
            "https://xks.example.org:8443",
            "https://192.0.2.1",
            "https://192.0.2.1:8443",
            "https://[2001:db8::1]",
            "https://xks.example.org/a",
            "https://xks_1.example.org",
            "https://",
            "http://xks.example.org",
            &long(129),
        ] {
            assert!(!is_for_aws(bad), "{bad}");
        }
    }
}
