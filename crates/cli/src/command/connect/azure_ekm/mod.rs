//! `holdfast connect azure-ekm`.

mod trial;

use super::configuration::{Configuration, Differs};
use super::tenant::{self, Lacks, Use};
use super::{How, Report};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use holdfast_core::action::Action;
use holdfast_core::algorithm::Algorithm;
use holdfast_gateway::config::Config;
use holdfast_sdk::{CallerName, KeyName, Tenant};
use holdfast_wire::ekm::{PROTOCOL, path};
use std::fs;
use std::path::{Path, PathBuf};

/// Connect external keys of Azure Managed HSM, a preview of Microsoft's
///
/// Makes or checks the key, the caller and the policy; compares them with the gateway's configuration; asks the proxy through the gateway's own listener as
/// Managed HSM does, with a client certificate that you name; and says what to paste where. Running it again changes nothing that is right. See
/// docs/protocols/azure-ekm.md.
#[derive(Debug, Args)]
pub(crate) struct AzureEkm {
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// The host that Managed HSM calls, as in `server_name` of the configuration
    #[arg(long, value_name = "HOST", value_parser = host)]
    server_name: String,
    /// What stands before the interface's own paths [default: a slash and the tenant's name]
    #[arg(long, value_name = "PATH", value_parser = prefix)]
    prefix: Option<String>,
    /// The external key identifier that Managed HSM knows the key by [default: its name]
    #[arg(long, value_name = "ID", value_parser = external)]
    external_key_id: Option<String>,
    /// Of which algorithm the key is
    #[arg(long, value_name = "ALGORITHM", default_value = "aes-256-kw", value_parser = algorithms())]
    algorithm: Algorithm,
    /// Who Managed HSM is here
    #[arg(long, value_name = "NAME", default_value = "azure-ekm")]
    caller: CallerName,
    /// Where the test asks, where that is not the host at port 443
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A client certificate to test with, PEM, that the proxy takes; without one the test ends where it is asked for
    #[arg(long, value_name = "FILE", requires = "test_cert_key")]
    test_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "test_cert")]
    test_cert_key: Option<PathBuf>,
    /// The gateway's configuration, to be compared, where it can be read from here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

fn host(text: &str) -> Result<String, String> {
    holdfast_gateway::can_be_asked_for(text).then(|| text.to_owned()).ok_or_else(|| {
        "expected the host that Managed HSM calls, without a port, such as ekm.example.org: no client asks for an address in TLS, so nobody would be served"
            .to_owned()
    })
}

fn prefix(text: &str) -> Result<String, String> {
    path::is_prefix(text).then(|| text.to_owned()).ok_or_else(|| {
        "expected segments of letters, digits and `-`, each behind a slash, 64 characters in all, or nothing"
            .to_owned()
    })
}

fn external(text: &str) -> Result<String, String> {
    path::is_key_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "expected letters, digits and `-`, 64 at most".to_owned())
}

/// What wraps, of all that Azure has a name for.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Aes256Kw, Algorithm::Aes256Kwp, Algorithm::Rsa2048, Algorithm::Rsa3072, Algorithm::Rsa4096];

/// Listed, so that shells complete them.
fn algorithms() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(ALGORITHMS.map(Algorithm::name)).try_map(|name| name.parse())
}

/// The proxy that is to be.
struct Proxy {
    server_name: String,
    prefix: String,
    external: String,
    key: KeyName,
    algorithm: Algorithm,
    caller: CallerName,
}

impl Proxy {
    /// A path of it, with the query.
    fn path(&self, rest: &str) -> String {
        format!("{}/{rest}?api-version={}", self.prefix, holdfast_wire::ekm::API_VERSION)
    }

    /// What a policy lacks that lets the caller use the key.
    fn fragment(&self, lacks: &Lacks<'_>) -> String {
        let Self { key, caller, .. } = self;
        let lacking = lacks.of(key, &[Action::ReadKey, Action::Wrap, Action::Unwrap]);
        if lacking.is_empty() {
            return String::new();
        }
        let (id, actions) = (lacks.id(&format!("{caller}-uses-{key}")), tenant::scope(&lacking));
        format!(
            "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action {actions},\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{ context.protocol == \"{PROTOCOL}\" }};\n"
        )
    }
}

impl AzureEkm {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {
            key,
            server_name,
            prefix,
            external_key_id,
            algorithm,
            caller,
            endpoint,
            test_cert,
            test_cert_key,
            config,
            how,
        } = self;
        let tenant = app.tenant()?;
        let prefix = prefix.unwrap_or_else(|| format!("/{}", tenant.id()));
        let external = match external_key_id {
            Some(external) => external,
            None => external(key.as_str()).map_err(|_| {
                Failure::usage(format!("`{key}` cannot be an external key identifier"))
                    .remedy("give one with `--external-key-id`: letters, digits and `-`, 64 at most")
            })?,
        };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://{server_name}"));
        let stranger = app.nobody(&endpoint)?.connect()?;
        let provider = match (test_cert, test_cert_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (read(&certificate)?, read(&key)?);
                Some(app.nobody(&endpoint)?.identity_pem(certificate, key).connect()?)
            }
            (_, _) => None,
        };
        let proxy = Proxy { server_name, prefix, external, key, algorithm, caller };
        let mut report = Report::begin();
        let is_right = app.block_on(async {
            if !how.self_test_only {
                prepare(&tenant, &proxy, &how, &mut report).await;
            }
            let config = config.as_deref().map(|file| Configuration::read(file, &mut report));
            let is_configured = config.as_ref().is_none_or(|config| {
                config.agrees("the proxy", |config| differs(config, &tenant, &proxy), &mut report)
            });
            let is_served = trial::run(&stranger, provider.as_ref(), &proxy, &mut report).await;
            is_served && is_configured
        });
        if !how.self_test_only {
            pastes(&proxy, &tenant, is_right, &mut report);
        }
        report.told(app)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::file("read", file, &error).ending(Exit::Usage))
}

/// Looks at what the tenant has, or makes it.
async fn prepare(tenant: &Tenant, proxy: &Proxy, how: &How, report: &mut Report) {
    tenant::standing(tenant, report).await;
    let key = tenant::key(tenant, (&proxy.key, Some(proxy.algorithm), PROTOCOL), how, report).await;
    let caller = tenant::caller(tenant, &proxy.caller, how, || Ok(vec![]), report).await;
    if let (Some(key), Some(caller)) = (&key, &caller) {
        let wanted = Use {
            caller,
            key,
            protocol: PROTOCOL,
            authentication: "mtls",
            request: &|action| trial::says(proxy, action),
            context: &[],
        };
        tenant::policy(tenant, &wanted, how, |lacks| proxy.fragment(lacks), report).await;
    }
}

/// What of the configuration is not as the proxy is wanted.
fn differs(config: &Config, tenant: &Tenant, proxy: &Proxy) -> Option<Differs> {
    let Proxy { server_name, prefix, external, key, caller, .. } = proxy;
    let found = config
        .azure_ekm
        .iter()
        .find(|table| table.server_name.eq_ignore_ascii_case(server_name) && table.prefix == *prefix);
    let restart = "and restart the gateway";
    let Some(table) = found else {
        return Some((
            format!("no `[[azure_ekm]]` is of `{server_name}{prefix}`"),
            format!(
                "add the one that is shown {restart}, or name its host and prefix with `--server-name` and `--prefix`"
            ),
        ));
    };
    if table.tenant != tenant.id().as_str() || table.caller != caller.as_str() {
        return Some((
            format!(
                "the proxy `{server_name}{prefix}` is of `{}` and its caller `{}`",
                table.tenant, table.caller
            ),
            "name that caller with `--caller`, or another `--prefix`".to_owned(),
        ));
    }
    let known = match &table.keys {
        None => Some(external.as_str()),
        Some(keys) => keys.get(external).map(String::as_str),
    };
    let problem = match known {
        Some(known) if known == key.as_str() => return None,
        Some(other) => format!("the proxy `{server_name}{prefix}` knows `{other}` as `{external}`"),
        None => format!("the proxy `{server_name}{prefix}` has no key that is known as `{external}`"),
    };
    Some((problem, format!("put `{external} = \"{key}\"` into its `keys` {restart}")))
}

/// What is to be pasted where.
fn pastes(proxy: &Proxy, tenant: &Tenant, is_right: bool, report: &mut Report) {
    let Proxy { server_name, prefix, external, key, caller, .. } = proxy;
    if !is_right {
        let tenant = tenant.id();
        report.paste(
            "on Azure's command line, for who may connect here: its common name, and its authorities as PEM",
            "az keyvault ekm-connection certificate show --hsm-name … --query subjectCommonName -o tsv\n\
             az keyvault ekm-connection certificate show --hsm-name … --query 'caCertificates[]' -o tsv |\n  \
             while read der; do echo \"$der\" | base64 -d | openssl x509 -inform DER; done > managed-hsm-ca.pem",
        );
        report.paste(
            "into the gateway's configuration, as its operator; then restart it, and run this again",
            format!(
                "[[azure_ekm]]\nserver_name = \"{server_name}\"\nprefix = \"{prefix}\"\nclient_ca_file = \"/etc/holdfast/managed-hsm-ca.pem\"\nclient_common_names = [\"… .managedhsmclient.azure.net\"]\ntenant = \"{tenant}\"\ncaller = \"{caller}\"\nkeys = {{ {external} = \"{key}\" }}"
            ),
        );
    }
    let path_prefix = if prefix.is_empty() { String::new() } else { format!(" --path-prefix {prefix}") };
    report.paste(
        "on Azure's command line, once for the Managed HSM; the certificate is the root above the gateway's own",
        format!(
            "az keyvault ekm-connection create --hsm-name … --host {server_name} --server-ca-certificate gateway-root.pem{path_prefix}\n\
             az keyvault ekm-connection check --hsm-name …"
        ),
    );
    report.paste(
        "and for the key; its name in Azure is yours, and another version of it has another external key",
        format!("az keyvault key create --hsm-name … --name {external} --external-key-id {external}"),
    );
}

/// What wraps under a key of this algorithm, by Azure's names; what a key does of several depends on how it was made, and on its token.
const fn algs(algorithm: Algorithm) -> &'static [&'static str] {
    if matches!(algorithm, Algorithm::Aes256Kw) {
        &["A256KW"]
    } else if matches!(algorithm, Algorithm::Aes256Kwp) {
        &["A256KWP"]
    } else {
        &[OAEP_SHA256, OAEP_SHA1]
    }
}

/// OAEP with SHA-256, and with SHA-1, which a key does only if it was created for it.
const OAEP_SHA256: &str = "RSA-OAEP-256";
const OAEP_SHA1: &str = "RSA-OAEP";

/// Whether policies see an algorithm with an action.
const fn has_alg(action: Action) -> bool {
    matches!(action, Action::Wrap | Action::Unwrap)
}
