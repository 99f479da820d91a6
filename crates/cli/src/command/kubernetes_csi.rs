//! `holdfast kubernetes-csi`.

use super::serve::{Signals, Systemd, log_to_stderr};
use crate::app::App;
use crate::failure::Failure;
use crate::kubernetes::provider::Provider;
use crate::kubernetes::server::{self, Peers};
use crate::kubernetes::socket::Socket;
use crate::output;
use clap::Args;
use holdfast_gateway::config::{LogFormat, Logging};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The longest name of a provider.
const MAX_NAME: usize = 30;

/// Run a provider of the Secrets Store CSI driver on a node of Kubernetes
///
/// Gives pods files that lie sealed in SecretProviderClasses. Each is opened by the gateway for the pod that mounts it, by the pod's own
/// service account token: the gateway's policy decides, and its log says who it was. The provider itself needs no credential and keeps
/// nothing. See docs/protocols/kubernetes-csi.md.
///
/// Runs until SIGTERM or SIGINT, and needs no gateway to start.
#[derive(Debug, Args)]
pub(crate) struct KubernetesCsi {
    /// The socket that the driver connects to: its name without `.sock` is the `provider` of SecretProviderClasses
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/etc/kubernetes/secrets-store-csi-providers/holdfast.sock"
    )]
    socket: PathBuf,
    /// Whom pods' tokens are for: an audience of the issuer in the gateway's configuration, and of `tokenRequests` of the CSIDriver
    #[arg(long, value_name = "AUDIENCE", default_value = "holdfast")]
    audience: String,
}

impl KubernetesCsi {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { socket: path, audience } = self;
        let name = provider_name(&path)?;
        let json = app.printer.is_json();
        let format = if json { LogFormat::Json } else { LogFormat::Text };
        log_to_stderr(&Logging { format, ..Logging::default() })?;
        holdfast_gateway::protect_memory();
        let tenant = app.tenant_name()?;
        let provider = Arc::new(Provider { gateway: app.place()?, tenant, audience: audience.clone() });
        // What is wrong with address or authorities is said at once, and not to the first pod.
        provider.check()?;
        let socket = Socket::bind(&path, None)?;
        let systemd = Systemd::of(app);
        let endpoint = format!("unix://{}", path.display());
        let ready = match json {
            true => serde_json::json!({ "endpoint": endpoint, "provider": name, "audience": audience })
                .to_string(),
            false => format!("serving {endpoint} as provider `{name}` for tokens for `{audience}`"),
        };
        app.block_on(async {
            let mut signals = Signals::new()?;
            let listener = tokio::net::UnixListener::from_std(socket.listener()?).map_err(|error| {
                Failure::new(crate::exit::Exit::Failure, "the socket cannot be listened on").because(&error)
            })?;
            let (stop, stopping) = watch::channel(false);
            let serving = tokio::spawn(server::serve(listener, Peers::Own, Arc::clone(&provider), stopping));
            output::show_stdout(format!("{ready}\n").as_bytes())?;
            systemd.tell("READY=1");
            // Authorities are read with each call: to read them again is to see whether they can be.
            signals.wait(|| provider.check(), &systemd).await;
            systemd.tell("STOPPING=1");
            socket.remove();
            stop.send_replace(true);
            let _served = serving.await;
            Ok(())
        })
    }
}

/// What a class calls the provider of this socket.
fn provider_name(socket: &Path) -> Result<String, Failure> {
    let name = socket.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".sock"));
    let is_name = |name: &&str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.filter(is_name).map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("`{}` is no socket that the driver looks for", socket.display()))
            .remedy("call it `NAME.sock`, with a name of at most 30 letters, digits, `-` and `_`, such as `holdfast.sock`")
    })
}
