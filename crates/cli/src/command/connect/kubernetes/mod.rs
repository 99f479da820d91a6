//! `holdfast connect kubernetes`.

mod api_server;
mod trial;

use super::tenant::{self, Lacks, Use};
use super::{How, Report};
use crate::app::App;
use crate::failure::Failure;
use crate::issue;
use clap::Args;
use holdfast_core::Protocol;
use holdfast_core::action::Action;
use holdfast_sdk::{CallerName, KeyName, Tenant};
use holdfast_wire::kubernetes::ClusterName;
use std::path::PathBuf;

/// Connect the API servers of a Kubernetes cluster
///
/// Makes or checks the key, the caller with its certificate, and the policy; says what to put on each machine of the control plane; and tests it:
/// through the plugin's socket as an API server where a plugin serves here, else at the gateway as the plugin. Running it again changes nothing
/// that is right. See docs/operate/kubernetes.md.
#[derive(Debug, Args)]
pub(crate) struct Kubernetes {
    /// The key
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    key: KeyName,
    /// Who the plugin is here
    #[arg(long, value_name = "NAME", default_value = "kubernetes-kms")]
    caller: CallerName,
    /// The cluster, which its ciphertexts are bound to
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    cluster: ClusterName,
    /// The directory with the plugin's certificate and key; they are made there if there is no such caller yet
    #[arg(long, value_name = "DIR", default_value = ".")]
    issue: PathBuf,
    /// The plugin's socket
    #[arg(long, value_name = "PATH", default_value = "/run/holdfast/kms.sock")]
    socket: PathBuf,
    /// The group that the API server runs as, where that is not root
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    #[command(flatten)]
    how: How,
}

/// The cluster that is connected, and as whom.
struct Cluster<'a> {
    key: &'a KeyName,
    caller: &'a CallerName,
    name: &'a ClusterName,
    certificate: PathBuf,
    private_key: PathBuf,
}

impl Kubernetes {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, caller, cluster, issue, socket, socket_group, how } = self;
        let cluster = Cluster {
            key: &key,
            caller: &caller,
            name: &cluster,
            certificate: issue.join(format!("{caller}.pem")),
            private_key: issue.join(format!("{caller}.key")),
        };
        let mut report = Report::begin();
        if !how.self_test_only {
            let tenant = app.tenant()?;
            let credentials = || issue::issue(&issue, &caller).map(|(credential, _)| vec![credential]);
            app.block_on(prepare(&tenant, &cluster, &how, credentials, &mut report));
            pastes(
                app,
                &tenant,
                &cluster,
                (&socket.display().to_string(), socket_group.as_deref()),
                &mut report,
            )?;
        }
        if socket.exists() {
            app.block_on(trial::by_socket(&socket, &mut report));
        } else if cluster.certificate.exists() {
            app.block_on(trial::by_gateway(app, &app.tenant()?, &cluster, &mut report));
        } else {
            let (socket, certificate) = (socket.display(), cluster.certificate.display());
            report.findings.watch(
                "self-test",
                format!("neither the plugin's socket `{socket}` nor its certificate `{certificate}` is here"),
                "run this where one of them is, or name it with `--socket` or `--issue`",
            );
        }
        report.told(app)
    }
}

/// Looks at what the tenant has, or makes it.
async fn prepare(
    tenant: &Tenant,
    cluster: &Cluster<'_>,
    how: &How,
    credentials: impl FnOnce() -> Result<Vec<holdfast_sdk::field::CredentialText>, Failure>,
    report: &mut Report,
) {
    tenant::standing(tenant, report).await;
    let key = tenant::key(tenant, (cluster.key, None, Protocol::Native), how, report).await;
    let Some(caller) = tenant::caller(tenant, cluster.caller, how, credentials, report).await else { return };
    if caller.credentials.is_empty() {
        let name = cluster.caller;
        report.findings.watch(
            "certificate",
            format!("nothing shows who `{name}` is: it has no certificate"),
            &format!("run `holdfast caller put {name} --issue DIR`, and hand out what is made there"),
        );
    } else {
        let count = caller.credentials.len();
        report.findings.fine("certificate", format!("`{}` is known by {count}", cluster.caller));
    }
    if let Some(key) = &key {
        let name = cluster.name.to_string();
        let wanted = Use {
            caller: &caller,
            key,
            protocol: Protocol::Native,
            authentication: "mtls",
            request: &|_| vec![],
            context: &[("protocol", PROTOCOL), ("cluster", &name), ("key-id", "holdfast-connect")],
        };
        tenant::policy(tenant, &wanted, how, |lacks| fragment(cluster, lacks), report).await;
    }
}

/// What ciphertexts for a cluster are bound to, as policies see it.
const PROTOCOL: &str = "kubernetes-kms-v2";

/// What a policy lacks that lets the plugin use the key.
fn fragment(cluster: &Cluster<'_>, lacks: &Lacks<'_>) -> String {
    let Cluster { key, caller, .. } = cluster;
    let mut text = String::new();
    if !lacks.of(key, &[Action::ReadKey]).is_empty() {
        let id = lacks.id(&format!("{caller}-looks-at-{key}"));
        text.push_str(&format!(
            "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action == Holdfast::Action::\"read-key\",\n  resource == Holdfast::Key::\"{key}\"\n);\n\n"
        ));
    }
    let uses = lacks.of(key, &[Action::Encrypt, Action::Decrypt]);
    if !uses.is_empty() {
        let actions = tenant::scope(&uses);
        let id = lacks.id(&format!("{caller}-uses-{key}"));
        text.push_str(&format!(
            "@id(\"{id}\")\npermit (\n  principal == Holdfast::Caller::\"{caller}\",\n  action {actions},\n  resource == Holdfast::Key::\"{key}\"\n)\nwhen {{ context.encryption.hasTag(\"protocol\") && context.encryption.getTag(\"protocol\") == \"{PROTOCOL}\" }};\n"
        ));
    }
    text
}

/// What is to be put where.
fn pastes(
    app: &App,
    tenant: &Tenant,
    cluster: &Cluster<'_>,
    (socket, group): (&str, Option<&str>),
    report: &mut Report,
) -> Result<(), Failure> {
    let Cluster { key, caller, name, certificate, private_key } = cluster;
    let (url, tenant) = (app.url()?, tenant.id());
    let authority = app.cacert().map_or_else(String::new, |path| {
        format!("install -m 0644 {} /etc/holdfast/ca.pem\n", path.display())
    });
    let trusted = if authority.is_empty() { "" } else { "HOLDFAST_CACERT=/etc/holdfast/ca.pem\n" };
    report.paste(
        "on each machine with an API server, as root: certificate and key of the plugin",
        format!(
            "useradd --system --home-dir /run/holdfast --shell /usr/sbin/nologin holdfast-kms\n{authority}\
             install -m 0644 {} /etc/holdfast/kms.pem\ninstall -m 0400 -o holdfast-kms {} /etc/holdfast/kms.key",
            certificate.display(),
            private_key.display()
        ),
    );
    report.paste(
        "into /etc/holdfast/kms.env there",
        format!("HOLDFAST_URL={url}\nHOLDFAST_TENANT={tenant}\n{trusted}HOLDFAST_CERT=/etc/holdfast/kms.pem\nHOLDFAST_KEY=/etc/holdfast/kms.key"),
    );
    let group = group.map_or_else(String::new, |group| format!(" --socket-group {group}"));
    report.paste(
        format!("as its unit: deploy/kubernetes/holdfast-kms.service, in which ExecStart runs the plugin of `{caller}`"),
        format!("holdfast kubernetes-kms --socket {socket} --key {key} --cluster {name}{group}"),
    );
    report.paste(
        "into the API server's EncryptionConfiguration (--encryption-provider-config), before `identity`",
        format!(
            "- kms:\n    apiVersion: v2\n    name: holdfast\n    endpoint: unix://{socket}\n    timeout: 3s"
        ),
    );
    report.paste(
        "into the API server's liveness and startup probes, so that a stop restarts nothing (needed before 1.29)",
        "/livez?exclude=kms-providers",
    );
    Ok(())
}
